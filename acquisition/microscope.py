"""The only file that moves a microscope: stage, focus drive, turret and filters.

Owns safety. The focus drive moves through `move_focus` alone, which checks the absolute window of the
objective in use, and reads back where the drive went. The objective turns only after the focus drive was
withdrawn and read back. Knows no plan of a scan, no focus score and no files. It and
its parts (`acquisition.camera`, `hardware_focus`, `configuration`) call MMCore's camelCase
(docs/decisions/0011).
"""

import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from functools import partial
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from acquisition.camera import Camera
from acquisition.configuration import Configuration
from acquisition.hardware_focus import HardwareFocus
from acquisition.patience import within
from acquisition.plan import Experiment, MotionRules, StateSettings
from acquisition.retries import DEVICE_ERRORS, OnRetry, ignore_retry, twice
from configs.document import WrongInputError

if TYPE_CHECKING:
    from pymmcore_plus import CMMCorePlus

__all__ = ["FocusWindowError", "Microscope", "MicroscopeError"]

CountImage = np.ndarray[Any, np.dtype[np.uint16]]

FOCUS_TOLERANCE_UM = 0.3
STAGE_TOLERANCE_UM = 2.0
_BUSY_POLL_S = 0.002
_SAFE_WITHIN_S = 30.0


class MicroscopeError(RuntimeError):
    """A device did not do as it was told; the message says which, and what was asked of it."""


class FocusWindowError(MicroscopeError):
    """A move of the focus drive was refused, since it leaves the objective's window. Nothing moved."""

    def __init__(self, asked_um: float, window_um: tuple[float, float], objective: str) -> None:
        self.asked_um = asked_um
        self.window_um = window_um
        low, high = window_um
        super().__init__(
            f"focus drive was asked to go to {asked_um:.2f} um, but with objective {objective} it may move "
            f"from {low:g} to {high:g} um only; correct the focus plan or the window (focus_window_um)"
        )


def _go_on() -> None:
    """Interrupt nothing."""


