"""What a person does with the camera during live enhancement, and the buttons of a viewer.

Starts and stops live mode, snaps, bursts and time-lapses. What the camera is doing is asked of the core each
time, since other programs on the same core start and stop it too; stage, focus drive and filters are never
touched. `actions` and `do` are what a viewer's buttons need, so that no viewer has to know this module. Knows
no disk and no network.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from typing import TYPE_CHECKING

from acquisition.live import LiveEnhancer, LiveState
from acquisition.time_lapse import TimeLapseReport, run_time_lapse
from configs.document import WrongInputError

if TYPE_CHECKING:
    from pymmcore_plus import CMMCorePlus
    from useq import MDASequence

__all__ = ["CameraActivity", "LiveController"]


class CameraActivity(StrEnum):
    """What the camera does at the moment, whoever started it."""

    IDLE = "idle"
    SEQUENCE = "sequence"
    """Live mode or a burst."""
    TIME_LAPSE = "time-lapse"
    """An MDA."""
    PREPARING = "preparing"
    """Nothing yet: a time-lapse is about to begin."""


class LiveController:
    """Hands on the camera of a core that a `LiveEnhancer` listens to. Thread-safe.

    Parameters
    ----------
    core
        The core; others may go on using it.
    enhancer
        Open.
    """

    def __init__(self, core: "CMMCorePlus", enhancer: LiveEnhancer) -> None:
        self._core = core
        self._enhancer = enhancer
        self._camera = threading.RLock()  # one of us at a time starts or stops it
        self._our_live_mode = False
        self._preparing = False
        self._stopped = threading.Event()
        self._deeds: dict[str, Callable[[], None]] = {
            "pause": enhancer.pause,
            "resume": enhancer.resume,
            "stop": self.stop,
            "snap": self.snap,
        }

    @property
    def activity(self) -> CameraActivity:
        """What the camera does at the moment."""
        if self._core.mda.is_running():
            return CameraActivity.TIME_LAPSE
        if self._core.isSequenceRunning():
            return CameraActivity.SEQUENCE
        return CameraActivity.PREPARING if self._preparing else CameraActivity.IDLE

    # ---- the camera --------------------------------------------------------------------------------

    def live_mode(self) -> None:
        """Have the camera run until it is stopped; nothing if live mode runs already.

        Raises
        ------
        WrongInputError
            While a time-lapse runs.
        """
        with self._camera:
            self._leave_to_time_lapse("start live mode")
            self._stopped.clear()
            if self.activity is CameraActivity.IDLE:
                self._core.startContinuousSequenceAcquisition()
                self._our_live_mode = True

    def snap(self) -> None:
        """Take one frame; a live mode that was started here is interrupted for it.

        Raises
        ------
        WrongInputError
            While a time-lapse runs, or a sequence that somebody else has started.
        """
        with self._camera:
            self._leave_to_time_lapse("snap")
            running = self.activity is CameraActivity.SEQUENCE
            if running and not self._our_live_mode:
                raise WrongInputError("another program runs the camera; stop its sequence to snap")
            if running:
                self._core.stopSequenceAcquisition()
            try:
                self._core.snapImage()
            finally:
                if running:
                    self._core.startContinuousSequenceAcquisition()

    def burst(self, frames: int) -> None:
        """Begin a burst at the camera's own pace, of any length; see `LiveEnhancer.burst`.

        Raises
        ------
        WrongInputError
            While the camera does something else.
        """
        with self._camera:
            self._leave_to_time_lapse("start a burst")
            self._stopped.clear()
            if self.activity is not CameraActivity.IDLE:
                raise WrongInputError(f"the camera is busy with a {self.activity}; stop it to start a burst")
            self._our_live_mode = False
            self._enhancer.burst(frames)

    def _leave_to_time_lapse(self, wish: str) -> None:
        """Raise WrongInputError while a time-lapse has the camera, or is about to."""
        if self.activity is CameraActivity.TIME_LAPSE:
            raise WrongInputError(f"a time-lapse is running and takes the camera; stop it to {wish}")
        if self._preparing:
            raise WrongInputError(f"a time-lapse is about to begin; stop it to {wish}")

    def prepare(self) -> None:
        """Keep the camera for the time-lapse that comes; `stop` then keeps it from beginning."""
        with self._camera:
            self._stopped.clear()
            self._preparing = True

    def time_lapse(
        self,
        sequence: "MDASequence",
        progress: Callable[[int, int], None] | None = None,
        waiting: Callable[[int], None] = lambda _frames: None,
    ) -> TimeLapseReport:
        """Run an MDA to its end, or until it is stopped; see `run_time_lapse`."""
        return run_time_lapse(
            self._core, sequence, self._enhancer, progress, starting=self._starting(), waiting=waiting
        )

    @contextmanager
    def _starting(self) -> Iterator[bool]:
        """Let nobody else have the camera until the time-lapse has it; false where it was stopped before."""
        with self._camera:
            if not self._preparing:
                self._stopped.clear()
            self._preparing = False
            yield not self._stopped.is_set()

    def stop(self) -> None:
        """End whatever the camera does, whoever started it."""
        with self._camera:
            self._our_live_mode = False
            if self._core.mda.is_running():
                self._core.mda.cancel()
            elif self._core.isSequenceRunning():
                self._core.stopSequenceAcquisition()
        self._stopped.set()

    def wait_stopped(self, timeout_s: float | None = None) -> bool:
        """Wait until `stop` was asked for since the last start; false when it was not in time."""
        return self._stopped.wait(timeout_s)

    # ---- the buttons of a viewer -------------------------------------------------------------------

    def actions(self) -> tuple[str, ...]:
        """Return what can be done now."""
        state, activity = self._enhancer.status().state, self.activity
        idle = activity is CameraActivity.IDLE
        possible = {
            "pause": state is LiveState.RUNNING,
            "resume": state is LiveState.PAUSED,
            "stop": not idle,
            "snap": idle
            or (not self._preparing and activity is CameraActivity.SEQUENCE and self._our_live_mode),
            "repoint": True,
        }
        return tuple(action for action, now in possible.items() if now and state is not LiveState.CLOSED)

    def do(self, action: str, **arguments: str) -> None:
        """Do what was asked for.

        Parameters
        ----------
        action
            "pause", "resume", "stop", "snap" or "repoint".
        arguments
            Of "repoint": `worker`, the address of another worker for all channels.

        Raises
        ------
        WrongInputError
            When there is no such action, or it cannot be done now; the message says why.
        """
        if set(arguments) != ({"worker"} if action == "repoint" else set()):
            raise WrongInputError("'repoint' needs the address of a worker, and nothing else takes one")
        if action == "repoint":
            self._enhancer.repoint(arguments["worker"])
            return
        if action not in self._deeds:
            raise WrongInputError(
                f"there is no action '{action}'; there is: {', '.join(self._deeds)}, repoint"
            )
        self._deeds[action]()
