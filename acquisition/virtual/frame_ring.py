"""A ring of exposures that are rendered once and then replayed, so that rendering leaves the cores alone.

Owns which exposure of a sequence shows which place of the ring, and when the ring is stale. Knows no devices
and no physics: rendering is handed in.
"""

from collections.abc import Callable, Hashable
from typing import Any

import numpy as np

__all__ = ["FrameRing"]

CountImage = np.ndarray[Any, np.dtype[np.uint8 | np.uint16]]
Render = Callable[[int], CountImage]
"""Returns the exposure at a place."""


class FrameRing:
    """So many exposures of one state of the microscope.

    Parameters
    ----------
    length
        Of the ring.
    """

    def __init__(self, length: int) -> None:
        self._length = length
        self._state: Hashable = None
        self._images: dict[int, CountImage] = {}

    def place(self, number: int, period: int = 1) -> int:
        """Return where in the ring the n-th exposure of a sequence stands.

        Parameters
        ----------
        period
            After which exposures come again: the ring then holds a whole number of periods.
        """
        return number % self._used(period)

    def fill(self, state: Hashable, render: Render, period: int = 1) -> None:
        """Render what is missing for a state of the microscope."""
        for place in range(self._used(period)):
            self.image(state, place, render)

    def _used(self, period: int) -> int:
        return max(self._length // period * period, period)

    def image(self, state: Hashable, place: int, render: Render) -> CountImage:
        """Return the exposure at a place; another state than the last one empties the ring."""
        if state != self._state:
            self._state = state
            self._images.clear()
        if place not in self._images:
            self._images[place] = render(place)
        return self._images[place]
