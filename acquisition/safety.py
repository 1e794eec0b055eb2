"""How every run on a microscope begins and ends: dark, and ends withdrawn too.

Owns the two acts. What a microscope does for them is `acquisition.microscope`'s.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from acquisition.microscope import Microscope, MicroscopeError

__all__ = ["go_dark", "left_safe"]

_LOG = logging.getLogger(__name__)


def go_dark(microscope: Microscope) -> None:
    """Close the shutters before anything else; raises MicroscopeError when one stays open."""
    microscope.camera.stop()
    if open_still := microscope.camera.close_shutters():
        msg = f"shutter {', '.join(open_still)} does not close, the specimen bleaches; nothing was moved"
        raise MicroscopeError(msg)


@contextmanager
def left_safe(microscope: Microscope) -> Iterator[None]:
    """Leave the microscope dark and withdrawn, however the block ends."""
    try:
        yield
    except BaseException:
        for problem in microscope.make_safe():
            _LOG.error("the microscope was not left safe: %s", problem)
        raise
    if problems := microscope.make_safe():
        raise MicroscopeError(f"all is done, but the microscope was not left safe: {problems[0]}")
