"""Looks on at a worker: the newest frame that it has answered, raw and enhanced, whoever sent it.

Owns one DEALER socket in one thread. It asks for one frame at a time, so that a worker never has more than
one on its way to somebody who looks on, and not faster than a person sees. Knows no picture and no page.
"""

import logging
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import zmq

from inference.address import host_of
from inference.messages import Bye, ErrorCode, ErrorReply, Hello, Info, ModelInfo, Ping, Watch, Watched
from inference.protocol import REPLY_LIMITS, MessageError, Request, decode_watched, encode
from inference.wakeup import Wakeup
from inference.worker_list import checked_workers

__all__ = ["WatchedFrame", "Watcher", "WatcherState"]

Image = np.ndarray[Any, np.dtype[Any]]

logger = logging.getLogger(__name__)

PING_S = 1.0
SILENCE_S = 4.0
LEAST_INTERVAL_S = 1 / 40
LINGER_MS = 200


@dataclass(frozen=True, slots=True)
class WatchedFrame:
    """What a worker made of a frame."""

    told: Watched
    raw: Image
    """(Y, X)"""
    enhanced: Image | None
    """(factor * Y, factor * X) float32; None where the frame failed."""


@dataclass(frozen=True, slots=True)
class WatcherState:
    """Whether there is a worker to look at."""

    ready: bool
    reason: str
    models: tuple[ModelInfo, ...] = ()


class Watcher:
    """Looks on at a worker, living or not; a context manager.

    Parameters
    ----------
    address
        Of the worker; without `keys` only loopback.
    on_frame
        Called in the watcher's thread with each frame; the next one is asked for when it returns.
    on_state
        Called in the same thread when the worker comes or goes.
    keys
        The client's key folder, for a worker beyond this machine.

    Raises
    ------
    WrongInputError
        When the address or the keys cannot be used.
    """

    def __init__(
        self,
        address: str,
        on_frame: Callable[[WatchedFrame], None],
        on_state: Callable[[WatcherState], None] = lambda _state: None,
        keys: Path | None = None,
    ) -> None:
        (self.address,), self._keys = checked_workers(address, keys)
        self._on_frame, self._on_state = on_frame, on_state
        self._state = WatcherState(ready=False, reason="nobody has answered yet")
        self._session = f"watcher-{uuid.uuid4().hex}"
        self._heard_s = self._pinged_s = self._watched_s = 0.0
        self._ending = threading.Event()
        self._wakeup = Wakeup()
        self._context = zmq.Context()
        self._thread = threading.Thread(target=self._run, name="sharpscope-watcher", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Look away. Once is enough."""
        if self._ending.is_set():
            return
        self._ending.set()
        self._wakeup.wake()
        self._thread.join()
        self._wakeup.close()
        self._context.destroy(linger=LINGER_MS)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # ---- the watcher's thread ----------------------------------------------------------------------

    def _run(self) -> None:
        socket = self._open()
        poller = zmq.Poller()
        poller.register(socket, zmq.POLLIN)
        poller.register(self._wakeup.receiver, zmq.POLLIN)
        while not self._ending.is_set():
            self._keep_in_touch(socket)
            poller.poll(round(1000 * PING_S / 4))
            while (parts := _received(socket)) is not None:
                self._heard_s = time.monotonic()
                try:
                    self._take(socket, *decode_watched(parts))
                except MessageError as error:
                    logger.warning("an answer of %s is not understood: %s", self.address, error)
        _send(socket, Bye())

    def _open(self) -> "zmq.Socket[bytes]":
        socket = self._context.socket(zmq.DEALER)
        socket.linger = LINGER_MS
        socket.immediate = True  # nothing is queued for a worker that is not there
        socket.maxmsgsize = REPLY_LIMITS.most_part_bytes
        if self._keys is not None:
            socket.curve_publickey, socket.curve_secretkey = self._keys.public, self._keys.secret
            socket.curve_serverkey = self._keys.worker_key(host_of(self.address))
        socket.connect(self.address)
        return socket

    def _keep_in_touch(self, socket: "zmq.Socket[bytes]") -> None:
        now_s = time.monotonic()
        if self._state.ready and now_s - self._heard_s > SILENCE_S:
            self._become(WatcherState(ready=False, reason=f"the worker at {self.address} says nothing"))
        if now_s - self._pinged_s >= PING_S:
            self._pinged_s = now_s
            _send(socket, Ping() if self._state.ready else Hello(session=self._session))

    def _take(
        self, socket: "zmq.Socket[bytes]", header: object, raw: Image | None, enhanced: Image | None
    ) -> None:
        match header:
            case Info():
                self._become(WatcherState(ready=True, reason="", models=header.models))
                _send(socket, Watch())
            case ErrorReply(code=ErrorCode.UNKNOWN_CLIENT):  # another worker has taken its place
                _send(socket, Hello(session=self._session))
            case ErrorReply():
                self._become(WatcherState(ready=False, reason=header.message))
            case Watched():
                assert raw is not None
                self._on_frame(WatchedFrame(header, raw, enhanced))
                self._ending.wait(max(0.0, self._watched_s + LEAST_INTERVAL_S - time.monotonic()))
                self._watched_s = time.monotonic()
                _send(socket, Watch())

    def _become(self, state: WatcherState) -> None:
        if state != self._state:
            self._state = state
            self._on_state(state)


def _received(socket: "zmq.Socket[bytes]") -> list[memoryview] | None:
    try:
        return [part.buffer for part in socket.recv_multipart(zmq.NOBLOCK, copy=False)]
    except zmq.Again:
        return None


def _send(socket: "zmq.Socket[bytes]", request: Request) -> None:
    try:
        socket.send_multipart(encode(request), zmq.NOBLOCK)
    except zmq.Again:  # nobody is there; it is said again
        return
