"""The acquisition engine of a paired scan: software autofocus and objective change inside a useq sequence.

Owns what happens at each event, and the promise that nothing is silent: a stage that does not arrive, a
focus that is not found, an exposure that fails twice, each becomes a hole with a reason, and no later frame
moves into its place. Pausing and cancelling the MDA is heard at every move and exposure, not between events
only. Knows no files: what was acquired goes to a receiver, in the engine's thread, so that a full disk ends
the run.
"""

import time
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from pymmcore_plus.mda import MDAEngine, RunState, SkipEvent
from useq import HardwareAutofocus

from acquisition.autofocus import FocusFailedError
from acquisition.focusing import FieldFocus, FoundPlane
from acquisition.microscope import Microscope, MicroscopeError
from acquisition.patience import DeviceHangsError
from acquisition.plan import Experiment
from acquisition.retries import DEVICE_ERRORS, Retry
from acquisition.sequences import state_of, take_of

if TYPE_CHECKING:
    from pymmcore_plus import CMMCorePlus
    from pymmcore_plus.metadata import SummaryMetaV1
    from useq import MDAEvent, MDASequence

    from acquisition.manifest import FocusRecord, ImagingState

__all__ = ["ChannelFocus", "FieldReceiver", "ScanEngine"]

CountImage = np.ndarray[Any, np.dtype[np.uint16]]
ChannelFocus = Mapping["ImagingState", Mapping[str, float]]
"""By imaging state and channel: its best focus minus the focus channel's, um."""

_PAUSE_POLL_S = 0.05


class FieldReceiver(Protocol):
    """Who takes what the engine acquires. Positions are counted as in the sequence."""

    def begun(self, position: int) -> None:
        """Take note that a position is about to be exposed."""

    def focused(
        self, position: int, plane: FoundPlane, stage_xy_um: tuple[float, float], light_ms: float
    ) -> None:
        """Take a plane of best focus, and the light that it cost."""

    def focus_failed(self, position: int, failure: FocusFailedError, light_ms: float) -> None:
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

    def retried(self, position: int | None, retry: Retry) -> None:
        """Take note of something that a device was asked to do again."""


