"""Ctrl-C and SIGTERM, heard between two iterations.

Owns the handlers while a run lasts. An interrupt in the middle of an update would leave a generator that has
moved and a discriminator that has not; a checkpoint of that resumes to another curve.
"""

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

__all__ = ["Interruption", "heard"]

REPEAT_S = 3.0
"""Within which a signal is the same wish again: `torchrun` passes on a Ctrl-C that the terminal sent too."""


class Interruption:
    """Whether somebody asked the run to end."""

    def __init__(self) -> None:
        self._asked_s: float | None = None

    def __bool__(self) -> bool:
        return self._asked_s is not None

    def ask(self, _number: int, _frame: FrameType | None) -> None:
        """Take note of a signal; one that comes well after the first interrupts at once."""
        now_s = time.monotonic()
        if self._asked_s is None:
            self._asked_s = now_s
        elif now_s - self._asked_s > REPEAT_S:
            raise KeyboardInterrupt


@contextmanager
def heard() -> Iterator[Interruption]:
    """Hear SIGINT and SIGTERM as a wish; outside the main thread nothing is changed."""
    interruption = Interruption()
    if threading.current_thread() is not threading.main_thread():
        yield interruption
        return
    before = {number: signal.signal(number, interruption.ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield interruption
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
