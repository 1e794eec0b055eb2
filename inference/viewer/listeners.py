"""Who is to be woken when a source changes.

Owns the list. Knows neither sources nor pages.
"""

import threading
from collections.abc import Callable

__all__ = ["Listeners"]


class Listeners:
    """Functions that are called at each change. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._listeners: tuple[Callable[[], None], ...] = ()

    def subscribe(self, changed: Callable[[], None]) -> Callable[[], None]:
        """Have a function called from now on; see `inference.viewer.source.Source.subscribe`."""
        with self._lock:
            self._listeners = (*self._listeners, changed)

        def unsubscribe() -> None:
            with self._lock:
                self._listeners = tuple(each for each in self._listeners if each is not changed)

        return unsubscribe

    def call(self) -> None:
        """Call all of them, in this thread."""
        for listener in self._listeners:
            listener()
