"""The other end of the worker, for acquisition and for scripts.

Owns one DEALER socket in one thread of its own. Every submitted frame ends exactly once, as enhanced,
dropped or failed with a reason, by a call of `on_outcome`. What the client makes of what it hears stands in
`inference.conversation`. Knows no microscope, no files and no engine.

A dead worker is noticed in three ways: it says nothing for `silence_limit_s`; it says itself that its
engine has been at one frame for `progress_limit_s`; or another worker answers in its place (its id is
drawn anew at each start). The client then goes on trying, and sends every unanswered record frame again, in
order, to whoever answers. While there is no worker it keeps `stored_frames` record frames, and `submit`
waits: whoever has the frames on disk submits them when there is room (`acquisition.live` does).
"""

import logging
import threading
import time
import uuid
from collections.abc import Callable
from types import TracebackType
from typing import Any, Literal, Self, cast

import numpy as np
import zmq
from pydantic import ValidationError

from configs.document import WrongInputError
from inference.address import DEFAULT_ADDRESS, loopback_address
from inference.conversation import (
    ClientSettings,
    ClientState,
    ClientStatus,
    Conversation,
    Step,
    WorkerBusyError,
)
from inference.ledger import Pending
from inference.messages import Bye, Delivery, Frame, Hello, Ping, PixelType, StreamPhotometry
from inference.outcomes import DroppedFrame, EnhancedFrame, FailedFrame, FrameId, Outcome
from inference.protocol import REPLY_LIMITS, MessageError, Request, decode_reply, encode
from inference.wakeup import Wakeup

__all__ = [
    "ClientSettings",
    "ClientState",
    "ClientStatus",
    "DroppedFrame",
    "EnhancedFrame",
    "FailedFrame",
    "FrameId",
    "Outcome",
    "WorkerBusyError",
    "WorkerClient",
    "loopback_address",
]

Image = np.ndarray[Any, np.dtype[Any]]

logger = logging.getLogger(__name__)

LINGER_MS = 200
RECONNECT_MS = 50
CONNECT_MS = 5000
"""ZeroMQ's own limits are half a minute and more: a network that is back would be tried that much later."""


