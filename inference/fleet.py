"""Many workers as one: a client that gives each frame to the worker that will have it done first.

Owns one `inference.client.WorkerClient` for each address, and one thread in which outcomes and states are
told. Workers may join, leave, die and come back at any time: what a lost one had goes to the others, every
frame ends exactly once, and record frames are told of in the order of their stream. Which frame goes where
stands in `inference.dispatch`. Knows no sockets, no microscope and no files.
"""

import logging
import queue
import threading
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

from configs.document import WrongInputError
from inference.client import WorkerClient
from inference.connection import ClientSettings, ClientState, ClientStatus, WorkerBusyError
from inference.dispatch import Dispatch, stream_of
from inference.frame_intake import FrameIntake
from inference.keys import ClientKeys
from inference.ledger import BLAMED, Pending
from inference.messages import Delivery, ModelInfo
from inference.ordering import Ordering
from inference.outcomes import DroppedFrame, FailedFrame, FrameId, Outcome

__all__ = ["WorkerFleet"]

logger = logging.getLogger(__name__)

TICK_S = 0.25
"""A worker that is overdue is noticed so often: its frames wait no longer for it than for another."""


class WorkerFleet(FrameIntake):
    """A connection to any number of workers, living or not; thread-safe.

    Parameters
    ----------
    addresses
        Of the workers, each another one; more may be added, and all may be absent.
    on_outcome
        Called in the fleet's thread, once for each submitted frame; it must not block. Record frames come in
        the order in which those of their stream were submitted, preview frames as they are done.
    session
        Names the frames; drawn at random when not given.
    settings
        Bounds and deadlines; `stored_frames` of the whole fleet, until they are told of.
    on_state
        Called in the fleet's thread with each new state and its reason; it must not block. The fleet is ready
        as long as one worker is.
    keys
        This client's, with the public keys of the workers.

    Raises
    ------
    WrongInputError
        When an address cannot be used or is given twice.
    """

    def __init__(
        self,
        addresses: Sequence[str],
        on_outcome: Callable[[Outcome], None] = lambda _outcome: None,
        *,
        session: str | None = None,
        settings: ClientSettings | None = None,
        on_state: Callable[[ClientState, str], None] = lambda _state, _reason: None,
        keys: ClientKeys | None = None,
    ) -> None:
        super().__init__(session or uuid.uuid4().hex)
        self._settings = settings or ClientSettings.for_workers(len(addresses))
        self._keys = keys
        self._on_outcome = on_outcome
        self._on_state = on_state
        self._changed = threading.Condition()  # guards all below; a client's own lock is only taken inside it
        self._clients: dict[str, WorkerClient] = {}
        self._dispatch = Dispatch(self._settings.preview_credit)
        self._ordering = Ordering()
        self._untold: dict[int, Delivery] = {}
        self._told_state = (ClientState.CONNECTING, "")
        self._closing = False
        self._news: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._tell, name="sharpscope-fleet", daemon=True)
        self._thread.start()
        try:
            for address in addresses:
                self.add_worker(address)
        except BaseException:
            self.close()
            raise

    # ---- for any thread ----------------------------------------------------------------------------

    def enter(self, pending: Pending, timeout_s: float | None) -> None:
        """Take on a frame whose pixels nobody else changes; else as `submit`."""
        frame = pending.frame
        with self._changed:
            record = frame.delivery is Delivery.RECORD
            if record and not self._changed.wait_for(self._has_room, timeout_s):
                state, reason = self._state()
                msg = f"{self._settings.stored_frames} frames wait for the workers ({state}: {reason})"
                raise WorkerBusyError(f"{msg}; submit the frame later")
            if self._closing:
                msg = "the client is closed; make a new one"
                raise WrongInputError(msg)
            if frame.sequence in self._untold:
                msg = (
                    f"frame {frame.sequence} of session {frame.session} has been submitted and is unanswered"
                )
                raise ValueError(msg)
            self._untold[frame.sequence] = frame.delivery
            if record:
                self._ordering.add(stream_of(frame), frame.sequence)
            superseded = self._dispatch.add(pending)
            if superseded is not None:
                self._end(DroppedFrame(self._id(superseded), frame.sequence))
            self._hand_out()

    def _has_room(self) -> bool:
        kept = sum(delivery is Delivery.RECORD for delivery in self._untold.values())
        return self._closing or kept < self._settings.stored_frames

    def add_worker(self, address: str) -> None:
        """Let a worker join; it is given frames as soon as it answers."""
        with self._changed:
            if self._closing:
                msg = "the client is closed; make a new one"
                raise WrongInputError(msg)
            if address in self._clients:
                msg = f"{address} is among the workers already; name each worker once"
                raise WrongInputError(msg)
            self._dispatch.join(address)
            try:
                self._clients[address] = WorkerClient(
                    address,
                    partial(self._heard, address),
                    session=self.session,
                    # The room is the fleet's: a member takes what it is given.
                    settings=replace(self._settings, stored_frames=2**31),
                    on_state=partial(self._met, address),
                    keys=self._keys,
                )
            except BaseException:
                self._dispatch.leave(address)
                raise
            self._note_state()

    def remove_worker(self, address: str) -> None:
        """Let a worker go; what it has goes to the others."""
        with self._changed:
            client = self._clients.pop(address, None)
            if client is None:
                msg = f"{address} is not among the workers: {', '.join(self._clients) or 'there are none'}"
                raise WrongInputError(msg)
            client.recall()
            self._drop(self._dispatch.leave(address))
            self._hand_out()
            self._note_state()
        client.close()

    def workers(self) -> dict[str, ClientStatus]:
        """Return a snapshot of each worker by its address; unanswered are the frames that it was given."""
        with self._changed:
            return {address: client.status() for address, client in self._clients.items()}

    def status(self) -> ClientStatus:
        """Return a snapshot of the whole; the models and the credit are those of all workers together."""
        with self._changed:
            members = [client.status() for client in self._clients.values()]
            models: dict[str, ModelInfo] = {
                model.model_hash: model for member in members for model in member.models
            }
            credit = sum(member.record_credit for member in members)
            unanswered = self._dispatch.unanswered()
            return ClientStatus(*self._state(), tuple(models.values()), unanswered, credit)

    def wait_ready(self, timeout_s: float | None = None) -> bool:
        """Wait until a worker answers; false when none did in time."""
        with self._changed:
            return self._changed.wait_for(lambda: self._state()[0] is ClientState.READY, timeout_s)

    def drain(self, timeout_s: float | None = None) -> bool:
        """Wait until every frame has been told of; false when one has not in time."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._untold, timeout_s)

    def close(self) -> None:
        """Close all connections; what has no answer yet ends as failed."""
        with self._changed:
            if self._closing:
                return
            self._closing = True
            reason = self._state()[1]
            clients, self._clients = self._clients, {}
            for client in clients.values():
                client.recall()
            for pending in self._dispatch.clear():
                why = f"the client was closed before a worker answered (last: {reason})"
                self._end(FailedFrame(self._id(pending), why))
            self._changed.notify_all()
        for client in clients.values():
            client.close()
        self._news.put(partial(self._on_state, ClientState.CLOSED, "closed"))
        self._news.put(None)
        self._thread.join()

    # ---- for the threads of the clients ------------------------------------------------------------

    def _heard(self, address: str, outcome: Outcome) -> None:
        """Take what a worker's client tells of a frame."""
        with self._changed:
            if address in self._clients and self._dispatch.answered(address, outcome, time.monotonic()):
                self._end(outcome)
                self._hand_out()

    def _met(self, address: str, state: ClientState, _reason: str) -> None:
        """Take the news of a worker; before its client does anything else."""
        with self._changed:
            client = self._clients.get(address)
            if client is None:  # it leaves
                return
            if state is ClientState.READY:
                self._welcome(address, client)
            else:
                client.recall()
                self._drop(self._dispatch.lost(address))
            self._hand_out()
            self._note_state()

    def _welcome(self, address: str, client: WorkerClient) -> None:
        status = client.status()
        twin = self._twin_of(address, status.worker)
        if twin is None:
            culprit = self._dispatch.ready(address, status.models, status.record_credit, status.worker)
            if culprit is not None:
                self._end(FailedFrame(self._id(culprit), BLAMED))
            return
        logger.warning("%s is the same worker as %s and is left out", address, twin)
        del self._clients[address]
        client.recall()
        self._drop(self._dispatch.leave(address))
        self._news.put(client.close)  # not here: this is the client's own thread

    def _twin_of(self, address: str, worker: str | None) -> str | None:
        """Return another address of the same worker: the two would push each other out of its door."""
        for other, client in self._clients.items():
            status = client.status()
            if other != address and status.state is ClientState.READY and status.worker == worker:
                return other
        return None

    # ---- with the lock held ------------------------------------------------------------------------

    def _hand_out(self) -> None:
        """Give the workers what their credit allows."""
        while not self._closing and (given := self._dispatch.next(time.monotonic())) is not None:
            self._clients[given.address].enter(given.pending, 0.0)

    def _drop(self, dropped: list[tuple[Pending, int]]) -> None:
        for pending, newer in dropped:
            self._end(DroppedFrame(self._id(pending), newer))

    def _end(self, outcome: Outcome) -> None:
        """Have an outcome told: a record frame's after those before it in its stream."""
        if self._untold[outcome.source.sequence] is Delivery.RECORD:
            told = self._ordering.end(outcome)
        else:
            told = [outcome]
        for each in told:
            self._news.put(partial(self._tell_outcome, each))

    def _state(self) -> tuple[ClientState, str]:
        if self._closing:
            return ClientState.CLOSED, "closed"
        members = {address: client.status() for address, client in self._clients.items()}
        states = {member.state for member in members.values()}
        ready = sum(member.state is ClientState.READY for member in members.values())
        absent = [member.reason for member in members.values() if member.state is not ClientState.READY]
        reason = "; ".join([f"{ready} of {len(members)} workers are ready", *absent])
        for state in (ClientState.READY, ClientState.LOST):
            if state in states:
                return state, reason
        return ClientState.CONNECTING, reason

    def _note_state(self) -> None:
        """Have the state told, if it is another."""
        self._changed.notify_all()
        now = self._state()
        if now != self._told_state and not self._closing:
            self._told_state = now
            self._news.put(partial(self._on_state, *now))

    def _id(self, pending: Pending) -> FrameId:
        return FrameId(self.session, pending.frame.sequence)

    # ---- the fleet's own thread --------------------------------------------------------------------

    def _tell(self) -> None:
        while True:
            try:
                news = self._news.get(timeout=TICK_S)
            except queue.Empty:
                with self._changed:
                    self._hand_out()
                continue
            if news is None:
                return
            try:
                news()
            except Exception:  # the fleet must outlive a listener's mistake
                logger.exception("a listener failed")

    def _tell_outcome(self, outcome: Outcome) -> None:
        try:
            self._on_outcome(outcome)
        finally:
            with self._changed:
                del self._untold[outcome.source.sequence]
                self._changed.notify_all()
