"""Live enhancement on any Micro-Manager core: snaps, live mode, bursts and MDA time-lapses.

Owns the way of a frame: it is recorded raw first; only then it is sent to the worker (`acquisition.feed`).
Nobody but the disk can make the camera wait. Which frames count stands in `acquisition.core_frames`. Knows no
network and no file format, and imports no microscope library: the core is handed in.

A time-lapse:

    with LiveEnhancer(core, recording=Path("today")) as live:
        live.enhanced.connect(lambda image, frame: ...)
        report = run_time_lapse(core, sequence, live)
"""

import logging
import threading
import time
import uuid
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np
from psygnal import EmitLoopError

from acquisition.core_frames import CoreFrames
from acquisition.feed import Feed
from acquisition.feed_lane import FeedRules
from acquisition.live_status import LiveFrame, LiveSignals, LiveState, LiveStatus, Tally
from acquisition.worker_routes import Routes, WorkerChoice, checked_routes
from configs.document import WrongInputError
from inference.client import (
    ClientSettings,
    DroppedFrame,
    EnhancedFrame,
    FailedFrame,
    Outcome,
)
from inference.protocol import Delivery
from inference.recording import FrameFacts, Recorder

if TYPE_CHECKING:
    from pymmcore_plus import CMMCorePlus

