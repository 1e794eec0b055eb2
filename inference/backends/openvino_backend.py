"""Runs the ONNX weights with OpenVINO on a CPU, in float32.

Float32 although the CPU may have bf16: seam-free tiling needs it, and OpenVINO would otherwise choose the
narrower type by itself. OpenVINO releases the GIL while it computes, so sockets stay alive.
"""

from typing import Any

import numpy as np
import openvino

from inference.backends.host import HostBackend
from inference.model_package import ModelPackage

__all__ = ["OpenVinoBackend"]

Batch = np.ndarray[Any, np.dtype[np.float32]]


class OpenVinoBackend(HostBackend):
    """A compiled network that takes any batch, height and width."""

    def __init__(self, package: ModelPackage) -> None:
        core = openvino.Core()
        model = core.read_model(model=package.onnx)
        options = {"INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY"}
        self._compiled = core.compile_model(model, "CPU", options)
        self._request = self._compiled.create_infer_request()
        self.description = f"OpenVINO {openvino.__version__.split('-')[0]}, CPU, float32"

    def run(self, batch: Batch) -> Batch:
        """Turn (B, 1, H, W) float32 into the same shape."""
        result = self._request.infer({0: batch}, share_inputs=True)
        # The request owns its output and writes over it at the next call.
        return np.array(result[self._compiled.output(0)], dtype=np.float32)
