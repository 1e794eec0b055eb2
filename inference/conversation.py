"""What a client knows of its worker, and what it does about each thing it hears: the client without sockets.

Owns the states of the connection, the rules by which a worker counts as lost, the credits and the promise
that every frame is settled exactly once. Thread-safe: frames are entered by any thread, replies by the one
that has the socket; what that thread is to do is returned as a `Step`. Knows no ZeroMQ.
"""

import logging
import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from configs.document import WrongInputError
from inference.address import is_loopback
from inference.connection import ClientSettings, ClientState, ClientStatus, Step, WorkerBusyError
from inference.frame_memory import FrameMemory, Held
from inference.ledger import BLAMED, Ledger, Pending
from inference.messages import (
    Delivery,
    Dropped,
    Enhanced,
    ErrorCode,
    ErrorReply,
    Failed,
    FailureCode,
    Info,
    Progress,
    Share,
    Shared,
    StreamPhotometry,
)
from inference.outcomes import DroppedFrame, EnhancedFrame, FailedFrame, FrameId, Outcome
from inference.protocol import Reply

__all__ = ["Conversation"]

Image = np.ndarray[Any, np.dtype[Any]]

logger = logging.getLogger(__name__)

MOST_SLOTS = 16
"""Frames that are kept in shared memory at once; what a client keeps beyond takes the socket."""

LONGEST_SILENCE_S = 60.0
"""To this the limit of silence grows while the same worker is lost and found again with frames unanswered."""


