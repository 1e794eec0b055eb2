"""Where a network runs: one file a backend, one Protocol, and the choice between them."""

import logging
from collections.abc import Callable
from typing import Any, Literal, Protocol, get_args

import numpy as np

from configs.document import WrongInputError
from inference.backends.precision_gate import LARGEST_ERROR, error_of, is_good_enough
from inference.model_package import ModelPackage
from inference.preprocess import Photometry

__all__ = ["Backend", "Device", "open_backend"]

Image = np.ndarray[Any, np.dtype[Any]]
Batch = np.ndarray[Any, np.dtype[np.float32]]
Device = Literal["auto", "cpu", "cpu-float32", "cuda", "mps", "torch-cpu"]
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

    @property
    def item_bytes(self) -> int:
        """Of a number inside the network."""
        ...

    @property
    def memory_factor(self) -> float:
        """Memory it takes over what `inference.memory_need` says."""
        ...

    def free_bytes(self) -> int:
        """Return how much of the device's memory is free."""
        ...

    def run(self, batch: Batch) -> Batch:
        """Turn (B, 1, H, W) float32 into the same shape; H and W are multiples of the step."""
        ...

    def begin(
        self,
        image: Image,
        photometry: Photometry,
        factor: int,
        padded_yx: tuple[int, int],
        *,
        counts: bool,
        out: Batch | None = None,
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
        out
            Where the backend may put the result, of its shape and type, if that saves it a copy.

        Returns
        -------
        Callable[[], Batch]
            Waits for the (factor * Y, factor * X) float32 image.
        """
        ...


def open_backend(package: ModelPackage, device: Device = "auto", *, streaming: bool = False) -> Backend:
    """Open the backend that suits the machine: torch on a GPU, OpenVINO on a CPU, else ONNX Runtime.

    Parameters
    ----------
    device
        ``auto`` takes CUDA or Apple's GPU where torch finds one. ``cpu`` computes in bfloat16 where the CPU
        can and the package's test tensor comes out right; ``cpu-float32`` never does, so that every CPU gives
        the same image to rounding. ``torch-cpu`` is the slower reference, in float32 too.
    streaming
        Whether compiling the network for each shape of frames will pay.

    Raises
    ------
    WrongInputError
        When the device that was asked for is not there.
    """
    if device not in get_args(Device):
        msg = f"no device '{device}'; give one of {', '.join(get_args(Device))}"
        raise WrongInputError(msg)
    if device in ("cpu", "cpu-float32"):  # and never pay for importing torch
        return _open_cpu(package, narrow=device == "cpu")
    from inference.backends import torch_backend

    chosen = (torch_backend.gpu_name() or "cpu") if device == "auto" else device
    if chosen == "cpu":
        return _open_cpu(package, narrow=True)
    if chosen in ("cuda", "mps") and torch_backend.gpu_name() != chosen:
        msg = f"device '{chosen}' asked for, but torch finds none here; use --device auto or cpu"
        raise WrongInputError(msg)
    if chosen == "cuda":
        return _open_cuda(package, compiled=streaming)
    return torch_backend.TorchBackend(package, chosen.removeprefix("torch-"))


def _open_cpu(package: ModelPackage, *, narrow: bool) -> Backend:
    """Return OpenVINO's backend, in bfloat16 where that is allowed, there, and good enough."""
    try:
        from inference.backends.openvino_backend import OpenVinoBackend, has_bfloat16
    except ImportError as error:
        from inference.backends.onnxruntime_backend import OnnxRuntimeBackend

        log.warning("OpenVINO cannot be loaded (%s): ONNX Runtime instead", error)
        return OnnxRuntimeBackend(package)
    if narrow and has_bfloat16():
        backend = OpenVinoBackend(package, narrow=True)
        if _is_good_enough(package, backend):
            return backend
    return OpenVinoBackend(package)


def _open_cuda(package: ModelPackage, *, compiled: bool) -> Backend:
    """Return the GPU's backend, in bfloat16 where the package's test tensor comes out right in it.

    It is tried layer by layer, before anything is compiled: the same numbers, rounded at other places.
    """
    from inference.backends.cuda_backend import CudaBackend

    backend = CudaBackend(package, compiled=compiled)
    if _is_good_enough(package, backend):
        return backend
    return CudaBackend(package, narrow=False, compiled=compiled)


def _is_good_enough(package: ModelPackage, backend: Backend) -> bool:
    """Say whether a backend in bfloat16 may serve, and log why."""
    error = error_of(package, backend.run)
    good = is_good_enough(error)
    log.log(
        logging.INFO if good else logging.WARNING,
        "%s: bfloat16 errs by %.2g of the test output's standard deviation; at most %g is allowed: %s",
        package.name, error, LARGEST_ERROR, "bfloat16" if good else "float32",
    )  # fmt: skip
    return good
