"""A device that fails at once is asked again, and the second asking is never silent.

Owns what a retry is. Knows no device.
"""

from collections.abc import Callable
from dataclasses import dataclass

__all__ = ["DEVICE_ERRORS", "OnRetry", "Retry", "ignore_retry", "twice"]

DEVICE_ERRORS = (RuntimeError, OSError, ValueError)
"""MMCore raises RuntimeError for every C++ device; a Python device raises what it likes."""


@dataclass(frozen=True, slots=True)
class Retry:
    """Something that a device failed at and was asked to do again."""

    device: str
    reason: str
    light_ms: float = 0.0
    """Exposure that the specimen may have got for nothing."""


OnRetry = Callable[[Retry], None]


def ignore_retry(retry: Retry) -> None:
    """Take note of nothing; for callers that keep no journal."""


def twice(act: Callable[[], None], device: str, on_retry: OnRetry) -> None:
    """Do something that a device may fail at once; what it fails at twice is raised."""
    try:
        act()
    except DEVICE_ERRORS as error:
        on_retry(Retry(device, " ".join(str(error).split())))
        act()
