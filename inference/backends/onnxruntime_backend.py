"""Runs the ONNX weights with ONNX Runtime on a CPU, in float32: where OpenVINO cannot be had.

Slower than OpenVINO by up to a tenth, with more than twice the memory (`bench/engine.py`).
"""

from typing import Any

import numpy as np
import onnxruntime

from inference.backends.host import HostBackend
from inference.model_package import ModelPackage

__all__ = ["OnnxRuntimeBackend"]

Batch = np.ndarray[Any, np.dtype[np.float32]]


class OnnxRuntimeBackend(HostBackend):
    """A session that takes any batch, height and width."""

    memory_factor = 3.0

    def __init__(self, package: ModelPackage) -> None:
        self._session = onnxruntime.InferenceSession(package.onnx, providers=["CPUExecutionProvider"])
        self._input = self._session.get_inputs()[0].name
        self.description = f"ONNX Runtime {onnxruntime.__version__}, CPU, float32"

    def run(self, batch: Batch) -> Batch:
        """Turn (B, 1, H, W) float32 into the same shape."""
        (result,) = self._session.run(None, {self._input: batch})
        return np.asarray(result, dtype=np.float32)
