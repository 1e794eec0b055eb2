"""Runs the ONNX weights with OpenVINO on a CPU, in float32 or in bfloat16.

The number format is always stated: OpenVINO would choose the narrower one by itself. OpenVINO releases the
GIL while it computes, so sockets stay alive.
"""

from typing import Any

import numpy as np
import openvino

from inference.backends.host import HostBackend
from inference.model_package import ModelPackage

__all__ = ["OpenVinoBackend", "has_bfloat16"]

Batch = np.ndarray[Any, np.dtype[np.float32]]


def has_bfloat16() -> bool:
    """Say whether this CPU multiplies bfloat16 numbers by itself, which is about twice as fast."""
    return "BF16" in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


class OpenVinoBackend(HostBackend):
    """A compiled network that takes any batch, height and width.

    Parameters
    ----------
    package
        The model.
    narrow
        Whether to compute in bfloat16; sums are kept in float32.
    """

    def __init__(self, package: ModelPackage, *, narrow: bool = False) -> None:
        core = openvino.Core()
        model = core.read_model(model=package.onnx)
        precision = "bf16" if narrow else "f32"
        self.item_bytes = 2 if narrow else 4
        options = {"INFERENCE_PRECISION_HINT": precision, "PERFORMANCE_HINT": "LATENCY"}
        self._compiled = core.compile_model(model, "CPU", options)
        self._request = self._compiled.create_infer_request()
        version = openvino.__version__.split("-")[0]
        self.description = f"OpenVINO {version}, CPU, {'bfloat16' if narrow else 'float32'}"

    def run(self, batch: Batch) -> Batch:
        """Turn (B, 1, H, W) float32 into the same shape."""
        result = self._request.infer({0: batch}, share_inputs=True)
        # The request owns its output and writes over it at the next call.
        return np.array(result[self._compiled.output(0)], dtype=np.float32)
