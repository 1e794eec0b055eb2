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
from typing import Any

import numpy as np
import zmq

from inference.address import DEFAULT_ADDRESS, host_of, loopback_address, worker_address
from inference.connection import ClientSettings, ClientState, ClientStatus, Step, WorkerBusyError
from inference.conversation import Conversation
from inference.frame_intake import FrameIntake
from inference.frame_memory import Held
from inference.handshake import HandshakeWatch
from inference.keys import ClientKeys
from inference.ledger import Pending
from inference.messages import Bye, Hello, Ping
from inference.outcomes import DroppedFrame, EnhancedFrame, FailedFrame, FrameId, Outcome
from inference.protocol import REPLY_LIMITS, MessageError, Request, decode_reply, encode
from inference.socket_buffers import set_buffers
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


class WorkerClient(FrameIntake):
    """A connection to one worker, living or not; thread-safe.

    Parameters
    ----------
    address
        Of the worker; without `keys` only loopback.
    on_outcome
        Called in the client's thread, once for each submitted frame; it must not block.
    session
        Names this client's frames; drawn at random when not given.
    settings
        Bounds and deadlines.
    on_state
        Called in the client's thread with each new state and its reason; it must not block.
    keys
        This client's, with the public key of the worker.

    Raises
    ------
    WrongInputError
        When the address cannot be used or the worker's public key is not there.
    """

    def __init__(
        self,
        address: str = DEFAULT_ADDRESS,
        on_outcome: Callable[[Outcome], None] = lambda _outcome: None,
        *,
        session: str | None = None,
        settings: ClientSettings | None = None,
        on_state: Callable[[ClientState, str], None] = lambda _state, _reason: None,
        keys: ClientKeys | None = None,
    ) -> None:
        self.address = worker_address(address, with_keys=keys is not None)
        self._keys = keys
        self._worker_key = None if keys is None else keys.worker_key(host_of(self.address))
        super().__init__(session or uuid.uuid4().hex)
        self._settings = settings or ClientSettings()
        self._conversation = Conversation(self.session, self.address, self._settings, on_outcome, on_state)
        self._closing = threading.Event()
        self._wakeup = Wakeup()
        self._context = zmq.Context()
        self._socket, self._handshake = self._open_socket()
        self._last_heard_s = time.monotonic()
        self._next_ping_s = 0.0
        self._thread = threading.Thread(target=self._run, name="sharpscope-client", daemon=True)
        self._thread.start()

    # ---- for any thread ----------------------------------------------------------------------------

    def hold(self, image: Image) -> Held:
        """Return an own copy of a (Y, X) frame, in memory that the worker sees where that is possible."""
        return self._conversation.hold(image)

    def enter(self, pending: Pending, timeout_s: float | None) -> None:
        """Take on a frame whose pixels nobody else changes; else as `submit`."""
        self._conversation.enter(pending, timeout_s)
        self._wakeup.wake()

    def recall(self) -> None:
        """Forget every frame that has no answer, whoever keeps it; late answers are not told any more."""
        self._conversation.recall()

    def status(self) -> ClientStatus:
        """Return a snapshot."""
        return self._conversation.status()

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

    # ---- the client's own thread -------------------------------------------------------------------

    def _open_socket(self) -> "tuple[zmq.Socket[bytes], HandshakeWatch]":
        socket = self._context.socket(zmq.DEALER)
        socket.linger = LINGER_MS
        set_buffers(socket)
        socket.immediate = True  # nothing is queued for a worker that is not there
        socket.maxmsgsize = REPLY_LIMITS.most_part_bytes
        socket.connect_timeout = socket.handshake_ivl = CONNECT_MS
        socket.reconnect_ivl = RECONNECT_MS
        socket.reconnect_ivl_max = 20 * RECONNECT_MS
        if self._keys is not None:
            socket.curve_publickey, socket.curve_secretkey = self._keys.public, self._keys.secret
            socket.curve_serverkey = self._worker_key
        handshake = HandshakeWatch(socket, self.address, with_keys=self._keys is not None)
        socket.connect(self.address)
        return socket, handshake

    def _open_anew(self) -> None:
        self._handshake.close()
        self._socket.close(linger=0)
        self._socket, self._handshake = self._open_socket()

    def _run(self) -> None:
        while not self._closing.is_set():
            poller = zmq.Poller()  # anew: the socket may have been replaced
            poller.register(self._socket, zmq.POLLIN)
            poller.register(self._wakeup.receiver, zmq.POLLIN)
            poller.register(self._handshake.receiver, zmq.POLLIN)
            poller.poll(round(self._settings.ping_interval_s * 500))
            self._wakeup.clear()
            self._conversation.hear_refusal(self._handshake.refusal())
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
            if self._handshake.gave_up:
                self._open_anew()
            self._send(Ping() if self._conversation.ready else Hello(session=self.session))

    def _send_frames(self) -> None:
        offer = self._conversation.offer()
        if offer is not None:
            self._send(offer)
        while (pending := self._conversation.next_to_send()) is not None:
            over_socket = pending.image if pending.frame.shared is None else None
            if not self._send(pending.frame, over_socket):
                self._conversation.put_back(pending)
                return

    def _take(self, step: Step) -> None:
        if step is Step.RECONNECT:
            self._open_anew()
        elif step is Step.SAY_HELLO:
            self._send(Hello(session=self.session))

    def _send(self, request: Request, image: Image | None = None) -> bool:
        try:
            self._socket.send_multipart(encode(request, image), zmq.NOBLOCK, copy=False)
        except zmq.Again:  # no connection, or the worker does not read
            return False
        return True