class _CancelledError(Exception):
    """The MDA was cancelled in mid-event; the runner ends it at the event's end."""


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
    channel_focus_um
        Where the channels' planes differ.
    """

    def __init__(
        self,
        core: "CMMCorePlus",
        experiment: Experiment,
        receiver: FieldReceiver,
        channel_focus_um: ChannelFocus | None = None,
    ) -> None:
        # Hardware-sequenced frames carry no position, and restoring the initial state would move the
        # focus drive past the windows.
        super().__init__(core, use_hardware_sequencing=False, restore_initial_state=False)
        self._core = core
        self._experiment = experiment
        self._receiver = receiver
        self._channel_focus_um = channel_focus_um or {}
        self._microscope = Microscope.for_experiment(core, experiment, self._on_retry, self._checkpoint)
        self._focus = FieldFocus(self._microscope, experiment)
        self._state: ImagingState = "low"
        self._take = 1
        self._plane_um = 0.0
        self._position: int | None = None
        self._interruptible = False
        self._given_up: set[int] = set()
        self._failed_in_a_row = 0

    def remember(self, records: "Iterable[FocusRecord]") -> None:
        """Learn from the planes that an earlier part of the scan found."""
        self._focus.remember(records)

    # ---- what the runner calls ---------------------------------------------------------------------

    def setup_sequence(self, sequence: "MDASequence") -> "SummaryMetaV1 | None":
        """Turn to the sequence's objective before its first event; a turn that has begun is finished."""
        self._given_up.clear()
        self._position = None
        self._state, self._take = state_of(sequence), take_of(sequence)
        self._microscope.change_state(self._state)
        return super().setup_sequence(sequence)

    def setup_event(self, event: "MDAEvent") -> None:
        """Bring the stage and the filters where the event wants them; a hole skips what is left of it."""
        position = self._position = event.index["p"]
        if position in self._given_up:
            raise SkipEvent(reason="the position was given up")
        self._interruptible = True
        try:
            if isinstance(event.action, HardwareAutofocus):
                self._receiver.begun(position)
                self._microscope.move_stage(*_place(event))
            elif event.channel is not None:
                self._microscope.select_channel(event.channel.group, event.channel.config)
                self._focus_channel(event.index["c"])
        except _CancelledError as error:
            self._given_up.add(position)
            raise SkipEvent(reason="cancelled") from error
        except DEVICE_ERRORS as error:
            self._device_failed(position, str(error), error)
            raise SkipEvent(reason=str(error)) from error
        finally:
            self._interruptible = False

    def exec_event(self, event: "MDAEvent") -> Iterable[Any]:
        """Focus or expose; an exposure that fails yields None in its place."""
        if isinstance(event.action, HardwareAutofocus):
            self._autofocus(event.index["p"], _place(event))
            return ()
        return self._expose(event)

    def teardown_event(self, event: "MDAEvent") -> None:
        """Leave the shutter to MMCore, which closes it after each exposure."""

    # ---- focusing ----------------------------------------------------------------------------------

    def _autofocus(self, position: int, xy_um: tuple[float, float]) -> None:
        self._interruptible = True
        try:
            plane = self._focus.focus(self._state, xy_um, thorough=self._take > 1)
        except _CancelledError:
            self._given_up.add(position)
        except FocusFailedError as failure:
            self._receiver.focus_failed(position, failure, self._focus.light_ms)
            self._give_up(position, str(failure))
        except DEVICE_ERRORS as error:
            self._device_failed(position, f"autofocus: {error}", error)
        else:
            self._plane_um = plane.focus_um
            self._receiver.focused(position, plane, xy_um, self._focus.light_ms)
        finally:
            self._interruptible = False

    def _focus_channel(self, channel: int) -> None:
        """Go to the channel's own plane, where the calibration knows that it differs."""
        offsets_um = self._channel_focus_um.get(self._state, {})
        if offsets_um and not self._microscope.hardware_focus.on:
            name = self._experiment.channels[channel].name
            self._microscope.move_focus(self._plane_um + offsets_um.get(name, 0.0))

    # ---- exposing ----------------------------------------------------------------------------------

    def _expose(self, event: "MDAEvent") -> Iterator[Any]:
        position, channel = event.index["p"], event.index["c"]
        settings = self._experiment.channels[channel]
        self._interruptible = True
        try:
            image = self._microscope.snap(settings.exposure_ms[self._state])
        except _CancelledError:
            self._given_up.add(position)
            yield None
            return
        except DEVICE_ERRORS as error:
            self._device_failed(position, f"exposure in channel {settings.name}: {error}", error)
            yield None  # a sink must not move the next frame into this one's place
            return
        finally:
            self._interruptible = False
        if channel == len(self._experiment.channels) - 1:
            self._failed_in_a_row = 0
        self._receiver.frame(position, channel, image, self._microscope.stage_xy_um(), self._plane_um)
        yield image, event, self.get_frame_metadata(event)

    # ---- what goes wrong ---------------------------------------------------------------------------

    def _device_failed(self, position: int, reason: str, error: Exception) -> None:
        """Give a position up; end the scan when the device seems to be gone."""
        self._give_up(position, reason)
        self._failed_in_a_row += 1
        limit = self._experiment.motion.failed_fields
        if isinstance(error, DeviceHangsError):
            raise DeviceHangsError(f"{reason}; what is committed is safe") from error
        if self._failed_in_a_row >= limit:
            msg = (
                f"{limit} fields in a row failed, the last with: {' '.join(reason.split())}; check the "
                "device, then continue with --resume"
            )
            raise MicroscopeError(msg) from error

    def _give_up(self, position: int, reason: str) -> None:
        self._given_up.add(position)
        self._receiver.hole(position, " ".join(reason.split()))

    def _on_retry(self, retry: Retry) -> None:
        self._receiver.retried(self._position, retry)

    def _checkpoint(self) -> None:
        """Wait while the MDA is to pause; leave the event when it is to end."""
        if not self._interruptible:
            return
        while True:
            status = self._core.mda.status
            if status.cancel_requested or status.phase is RunState.FINISHING:
                raise _CancelledError
            if not status.pause_requested:
                return
            time.sleep(_PAUSE_POLL_S)


def _place(event: "MDAEvent") -> tuple[float, float]:
    if event.x_pos is None or event.y_pos is None:
        raise ValueError(
            "every position of a paired scan has x and y; use acquisition.plan to make the sequence"
        )
    return (event.x_pos, event.y_pos)