class Conversation:
    """One client's side of the talk with whoever answers at an address.

    Parameters
    ----------
    on_outcome
        Called once for each frame with how it ended.
    on_state
        Called with each new state and its reason.
    """

    def __init__(
        self,
        session: str,
        address: str,
        settings: ClientSettings,
        on_outcome: Callable[[Outcome], None],
        on_state: Callable[[ClientState, str], None],
    ) -> None:
        self._session = session
        self._address = address
        self._settings = settings
        self._on_outcome = on_outcome
        self._on_state = on_state
        self._changed = threading.Condition()  # guards all below
        self._ledger = Ledger()
        self._state = ClientState.CONNECTING
        self._reason = f"waiting for a worker at {address}"
        self._info: Info | None = None
        self._photometry: dict[tuple[str | None, float | None], StreamPhotometry] = {}
        self._memory = FrameMemory(
            min(settings.stored_frames, MOST_SLOTS) + settings.preview_credit,
            enabled=settings.share_memory and is_loopback(address),
        )
        self._silence_limit_s = settings.silence_limit_s
        self._untold = 0
        """Outcomes that have been decided and not been told yet."""
        self._closing = False

    # ---- for any thread ----------------------------------------------------------------------------

    def hold(self, image: Image) -> Held:
        """Return an own copy of a (Y, X) frame."""
        return self._memory.hold(image)

    def enter(self, pending: Pending, timeout_s: float | None) -> None:
        """Take a frame on; a record frame waits for room."""
        pending.held = self._memory.adopt(pending.held)
        with self._changed:
            record = pending.frame.delivery is Delivery.RECORD
            if record and not self._changed.wait_for(self._has_room, timeout_s):
                msg = f"{self._ledger.record_count} frames wait for the worker at {self._address}"
                raise WorkerBusyError(f"{msg} ({self._state}: {self._reason}); submit the frame later")
            if self._closing:
                msg = "the client is closed; make a new one"
                raise WrongInputError(msg)
            superseded = self._ledger.add(pending)
            self._untold += superseded is not None
        if superseded is not None:
            self._deliver(DroppedFrame(self._id(superseded), pending.frame.sequence))

    def _has_room(self) -> bool:
        return self._closing or self._ledger.record_count < self._settings.stored_frames

    def status(self) -> ClientStatus:
        """Return a snapshot."""
        with self._changed:
            unanswered, info = self._ledger.unanswered(), self._info
            if info is None:
                return ClientStatus(self._state, self._reason, (), unanswered)
            return ClientStatus(
                self._state, self._reason, info.models, unanswered, info.record_credit, info.worker
            )

    def wait_ready(self, timeout_s: float | None) -> bool:
        """Wait until a worker answers."""
        with self._changed:
            return self._changed.wait_for(lambda: self._state is ClientState.READY, timeout_s)

    def wait_settled(self, timeout_s: float | None) -> bool:
        """Wait until every frame has its answer and it has been told."""
        with self._changed:
            return self._changed.wait_for(lambda: not (len(self._ledger) or self._untold), timeout_s)

    def recall(self) -> None:
        """Forget every frame that has no answer: its submitter gives it to somebody else."""
        self._memory.forget()  # the worker may still write where answers were wanted
        with self._changed:
            self._ledger.clear()
            self._changed.notify_all()

    def start_closing(self) -> bool:
        """Take no more frames; false when it was asked before."""
        with self._changed:
            before, self._closing = self._closing, True
            self._changed.notify_all()
            return not before

    def end(self) -> None:
        """Let every frame without an answer end as failed. After the thread with the socket has ended."""
        with self._changed:
            left = self._ledger.clear()
            self._untold += len(left)
            self._changed.notify_all()
        self._memory.forget()
        for pending in left:
            reason = f"the client was closed before a worker answered (last: {self._reason})"
            self._deliver(FailedFrame(self._id(pending), reason))
        self._become(ClientState.CLOSED, "closed")

    # ---- for the thread with the socket ------------------------------------------------------------

    @property
    def ready(self) -> bool:
        """Whether frames may be sent."""
        return self._state is ClientState.READY

    def next_to_send(self) -> Pending | None:
        """Return the next frame that the worker's credit allows, stamped with what is known by now."""
        while self.ready and self._info is not None:
            with self._changed:
                pending = self._ledger.next_to_send(self._info.record_credit, self._settings.preview_credit)
                if pending is None:
                    return None
                frame = pending.frame
                known = self._photometry.get((frame.channel, frame.pixel_size_um))
                pending.frame = frame.model_copy(
                    update={
                        "sent_ns": time.monotonic_ns(),
                        "photometry": frame.photometry or known,
                        "shared": self._memory.place(pending.held),
                    }
                )
            if pending.image.nbytes <= self._info.most_pixel_bytes:
                return pending
            reason = f"{pending.image.nbytes} bytes; the worker accepts {self._info.most_pixel_bytes}"
            self._settle(FailedFrame(self._id(pending), reason))
        return None

    def offer(self) -> Share | None:
        """Return the memory that the worker is to be offered before the next frame, once."""
        return self._memory.offer() if self.ready else None

    def put_back(self, pending: Pending) -> None:
        """Take a frame back that could not be sent."""
        with self._changed:
            superseding = self._ledger.take_back(pending)
            self._untold += superseding is not None
        if superseding is not None:
            self._deliver(DroppedFrame(self._id(pending), superseding.frame.sequence))

    def hear(self, reply: Reply, image: Image | None) -> Step:
        """React to a reply; one about another session's frame is nobody's here."""
        if getattr(reply, "session", None) not in (None, self._session):
            logger.warning("a reply of %s is about another session and is left alone", self._address)
            return Step.NOTHING
        match reply:
            case Info():
                return self._meet(reply)
            case Progress():
                return self._check_progress(reply)
            case Shared():
                self._memory.hear(reply)
            case Enhanced():
                self._settle_enhanced(reply, image)
            case Dropped():
                source = FrameId(reply.session, reply.sequence)
                self._settle(DroppedFrame(source, reply.superseded_by))
            case Failed(code=FailureCode.SHUTTING_DOWN):
                return self.lose("the worker shuts down")
            case Failed():
                source = FrameId(reply.session, reply.sequence)
                self._settle(FailedFrame(source, reply.reason, reply.code))
            case ErrorReply():
                return self._hear_error(reply)
        return Step.NOTHING

    def hear_nothing(self, silence_s: float) -> Step:
        """React to silence."""
        if silence_s <= self._silence_limit_s or self._state is ClientState.LOST:
            return Step.NOTHING
        if self._info is not None and len(self._ledger) > 0:
            # Perhaps a slow network: behind a large answer nothing else is heard. The next time is longer.
            self._silence_limit_s = min(2 * self._silence_limit_s, LONGEST_SILENCE_S)
        return self.lose(f"no sign of life from {self._address} for {silence_s:.1f} s")

    def hear_refusal(self, reason: str | None) -> None:
        """React to a handshake that failed, if one did; the transport or the client tries again."""
        if reason is not None and (self._state, self._reason) != (ClientState.LOST, reason):
            self._forget_flight()
            self._become(ClientState.LOST, reason)

    def lose(self, reason: str) -> Step:
        """Give the worker up; what it had is sent again to the next one."""
        self._forget_flight()
        self._become(ClientState.LOST, reason)
        return Step.RECONNECT

    def _meet(self, info: Info) -> Step:
        """Start to send, once, to a worker that has introduced itself; later it tells of other models."""
        same = self._info is not None and info.worker == self._info.worker
        stuck = info.busy_s > self._settings.progress_limit_s
        if not stuck and not (self.ready and same):
            self._forget_flight()
            if not same:
                self._silence_limit_s = self._settings.silence_limit_s
            self._blame(dead=not same)
            with self._changed:
                self._info = info
            self._memory.meet(max((model.factor for model in info.models), default=1))
            self._become(ClientState.READY, f"worker {info.worker[:8]} at {self._address}")
        elif same:
            with self._changed:
                self._info = info
            self._memory.meet(max((model.factor for model in info.models), default=1))
        return Step.NOTHING

    def _blame(self, *, dead: bool) -> None:
        """Give up a frame that costs one worker after another, so that the others get theirs enhanced."""
        with self._changed:
            culprit = self._ledger.blame(dead=dead)
            self._untold += culprit is not None
            self._changed.notify_all()
        if culprit is not None:
            self._deliver(FailedFrame(self._id(culprit), BLAMED))

    def _meet_again(self, reason: str) -> Step:
        self._forget_flight()
        self._become(ClientState.CONNECTING, reason)
        return Step.SAY_HELLO

    def _check_progress(self, progress: Progress) -> Step:
        if self._info is None or progress.worker != self._info.worker:
            return self._meet_again("another worker answers at the address")
        if progress.busy_s > self._settings.progress_limit_s:
            return self.lose(f"the engine has been at one frame for {progress.busy_s:.0f} s")
        return Step.NOTHING

    def _hear_error(self, reply: ErrorReply) -> Step:
        if reply.code is ErrorCode.UNKNOWN_CLIENT:
            return self._meet_again("the worker was restarted")
        if reply.code is ErrorCode.NO_SUCH_MEMORY:
            return self._meet_again("the worker does not see the shared memory any more")
        if reply.sequence is None:
            return self.lose(f"{reply.code}: {reply.message}")
        source = FrameId(self._session, reply.sequence)
        self._settle(FailedFrame(source, f"{reply.code}: {reply.message}"))
        return Step.NOTHING

    def _settle_enhanced(self, reply: Enhanced, image: Image | None) -> None:
        with self._changed:
            pending = self._ledger.settle(reply.sequence)
            if pending is None:
                return  # answered twice: sent again to a worker that was not dead after all
            frame = pending.frame
            if image is None:
                image = pending.held.answered(reply.shape_yx)
            if not reply.shows_raw:  # a light that was found from no numbers is none
                self._photometry[(frame.channel, frame.pixel_size_um)] = reply.photometry
            self._untold += 1
            self._changed.notify_all()
        if image is None:
            reason = "the worker put the answer where there is no room for it"
            self._deliver(FailedFrame(self._id(pending), reason))
            return
        self._deliver(
            EnhancedFrame(
                source=FrameId(reply.session, reply.sequence),
                image=image,
                pixel_size_um=reply.pixel_size_um,
                channel=reply.channel,
                model_name=reply.model_name,
                model_hash=reply.model_hash,
                out_of_domain=reply.out_of_domain,
                warnings=reply.warnings,
                shows_raw=reply.shows_raw,
                photometry=reply.photometry,
                latency_ms=(time.monotonic_ns() - frame.captured_ns) / 1e6,
                engine_ms=(reply.finished_ns - reply.started_ns) / 1e6,
            )
        )

    def _settle(self, outcome: DroppedFrame | FailedFrame) -> None:
        with self._changed:
            known = self._ledger.settle(outcome.source.sequence) is not None
            self._untold += known
            self._changed.notify_all()
        if known:
            self._deliver(outcome)

    def _forget_flight(self) -> None:
        self._memory.forget()
        with self._changed:
            lost = self._ledger.worker_lost()
            self._untold += len(lost)
            self._changed.notify_all()
        for pending in lost:
            reason = "the worker was lost while it had this preview frame"
            self._deliver(FailedFrame(self._id(pending), reason))

    def _become(self, state: ClientState, reason: str) -> None:
        with self._changed:
            self._state = state
            self._reason = reason
            self._changed.notify_all()
        logger.info("%s: %s (%s)", self._address, state, reason)
        try:
            self._on_state(state, reason)
        except Exception:  # the connection must outlive a listener's mistake
            logger.exception("the listener failed at the state %s", state)

    def _deliver(self, outcome: Outcome) -> None:
        """Tell of a frame that has been taken out and counted as untold."""
        try:
            self._on_outcome(outcome)
        except Exception:  # as above
            logger.exception("the listener failed at frame %s", outcome.source.sequence)
        with self._changed:
            self._untold -= 1
            self._changed.notify_all()

    def _id(self, pending: Pending) -> FrameId:
        return FrameId(self._session, pending.frame.sequence)
