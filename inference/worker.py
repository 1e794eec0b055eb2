"""The worker: frames in over ZeroMQ, enhanced frames out.

Owns the socket. One thread does all input and output (the one that calls
`Worker.run`), another runs the engine (`inference.engine_thread`); between them stand the waiting room
(`inference.waiting`) and a box of answers. What a client sends can be refused, never believed: that is
`inference.reception`'s business. Knows no torch and no model format: engines are handed in.
"""

import logging
import threading
import uuid
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from types import TracebackType
from typing import Any, Self

import numpy as np
import zmq

from configs.document import WrongInputError
from inference.address import DEFAULT_ADDRESS, worker_address
from inference.admission import Admission
from inference.device_health import DeviceHealth
from inference.engine_like import EngineLike
from inference.engine_thread import EngineThread
from inference.figures import Figures, Observer, Tally
from inference.keys import WorkerKeys
from inference.messages import Enhanced, Failed, FailureCode, Frame, Info, ModelInfo, Progress, Watched
from inference.onlookers import Onlookers
from inference.protocol import MOST_PARTS, Buffer, Reply, WireLimits, encode, encode_watched
from inference.reception import Reception
from inference.socket_buffers import set_buffers
from inference.waiting import Job, WaitingRoom, late
from inference.wakeup import Wakeup

__all__ = ["ENGINE_STOP_S", "Worker", "WorkerState", "WorkerStatus"]

Image = np.ndarray[Any, np.dtype[Any]]

logger = logging.getLogger(__name__)

POLL_MS = 200
LINGER_MS = 1000
HEARTBEAT_MS = 2000
ENGINE_STOP_S = 5.0


class WorkerState(StrEnum):
    """The life of a worker, in this order."""

    BOUND = "bound"
    SERVING = "serving"
    STOPPING = "stopping"
    STOPPED = "stopped"


@dataclass(frozen=True, slots=True)
class WorkerStatus:
    """A snapshot of the worker's counters; received = enhanced + failed + dropped + waiting + forgotten."""

    state: WorkerState
    received: int
    enhanced: int
    flagged: int
    """Of the enhanced, those that carry a flag."""
    failed: int
    dropped: int
    refused: int
    """Messages answered by a typed error."""
    waiting: int
    clients: int
    busy_s: float


