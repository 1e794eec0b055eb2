"""The viewer's export route: a range of frames as a file that the browser saves.

    POST /api/export   {"format": "mp4", "series": "FITC", "first": 0, "last": 99, "look": {...}, "fps": 10}

Owns the bounds: one export is written at a time, in a worker thread, few are being fetched, and nothing stays
on the disk. A browser that goes away ends its export. Knows no formats.
"""

import asyncio
import errno
import re
import shutil
import tempfile
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from configs.document import WrongInputError
from inference.viewer.clip import Clip
from inference.viewer.export import export_clip
from inference.viewer.look import Look, Show
from inference.viewer.request_body import read_body
from inference.viewer.shown_frame import ShownFrame
from inference.viewer.source import Source

__all__ = ["export_routes"]

MOST_FETCHED = 4
"""Written exports that browsers are still fetching."""
LOOK_AFTER_BROWSER_S = 0.25
SHARE_OF_FREE = 0.5
"""At most so much of the free disk is filled by an export: a recording may be growing beside it."""
ENDINGS = {"png": ".png", "mp4": ".mp4", "ome-tiff": ".ome.tif"}
MEDIA_TYPES = {".png": "image/png", ".zip": "application/zip", ".mp4": "video/mp4", ".ome.tif": "image/tiff"}


class _Look(BaseModel, frozen=True, extra="forbid", allow_inf_nan=False):
    """How it is to look; of an OME-TIFF only `show` counts."""

    black: float | None = None
    white: float | None = None
    show: Show = "enhanced"
    colour: str = Field("grey", max_length=20)
    scale_bar: bool = True
    time_stamp: bool = True
    gamma: float = 1.0

    def checked(self) -> Look:
        return Look(**self.model_dump())


class _Export(BaseModel, frozen=True, extra="forbid", allow_inf_nan=False):
    """What is asked for."""

    format: Literal["png", "mp4", "ome-tiff"]
    series: str = Field(max_length=500)
    first: int | None = None
    """Index in the series; None is the frame to look at now."""
    last: int | None = None
    """Included; None is `first`."""
    look: _Look | None = None
    """None: an OME-TIFF is raw, a picture enhanced."""
    fps: float | None = None

    def checked_look(self) -> Look:
        if self.look is not None:
            return self.look.checked()
        return Look(show="raw" if self.format == "ome-tiff" else "enhanced")


class _Gone(Exception):
    """The browser went away."""


@dataclass(slots=True)
class _Desk:
    """Who writes and who fetches."""

    source: Source
    writing: bool = False
    fetching: int = 0

    async def export(self, request: Request) -> Response:
        """Answer the route."""
        asked = await read_body(request, _Export)
        async with self._turn():
            folder = Path(tempfile.mkdtemp(prefix="sharpscope-export-"))
            try:
                path = await self._write(request, asked, folder)
            except BaseException:
                shutil.rmtree(folder, ignore_errors=True)
                raise
        return _Attachment(path, self)

    @asynccontextmanager
    async def _turn(self) -> AsyncIterator[None]:
        if self.writing:
            raise HTTPException(429, "another export is being written; try again when it is done")
        if self.fetching >= MOST_FETCHED:
            raise HTTPException(429, f"{MOST_FETCHED} exports are still being fetched; try again later")
        self.writing = True
        try:
            yield
        finally:
            self.writing = False

    async def _write(self, request: Request, asked: _Export, folder: Path) -> Path:
        """Write in a thread; end it when the browser goes away or the server stops."""
        gone = threading.Event()
        work = asyncio.ensure_future(asyncio.to_thread(_written, self.source, asked, folder, gone))
        work.add_done_callback(
            lambda done: done.cancelled() or done.exception()
        )  # of one that nobody waits for any more
        try:
            while not (await asyncio.wait({work}, timeout=LOOK_AFTER_BROWSER_S))[0]:
                if await request.is_disconnected():
                    gone.set()
            return work.result()
        except (WrongInputError, IndexError) as error:
            raise HTTPException(400, " ".join(str(error).split())) from error
        except _Gone as error:
            raise HTTPException(499, "the browser went away") from error
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
            raise HTTPException(
                507, "too little room on the disk for temporary files; export fewer frames"
            ) from error
        finally:
            gone.set()


