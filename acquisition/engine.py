"""The acquisition engine of a paired scan: software autofocus and objective change inside a useq sequence.

Owns what happens at each event, and the promise that nothing is silent: a stage that does not arrive, a
focus that is not found, an exposure that fails twice, each becomes a hole with a reason, and no later frame
moves into its place. Knows no files: what was acquired goes to a receiver, in the engine's thread, so that
a full disk ends the run.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from pymmcore_plus.mda import MDAEngine, SkipEvent
from useq import HardwareAutofocus

from acquisition.autofocus import FocusFailedError, FocusResult
from acquisition.focus_search import search_focus
from acquisition.microscope import Microscope
from acquisition.plan import Experiment
from acquisition.sequences import state_of

if TYPE_CHECKING:
    from pymmcore_plus import CMMCorePlus
    from pymmcore_plus.metadata import SummaryMetaV1
    from useq import MDAEvent, MDASequence

    from acquisition.manifest import ImagingState

__all__ = ["FieldReceiver", "ScanEngine"]

CountImage = np.ndarray[Any, np.dtype[np.uint16]]

_DEVICE_ERRORS = (RuntimeError, OSError, ValueError)
"""MMCore raises RuntimeError for every C++ device; a Python device raises what it likes."""


class FieldReceiver(Protocol):
    """Who takes what the engine acquires. Positions are counted as in the sequence."""

    def focused(self, position: int, result: FocusResult) -> None:
        """Take a plane of best focus."""

    def focus_failed(self, position: int, failure: FocusFailedError) -> None:
        """Take a focus that was not found; the position becomes a hole next."""

    def frame(
        self,
        position: int,
        channel: int,
        image: CountImage,
        stage_xy_um: tuple[float, float],
        focus_um: float,
    ) -> None:
        """Take a frame; where it was taken is as stage and drive report."""

    def hole(self, position: int, reason: str) -> None:
        """Take note that a position has no complete field."""


class ScanEngine(MDAEngine):
    """Runs the sequences of a paired scan.

    Parameters
    ----------
    core
        The microscope's core.
    experiment
        Gives states, channels and the focus plan.
    receiver
        Takes frames, focus curves and holes.
    """

    def __init__(self, core: "CMMCorePlus", experiment: Experiment, receiver: FieldReceiver) -> None:
        # Hardware-sequenced frames carry no position, and restoring the initial state would move the
        # focus drive past the windows.
        super().__init__(core, use_hardware_sequencing=False, restore_initial_state=False)
        self._experiment = experiment
        self._receiver = receiver
        self._microscope = Microscope(core, experiment.states, experiment.focus.withdraw_um)
        self._state: ImagingState = "low"
        self._plane_um: dict[ImagingState, float] = {}
        self._holes: set[int] = set()

    # ---- what the runner calls ---------------------------------------------------------------------

    def setup_sequence(self, sequence: "MDASequence") -> "SummaryMetaV1 | None":
        """Turn to the sequence's objective before its first event."""
        self._holes.clear()
        self._state = state_of(sequence)
        self._microscope.change_state(self._state)
        return super().setup_sequence(sequence)

    def setup_event(self, event: "MDAEvent") -> None:
        """Bring the stage and the filters where the event wants them; a hole skips what is left of it."""
        position = event.index["p"]
        if position in self._holes:
            raise SkipEvent(reason="the position is a hole")
        try:
            if isinstance(event.action, HardwareAutofocus):
                self._microscope.move_stage(*_place(event))
            elif event.channel is not None:
                self._microscope.select_channel(event.channel.group, event.channel.config)
        except _DEVICE_ERRORS as error:
            self._give_up(position, str(error))
            raise SkipEvent(reason=str(error)) from error

    def exec_event(self, event: "MDAEvent") -> Iterable[Any]:
        """Focus or expose; an exposure that fails yields None in its place."""
        if isinstance(event.action, HardwareAutofocus):
            self._autofocus(event.index["p"])
            return ()
        return self._expose(event)

    def teardown_event(self, event: "MDAEvent") -> None:
        """Leave the shutter to MMCore, which closes it after each exposure."""

    # ---- focusing ----------------------------------------------------------------------------------

    def _autofocus(self, position: int) -> None:
        try:
            result = self._search()
            self._microscope.move_focus(result.focus_um)
        except FocusFailedError as failure:
            self._plane_um.pop(self._state, None)
            self._receiver.focus_failed(position, failure)
            self._give_up(position, str(failure))
        except _DEVICE_ERRORS as error:
            self._give_up(position, f"autofocus: {error}")
        else:
            self._plane_um[self._state] = result.focus_um
            self._receiver.focused(position, result)

    def _search(self) -> FocusResult:
        """Look around the last plane found; far around where this state has none yet."""
        focus = self._experiment.focus
        known = self._plane_um.get(self._state)
        ranges: Mapping[ImagingState, float] = (
            focus.search_range_um if known is None else focus.track_range_um
        )
        start_um = self._expected_plane_um() if known is None else known
        return search_focus(self._microscope, self._experiment, self._state, start_um, ranges[self._state])

    def _expected_plane_um(self) -> float:
        """Return where the plan, and the other state's last plane, let this state's plane be expected."""
        focus = self._experiment.focus
        offset_um = focus.parfocal_offset_um
        if self._state == "high":
            return self._plane_um.get("low", focus.start_um) + offset_um
        return self._plane_um["high"] - offset_um if "high" in self._plane_um else focus.start_um

    # ---- exposing ----------------------------------------------------------------------------------

    def _expose(self, event: "MDAEvent") -> Iterator[Any]:
        position, channel = event.index["p"], event.index["c"]
        exposure_ms = self._experiment.channels[channel].exposure_ms[self._state]
        try:
            image = self._microscope.snap(exposure_ms)
        except _DEVICE_ERRORS as error:
            self._give_up(position, f"exposure in channel {self._experiment.channels[channel].name}: {error}")
            yield None  # a sink must not move the next frame into this one's place
            return
        self._receiver.frame(
            position, channel, image, self._microscope.stage_xy_um(), self._microscope.focus_um()
        )
        yield image, event, self.get_frame_metadata(event)

    def _give_up(self, position: int, reason: str) -> None:
        self._holes.add(position)
        self._receiver.hole(position, " ".join(reason.split()))


def _place(event: "MDAEvent") -> tuple[float, float]:
    if event.x_pos is None or event.y_pos is None:
        raise ValueError(
            "every position of a paired scan has x and y; use acquisition.plan to make the sequence"
        )
    return (event.x_pos, event.y_pos)
