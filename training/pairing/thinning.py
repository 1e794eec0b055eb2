"""An even selection of a long sequence, kept in bounded memory.

Owns which ones are kept: when there are more than wanted, every other one is dropped, and from then on every
other one not taken. So the same sequence gives the same selection, and all its parts have their say. Knows
nothing of what is kept.
"""

from collections.abc import Callable
from typing import Generic, TypeVar

__all__ = ["Thinned"]

Kept = TypeVar("Kept")


class Thinned(Generic[Kept]):
    """At most `most` of what is offered, evenly spaced."""

    def __init__(self, most: int) -> None:
        self.kept: list[Kept] = []
        self._most = most
        self._stride, self._seen = 1, 0

    def offer(self, make: Callable[[], Kept]) -> None:
        """Take the next one into account; it is only made where it is kept."""
        if self._seen % self._stride == 0 and len(self.kept) == self._most:
            self.kept = self.kept[::2]
            self._stride *= 2
        if self._seen % self._stride == 0:
            self.kept.append(make())
        self._seen += 1
