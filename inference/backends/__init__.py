"""Where a network runs: one file a backend, one Protocol, and the choice between them."""

from typing import Any, Literal, Protocol

import numpy as np

from configs.document import WrongInputError
from inference.model_package import ModelPackage

__all__ = ["Backend", "Device", "open_backend"]

Batch = np.ndarray[Any, np.dtype[np.float32]]
Device = Literal["auto", "cpu", "cuda", "mps", "torch-cpu"]


class Backend(Protocol):
    """Runs a network on a batch; knows nothing of images, tiles or counts."""

    @property
    def description(self) -> str:
        """Name the library and the device, for logs and reports."""
        ...

    def run(self, batch: Batch) -> Batch:
        """Turn (B, 1, H, W) float32 into the same shape; H and W are multiples of the step."""
        ...


def open_backend(package: ModelPackage, device: Device = "auto") -> Backend:
    """Open the backend that suits the machine: torch on a GPU, OpenVINO on a CPU.

    Parameters
    ----------
    device
        ``auto`` takes CUDA or Apple's GPU where torch finds one; ``torch-cpu`` is the slower reference.

    Raises
    ------
    WrongInputError
        When the device that was asked for is not there.
    """
    from inference.backends import torch_backend  # a CPU worker never pays for this where it is told "cpu"

    chosen = (torch_backend.gpu_name() or "cpu") if device == "auto" else device
    if chosen == "cpu":
        from inference.backends.openvino_backend import OpenVinoBackend

        return OpenVinoBackend(package)
    if chosen in ("cuda", "mps") and torch_backend.gpu_name() != chosen:
        msg = f"device '{chosen}' asked for, but torch finds none here; use --device auto or cpu"
        raise WrongInputError(msg)
    return torch_backend.TorchBackend(package, chosen.removeprefix("torch-"))
