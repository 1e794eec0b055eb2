"""Waits for what may never return: an adapter that hangs can be left behind, but not stopped."""

import threading
from collections.abc import Callable

__all__ = ["PatienceError", "within"]


class PatienceError(RuntimeError):
    """Something did not return in time; the thread that it runs in is left behind."""


def within(seconds: float, act: Callable[[], None], complaint: str) -> None:
    """Do something in a thread of its own.

    Raises
    ------
    PatienceError
        With the complaint; it goes on by itself, if it ever does.
    Exception
        Whatever `act` raises.
    """
    failures: list[Exception] = []

    def run() -> None:
        try:
            act()
        except Exception as error:
            failures.append(error)

    thread = threading.Thread(target=run, name="device", daemon=True)
    thread.start()
    thread.join(seconds)
    if thread.is_alive():
        raise PatienceError(complaint)
    if failures:
        raise failures[0]
