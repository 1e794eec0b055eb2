"""A time-lapse under a `LiveEnhancer`: runs an MDA and counts what came of it.

Knows no disk and no network.
"""

import math
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from threading import Thread
from typing import TYPE_CHECKING

from acquisition.live import LiveEnhancer
from acquisition.live_status import LiveStatus

if TYPE_CHECKING:
    from pymmcore_plus import CMMCorePlus
    from useq import MDAEvent, MDASequence

__all__ = ["TimeLapseReport", "run_time_lapse"]

MOMENT_S = 1.0


@dataclass(frozen=True, slots=True)
class TimeLapseReport:
    """How a time-lapse went."""

    status: LiveStatus
    frames_expected: int
    finish_reason: str
    """"completed", "canceled" or "errored": an exception in the engine ends an MDA quietly."""
    unenhanced: tuple[int, ...]
    frames_taken: int
    """By the time-lapse; `status` counts also what was taken before."""
    frames_failed: int

    @property
    def complete(self) -> bool:
        """Whether every planned frame was taken and recorded, and none failed."""
        taken = self.finish_reason == "completed" and self.frames_taken >= self.frames_expected
        return taken and self.frames_failed == 0


def run_time_lapse(
    core: "CMMCorePlus",
    sequence: "MDASequence",
    enhancer: LiveEnhancer,
    progress: Callable[[int, int], None] | None = None,
    *,
    starting: AbstractContextManager[bool] | None = None,
    waiting: Callable[[int], None] = lambda _frames: None,
) -> TimeLapseReport:
    """Run an MDA and wait until its frames have ended.

    Parameters
    ----------
    progress
        Called with the frames enhanced, dropped or failed, and the frames planned.
    starting
        Entered until the MDA runs; where it gives false, none is run: it was canceled before.
    waiting
        Called once with how many frames wait for their workers, if they do for longer than a moment.
    """
    expected = core.getNumberOfCameraChannels() * sum(1 for event in sequence if _takes_image(event))
    before = enhancer.status()
    with starting or nullcontext(True) as wanted:
        acquisition = _started(core, sequence) if wanted else None
    if acquisition is not None:
        try:
            while acquisition.is_alive():
                acquisition.join(0.2)
                _report(progress, enhancer, before, expected)
        except BaseException:  # Ctrl-C: stop the microscope before anything else
            core.mda.cancel()
            acquisition.join()
            raise
        _drain(enhancer, waiting, lambda: _report(progress, enhancer, before, expected))
        _report(progress, enhancer, before, expected)
    status = enhancer.status()
    return TimeLapseReport(
        status=status,
        frames_expected=expected,
        finish_reason="canceled" if acquisition is None else str(core.mda.status.finish_reason),
        unenhanced=enhancer.unenhanced(),
        frames_taken=status.frames_in - before.frames_in,
        frames_failed=status.failed - before.failed,
    )


def _started(core: "CMMCorePlus", sequence: "MDASequence") -> Thread:
    """Start an MDA; returns when the core says that it runs, or it has ended."""
    acquisition = core.run_mda(sequence)
    while acquisition.is_alive() and not core.mda.is_running():
        acquisition.join(0.005)
    return acquisition


def _drain(enhancer: LiveEnhancer, waiting: Callable[[int], None], tick: Callable[[], None]) -> None:
    tell_at_s = time.monotonic() + MOMENT_S

    def progress(frames: int) -> None:
        nonlocal tell_at_s
        tick()
        if time.monotonic() > tell_at_s:
            tell_at_s = math.inf
            waiting(frames)

    enhancer.drain(progress=progress)


def _report(
    progress: Callable[[int, int], None] | None, enhancer: LiveEnhancer, before: LiveStatus, expected: int
) -> None:
    if progress is not None:
        now = enhancer.status()
        progress((now.frames_in - now.waiting) - (before.frames_in - before.waiting), expected)


def _takes_image(event: "MDAEvent") -> bool:
    return event.action is None or event.action.type == "acquire_image"
