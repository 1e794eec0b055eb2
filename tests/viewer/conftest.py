"""What the viewer's tests share: sources, a server on a free port, and a browser without a screen."""

import json
import socket
import struct
import threading
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from http.client import HTTPConnection
from typing import Any

import numpy as np
import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from inference.viewer.screen import Screen
from inference.viewer.server import ViewerServer
from inference.viewer.shown_frame import Plane, ShownFrame
from inference.viewer.source import Series, SourceStatus

PATIENCE_S = 10.0


@dataclass
class Shown:
    """A view as a page sees it."""

    id: int
    images: list[dict[str, Any]]
    planes: list[dict[str, np.ndarray]]
    """In counts, NaN where the view has none."""

    @property
    def numbers(self) -> list[int]:
        return [image["number"] for image in self.images]


def unpack_message(message: bytes) -> Shown:
    """Read a binary message as docs/protocol.md tells it."""
    (length,) = struct.unpack_from("<I", message)
    head = json.loads(message[4 : 4 + length].decode())
    start = -(-(4 + length) // 8) * 8
    planes = [
        {
            name: _counts(message, start, image[name])
            for name in ("raw", "enhanced")
            if image[name] is not None
        }
        for image in head["images"]
    ]
    return Shown(head["id"], head["images"], planes)


def _counts(message: bytes, start: int, plane: dict[str, Any]) -> np.ndarray:
    assert plane["byte_offset"] % 8 == 0
    height, width = plane["shape_yx"]
    values = np.frombuffer(message, "<u2", height * width, start + plane["byte_offset"])
    return plane["zero_counts"] + plane["counts_per_step"] * values.reshape(height, width).astype(float)


class Browser:
    """Speaks the viewer's WebSocket; waits for what it expects, ten seconds at most."""

    def __init__(self, connection: ClientConnection) -> None:
        self._socket = connection
        self._last_status: dict[str, Any] = {}
        self.hello = self.said("hello")

    def show(self, *series: str, at: int | None = None) -> None:
        self.send(json.dumps({"type": "show", "series": list(series), "at": at}))

    def ack(self, shown: Shown) -> None:
        self.send(json.dumps({"type": "ack", "id": shown.id}))

    def send(self, message: str | bytes) -> None:
        self._socket.send(message)

    def view(self) -> Shown:
        """The next view."""
        while isinstance(message := self._socket.recv(PATIENCE_S), str):
            pass
        return unpack_message(message)

    def until(self, number: int) -> Shown:
        """Draw views until a frame is in one; that one is not acknowledged."""
        while number not in (shown := self.view()).numbers:
            self.ack(shown)
        return shown

    def said(self, kind: str) -> dict[str, Any]:
        """The next text of a kind; views on the way to it are lost."""
        while True:
            message = self._socket.recv(PATIENCE_S)
            if isinstance(message, str) and (content := json.loads(message))["type"] == kind:
                return content

    def views_during(self, *changes: Callable[[], None]) -> list[Shown]:
        """The views that come while the source changes; each change must show in the status."""
        views: list[Shown] = []
        for change in (lambda: None, *changes):
            change()
            before = self._last_status
            while self._last_status == before:
                self._take(views)
        return views

    def _take(self, views: list[Shown]) -> None:
        message = self._socket.recv(PATIENCE_S)
        if isinstance(message, bytes):
            views.append(unpack_message(message))
            return
        content = json.loads(message)
        if content.pop("type") == "status":
            self._last_status = content | {"shown_fps": 0, "skipped": 0}

    def end(self) -> int:
        """The code with which the server ends the connection."""
        try:
            while True:
                self._socket.recv(PATIENCE_S)
        except ConnectionClosed as closed:
            return closed.rcvd.code

    def close(self) -> None:
        self._socket.close()


class StalledBrowser:
    """Asks for the newest frames and then reads nothing any more."""

    def __init__(self, server: ViewerServer, series: str) -> None:
        self._socket = socket.socket()
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        self._socket.connect(("127.0.0.1", server.port))
        self._socket.sendall(
            f"GET /ws HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\nUpgrade: websocket\r\n"
            "Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
            "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n".encode()
        )
        assert self._socket.recv(12) == b"HTTP/1.1 101"
        text = json.dumps({"type": "show", "series": [series], "at": None}).encode()
        self._socket.sendall(bytes([0x81, 0x80 | len(text)]) + bytes(4) + text)  # a mask of zeros

    def close(self) -> None:
        self._socket.close()


def constant(number: int, side_px: int = 16) -> Plane:
    """A frame by whose pixels its number is known."""
    return Plane(np.full((side_px, side_px), number, np.uint16), 0.1)


class Album:
    """A source of a hundred frames of FITC that are looked back at; some are broken."""

    title = "an album"

    def __init__(self, length: int = 100) -> None:
        self.length = length
        self.broken: dict[int, Exception] = {}
        self.waiting: set[int] = set()
        self.gate = threading.Event()
        self.gate.set()
        self.asked: list[int] = []
        self._changes = 0
        self._listeners: list = []

    def series(self) -> tuple[Series, ...]:
        return (Series("FITC", "FITC", None, self.length),)

    def newest(self, series: str) -> ShownFrame | None:
        return self.at(series, self.length - 1) if series == "FITC" else None

    def at(self, series: str, index: int) -> ShownFrame:
        self.asked.append(index)
        assert self.gate.wait(PATIENCE_S)
        if index in self.broken:
            raise self.broken[index]
        if series != "FITC" or not 0 <= index < self.length:
            msg = f"no frame {index} in '{series}'"
            raise IndexError(msg)
        waits = index in self.waiting
        return ShownFrame(
            number=index,
            index=index,
            session="album",
            raw=constant(index),
            enhanced=None if waits else constant(index, 32),
            reason="waiting" if waits else None,
        )

    def status(self) -> SourceStatus:
        return SourceStatus(live=False, state="finished", missed=self._changes)

    def subscribe(self, changed):
        self._listeners.append(changed)
        return lambda: self._listeners.remove(changed)

    def changed(self) -> None:
        """Something changed, but no frame."""
        self._changes += 1
        for listener in list(self._listeners):
            listener()

    @property
    def listeners(self) -> int:
        return len(self._listeners)


class Stage:
    """A source in whose place each test puts its own, so that they share a server."""

    def __init__(self) -> None:
        self.shown: Any = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self.shown, name)


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@pytest.fixture
def closing():
    """Closes what a test opens."""
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def screen() -> Screen:
    """A live source."""
    return Screen("a stand", session="s")


