"""Live enhancement on any Micro-Manager core: snaps, live mode and MDA time-lapses.

Owns the connection to the core: which frames count, and what is known of each. A frame is recorded raw
first; only then it is sent to the worker (`acquisition.feed`). Nobody but the disk can make the camera
wait. Knows no network and no file format, and imports no microscope library: the core is handed in.

A time-lapse:

    with LiveEnhancer(core, recording=Path("today")) as live:
        live.enhanced.connect(lambda image, frame: ...)
        report = run_time_lapse(core, sequence, live)
"""

import logging
import threading
import time
import uuid
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np
from psygnal import EmitLoopError

from acquisition.feed import Feed
from acquisition.frame_facts import core_facts, mda_facts, stage_position
from acquisition.live_status import LiveFrame, LiveSignals, LiveStatus, Tally
from acquisition.sequence_reader import SequenceReader
from inference.client import (
    ClientSettings,
    ClientState,
    DroppedFrame,
    EnhancedFrame,
    FailedFrame,
    Outcome,
)
from inference.protocol import Delivery
from inference.recording import FrameFacts, Recorder
from inference.worker_list import checked_workers

if TYPE_CHECKING:
    from pymmcore_plus import CMMCorePlus
    from useq import MDAEvent, MDASequence

__all__ = ["LiveEnhancer", "LiveFrame", "LiveStatus", "TimeLapseReport", "run_time_lapse"]

Image = np.ndarray[Any, np.dtype[Any]]

logger = logging.getLogger(__name__)

PATIENCE_S = 10.0
"""How long the end waits for a worker that is not there."""


