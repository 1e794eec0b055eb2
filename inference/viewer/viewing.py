"""One browser's connection: the WebSocket between a `Subscription` and a source.

Owns the tasks of the connection, what is told when, and that nothing here is slow in the event loop or holds
up the source: the source is asked in worker threads, and its call only wakes. Images and status go their own
ways: what may be done now is asked of the microscope, which can keep one waiting. A browser that reads
nothing more holds the one view that it was sent. Knows no tokens and no HTTP.
"""

import asyncio
import json
import logging
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any, TypeVar

from anyio import to_thread
from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketState

from inference.viewer.browser_messages import Show, WrongMessageError, parse
from inference.viewer.source import Source
from inference.viewer.subscription import Subscription, look, one_line

__all__ = ["Shown", "view"]

logger = logging.getLogger(__name__)

LEAST_PAUSE_S = 0.25
"""Between two statuses."""
MOST_PAUSE_S = 1.0
"""Without a status, and without a look at what is newest."""
MOST_WRONG = 10
"""Messages that are refused before the connection ends."""
POLICY_VIOLATION, TRY_AGAIN_LATER = 1008, 1013
MOST_VIEWINGS = 32
"""Browsers at one source at a time: each costs a status a second, and a copy of what it is sent."""

Answer = TypeVar("Answer")


class _Wakeup:
    """Wakes a task of the event loop from any thread, at no cost when it is awake already."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._event = asyncio.Event()
        self._lock = threading.Lock()
        self._called = False

    def call(self) -> None:
        """Wake; from any thread, returns at once."""
        with self._lock:
            if self._called:
                return
            self._called = True
        with suppress(RuntimeError):  # the loop has ended; so does the connection
            self._loop.call_soon_threadsafe(self._event.set)

    async def wait(self, most_s: float) -> None:
        """Wait for a call, or for so long."""
        with suppress(TimeoutError):
            async with asyncio.timeout(most_s):
                await self._event.wait()
        with self._lock:
            self._called = False
            self._event.clear()


@dataclass(frozen=True, slots=True)
class Shown:
    """What a browser is told of, besides its frames. All of it is called in worker threads."""

    source: Source
    hello: Callable[[], dict[str, Any]]
    """Returns what it is told first, with the source's title and series."""
    actions: Callable[[], tuple[str, ...]]
    """Returns what a person may do now."""
    open_viewings: set[WebSocket] = field(default_factory=set)
    """The event loop's alone."""

    def greeting(self) -> dict[str, Any]:
        """Return the first message."""
        return {"type": "hello", "title": self.source.title, **self.hello(), **self._now()}

    def status(self) -> dict[str, Any]:
        """Return how it is now; raises ValueError when that cannot be told as JSON."""
        status = {"type": "status", **asdict(self.source.status()), **self._now()}
        json.dumps(status, allow_nan=False)
        return status

    def _now(self) -> dict[str, Any]:
        series = [asdict(series) for series in self.source.series()]
        return {"actions": list(self.actions()), "series": series}