@pytest.fixture
def album() -> Album:
    """A source that is looked back at."""
    return Album()


@pytest.fixture(scope="session")
def stage():
    """A server that shows what is put on it."""
    stage = Stage()
    with ViewerServer(stage, port=0) as server:
        yield stage, server


@pytest.fixture
def serve(closing, stage):
    """Shows a source; starts a server of its own where it needs settings."""

    def start(source, **settings) -> ViewerServer:
        if not settings:
            stage[0].shown = source
            return stage[1]
        return closing.enter_context(ViewerServer(source, **{"port": 0, **settings}))

    return start


@pytest.fixture
def browse(closing):
    """Connects browsers."""

    def start(server: ViewerServer, host: str = "127.0.0.1", **headers: str) -> Browser:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        url = f"ws://{host}:{server.port}/ws"  # what the Host header says; the way is always to this machine
        way = socket.create_connection(("127.0.0.1", server.port))
        connecting = connect(url, sock=way, additional_headers=named, max_size=None, compression=None)
        return Browser(closing.enter_context(connecting))

    return start


@pytest.fixture
def stalled(closing):
    """Connects browsers that then read nothing."""

    def start(server: ViewerServer, series: str) -> StalledBrowser:
        browser = StalledBrowser(server, series)
        closing.callback(browser.close)
        return browser

    return start


@pytest.fixture
def ask(closing):
    """Sends HTTP requests as they are given."""

    def send(
        server: ViewerServer, path: str, method: str = "GET", body: Any = None, **headers: str
    ) -> Answer:
        connection = HTTPConnection("127.0.0.1", server.port, timeout=PATIENCE_S)
        closing.callback(connection.close)
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request(method, path, body=body, headers=named)
        response = connection.getresponse()
        return Answer(response.status, {k.lower(): v for k, v in response.getheaders()}, response.read())

    return send


@pytest.fixture
def take(screen):
    """Takes a frame of FITC, and enhances it."""

    def taken(number: int, side_px: int = 16, channel: str = "FITC", *, enhance: bool = False) -> None:
        screen.raw(number, channel, None, constant(number, side_px))
        if enhance:
            enhanced = constant(number, 2 * side_px)
            screen.enhanced(number, enhanced, model_name="m", model_hash="h", latency_ms=5.0)

    return taken


@pytest.fixture(scope="session")
def unpack():
    """Reads a binary message."""
    return unpack_message
