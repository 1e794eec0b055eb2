"""A time-lapse under a `LiveEnhancer`: runs an MDA and counts what came of it.

Knows no disk and no network.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from acquisition.live import LiveEnhancer
from acquisition.live_status import LiveStatus

if TYPE_CHECKING:
    from pymmcore_plus import CMMCorePlus
    from useq import MDAEvent, MDASequence

__all__ = ["TimeLapseReport", "run_time_lapse"]


@dataclass(frozen=True, slots=True)
class TimeLapseReport:
    """How a time-lapse went."""

    status: LiveStatus
    frames_expected: int
    finish_reason: str
    """"completed", "canceled" or "errored": an exception in the engine ends an MDA quietly."""
    unenhanced: tuple[int, ...]

    @property
    def complete(self) -> bool:
        """Whether every planned frame was taken and recorded, and none failed."""
        taken = self.finish_reason == "completed" and self.status.frames_in >= self.frames_expected
        return taken and self.status.failed == 0


def run_time_lapse(
    core: "CMMCorePlus",
    sequence: "MDASequence",
    enhancer: LiveEnhancer,
    progress: Callable[[int, int], None] | None = None,
) -> TimeLapseReport:
    """Run an MDA and wait until its frames have ended.

    Parameters
    ----------
    progress
        Called with the frames enhanced, dropped or failed, and the frames planned.
    """
    expected = core.getNumberOfCameraChannels() * sum(1 for event in sequence if _takes_image(event))
    before = enhancer.status()
    acquisition = core.run_mda(sequence)
    try:
        while acquisition.is_alive():
            acquisition.join(0.2)
            _report(progress, enhancer, before, expected)
    except BaseException:  # Ctrl-C: stop the microscope before anything else
        core.mda.cancel()
        acquisition.join()
        raise
    enhancer.drain()
    _report(progress, enhancer, before, expected)
    return TimeLapseReport(
        status=enhancer.status(),
        frames_expected=expected,
        finish_reason=str(core.mda.status.finish_reason),
        unenhanced=enhancer.unenhanced(),
    )


def _report(
    progress: Callable[[int, int], None] | None, enhancer: LiveEnhancer, before: LiveStatus, expected: int
) -> None:
    if progress is not None:
        now = enhancer.status()
        progress((now.frames_in - now.waiting) - (before.frames_in - before.waiting), expected)


def _takes_image(event: "MDAEvent") -> bool:
    return event.action is None or event.action.type == "acquire_image"
