"""The acquisition engine of a time-lapse that stays in focus, at one or several positions.

Before the frames of each visit the plane is looked for, predicted by the focus map or held by the hardware
autofocus, as the experiment's focus plan says (`acquisition.focusing`). A visit whose plane is not found is
imaged in the plane of the one before; one that stage, drive or camera fail at is left out; both are told.
Knows no files: frames come as the MDA's `frameReady`.
"""

import logging
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pymmcore_plus.mda import MDAEngine, SkipEvent
from useq import HardwareAutofocus

from acquisition.autofocus import FocusFailedError
from acquisition.focusing import FieldFocus
from acquisition.microscope import Microscope, MicroscopeError
from acquisition.patience import DeviceHangsError
from acquisition.plan import Experiment
from acquisition.retries import DEVICE_ERRORS
from acquisition.sequences import state_of

if TYPE_CHECKING:
    from pymmcore_plus import CMMCorePlus
    from pymmcore_plus.metadata import SummaryMetaV1
    from useq import MDAEvent, MDASequence

    from acquisition.manifest import ImagingState

__all__ = ["FocusKeepingEngine", "FocusVisit"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class FocusVisit:
    """How a visit came to its plane."""

    time_index: int
    position_index: int
    position_name: str | None
    focus_um: float
    method: str
    """"searched", "predicted", "hardware"; "kept" where none of them gave a plane; "missed" where a device
    failed."""
    reason: str = ""
    """Of the last two."""


class FocusKeepingEngine(MDAEngine):
    """Runs a time-lapse whose sequence asks for an autofocus at each visit.

    Parameters
    ----------
    core
        The microscope's core.
    microscope
        In the imaging state of the time-lapse, its drive in a plane that will do until a better one is found.
    experiment
        Gives the focus plan and the motion rules.
    on_visit
        Told of each visit, in the engine's thread.
    clock
        Seconds since the epoch.
    """

    def __init__(
        self,
        core: "CMMCorePlus",
        microscope: Microscope,
        experiment: Experiment,
        on_visit: Callable[[FocusVisit], None] = lambda _visit: None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        # Hardware-sequenced frames carry no position; restoring the state would move the drive unasked.
        super().__init__(core, use_hardware_sequencing=False, restore_initial_state=False)
        self._core = core
        self._microscope = microscope
        self._failed_visits = experiment.motion.failed_fields
        self._focus = FieldFocus(microscope, experiment, clock)
        self._on_visit = on_visit
        self._state: ImagingState = "low"
        self._planes_um: dict[int, float] = {}
        self._start_um = 0.0
        self._left_out: tuple[int, int] | None = None
        self._failed_in_a_row = 0

    # ---- what the runner calls ---------------------------------------------------------------------

    def setup_sequence(self, sequence: "MDASequence") -> "SummaryMetaV1 | None":
        """Take note of the state and the plane to begin with."""
        self._state = state_of(sequence)
        self._microscope.change_state(self._state)
        self._planes_um.clear()
        self._start_um = self._microscope.focus_um()
        return super().setup_sequence(sequence)

    def setup_event(self, event: "MDAEvent") -> None:
        """Go where the event wants to be; what is left of a visit that a device failed at is skipped."""
        if _visit(event) == self._left_out:
            raise SkipEvent(reason="a device failed at this visit")
        try:
            if isinstance(event.action, HardwareAutofocus):
                if event.x_pos is not None and event.y_pos is not None:
                    self._microscope.move_stage(event.x_pos, event.y_pos)
            elif event.channel is not None:
                self._microscope.select_channel(event.channel.group, event.channel.config)
        except DEVICE_ERRORS as error:
            self._leave_out(event, error)
            raise SkipEvent(reason=str(error)) from error

    def exec_event(self, event: "MDAEvent") -> Iterable[Any]:
        """Focus or expose."""
        if isinstance(event.action, HardwareAutofocus):
            self._keep_focus(event)
            return ()
        return self._expose(event)

    def teardown_event(self, event: "MDAEvent") -> None:
        """Leave the shutter to MMCore, which closes it after each exposure."""

    # ---- a visit -----------------------------------------------------------------------------------

    def _keep_focus(self, event: "MDAEvent") -> None:
        position = _visit(event)[1]
        try:
            found = self._focus.focus(self._state, self._microscope.stage_xy_um())
        except FocusFailedError as failure:
            self._stay(event, str(failure))
            return
        except DeviceHangsError:
            raise
        except DEVICE_ERRORS as error:
            self._stay(event, f"autofocus: {error}")
            return
        self._planes_um[position] = found.focus_um
        self._tell(event, found.focus_um, found.method)

    def _stay(self, event: "MDAEvent", reason: str) -> None:
        """Image in the plane of the last visit."""
        plane_um = self._planes_um.get(_visit(event)[1], self._start_um)
        try:
            self._microscope.move_focus(plane_um)
        except DEVICE_ERRORS as error:
            self._leave_out(event, error)
            return
        self._tell(event, plane_um, "kept", reason)

    def _leave_out(self, event: "MDAEvent", error: Exception) -> None:
        """Give a visit up; end the time-lapse when the device seems to be gone."""
        self._left_out = _visit(event)
        self._tell(event, self._focus_um(), "missed", str(error))
        self._failed_in_a_row += 1
        if isinstance(error, DeviceHangsError) or self._failed_in_a_row >= self._failed_visits:
            msg = f"{self._failed_in_a_row} visits in a row failed, the last with: {error}; check the device"
            raise MicroscopeError(msg) from error

    def _focus_um(self) -> float:
        """Return where the drive says that it is; it may be what has failed."""
        try:
            return self._microscope.focus_um()
        except DEVICE_ERRORS:
            return self._start_um

    def _expose(self, event: "MDAEvent") -> Iterator[Any]:
        exposure_ms = self._core.getExposure() if event.exposure is None else event.exposure
        try:
            image = self._microscope.snap(exposure_ms)
        except DEVICE_ERRORS as error:
            self._leave_out(event, error)
            return
        self._failed_in_a_row = 0
        began_s = event.metadata.get("runner_t0") or time.perf_counter()
        meta = self.get_frame_metadata(event, runner_time_ms=(time.perf_counter() - began_s) * 1e3)
        yield image, event, meta

    def _tell(self, event: "MDAEvent", focus_um: float, method: str, reason: str = "") -> None:
        visit = FocusVisit(*_visit(event), event.pos_name, focus_um, method, " ".join(reason.split()))
        if reason:
            name = visit.position_name or f"position {visit.position_index}"
            logger.warning("visit %s of %s: %s", visit.time_index, name, visit.reason)
        self._on_visit(visit)


def _visit(event: "MDAEvent") -> tuple[int, int]:
    return event.index.get("t", 0), event.index.get("p", 0)
