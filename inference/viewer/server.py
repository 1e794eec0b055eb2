"""The viewer's server: uvicorn in a thread of the process that has the frames.

Owns the socket, the thread and the end: within two seconds, whatever the browsers do. What it serves and to
whom is said by `inference.viewer.app` and `inference.viewer.access`.
"""

import asyncio
import logging
import os
import socket
import threading
from collections.abc import Sequence
from types import TracebackType
from typing import Self

import uvicorn
from starlette.applications import Starlette
from starlette.routing import BaseRoute

from configs.document import WrongInputError
from inference.viewer.access import Access
from inference.viewer.app import viewer_app
from inference.viewer.browser_messages import MOST_BYTES
from inference.viewer.controls import Controls
from inference.viewer.panel import Panel
from inference.viewer.source import Source

__all__ = ["DEFAULT_PORT", "ViewerServer", "listening"]

DEFAULT_PORT = 8765
START_S = 10.0
GRACE_S = 0.5
"""For browsers that still read; the connections of others are cut."""
PATIENCE_S = 1
"""For what is still being answered."""
CLOSE_S = 2.0
MOST_CONNECTIONS = 100
MOST_PORT = 65_535

logger = logging.getLogger(__name__)


class _Uvicorn(uvicorn.Server):
    """Says when it has started, and cuts what is still open at its end."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.ready = threading.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.ready.set()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        cutting = asyncio.get_running_loop().call_later(GRACE_S, self._cut)
        await super().shutdown(sockets)
        cutting.cancel()
        self._cut()

    def _cut(self) -> None:
        """End the connections whose browsers do not read; their tasks then end by themselves."""
        for connection in list(self.server_state.connections):
            connection.transport.abort()


class ViewerServer:
    """Shows a source to browsers while the context is open.

    Parameters
    ----------
    source
        What is shown.
    controls
        What a person may do; None: look only.
    panels
        Tabs beside the image.
    host
        127.0.0.1 is for this machine alone; 0.0.0.0 for all who bring the token.
    port
        0 takes a free one.
    token
        None: none on loopback, a new one beyond it.
    routes
        More routes below `/api/`.
    door
        A socket that `listening` gave for the same host, should the port have been taken early.

    Raises
    ------
    WrongInputError
        When the token or the port cannot be used.
    """

    def __init__(
        self,
        source: Source,
        controls: Controls | None = None,
        panels: Sequence[Panel] = (),
        host: str = "127.0.0.1",
        port: int = DEFAULT_PORT,
        token: str | None = None,
        *,
        routes: Sequence[BaseRoute] = (),
        door: socket.socket | None = None,
    ) -> None:
        self.access = Access.to(host, token)
        app = viewer_app(source, self.access, controls=controls, panels=panels, routes=routes)
        self._host = host
        self._socket = door or listening(host, port)
        self.port: int = self._socket.getsockname()[1]
        self._server = _Uvicorn(_config(app))
        self._thread = threading.Thread(target=self._run, name=f"sharpscope-viewer-{self.port}", daemon=True)
        self._thread.start()
        if not self._server.ready.wait(START_S):
            self.close()
            msg = f"the viewer did not start within {START_S:.0f} s; see the log"
            raise RuntimeError(msg)

    @property
    def url(self) -> str:
        """What a person opens, with the token."""
        host = {"0.0.0.0": socket.gethostname(), "::": socket.gethostname()}.get(self._host, self._host)
        host = f"[{host}]" if ":" in host else host
        query = "" if self.access.token is None else f"?token={self.access.token}"
        return f"http://{host}:{self.port}/{query}"

    def unsent_bytes(self) -> int:
        """Return how much is packed for browsers that have not taken it yet."""
        return sum(
            each.transport.get_write_buffer_size() for each in [*self._server.server_state.connections]
        )

    def close(self) -> None:
        """End all connections and free the port, within two seconds. Once is enough."""
        self._server.should_exit = True
        self._thread.join(CLOSE_S)
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _run(self) -> None:
        try:
            self._server.run(sockets=[self._socket])
        except Exception:
            logger.exception("the viewer's server ended")


def _config(app: Starlette) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        loop="asyncio",
        http="h11",
        ws="websockets-sansio",
        ws_max_size=MOST_BYTES,
        ws_per_message_deflate=False,  # noise does not shrink, and the time is the camera's
        lifespan="off",
        log_config=None,
        access_log=False,  # a token may stand in the URL
        server_header=False,
        proxy_headers=False,
        limit_concurrency=MOST_CONNECTIONS,
        timeout_graceful_shutdown=PATIENCE_S,
    )


def listening(host: str, port: int) -> socket.socket:
    """Return a socket that is bound; port 0 takes a free one. Raises WrongInputError when it cannot be."""
    bound = None
    try:
        if not 0 <= port <= MOST_PORT:
            raise OverflowError(f"a port is 0 to {MOST_PORT}")  # some systems take what is left of it
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, kind, protocol, _, address = found[0]
        bound = socket.socket(family, kind, protocol)
        if os.name == "posix":  # on Windows it would share a port that another program has
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(address)
        bound.listen()
    except (OSError, OverflowError) as error:
        if bound is not None:
            bound.close()
        msg = f"the viewer cannot use port {port} of {host} ({error}); give another one, or 0 for a free one"
        raise WrongInputError(msg) from error
    return bound
