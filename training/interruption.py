"""Ctrl-C and SIGTERM, heard between two iterations.

Owns the handlers while a run lasts. An interrupt in the middle of an update would leave a generator that has
moved and a discriminator that has not; a checkpoint of that resumes to another curve.
"""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

__all__ = ["Interruption", "heard"]


class Interruption:
    """Whether somebody asked the run to end."""

    def __init__(self) -> None:
        self._asked = False

    def __bool__(self) -> bool:
        return self._asked

    def ask(self, number: int, _frame: FrameType | None) -> None:
        """Take note of a signal; the second one of its kind interrupts at once."""
        if self._asked:
            raise KeyboardInterrupt
        self._asked = True
        signal.signal(number, signal.default_int_handler)


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
