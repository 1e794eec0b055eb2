"""What the backends share whose network is fed from the host's memory: numpy around the network.

The network's input is made by `inference.preprocess`, as in training, to the last bit.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

import numpy as np
import psutil

from inference.preprocess import Photometry, prepare, restore

__all__ = ["HostBackend", "padded"]

Image = np.ndarray[Any, np.dtype[Any]]
Batch = np.ndarray[Any, np.dtype[np.float32]]


class HostBackend(ABC):
    """A network that takes and gives arrays of the host."""

    description: str
    under_way = 1
    item_bytes = 4

    def free_bytes(self) -> int:
        """Return how much of the host's memory is free."""
        return int(psutil.virtual_memory().available)

    @abstractmethod
    def run(self, batch: Batch) -> Batch:
        """Turn (B, 1, H, W) float32 into the same shape; H and W are multiples of the step."""

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
        """Enhance a whole frame at once; see `inference.backends.Backend`."""
        prepared = prepare(image, photometry, factor)
        height, width = prepared.shape
        output = self.run(padded(prepared, padded_yx)[np.newaxis, np.newaxis])[0, 0, :height, :width]
        result = restore(output, photometry, out) if counts else output
        return lambda: result


def padded(prepared: Batch, shape_yx: tuple[int, int]) -> Batch:
    """Return (H, W) continued by reflection, edge pixels repeated, to a shape that the network takes."""
    missing = [(0, whole - length) for whole, length in zip(shape_yx, prepared.shape, strict=True)]
    return np.pad(prepared, missing, mode="symmetric") if any(map(any, missing)) else prepared
