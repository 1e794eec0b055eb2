"""Where a network runs: one file a backend, one Protocol, and the choice between them."""

import logging
from collections.abc import Callable
from typing import Any, Literal, Protocol

import numpy as np

from configs.document import WrongInputError
from inference.backends.precision_gate import LARGEST_ERROR, error_of, is_good_enough
from inference.model_package import ModelPackage
from inference.preprocess import Photometry

__all__ = ["Backend", "Device", "open_backend"]

Image = np.ndarray[Any, np.dtype[Any]]
Batch = np.ndarray[Any, np.dtype[np.float32]]
Device = Literal["auto", "cpu", "cuda", "mps", "torch-cpu"]
log = logging.getLogger(__name__)


class Backend(Protocol):
    """Runs a network, on batches and on whole frames; knows nothing of tiles, streams or domains."""

    @property
    def description(self) -> str:
        """Name the library and the device, for logs and reports."""
        ...

    @property
    def under_way(self) -> int:
        """How many frames it works on at once; 1 has enhanced a frame when `begin` returns."""
        ...

    def run(self, batch: Batch) -> Batch:
        """Turn (B, 1, H, W) float32 into the same shape; H and W are multiples of the step."""
        ...

    def begin(
        self, image: Image, photometry: Photometry, factor: int, padded_yx: tuple[int, int], *, counts: bool
    ) -> Callable[[], Batch]:
        """Begin to enhance a whole frame, and return how to wait for it.

        Parameters
        ----------
        image
            (Y, X) camera counts; may change as soon as this returns.
        photometry
            The way from counts to the network's scale, and back where `counts` is set.
        factor
            Of the upsampling.
        padded_yx
            To what the upsampled image is continued by reflection before it is fed.

        Returns
        -------
        Callable[[], Batch]
            Waits for the (factor * Y, factor * X) float32 image.
        """
        ...


def open_backend(package: ModelPackage, device: Device = "auto", *, streaming: bool = False) -> Backend:
    """Open the backend that suits the machine: torch on a GPU, OpenVINO on a CPU.

    Parameters
    ----------
    device
        ``auto`` takes CUDA or Apple's GPU where torch finds one; ``torch-cpu`` is the slower reference.
    streaming
        Whether compiling the network for each shape of frames will pay.

    Raises
    ------
    WrongInputError
        When the device that was asked for is not there.
    """
    if device == "cpu":  # and never pay for importing torch
        return _open_openvino(package)
    from inference.backends import torch_backend

    chosen = (torch_backend.gpu_name() or "cpu") if device == "auto" else device
    if chosen == "cpu":
        return _open_openvino(package)
    if chosen in ("cuda", "mps") and torch_backend.gpu_name() != chosen:
        msg = f"device '{chosen}' asked for, but torch finds none here; use --device auto or cpu"
        raise WrongInputError(msg)
    if chosen == "cuda":
        return _open_cuda(package, compiled=streaming)
    return torch_backend.TorchBackend(package, chosen.removeprefix("torch-"))


def _open_openvino(package: ModelPackage) -> Backend:
    from inference.backends.openvino_backend import OpenVinoBackend

    return OpenVinoBackend(package)


def _open_cuda(package: ModelPackage, *, compiled: bool) -> Backend:
    """Return the GPU's backend, in bfloat16 where the package's test tensor comes out right in it.

    It is tried layer by layer, before anything is compiled: the same numbers, rounded at other places.
    """
    from inference.backends.cuda_backend import CudaBackend

    backend = CudaBackend(package, compiled=compiled)
    error = error_of(package, backend.run)
    if is_good_enough(error):
        log.info("bfloat16 errs by %.2g of the test output's standard deviation", error)
        return backend
    log.warning(
        "bfloat16 errs by %.2g of the test output's standard deviation, more than %g: float32",
        error,
        LARGEST_ERROR,
    )
    return CudaBackend(package, narrow=False, compiled=compiled)