__all__ = ["LiveEnhancer", "LiveFrame", "LiveState", "LiveStatus"]

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
        Address of the worker, of several that share the frames, or one of these for each channel (a mapping).
        They need not be there, and may come and go. A worker that has several models takes for each frame the
        one for its channel.
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
    numerical_aperture
        Of the objective, which no core knows; None leaves it unchecked.

    Raises
    ------
    WrongInputError
        When an address or the keys cannot be used, or the folder holds a recording already.
    """

    def __init__(
        self,
        core: "CMMCorePlus",
        worker: WorkerChoice = "tcp://127.0.0.1:5555",
        recording: Path | None = None,
        delivery: Literal["record", "preview"] = "record",
        *,
        allow_out_of_domain: bool = False,
        settings: ClientSettings | None = None,
        keys: Path | None = None,
        numerical_aperture: float | None = None,
    ) -> None:
        self._keys = keys
        routes, own_keys = checked_routes(worker, keys)  # before anything is written
        rules = FeedRules(Delivery(delivery), allow_out_of_domain, settings, own_keys)
        self._tally = Tally()
        self._door = threading.Lock()  # the order of frames, should two threads take some
        self._next_number = 0
        self._closing = threading.Lock()
        self._turning = threading.Lock()  # guards _state and what follows from it
        self._state = LiveState.RUNNING
        self._given_up = False  # nobody was there when frames were waited for
        with ExitStack() as undo:
            self._recorder = None if recording is None else Recorder.create(recording)
            if self._recorder is not None:
                undo.enter_context(self._recorder)
            self.session = uuid.uuid4().hex if self._recorder is None else self._recorder.session
            self._feed = Feed(
                routes,
                rules,
                session=self.session,
                recorder=self._recorder,
                settled=self._settled,
                state=lambda state, reason: self._emit(self.state.emit, state, reason),
            )
            undo.pop_all()
        self._source = CoreFrames(
            core, self._take, self._tally.missed, numerical_aperture, self._tally.trouble
        )
        self._source.start()

    # ---- what a user asks --------------------------------------------------------------------------

    @property
    def recording(self) -> Path | None:
        """The folder that is recorded into."""
        return None if self._recorder is None else self._recorder.path

    def status(self) -> LiveStatus:
        """Return a snapshot of the counters."""
        worker, reason = self._feed.status()
        return self._tally.snapshot(self._state, worker, reason, time.monotonic_ns())

    def workers(self) -> Routes:
        """Return the addresses of the workers by channel; None stands for all channels."""
        return self._feed.workers()

    def unenhanced(self) -> tuple[int, ...]:
        """Return the numbers of the frames that have no enhanced image, now."""
        return self._tally.unenhanced()

    def wait_ready(self, timeout_s: float | None = None) -> bool:
        """Wait until the worker answers, of several connections each; false when it did not in time."""
        return self._feed.wait_ready(timeout_s)

    def pause(self) -> None:
        """Send no frames to the worker for a while; raw ones go on being recorded."""
        self._turn(LiveState.PAUSED)

    def resume(self) -> None:
        """Enhance again, first what was taken during the pause."""
        self._turn(LiveState.RUNNING)

    def stop(self) -> None:
        """Take no more frames; those taken are still enhanced. The camera itself is left alone."""
        self._turn(LiveState.STOPPED)

    def start(self) -> None:
        """Take frames again, into the same recording."""
        self._turn(LiveState.RUNNING)

    def repoint(self, worker: WorkerChoice) -> None:
        """Send frames to other workers from now on, also those that the old ones have not answered.

        No record frame is lost or told of twice. With other models the enhanced images get streams of their
        own.

        Parameters
        ----------
        worker
            As at the beginning; of a mapping, channels that it leaves out keep their workers.

        Raises
        ------
        WrongInputError
            When an address cannot be used, or a channel is named though all share their workers.
        """
        routes, _ = checked_routes(worker, self._keys)
        self._feed.repoint(routes)

    def burst(self, frames: int) -> None:
        """Have the camera take so many frames at its own pace, more than the core's buffer holds if need be.

        Returns when it has begun; raises RuntimeError while another sequence runs, WrongInputError where
        frames are not taken any more.
        """
        if self._state in (LiveState.STOPPED, LiveState.CLOSED):
            raise WrongInputError(f"live enhancement is {self._state} and takes no frames; start it first")
        self._source.burst(frames)

    def drain(
        self, patience_s: float = PATIENCE_S, progress: Callable[[int], None] = lambda _waiting: None
    ) -> bool:
        """Wait until every frame has ended: true; false at a pause, or without a worker for so long.

        A worker that answers is waited for as long as it takes, if frames wait for it.

        Parameters
        ----------
        progress
            Called some times a second with how many frames wait.
        """
        self._given_up = False
        if self._recorder is not None:
            self._recorder.flush()
        patient_until_s = time.monotonic() + patience_s
        while True:
            with self._tally.changed:
                if self._tally.changed.wait_for(lambda: self._tally.waiting() == 0, timeout=0.1):
                    return True
            progress(self._tally.waiting())
            if self._state is LiveState.PAUSED:
                return False
            if self._feed.progresses():
                patient_until_s = time.monotonic() + patience_s
            elif time.monotonic() > patient_until_s:
                self._given_up = True
                return False

    def close(self, patience_s: float = PATIENCE_S) -> None:
        """Take no more frames, wait for those on their way, and seal the recording. Once is enough.

        What waits at a pause stays without an enhanced image (`inference.completion` makes it later). With a
        patience of 0, or where `drain` found nobody, no worker is waited for, only the disk. Ctrl-C in the
        wait leaves what waits without one too, and the recording is sealed all the same.
        """
        with self._closing:
            if self._state is LiveState.CLOSED:
                return
            try:
                if self._state is LiveState.RUNNING:
                    self._turn(LiveState.STOPPED)
                self._source.stop()
                if patience_s > 0 and (self._feed.progresses() or not self._given_up):
                    self.drain(patience_s)
            finally:
                self._seal()

    def _seal(self) -> None:
        with ExitStack() as each_of_them:
            if self._recorder is not None:
                each_of_them.callback(self._recorder.close)
            each_of_them.callback(self._feed.close)
            each_of_them.callback(self._source.stop)
            self._turn(LiveState.CLOSED)
            if self._recorder is not None:
                self._recorder.flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close(PATIENCE_S if error is None else 0.0)  # after Ctrl-C nobody waits for a worker

    def _turn(self, to: LiveState) -> None:
        """Go to another state: the one way in which it changes."""
        with self._turning:
            before, self._state = self._state, self._state.turned(to)
            if before is to:
                return
            if to is LiveState.STOPPED:
                self._source.stop()
            if before is LiveState.STOPPED and to is LiveState.RUNNING:
                self._source.start()
            if to is not LiveState.CLOSED:
                self._feed.pause(to is LiveState.PAUSED)
        self._feed.post(lambda: self._emit(self.turned.emit, to))

    # ---- the way of a frame ------------------------------------------------------------------------

    def _take(self, image: Image, facts: FrameFacts) -> None:
        """Record a frame; the camera's buffer is copied before this returns."""
        captured_ns = time.monotonic_ns()
        own = np.array(image, order="C", copy=True)
        self._tally.taken(captured_ns)
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
        self._feed.show(frame, lambda: self._emit(self.raw.emit, image, frame))
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
