"""The images that were read last, so that a page which only looks on costs no disk.

Owns the bound of their memory. Knows no files: whoever asks says how an image is read. Thread-safe.
"""

import threading
from collections.abc import Callable, Hashable
from typing import Any

import numpy as np

__all__ = ["KeptImages"]

MOST_BYTES = 128_000_000

Image = np.ndarray[Any, np.dtype[Any]]


class KeptImages:
    """Images by their keys; those that were asked for longest ago are let go."""

    def __init__(self, most_bytes: int = MOST_BYTES) -> None:
        self._most_bytes = most_bytes
        self._lock = threading.Lock()
        self._images: dict[Hashable, Image] = {}
        """That which was asked for last stands last."""

    def get(self, key: Hashable, read: Callable[[], Image]) -> Image:
        """Return an image, read where it is not here; raises what reading it raises."""
        with self._lock:
            image = self._images.pop(key, None)
            if image is not None:
                self._images[key] = image
                return image
        image = read()  # not under the lock: a slow disk holds up nobody else
        with self._lock:
            self._images[key] = image
            self._let_go()
        return image

    def clear(self) -> None:
        """Let go of all."""
        with self._lock:
            self._images.clear()

    def _let_go(self) -> None:
        held_bytes = sum(image.nbytes for image in self._images.values())
        while held_bytes > self._most_bytes:
            held_bytes -= self._images.pop(next(iter(self._images))).nbytes