class _Viewing:
    """A browser that is connected."""

    def __init__(self, websocket: WebSocket, shown: Shown) -> None:
        self._websocket = websocket
        self._shown = shown
        self._subscription = Subscription()
        self._view_wakeup = _Wakeup()
        self._status_wakeup = _Wakeup()
        self._wrong = 0
        self._status: dict[str, Any] | None = None
        self._status_s = 0.0
        self._status_problem: str | None = None

    async def run(self) -> None:
        """Listen and tell until the browser goes."""
        unsubscribe = self._shown.source.subscribe(self._wake)
        try:
            async with asyncio.TaskGroup() as all_tasks:
                telling = [
                    all_tasks.create_task(tell) for tell in (self._tell_views(), self._tell_statuses())
                ]
                with suppress(WebSocketDisconnect):
                    await self._listen()
                for task in telling:
                    task.cancel()
        finally:
            unsubscribe()

    def _wake(self) -> None:
        self._view_wakeup.call()
        self._status_wakeup.call()

    async def _listen(self) -> None:
        while True:
            message = await self._websocket.receive()
            if message["type"] == "websocket.disconnect":
                return
            try:
                said = parse(message.get("text"))
                if isinstance(said, Show):
                    self._subscription.show(said)
                else:
                    self._subscription.acknowledge(said.id)
            except WrongMessageError as error:
                self._wrong += 1
                await self._refuse(str(error))
                if self._wrong >= MOST_WRONG:
                    await self._websocket.close(POLICY_VIOLATION, "too many wrong messages")
                    return
            self._view_wakeup.call()

    async def _tell_views(self) -> None:
        """Send what is new, as often as the browser draws it."""
        with suppress(WebSocketDisconnect):
            while True:
                await self._tell_view()
                await self._view_wakeup.wait(MOST_PAUSE_S)

    async def _tell_statuses(self) -> None:
        """Send how it is, when it changed and now and then."""
        with suppress(WebSocketDisconnect):
            while True:
                await self._tell_status()
                since_s = time.monotonic() - self._status_s
                pause_s = LEAST_PAUSE_S if since_s < LEAST_PAUSE_S else MOST_PAUSE_S
                await self._status_wakeup.wait(max(0.0, pause_s - since_s))

    async def _tell_view(self) -> None:
        wanted = self._subscription.next_look()
        if wanted is None:
            return
        view = await _in_thread(partial(look, self._shown.source, wanted))
        problem = self._subscription.found(view)
        if problem is not None and view.error is not None:
            _log(view.error)
            await self._refuse(problem)
        if view.message is not None:
            await self._websocket.send({"type": "websocket.send", "bytes": view.message})

    async def _tell_status(self) -> None:
        since_s = time.monotonic() - self._status_s
        if since_s < LEAST_PAUSE_S:
            return
        try:
            status = await _in_thread(self._shown.status)
        except Exception as error:
            self._status_s = time.monotonic()
            before, self._status_problem = self._status_problem, one_line(error)
            if self._status_problem != before:
                _log(error)
                await self._refuse(self._status_problem)
            return
        if status == self._status and since_s < MOST_PAUSE_S:
            return
        self._status, self._status_s, self._status_problem = status, time.monotonic(), None
        drawing = {"shown_fps": self._subscription.shown_fps(), "skipped": self._subscription.skipped}
        await self._say({**status, **drawing})

    async def _refuse(self, reason: str) -> None:
        await self._say({"type": "refused", "reason": reason})

    async def _say(self, what: dict[str, Any]) -> None:
        await self._websocket.send_text(json.dumps(what, allow_nan=False))


async def view(websocket: WebSocket, shown: Shown) -> None:
    """Show a source to a browser until it goes; one too many is sent away."""
    await websocket.accept()
    if len(shown.open_viewings) >= MOST_VIEWINGS:
        reason = f"{MOST_VIEWINGS} pages show this already; close one"
        with suppress(WebSocketDisconnect, RuntimeError):  # it has gone
            await websocket.close(TRY_AGAIN_LATER, reason)
        return
    shown.open_viewings.add(websocket)
    try:
        await websocket.send_text(json.dumps(await _in_thread(shown.greeting)))
        await _Viewing(websocket, shown).run()
    except WebSocketDisconnect:
        return
    finally:
        shown.open_viewings.discard(websocket)
        if websocket.application_state is WebSocketState.CONNECTED:
            with suppress(WebSocketDisconnect, RuntimeError):  # it has gone
                await websocket.close()


async def _in_thread(ask: Callable[[], Answer]) -> Answer:
    """Ask the source in a worker thread; one that never answers does not keep the server from closing."""
    return await to_thread.run_sync(ask, abandon_on_cancel=True)


def _log(error: Exception) -> None:
    """Keep what a person cannot put right."""
    if not isinstance(error, LookupError | ValueError):
        logger.error("the viewer's source failed", exc_info=error)