class WorkerClient:
    """A connection to one worker, living or not; thread-safe.

    Parameters
    ----------
    address
        Of the worker; only loopback, as long as there are no keys.
    on_outcome
        Called in the client's thread, once for each submitted frame; it must not block.
    session
        Names this client's frames; drawn at random when not given.
    settings
        Bounds and deadlines.
    on_state
        Called in the client's thread with each new state and its reason; it must not block.

    Raises
    ------
    WrongInputError
        When the address cannot be used.
    """

    def __init__(
        self,
        address: str = DEFAULT_ADDRESS,
        on_outcome: Callable[[Outcome], None] = lambda _outcome: None,
        *,
        session: str | None = None,
        settings: ClientSettings | None = None,
        on_state: Callable[[ClientState, str], None] = lambda _state, _reason: None,
    ) -> None:
        self.address = loopback_address(address)
        self.session = session or uuid.uuid4().hex
        self._settings = settings or ClientSettings()
        self._conversation = Conversation(self.session, self.address, self._settings, on_outcome, on_state)
        self._sequence_lock = threading.Lock()
        self._next_sequence = 0
        self._closing = threading.Event()
        self._wakeup = Wakeup()
        self._context = zmq.Context()
        self._socket = self._open_socket()
        self._last_heard_s = time.monotonic()
        self._next_ping_s = 0.0
        self._thread = threading.Thread(target=self._run, name="sharpscope-client", daemon=True)
        self._thread.start()

    # ---- for any thread ----------------------------------------------------------------------------

    def submit(
        self,
        image: Image,
        *,
        sequence: int | None = None,
        delivery: Delivery | Literal["record", "preview"] = Delivery.RECORD,
        pixel_size_um: float | None = None,
        channel: str | None = None,
        allow_out_of_domain: bool = False,
        model: str | None = None,
        photometry: StreamPhotometry | None = None,
        captured_ns: int | None = None,
        deadline_ms: float | None = None,
        timeout_s: float | None = None,
    ) -> int:
        """Hand in a frame; the pixels are copied.

        Parameters
        ----------
        image
            (Y, X) uint8, uint16 or float32.
        sequence
            The frame's number; counted up when not given.
        delivery
            A record frame waits for room; a preview frame never does.
        model
            Name of the worker's model; without it the worker takes the one for the channel.
        photometry
            Of the stream, where it is known from before; else that of the stream's first answer is used.
        captured_ns
            When the frame was taken, by `time.monotonic_ns`; latency counts from there.
        deadline_ms
            How long it may wait in the worker for the engine; later it ends as failed. None is without limit.
        timeout_s
            How long a record frame waits for room; None waits on.

        Returns
        -------
        int
            The sequence number.

        Raises
        ------
        WorkerBusyError
            When there was no room in time. The frame was not submitted.
        WrongInputError
            When the frame cannot be sent (shape, dtype) or the client is closed. It was not submitted.
        """
        now_ns = time.monotonic_ns()
        try:
            frame = Frame(
                session=self.session,
                sequence=self._take_sequence(sequence),
                shape_yx=image.shape,
                dtype=cast("PixelType", image.dtype.name),  # checked by the model
                pixel_size_um=pixel_size_um,
                channel=channel,
                captured_ns=now_ns if captured_ns is None else captured_ns,
                sent_ns=now_ns,
                delivery=Delivery(delivery),
                allow_out_of_domain=allow_out_of_domain,
                model=model,
                photometry=photometry,
                deadline_ms=deadline_ms,
            )
        except ValidationError as error:
            raise WrongInputError(_unfit(image, error)) from error
        own = np.array(image, order="C", copy=True)
        self._conversation.enter(Pending(frame, own), timeout_s)
        self._wakeup.wake()
        return frame.sequence

    def _take_sequence(self, given: int | None) -> int:
        with self._sequence_lock:
            sequence = self._next_sequence if given is None else given
            self._next_sequence = max(self._next_sequence, sequence + 1)
            return sequence

    def status(self) -> ClientStatus:
        """Return a snapshot."""
        return self._conversation.status()

    def unanswered(self) -> tuple[int, ...]:
        """Return the sequence numbers of the frames that have no answer."""
        return self.status().unanswered

    def wait_ready(self, timeout_s: float | None = None) -> bool:
        """Wait until a worker answers; false when none did in time."""
        return self._conversation.wait_ready(timeout_s)

    def drain(self, timeout_s: float | None = None) -> bool:
        """Wait until every frame has its answer; false when one has not in time."""
        return self._conversation.wait_settled(timeout_s)

    def close(self) -> None:
        """Close the connection; what has no answer yet ends as failed."""
        if not self._conversation.start_closing():
            return
        self._closing.set()
        self._wakeup.wake()
        self._thread.join()
        self._wakeup.close()
        self._context.destroy(linger=LINGER_MS)
        self._conversation.end()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # ---- the client's own thread -------------------------------------------------------------------

    def _open_socket(self) -> "zmq.Socket[bytes]":
        socket = self._context.socket(zmq.DEALER)
        socket.linger = LINGER_MS
        socket.immediate = True  # nothing is queued for a worker that is not there
        socket.maxmsgsize = REPLY_LIMITS.most_part_bytes
        socket.connect_timeout = socket.handshake_ivl = CONNECT_MS
        socket.reconnect_ivl = RECONNECT_MS
        socket.reconnect_ivl_max = 20 * RECONNECT_MS
        socket.connect(self.address)
        return socket

    def _run(self) -> None:
        while not self._closing.is_set():
            poller = zmq.Poller()  # anew: the socket may have been replaced
            poller.register(self._socket, zmq.POLLIN)
            poller.register(self._wakeup.receiver, zmq.POLLIN)
            poller.poll(round(self._settings.ping_interval_s * 500))
            self._wakeup.clear()
            self._receive()
            self._keep_in_touch()
            self._send_frames()
        self._send(Bye())

    def _receive(self) -> None:
        while True:
            try:
                parts = self._socket.recv_multipart(zmq.NOBLOCK, copy=False)
            except zmq.Again:
                return
            self._last_heard_s = time.monotonic()
            try:
                reply, image = decode_reply([part.buffer for part in parts])
            except MessageError as error:
                logger.warning("a reply of %s is not understood: %s", self.address, error)
            else:
                self._take(self._conversation.hear(reply, image))

    def _keep_in_touch(self) -> None:
        now_s = time.monotonic()
        self._take(self._conversation.hear_nothing(now_s - self._last_heard_s))
        if now_s >= self._next_ping_s:
            self._next_ping_s = now_s + self._settings.ping_interval_s
            self._send(Ping() if self._conversation.ready else Hello(session=self.session))

    def _send_frames(self) -> None:
        while (pending := self._conversation.next_to_send()) is not None:
            if not self._send(pending.frame, pending.image):
                self._conversation.put_back(pending)
                return

    def _take(self, step: Step) -> None:
        if step is Step.RECONNECT:
            self._socket.close(linger=0)
            self._socket = self._open_socket()
        elif step is Step.SAY_HELLO:
            self._send(Hello(session=self.session))

    def _send(self, request: Request, image: Image | None = None) -> bool:
        try:
            self._socket.send_multipart(encode(request, image), zmq.NOBLOCK, copy=False)
        except zmq.Again:  # no connection, or the worker does not read
            return False
        return True


def _unfit(image: Image, error: ValidationError) -> str:
    """Say in one line why a frame cannot be sent."""
    if image.ndim != 2:
        return f"an image of shape (Y, X) is needed, got shape {image.shape}; send one plane at a time"
    first = error.errors(include_url=False)[0]
    if first["loc"] and first["loc"][0] == "dtype":
        return f"pixels of type {image.dtype} cannot be sent; set the camera to 8 or 16 bit, or use float32"
    return f"the frame cannot be sent: key '{first['loc'][-1]}': {first['msg']}; got {first['input']!r}"
