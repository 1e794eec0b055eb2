"""What was asked for last, kept in memory up to a bound: images read from a disk, pictures made for a page.

Owns the bound and which goes first. Knows nothing of what is kept: whoever asks says how it is made.
"""

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, Protocol, TypeVar

__all__ = ["Kept"]


class _Sized(Protocol):
    @property
    def nbytes(self) -> int: ...


Thing = TypeVar("Thing", bound=_Sized | bytes)


class Kept(Generic[Thing]):
    """Things by their keys; safe for several threads.

    Parameters
    ----------
    most_bytes
        Of all together; what nobody asked for longest goes first.
    """

    def __init__(self, most_bytes: int) -> None:
        self._most_bytes = most_bytes
        self._lock = threading.Lock()
        self._things: OrderedDict[Hashable, Thing] = OrderedDict()

    def get(self, key: Hashable, make: Callable[[], Thing]) -> Thing:
        """Return the thing of a key, made now where it is not kept; raises what making it raises."""
        with self._lock:
            kept = self._things.get(key)
            if kept is not None:
                self._things.move_to_end(key)
                return kept
        made = make()  # not under the lock: a slow disk holds up nobody else
        with self._lock:
            self._things[key] = made
            self._things.move_to_end(key)
            held_bytes = sum(map(_bytes_of, self._things.values()))
            while held_bytes > self._most_bytes:
                held_bytes -= _bytes_of(self._things.popitem(last=False)[1])
        return made

    def clear(self) -> None:
        """Let go of all."""
        with self._lock:
            self._things.clear()


def _bytes_of(thing: _Sized | bytes) -> int:
    return len(thing) if isinstance(thing, bytes) else thing.nbytes
