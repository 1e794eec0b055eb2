"""What the backends share whose network is fed from the host's memory: numpy around the network.

The network's input is made by `inference.preprocess`, as in training, to the last bit.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from inference.preprocess import Photometry, prepare, restore

__all__ = ["HostBackend", "padded"]

CGROUP = Path("/sys/fs/cgroup")
CONTAINER_FILES = (
    (CGROUP / "memory.max", CGROUP / "memory.current"),
    (CGROUP / "memory/memory.limit_in_bytes", CGROUP / "memory/memory.usage_in_bytes"),
)

Image = np.ndarray[Any, np.dtype[Any]]
Batch = np.ndarray[Any, np.dtype[np.float32]]


class HostBackend(ABC):
    """A network that takes and gives arrays of the host."""

    description: str
    under_way = 1
    item_bytes = 4
    memory_factor = 1.0

    def free_bytes(self) -> int:
        """Return how much memory this process may still take: what the host has, or its container."""
        return min(int(psutil.virtual_memory().available), *_left_in_container())

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


def _left_in_container() -> list[int]:
    """Return what is left of the limits under which Linux runs this process (cgroups 2 and 1), if any."""
    left = []
    for limit, used in CONTAINER_FILES:
        with suppress(OSError, ValueError):  # no such file, or "max"
            left.append(max(0, int(limit.read_text()) - int(used.read_text())))
    return left or [2**63]


def padded(prepared: Batch, shape_yx: tuple[int, int]) -> Batch:
    """Return (H, W) continued by reflection, edge pixels repeated, to a shape that the network takes."""
    missing = [(0, whole - length) for whole, length in zip(shape_yx, prepared.shape, strict=True)]
    return np.pad(prepared, missing, mode="symmetric") if any(map(any, missing)) else prepared
