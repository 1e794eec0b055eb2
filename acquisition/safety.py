"""How every run on a microscope begins and ends: dark, and ends withdrawn too.

Owns the two acts. What a microscope does for them is `acquisition.microscope`'s.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from acquisition.microscope import Microscope, MicroscopeError
from acquisition.patience import DeviceHangsError, NotLeftSafeError

__all__ = ["go_dark", "left_safe"]


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
    except DeviceHangsError:
        microscope.make_safe()  # as far as it goes; the watchdog does the rest
        raise
    except BaseException as error:
        if problems := microscope.make_safe():
            what = f"{error or type(error).__name__}; and the microscope was not left safe"
            raise NotLeftSafeError(f"{what}: {', '.join(problems)}") from error
        raise
    if problems := microscope.make_safe():
        raise NotLeftSafeError(f"all is done, but the microscope was not left safe: {', '.join(problems)}")