class Microscope:
    """A core, and what may be done with it in each imaging state.

    Parameters
    ----------
    core
        Any Micro-Manager core with an XY stage, a focus drive and a camera.
    states
        Settings of each imaging state.
    withdraw_um
        Where the focus drive stands while the objective turns.
    motion
        How long devices may take, and which moves of the stage are made withdrawn.
    towards_sample
        Sense of the focus drive; None asks the core.
    on_retry
        Hears of everything that a device was asked to do a second time.
    checkpoint
        Called before every exposure and while waiting for a drive; may wait, or raise to end it all.

    Raises
    ------
    WrongInputError
        Which way the focus drive goes is not known.
    """

    def __init__(
        self,
        core: "CMMCorePlus",
        states: Mapping[Any, StateSettings],
        withdraw_um: float,
        *,
        motion: MotionRules | None = None,
        towards_sample: int | None = None,
        on_retry: OnRetry = ignore_retry,
        checkpoint: Callable[[], None] = _go_on,
    ) -> None:
        self._core = core
        self._states = states
        self._withdraw_um = withdraw_um
        self._motion = motion or MotionRules()
        self._on_retry = on_retry
        self._checkpoint = checkpoint
        self.towards_sample = towards_sample or _focus_direction(core)
        """1 where larger positions of the drive are nearer to the sample, -1 where they are farther."""
        self._state: str | None = None
        self.configuration = Configuration(core, states)
        self.camera = Camera(core, self._motion.camera_s, on_retry)
        self.hardware_focus = HardwareFocus(core, self._motion.focus_s)

    @classmethod
    def for_experiment(
        cls,
        core: "CMMCorePlus",
        experiment: Experiment,
        on_retry: OnRetry = ignore_retry,
        checkpoint: Callable[[], None] = _go_on,
    ) -> Self:
        """Return the microscope of an experiment; raises WrongInputError when it cannot be moved safely."""
        microscope = cls(
            core,
            experiment.states,
            experiment.focus.withdraw_um,
            motion=experiment.motion,
            towards_sample=experiment.focus.towards_sample,
            on_retry=on_retry,
            checkpoint=checkpoint,
        )
        focus = experiment.focus
        for plane_um in (focus.start_um, focus.start_um + focus.parfocal_offset_um):
            microscope.check_withdrawal(plane_um)
        return microscope

    @property
    def state(self) -> str | None:
        """The imaging state that `change_state` went to last; None before the first."""
        return self._state

    def check_withdrawal(self, focus_um: float) -> None:
        """Raise WrongInputError unless the withdrawn drive is farther from the sample than at `focus_um`."""
        if (focus_um - self._withdraw_um) * self.towards_sample <= 0:
            nearer = "larger" if self.towards_sample > 0 else "smaller"
            msg = (
                f"focus.withdraw_um ({self._withdraw_um:g}) is no withdrawal: {nearer} positions of the "
                f"focus drive are nearer to the sample, and focus starts at {focus_um:g}; correct it, or "
                "focus.towards_sample"
            )
            raise WrongInputError(msg)

    def stage_xy_um(self) -> tuple[float, float]:
        """Return where the stage says that it is."""
        x_um, y_um = self._core.getXYPosition()
        return (x_um, y_um)

    def focus_um(self) -> float:
        """Return where the focus drive says that it is."""
        return float(self._core.getPosition())

    def move_stage(self, x_um: float, y_um: float) -> None:
        """Move the stage and wait; sent twice, if need be. Raises MicroscopeError when it does not arrive.

        A long way is made with the focus drive withdrawn, where it then stays.
        """
        way_um = float(np.hypot(*np.subtract(self.stage_xy_um(), (x_um, y_um))))
        if way_um > self._motion.withdraw_beyond_um:
            self.withdraw()
        twice(lambda: self._send_stage(x_um, y_um), "stage", self._on_retry)

    def _send_stage(self, x_um: float, y_um: float) -> None:
        self._checkpoint()
        self._core.setXYPosition(x_um, y_um)
        self._wait_for(self._core.getXYStageDevice(), self._motion.stage_s)
        off_um = float(np.hypot(*np.subtract(self.stage_xy_um(), (x_um, y_um))))
        if off_um > STAGE_TOLERANCE_UM:
            msg = f"stage was sent to ({x_um:.1f}, {y_um:.1f}) um and stopped {off_um:.1f} um from there"
            raise MicroscopeError(msg)

    def move_focus(self, focus_um: float) -> None:
        """Move the focus drive and wait.

        Raises
        ------
        FocusWindowError
            The position lies outside the window of the objective in use; the drive did not move.
        MicroscopeError
            The drive did not arrive, or no imaging state was chosen yet.
        """
        if self._state is None:
            raise MicroscopeError("focus drive may not move before an imaging state is chosen (change_state)")
        self.check_window(focus_um)
        low, high = self._states[self._state].focus_window_um
        away = (focus_um - self.focus_um()) * self.towards_sample < 0
        if away and self._motion.approach_um:
            passed_um = focus_um - self.towards_sample * self._motion.approach_um
            self._drive_to(min(max(passed_um, low), high))
        self._drive_to(focus_um)

    def check_window(self, focus_um: float) -> None:
        """Raise FocusWindowError when a position is none for the objective in use."""
        settings = self._states[self._state]
        low, high = settings.focus_window_um
        if not low <= focus_um <= high:
            raise FocusWindowError(focus_um, settings.focus_window_um, settings.objective)

    def change_state(self, state: str) -> None:
        """Turn to another objective, and whatever else the imaging state sets; nothing if already there.

        The focus drive is withdrawn and read back, then the presets are set and read back. It stays
        withdrawn: the approach is the next `move_focus`, checked against the new objective's window.
        """
        if state == self._state:
            return
        settings = self._states[state]
        self._state = None  # until the turret is known to stand, no focus move is allowed
        self.withdraw()
        for group, preset in settings.presets.items():
            twice(partial(self._set_preset, group, preset), group, self._on_retry)
        self._state = state

    def _set_preset(self, group: str, preset: str) -> None:
        self._core.setTimeoutMs(round(self._motion.turret_s * 1e3))
        self._core.setConfig(group, preset)
        self._core.waitForConfig(group, preset)
        reached = self._core.getCurrentConfig(group)
        if reached != preset:
            where = "; focus drive stays withdrawn" if self._state is None else ""
            raise MicroscopeError(f"'{group}' was set to '{preset}' and reads '{reached}'{where}")

    def select_channel(self, group: str, preset: str) -> None:
        """Set a channel, wait for its filters and read them back."""
        twice(partial(self._set_preset, group, preset), group, self._on_retry)

    def snap(self, exposure_ms: float) -> CountImage:
        """Return one exposure, (Y, X) uint16; see `Camera.snap`."""
        self._checkpoint()
        return self.camera.snap(exposure_ms)

    def frame_shape_yx(self) -> tuple[int, int]:
        """Return the shape of the frames that `snap` gives."""
        return self.camera.frame_shape_yx()

    def central_roi(self, side_px: int) -> AbstractContextManager[None]:
        """Read only the middle of the camera inside the block; see `Camera.central_roi`."""
        return self.camera.central_roi(side_px)

    def withdraw(self) -> None:
        """Take the focus drive away from the sample, whatever objective is in use, and read it back.

        The hardware autofocus is switched off first, or it would drive after. A drive that stands farther
        away already stays where it is.
        """
        self.hardware_focus.release()
        if (self.focus_um() - self._withdraw_um) * self.towards_sample >= 0:
            self._drive_to(self._withdraw_um)

    def make_safe(self) -> list[str]:
        """Go dark and withdraw, on any way out; returns what could not be done, a line each."""
        problems: list[str] = []

        def close_shutters() -> None:
            problems.extend(f"shutter '{label}' does not close" for label in self.camera.close_shutters())

        for what, act in (
            ("camera", self.camera.stop),
            ("shutters", close_shutters),
            ("focus drive", self.withdraw),
        ):
            try:
                within(_SAFE_WITHIN_S, act, f"no answer within {_SAFE_WITHIN_S:g} s")
            except DEVICE_ERRORS as error:
                problems.append(f"{what}: {error}")
        return problems

    def _drive_to(self, focus_um: float) -> None:
        """Move and read back, twice if need be; the one place where the drive is commanded."""
        twice(lambda: self._send_drive(focus_um), "focus drive", self._on_retry)

    def _send_drive(self, focus_um: float) -> None:
        self._checkpoint()
        self._core.setPosition(focus_um)
        self._wait_for(self._core.getFocusDevice(), self._motion.focus_s)
        reached_um = self.focus_um()
        if abs(reached_um - focus_um) > FOCUS_TOLERANCE_UM:
            msg = f"focus drive was sent to {focus_um:.2f} um and reads {reached_um:.2f} um; check the drive"
            raise MicroscopeError(msg)

    def _wait_for(self, device: str, seconds: float) -> None:
        """Wait until a device says that it is not busy; its own time-out, and open to a checkpoint."""
        end_s = time.monotonic() + seconds
        while self._core.deviceBusy(device):
            if time.monotonic() > end_s:
                raise MicroscopeError(f"device '{device}' timed out: busy for more than {seconds:g} s")
            self._checkpoint()
            time.sleep(_BUSY_POLL_S)


def _focus_direction(core: "CMMCorePlus") -> int:
    """Return 1 where larger positions are nearer to the sample, -1 where they are farther."""
    drive = core.getFocusDevice()
    direction = int(core.getFocusDirection(drive)) if drive else 0
    if direction == 0:
        msg = (
            f"it is not known which way the focus drive '{drive}' goes: turn it by hand, watch the "
            f"objective, and write FocusDirection,{drive},1 into the .cfg if larger positions bring it "
            "nearer to the sample, -1 if they take it away (or focus.towards_sample into the experiment)"
        )
        raise WrongInputError(msg)
    return direction
