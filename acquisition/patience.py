"""Waits for what may never return: an adapter that hangs can be left behind, but not stopped.

Owns the two errors after which a program must not end as if all were well.
"""

import threading
from collections.abc import Callable

__all__ = ["DeviceHangsError", "NotLeftSafeError", "within"]


class DeviceHangsError(RuntimeError):
    """A device neither answers nor fails, and the thread that waits for it is left behind.

    This process cannot free it, and cannot end in an orderly way: end it, and start anew.
    """


class NotLeftSafeError(RuntimeError):
    """At the end of a run a shutter did not close, or the focus drive did not withdraw."""


def within(seconds: float, act: Callable[[], None], complaint: str) -> None:
    """Do something in a thread of its own.

    Raises
    ------
    DeviceHangsError
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
        raise DeviceHangsError(complaint)
    if failures:
        raise failures[0]
