"""The viewer as a web application: the page, its WebSocket, what it may do, and the tabs beside the image.

    /                                  the page, and its files by their names
    /ws                                frames and status (`inference.viewer.viewing`)
    POST /api/control                  {"action": "pause"} and the like
    /api/panels, /api/panels/NAME      tabs; ETag is the version
    /api/panels/NAME/pictures/PICTURE  PNG

Owns the routes and what goes with every answer. Knows no server and no scan folders: source, controls and
panels are handed in, and called in worker threads.
"""

import hashlib
import logging
from collections.abc import Callable, Sequence
from functools import partial
from importlib.metadata import version
from typing import Any, Literal, TypeVar

from anyio import to_thread
from pydantic import BaseModel
from starlette.applications import Starlette
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route, WebSocketRoute
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from starlette.websockets import WebSocket

from configs.document import WrongInputError
from inference.viewer.access import Access, AccessGate
from inference.viewer.controls import Controls
from inference.viewer.page_files import PageFiles
from inference.viewer.panel import Panel
from inference.viewer.request_body import read_body
from inference.viewer.source import Source
from inference.viewer.viewing import Shown, view

__all__ = ["viewer_app"]

logger = logging.getLogger(__name__)

HEADERS = {
    "Content-Security-Policy": (
        "default-src 'self'; img-src 'self' data: blob:; style-src 'self' 'unsafe-inline'; "
        "object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",  # a token may stand in the URL
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
}

Answer = TypeVar("Answer")


class _Control(BaseModel, frozen=True, extra="forbid"):
    """What a person asks for."""

    action: Literal["pause", "resume", "stop", "snap", "repoint"]
    worker: str | None = None

    def arguments(self) -> dict[str, str]:
        """Return what goes with the action."""
        if (self.action == "repoint") != (self.worker is not None):
            raise HTTPException(400, "'worker' is given with 'repoint', and only with it")
        return {} if self.worker is None else {"worker": self.worker}


class _Routes:
    """What the routes answer."""

    def __init__(self, source: Source, controls: Controls | None, panels: Sequence[Panel]) -> None:
        self._controls = controls
        self._panels = {panel.name: panel for panel in panels}
        self._files = PageFiles.of_package()
        self._shown = Shown(source, self._hello, self._actions)

    def all(self) -> list[BaseRoute]:
        """List the routes of the application's own."""
        return [
            WebSocketRoute("/ws", self.websocket),
            Route("/api/control", self.control, methods=["POST"]),
            Route("/api/panels", self.panels),
            Route("/api/panels/{name}", self.panel),
            Route("/api/panels/{name}/pictures/{picture:path}", self.picture),
        ]

    def page(self) -> list[BaseRoute]:
        """List those of the page's files: they have any name, so they come after all others."""
        return [Route("/", self.file), Route("/{file:path}", self.file)]

    async def websocket(self, websocket: WebSocket) -> None:
        await view(websocket, self._shown)

    async def control(self, request: Request) -> Response:
        asked = await read_body(request, _Control)
        arguments = asked.arguments()
        controls = self._controls
        if controls is None or asked.action not in await _in_thread(self._actions):
            raise HTTPException(409, f"'{asked.action}' cannot be done here now")
        try:
            await _in_thread(partial(controls.do, asked.action, **arguments))
        except WrongInputError as error:
            raise HTTPException(409, str(error)) from error
        return JSONResponse({"action": asked.action})

    async def panels(self, _request: Request) -> Response:
        return JSONResponse({"panels": self._named_panels()})

    async def panel(self, request: Request) -> Response:
        panel = self._panel(request)
        tag = await _tag(panel)
        if tag in request.headers.get("if-none-match", ""):
            return Response(status_code=304, headers=_revalidated(tag))
        return JSONResponse(await _in_thread(panel.content), headers=_revalidated(tag))

    async def picture(self, request: Request) -> Response:
        panel = self._panel(request)
        tag = await _tag(panel)
        if tag in request.headers.get("if-none-match", ""):
            return Response(status_code=304, headers=_revalidated(tag))
        try:
            png = await _in_thread(partial(panel.picture, request.path_params["picture"]))
        except KeyError as error:
            raise HTTPException(404, "no such picture") from error
        return Response(png, media_type="image/png", headers=_revalidated(tag))

    async def file(self, request: Request) -> Response:
        name = request.path_params.get("file", "index.html")
        try:
            content, media_type = await _in_thread(partial(self._files.read, name))
        except KeyError as error:
            raise HTTPException(404, "no such page") from error
        tag = _quoted_hash(content)
        if tag in request.headers.get("if-none-match", ""):
            return Response(status_code=304, headers=_revalidated(tag))
        return Response(content, headers={**_revalidated(tag), "Content-Type": media_type})

    def _panel(self, request: Request) -> Panel:
        panel = self._panels.get(request.path_params["name"])
        if panel is None:
            raise HTTPException(404, "no such panel")
        return panel

    def _hello(self) -> dict[str, Any]:
        return {"version": version("sharpscope"), "panels": self._named_panels()}

    def _actions(self) -> tuple[str, ...]:
        return () if self._controls is None else self._controls.actions()

    def _named_panels(self) -> list[dict[str, str]]:
        return [{"name": panel.name, "title": panel.title} for panel in self._panels.values()]


class _CommonHeaders:
    """Adds to every answer what keeps other sites out of the page."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(HEADERS)
            await send(message)

        await self._app(scope, receive, with_headers if scope["type"] == "http" else send)


def viewer_app(
    source: Source,
    access: Access,
    *,
    controls: Controls | None = None,
    panels: Sequence[Panel] = (),
    routes: Sequence[BaseRoute] = (),
) -> Starlette:
    """Return the application.

    Parameters
    ----------
    source
        What it shows.
    access
        What a browser must bring.
    controls
        What a person may do; None: look only.
    panels
        The tabs beside the image.
    routes
        More of them, below `/api/`: exports.
    """
    own = _Routes(source, controls, panels)
    return Starlette(
        routes=[*own.all(), *routes, *own.page()],
        middleware=[Middleware(_CommonHeaders), Middleware(AccessGate, access=access)],
        exception_handlers={HTTPException: _told, Exception: _failed},
    )


async def _told(_request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return JSONResponse({"reason": error.detail}, error.status_code, headers=error.headers)


async def _failed(_request: Request, error: Exception) -> Response:
    """Say that it is a mistake of ours; the server logs it."""
    return JSONResponse({"reason": f"failed inside ({type(error).__name__}); see the log"}, 500)


async def _in_thread(ask: Callable[[], Answer]) -> Answer:
    return await to_thread.run_sync(ask, abandon_on_cancel=True)


async def _tag(panel: Panel) -> str:
    return _quoted_hash((await _in_thread(panel.version)).encode())


def _quoted_hash(content: bytes) -> str:
    return f'"{hashlib.blake2b(content, digest_size=12).hexdigest()}"'


def _revalidated(tag: str) -> dict[str, str]:
    """Return the headers by which a browser asks each time whether what it has is still right."""
    return {"ETag": tag, "Cache-Control": "no-cache"}