class _Attachment(FileResponse):
    """A file that is deleted when it was sent, or when it cannot be."""

    def __init__(self, path: Path, desk: _Desk) -> None:
        ending = next(ending for ending in MEDIA_TYPES if path.name.endswith(ending))
        super().__init__(path, media_type=MEDIA_TYPES[ending], filename=path.name)
        self._desk, self._folder = desk, path.parent
        desk.fetching += 1

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._desk.fetching -= 1
            shutil.rmtree(self._folder, ignore_errors=True)


def export_routes(source: Source) -> list[Route]:
    """Return the route that exports what a source shows, recorded or live."""
    return [Route("/api/export", _Desk(source).export, methods=["POST"])]


def _written(source: Source, asked: _Export, folder: Path, gone: threading.Event) -> Path:
    """Write the file; leave nothing when that fails or the browser has gone."""

    def go_on() -> None:
        if gone.is_set():
            raise _Gone

    try:
        look = asked.checked_look()
        frames = _chosen(source, asked, room := _Room(folder, go_on))
        if asked.format == "ome-tiff":  # the others are compressed: looked after while they grow
            room.check(len(frames) * _bytes_of(frames[0], look))
        several = asked.format == "png" and len(frames) > 1
        ending = ".zip" if several else ENDINGS[asked.format]
        path = folder / f"{_stem(source.title, asked.series, look, frames)}{ending}"
        export_clip(frames, path, "pngs" if several else asked.format, look, fps=asked.fps)
        go_on()
        return path
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


class _Room:
    """Ends an export that would fill the disk or that nobody waits for; call it before each frame."""

    def __init__(self, folder: Path, go_on: Callable[[], None]) -> None:
        self._folder, self._go_on = folder, go_on
        self._least_free = int(shutil.disk_usage(folder).free * (1 - SHARE_OF_FREE))

    def check(self, more_bytes: int) -> None:
        """Raise OSError where so many bytes more leave too little."""
        if shutil.disk_usage(self._folder).free - more_bytes < self._least_free:
            raise OSError(errno.ENOSPC, "no room for the export")

    def __call__(self) -> None:
        self._go_on()
        self.check(0)


def _bytes_of(frame: ShownFrame, look: Look) -> int:
    """Return the size of a frame in a file that compresses nothing."""
    plane = frame.raw if look.show == "raw" else frame.enhanced or frame.raw
    return plane.pixels.nbytes


def _chosen(source: Source, asked: _Export, go_on: Callable[[], None]) -> Sequence[ShownFrame]:
    first, last = asked.first, asked.first if asked.last is None else asked.last
    if first is None:
        if last is not None:
            raise WrongInputError("'last' is given without 'first'; give both, or none for the newest frame")
        return [_newest(source, asked.series)]
    clip = Clip.of(source, asked.series, first, last, go_on)
    kept = next(series.kept for series in source.series() if series.name == asked.series)
    if kept or len(clip) > 1:
        return clip
    try:
        return [clip[0]]
    except IndexError:  # nothing is recorded, and a newer frame has come since the person clicked
        return [_newest(source, asked.series)]


def _newest(source: Source, series: str) -> ShownFrame:
    newest = source.newest(series)
    if newest is None:
        raise WrongInputError(f"there is no frame in a series {series!r} yet")
    return newest


def _stem(title: str, series: str, look: Look, frames: Sequence[ShownFrame]) -> str:
    """Return a file name without an ending that any system takes."""
    first, more = frames[0].index, len(frames) - 1
    part = f"{first}-{first + more}" if more else f"{first}"
    words = re.sub(r"[^0-9A-Za-z.-]+", "_", f"{title}_{series}").strip("._")
    return f"{words[:100] or 'frames'}_{look.show}_{part}"