class LiveEnhancer(LiveSignals):
    """Records and enhances what a core's camera takes, while the context is open.

    Parameters
    ----------
    core
        Any core; others may go on using it.
    worker
        Address of the worker, or of several that share the frames. They need not be there, and may come and
        go.
    recording
        A new folder for raw and enhanced frames; None records nothing.
    delivery
        "record": every frame is enhanced, in order, however long it takes. "preview": the newest wins.
    allow_out_of_domain
        Apply the model where it does not fit, and flag the result.
    settings
        Bounds and deadlines of the connection.
    keys
        The folder with this client's keys (`sharpscope keys client`), for workers beyond this machine.

    Raises
    ------
    WrongInputError
        When an address or the keys cannot be used, or the folder holds a recording already.
    """

    def __init__(
        self,
        core: "CMMCorePlus",
        worker: str | Sequence[str] = "tcp://127.0.0.1:5555",
        recording: Path | None = None,
        delivery: Literal["record", "preview"] = "record",
        *,
        allow_out_of_domain: bool = False,
        settings: ClientSettings | None = None,
        keys: Path | None = None,
    ) -> None:
        workers, own_keys = checked_workers(worker, keys)  # before anything is written
        how = Delivery(delivery)
        self._core = core
        self._tally = Tally()
        self._door = threading.Lock()  # the order of frames, should two threads take some
        self._next_number = 0
        self._reader: SequenceReader | None = None
        with ExitStack() as undo:
            self._recorder = None if recording is None else Recorder.create(recording)
            if self._recorder is not None:
                undo.enter_context(self._recorder)
            self.session = uuid.uuid4().hex if self._recorder is None else self._recorder.session
            self._feed = Feed(
                workers,
                session=self.session,
                recorder=self._recorder,
                delivery=how,
                allow_out_of_domain=allow_out_of_domain,
                settings=settings or ClientSettings.for_workers(len(workers)),
                settled=self._settled,
                state=lambda state, reason: self._emit(self.state.emit, state, reason),
                keys=own_keys,
            )
            undo.pop_all()
        self._closed = False
        self._connections = self._connect()

    # ---- what a user asks --------------------------------------------------------------------------

    def status(self) -> LiveStatus:
        """Return a snapshot of the counters."""
        client = self._feed.client.status()
        return self._tally.snapshot(client.state, client.reason)

    def unenhanced(self) -> tuple[int, ...]:
        """Return the numbers of the frames that have no enhanced image, now."""
        return self._tally.unenhanced()

    def wait_ready(self, timeout_s: float | None = None) -> bool:
        """Wait until the worker answers; false when it did not in time."""
        return self._feed.client.wait_ready(timeout_s)

    def drain(self, patience_s: float = PATIENCE_S) -> bool:
        """Wait until every frame has ended; gives up when there is no worker for so long.

        Returns
        -------
        bool
            Whether all have ended.
        """
        if self._recorder is not None:
            self._recorder.flush()
        patient_until_s = time.monotonic() + patience_s
        while True:
            with self._tally.changed:
                if self._tally.changed.wait_for(lambda: self._tally.waiting() == 0, timeout=0.1):
                    return True
            if self._feed.client.status().state is ClientState.READY:
                patient_until_s = time.monotonic() + patience_s
            elif time.monotonic() > patient_until_s:
                return False

    def close(self, patience_s: float = PATIENCE_S) -> None:
        """Take no more frames, wait for those on their way, and seal the recording. Once is enough."""
        if self._closed:
            return
        self._closed = True
        for signal, slot in self._connections:
            with suppress(ValueError):  # disconnected already
                signal.disconnect(slot)
        self._connections = []
        self._stop_reader()
        self.drain(patience_s)
        self._feed.close()
        if self._recorder is not None:
            self._recorder.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close(PATIENCE_S if error is None else 0.0)

    # ---- what the core tells -----------------------------------------------------------------------

    def _connect(self) -> list[tuple[Any, Callable[..., None]]]:
        events, mda_events = self._core.events, self._core.mda.events
        connections: list[tuple[Any, Callable[..., None]]] = [
            (mda_events.frameReady, self._on_mda_frame),
            (events.imageSnapped, self._on_snap),
            (events.continuousSequenceAcquisitionStarted, self._on_live_mode),
            (events.sequenceAcquisitionStopped, self._stop_reader),
        ]
        for signal, slot in connections:
            signal.connect(slot)
        if self._core.isSequenceRunning() and not self._core.mda.is_running():
            self._reader = SequenceReader(
                self._core, self._on_live_frame, self._tally.missed, from_newest=True
            )
        return connections

    def _on_mda_frame(self, image: Image, event: "MDAEvent", meta: dict[str, Any]) -> None:
        self._take(image, mda_facts(event, meta, self._core))

    def _on_snap(self, _camera: str = "") -> None:
        if self._core.mda.is_running():
            return  # comes again as frameReady, or is a look of the autofocus
        for number in range(self._core.getNumberOfCameraChannels()):
            camera = self._core.getPhysicalCameraDevice(number)
            facts = replace(core_facts(self._core), camera=camera, **stage_position(self._core))
            self._take(self._core.getImage(number), facts)

    def _on_live_mode(self) -> None:
        if not self._core.mda.is_running():
            self._stop_reader()
            self._reader = SequenceReader(self._core, self._on_live_frame, self._tally.missed)

    def _on_live_frame(self, image: Image, tags: dict[str, str]) -> None:
        elapsed = tags.get("ElapsedTime-ms")
        facts = replace(
            core_facts(self._core),
            camera=tags.get("Camera"),
            elapsed_ms=None if elapsed is None else float(elapsed),
        )
        self._take(image, facts)

    def _stop_reader(self, _camera: str = "") -> None:
        reader, self._reader = self._reader, None
        if reader is not None:
            reader.stop()

    # ---- the way of a frame ------------------------------------------------------------------------

    def _take(self, image: Image, facts: FrameFacts) -> None:
        """Record a frame; the camera's buffer is copied before this returns."""
        captured_ns = time.monotonic_ns()
        own = np.array(image, order="C", copy=True)
        self._tally.taken()
        with self._door:
            if self._recorder is not None:
                stored = partial(self._stored, own, facts, captured_ns)
                self._recorder.put(own, facts, stored, owned=True)
                return
            number = self._next_number
            self._next_number += 1
            self._offer(LiveFrame(number, self.session, facts, captured_ns), own)

    def _stored(
        self, image: Image, facts: FrameFacts, captured_ns: int, number: int, reason: str | None
    ) -> None:
        """Send a frame on, now that it is on the disk; or say that it is not."""
        frame = LiveFrame(number, self.session, facts, captured_ns)
        if reason is not None:
            self._feed.refuse(frame, f"not recorded: {reason}")
            return
        self._tally.recorded()
        self._feed.post(lambda: self._emit(self.recorded.emit, frame))
        self._offer(frame, image)

    def _offer(self, frame: LiveFrame, image: Image) -> None:
        self._tally.owed(frame.number)
        self._feed.offer(frame, image)

    def _settled(self, frame: LiveFrame, outcome: Outcome) -> None:
        """Tell the listeners how a frame ended, then count it."""
        match outcome:
            case EnhancedFrame():
                self._emit(self.enhanced.emit, outcome.image, replace(frame, result=outcome))
                self._tally.ended(frame.number, "enhanced", outcome.latency_ms)
            case DroppedFrame():
                self._emit(self.dropped.emit, frame, f"superseded by frame {outcome.superseded_by}")
                self._tally.ended(frame.number, "dropped")
            case FailedFrame():
                self._emit(self.failed.emit, frame, outcome.reason)
                self._tally.ended(frame.number, "failed")

    def _emit(self, emit: Callable[..., object], *payload: object) -> None:
        try:
            emit(*payload)
        except EmitLoopError:  # a listener's mistake is its own
            logger.exception("a listener failed")


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
    """Run an MDA under a `LiveEnhancer` and count what came of it.

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