class Worker:
    """A bound worker; `run` serves until `stop`.

    Parameters
    ----------
    engines
        The loaded models, at least one.
    bind
        A loopback TCP address, with `keys` any; port ``*`` or 0 takes a free one, see `address`.
    limits
        The largest message that is accepted.
    record_credit
        Record frames that each client may have unanswered.
    keys
        Then only clients on their list are served, encrypted.
    observers
        Who looks on while it serves.

    Raises
    ------
    WrongInputError
        When the address is not allowed or is in use, or no engine is given.
    """

    def __init__(
        self,
        engines: Sequence[EngineLike],
        bind: str = DEFAULT_ADDRESS,
        *,
        limits: WireLimits | None = None,
        record_credit: int = 8,
        keys: WorkerKeys | None = None,
        observers: Sequence[Observer] = (),
    ) -> None:
        if not engines:
            msg = "a worker needs at least one model; name a model package"
            raise WrongInputError(msg)
        self._bind = worker_address(bind, with_keys=keys is not None)
        limits = limits or WireLimits()
        self._id = uuid.uuid4().hex
        self._state = WorkerState.BOUND
        self._stop_asked = threading.Event()
        self._tally = Tally()
        self._device = DeviceHealth()
        self._observers = tuple(observers)
        self._answers: deque[tuple[Job, Enhanced | Failed, Image | None]] = deque()
        self._room = WaitingRoom(record_credit)
        info = _info(self._id, engines, limits, record_credit)
        self._models = info.models
        self._reception = Reception(info, limits, self._room)
        self._onlookers = Onlookers()
        self._news: deque[tuple[ModelInfo, ...]] = deque()
        self._engine = EngineThread(engines, self._room, self._post)
        self._context = zmq.Context()
        self._admission = None if keys is None else Admission(self._context, keys)
        self._wakeup = Wakeup()
        try:
            self._socket = self._open_socket(limits)
            self.address = self._socket.getsockopt_string(zmq.LAST_ENDPOINT).rstrip("\0")
            """The bound address, with the port that was chosen."""
        except BaseException:
            self._wakeup.close()
            self._context.destroy(linger=0)
            raise

    def _open_socket(self, limits: WireLimits) -> "zmq.Socket[bytes]":
        socket = self._context.socket(zmq.ROUTER)
        set_buffers(socket)
        socket.linger = LINGER_MS
        socket.maxmsgsize = limits.most_part_bytes
        socket.router_mandatory = True  # a client that is gone or does not read is noticed
        socket.sndhwm = socket.rcvhwm = self._room.record_credit + 16  # whole messages, for each client
        socket.heartbeat_ivl = HEARTBEAT_MS
        socket.heartbeat_timeout = 30 * HEARTBEAT_MS  # a slow network is longer at one frame than a few
        if self._admission is not None:
            self._admission.guard(socket)
        try:
            socket.bind(self._bind)
        except zmq.ZMQError as error:
            msg = (
                f"{self._bind} cannot be bound ({error}); give another --bind, for example tcp://127.0.0.1:*"
            )
            raise WrongInputError(msg) from error
        return socket

    def status(self) -> WorkerStatus:
        """Return a snapshot; from any thread."""
        return WorkerStatus(
            state=self._state,
            received=self._reception.received,
            enhanced=self._tally.enhanced,
            flagged=self._tally.flagged,
            failed=sum(self._tally.failed.values()),
            dropped=self._reception.dropped,
            refused=self._reception.refused,
            waiting=len(self._room),
            clients=len(self._reception),
            busy_s=self._engine.busy_s(),
        )

    def swap(self, old: EngineLike, new: EngineLike) -> None:
        """Let a model take another's place from the next frame on; from any thread.

        No frame is lost, each answer names the model that made it, and clients are told.
        """
        self._news.append(_models(self._engine.swap(old, new)))
        self._wakeup.wake()

    def figures(self) -> Figures:
        """Return all that is counted, for whoever watches; from any thread."""
        status, tally = self.status(), self._tally
        return Figures(
            worker=self._id,
            address=self.address,
            models=self._models,
            serving=status.state is WorkerState.SERVING,
            received=status.received,
            enhanced=status.enhanced,
            failed=tally.failed,
            dropped=status.dropped,
            refused=status.refused,
            flagged=tally.flagged,
            waiting=status.waiting,
            clients=status.clients,
            busy_s=status.busy_s,
            engine_frames=tally.engine_frames,
            engine_s=tally.engine_s,
        )

    @property
    def device_broken(self) -> str | None:
        """The error that showed that the device is broken for good, if one did; `run` ends with it."""
        return self._device.broken

    def stop(self) -> None:
        """Ask `run` to end; from any thread or signal handler."""
        self._stop_asked.set()
        self._wakeup.wake()

    def run(self) -> bool:
        """Serve until `stop`.

        Returns
        -------
        bool
            Whether the engine thread ended too. If not, end the process by `os._exit`.
        """
        self._become(WorkerState.SERVING)
        self._engine.start()
        for observer in self._observers:
            observer.begin(self)
        poller = zmq.Poller()
        poller.register(self._socket, zmq.POLLIN)
        poller.register(self._wakeup.receiver, zmq.POLLIN)
        if self._admission is not None:
            poller.register(self._admission.receiver, zmq.POLLIN)
        while not self._stop_asked.is_set():
            ready = dict(poller.poll(self._room.next_deadline_ms(POLL_MS)))
            self._wakeup.clear()
            for job in self._room.take_late():
                self._post(job, late(job), None)
            self._send_answers()
            self._tell_news()
            if self._admission is not None:
                self._admission.answer()
            if self._socket in ready:
                self._receive()
            self._reception.forget_silent()
            for observer in self._observers:
                observer.turn()
        return self._finish()

    def close(self) -> None:
        """Close the sockets; unsent answers get a second."""
        self._room.close()
        self._context.destroy(linger=LINGER_MS)
        self._wakeup.close()
        self._become(WorkerState.STOPPED)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _become(self, state: WorkerState) -> None:
        logger.info("worker %s is %s", self._id[:8], state, extra={"worker": self._id})
        self._state = state

    # ---- input -------------------------------------------------------------------------------------

    def _receive(self) -> None:
        """Read what has arrived, up to a bound, so that answers do not wait behind a flood."""
        for _ in range(64):
            try:
                client, parts = self._receive_parts()
            except zmq.Again:
                return
            for addressee, reply in self._reception.handle(client, parts, self._progress()):
                self._send(addressee, reply)
            for onlooker in self._reception.take_watchers():
                unseen = self._onlookers.ask(onlooker)
                if unseen is not None:
                    self._send_parts(onlooker, unseen)

    def _receive_parts(self) -> tuple[bytes, list[Buffer]]:
        """Return the sender and its parts; of too many, no more is kept than shows it."""
        client: bytes = self._socket.recv(zmq.NOBLOCK)
        parts: list[Buffer] = []
        more = bool(self._socket.rcvmore)
        while more:
            part = self._socket.recv(copy=False)
            more = part.more
            if len(parts) <= MOST_PARTS:
                parts.append(part.buffer)
        return client, parts

    # ---- output ------------------------------------------------------------------------------------

    def _post(self, job: Job, header: Enhanced | Failed, image: Image | None) -> None:
        """Take an answer from the engine thread."""
        self._answers.append((job, header, image))
        self._wakeup.wake()

    def _send_answers(self) -> None:
        while self._answers:
            job, header, image = self._answers.popleft()
            header = self._device.judge(job.frame, header)
            self._tally.count(header)
            self._room.answered(job)
            self._show(job, header, image)  # before the client may use the frame's memory again
            if self._reception.expects(job):
                over_socket = None if isinstance(header, Enhanced) and header.in_shared else image
                self._send(job.client, header, over_socket)
        if self._device.broken is not None:
            self._stop_asked.set()

    def _show(self, job: Job, header: Enhanced | Failed, image: Image | None) -> None:
        """Show a frame and its answer to those who look on."""

        def copied() -> list[Buffer]:
            told = Watched(
                frame=job.frame.model_copy(update={"shared": None}),
                answer=header,
                received=self._reception.received,
                enhanced=self._tally.enhanced,
                failed=sum(self._tally.failed.values()),
                dropped=self._reception.dropped,
                waiting=len(self._room),
            )
            return encode_watched(told, job.image, image)

        for client, parts in self._onlookers.offer(job.frame.channel, self._reception, copied):
            self._send_parts(client, parts)

    def _tell_news(self) -> None:
        while self._news:
            self._models = self._news.popleft()
            for client, info in self._reception.announce(self._models):
                self._send(client, info)

    def _send(self, client: bytes, reply: Reply, image: Image | None = None) -> None:
        self._send_parts(client, encode(reply, image))

    def _send_parts(self, client: bytes, parts: list[Buffer]) -> None:
        try:
            self._socket.send_multipart([client, *parts], zmq.NOBLOCK, copy=False)
        except zmq.ZMQError as error:
            # Gone, or it does not read: it will say Hello again and send anew what it misses.
            logger.warning("a client cannot be answered (%s) and is forgotten", error)
            self._reception.forget(client)

    def _progress(self) -> Progress:
        answered = self._tally.enhanced + sum(self._tally.failed.values())
        return Progress(
            worker=self._id, answered=answered, waiting=len(self._room), busy_s=self._engine.busy_s()
        )

    # ---- the end -----------------------------------------------------------------------------------

    def _finish(self) -> bool:
        """Answer everything that waits, then wait for what is in the engine."""
        self._become(WorkerState.STOPPING)
        for job in self._room.close():
            self._refuse(job.client, job.frame)
        self._engine.join(ENGINE_STOP_S)
        self._send_answers()
        return not self._engine.is_alive()

    def _refuse(self, client: bytes, frame: Frame) -> None:
        failed = Failed(
            session=frame.session,
            sequence=frame.sequence,
            code=FailureCode.SHUTTING_DOWN,
            reason="the worker shuts down",
        )
        self._tally.count(failed)
        self._send(client, failed)


def _models(engines: Sequence[EngineLike]) -> tuple[ModelInfo, ...]:
    return tuple(
        ModelInfo(
            name=engine.name[:200],
            model_hash=engine.model_hash,
            factor=engine.factor,
            channel=engine.channel,
        )
        for engine in engines
    )


def _info(worker: str, engines: Sequence[EngineLike], limits: WireLimits, record_credit: int) -> Info:
    return Info(
        worker=worker,
        models=_models(engines),
        record_credit=record_credit,
        most_pixel_bytes=limits.most_pixel_bytes,
        busy_s=0.0,
    )
