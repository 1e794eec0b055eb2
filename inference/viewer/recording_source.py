"""A recording as a source of frames: finished, or being written by this process or another.

Owns the way from a journal that is followed to pixels: one chunk is read for each image asked for, unless
it was read of late. What the journal does not name does not exist. Writes nothing and takes no lock, so that
it never disturbs a recorder.
"""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from pydantic import ValidationError

from configs.document import WrongInputError
from inference.image_stream import ImageStream
from inference.journal_follower import JournalFollower
from inference.recording_lines import JournalLine, StreamLine, parse_line
from inference.recovery import HEADER, JOURNAL, Recording
from inference.viewer.journal_index import JournalIndex
from inference.viewer.kept import Kept
from inference.viewer.shown_frame import Plane, ShownFrame
from inference.viewer.source import Series, SourceStatus

__all__ = ["RecordingSource"]

LOOK_INTERVAL_S = 0.05
"""Between two looks at the journal, while somebody waits for changes."""
LEAST_SILENCE_S = 10.0
SILENT_INTERVALS = 5
"""After so many intervals between frames without a line, a recording that was not closed is interrupted."""
KEPT_BYTES = 128_000_000
"""Of images that were read last, so that a page which only looks on costs no disk."""
SHOWN_DTYPES = ("uint8", "uint16", "float32")

Image = np.ndarray[Any, np.dtype[Any]]


class RecordingSource:
    """The frames of a recording; close it, or use it as a context manager. Thread-safe.

    Parameters
    ----------
    path
        The recording's folder.

    Raises
    ------
    WrongInputError
        When the folder is not a recording.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        header = Recording.header_of(path)
        self.session = header.session
        self._tells_its_end = header.version > 1
        self._lock = threading.Lock()
        self._follower = JournalFollower(path / JOURNAL)
        self._index = JournalIndex()
        self._version = 0
        self._trouble = ""
        self._foreign = ""
        """Why some line of the journal says nothing to us."""
        self._images = _Images(path)
        self._look()
        self._watch = _Watch(self._look)

    @property
    def title(self) -> str:
        """Name of the folder."""
        return self.path.resolve().name

    def series(self) -> tuple[Series, ...]:
        """Return the frames' series in the order in which they began."""
        self._look()
        with self._lock:
            return self._index.series()

    def newest(self, series: str) -> ShownFrame | None:
        """Return a series' last frame, of a running recording the last enhanced one; None without frames."""
        self._look()
        with self._lock:
            index = self._index.place_to_look_at(series)
        return None if index is None else self.at(series, index)

    def at(self, series: str, index: int) -> ShownFrame:
        """Return a frame of a series, read from the disk.

        Raises
        ------
        IndexError
            When there is no such series, or no such frame in it.
        WrongInputError
            When the images on the disk cannot be read.
        """
        self._look()
        with self._lock:
            stored = self._index.by_name.get(series)
            length = 0 if stored is None else len(stored.frames)
            if stored is None or not 0 <= index < length:
                msg = f"series {series!r} has {length} frames and none of index {index}"
                raise IndexError(msg)
            frame, enhanced = stored.frames[index], self._index.enhanced.get(stored.frames[index].number)
            reason = self._index.reason(frame.number, running=self._state()[0] == "running")
            streams = self._index.streams  # the index may be made anew, should the journal be
        shown = ShownFrame(
            number=frame.number,
            index=index,
            session=self.session,
            channel=stored.channel,
            position=stored.position,
            raw=self._plane(streams[frame.stream], frame.index),
            reason=reason,
            elapsed_ms=frame.elapsed_ms,
            full_scale=stored.full_scale,
        )
        if enhanced is None:
            return shown
        return replace(
            shown,
            enhanced=self._plane(streams[enhanced.stream], enhanced.index),
            model_name=enhanced.model_name,
            model_hash=enhanced.model_hash,
            warnings=enhanced.warnings,
            out_of_domain=enhanced.out_of_domain,
            shows_raw=enhanced.shows_raw,
        )

    def _plane(self, stream: StreamLine, index: int) -> Plane:
        return Plane(self._images.read(stream.stream, index), stream.pixel_size_um)

    def status(self) -> SourceStatus:
        """Return what the journal says of the recording's state, and how its frames ended."""
        self._look()
        with self._lock:
            index = self._index
            state, reason = self._state()
            name, digest = index.newest_model or (None, None)
            pace_s = index.interval_s if state == "running" else None
            return SourceStatus(
                live=state == "running",
                state=state,
                reason=reason,
                frames_in=index.frames + len(index.lost),
                recorded=index.frames,
                enhanced=len(index.enhanced),
                dropped=index.count("dropped"),
                failed=index.count("failed") + (0 if state == "running" else index.waiting),
                waiting=index.waiting if state == "running" else 0,
                camera_fps=1 / pace_s if pace_s else None,
                model_name=name,
                model_hash=digest,
            )

    def subscribe(self, changed: Callable[[], None]) -> Callable[[], None]:
        """Have a function called, in a thread of the source, when the journal has grown; reads nothing."""
        return self._watch.add(changed, self._version)

    def close(self) -> None:
        """End the thread that watches the journal, if there is one."""
        self._watch.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _look(self) -> int:
        """Take in what is new in the journal; return a number that grows with every change."""
        with self._lock:
            before = self._trouble
            try:
                self._take_in()
                self._trouble = self._foreign
            except OSError as error:  # told by `status`; what was read stays shown
                self._trouble = str(error)
            if self._trouble != before:
                self._version += 1
            return self._version

    def _take_in(self) -> None:
        news = self._follower.news()
        if news.from_start:
            self._index, self._foreign = JournalIndex(), ""
            self._images.kept.clear()
        self._index.add(self._understood(news.lines))
        self._version += news.from_start or bool(news.lines)

    def _understood(self, lines: list[dict[str, Any]]) -> Iterator[JournalLine]:
        for line in lines:
            try:
                yield parse_line(line)
            except ValidationError as error:
                self._foreign = f"{self.path} has no journal of version 1: {error.errors()[0]['msg']}"
        if self._follower.unreadable:
            self._foreign = f"{self.path}: {self._follower.unreadable} lines of the journal are damaged"

    def _state(self) -> tuple[str, str]:
        if self._trouble:
            return "unreadable", self._trouble
        if self._index.ended:
            return "finished", _losses(self._index.lost)
        silent_s = time.time() - _last_change(self.path)
        if silent_s <= max(LEAST_SILENCE_S, SILENT_INTERVALS * (self._index.interval_s or 0.0)):
            return "running", _losses(self._index.lost)
        if not self._tells_its_end:
            return "finished", _losses(self._index.lost)
        return "interrupted", f"nothing was written for {silent_s:.0f} s, and the recording was not closed"


class _Images:
    """The open images of a recording; one that has grown since is opened anew."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._streams: dict[str, ImageStream] = {}
        self.kept: Kept[Image] = Kept(KEPT_BYTES)

    def read(self, stream: str, index: int) -> Image:
        """Return one frame, (Y, X), in a dtype that can be shown."""
        return self.kept.get((stream, index), lambda: self._read(stream, index))

    def _read(self, stream: str, index: int) -> Image:
        image = self._streams.get(stream)
        if image is None or index >= image.shape[0]:
            image = self._streams[stream] = ImageStream.open(self._path / stream)
        try:
            pixels = image.read(index)
        except ValueError as error:  # how tensorstore reports every status of the file system
            msg = (
                f"{self._path / stream}: frame {index} cannot be read ({' '.join(str(error).split())[:200]})"
            )
            raise WrongInputError(msg) from error
        return pixels if pixels.dtype.name in SHOWN_DTYPES else pixels.astype(np.float32)


class _Watch:
    """Calls functions when a version changes, from a thread that lives while there are any."""

    def __init__(self, look: Callable[[], int]) -> None:
        self._look = look
        self._lock = threading.Lock()
        self._listeners: dict[object, Callable[[], None]] = {}
        self._stop: threading.Event | None = None

    def add(self, changed: Callable[[], None], version: int) -> Callable[[], None]:
        """Call a function from now on when the version is another than this one."""
        key = object()
        with self._lock:
            self._listeners[key] = changed
            if self._stop is None:
                self._stop = threading.Event()
                threading.Thread(
                    target=self._run,
                    args=(self._stop, version),
                    name="sharpscope-journal-watch",
                    daemon=True,
                ).start()
        return lambda: self._remove(key)

    def close(self) -> None:
        with self._lock:
            self._listeners.clear()
            self._end()

    def _remove(self, key: object) -> None:
        with self._lock:
            self._listeners.pop(key, None)
            if not self._listeners:
                self._end()

    def _end(self) -> None:
        if self._stop is not None:
            self._stop.set()
            self._stop = None

    def _run(self, stop: threading.Event, version: int) -> None:
        while not stop.wait(LOOK_INTERVAL_S):
            before, version = version, self._look()
            if version != before:
                with self._lock:
                    listeners = tuple(self._listeners.values())
                for changed in listeners:
                    changed()


def _losses(lost: dict[int, str]) -> str:
    if not lost:
        return ""
    frame = max(lost)
    return f"{len(lost)} frames could not be stored; the last, frame {frame}: {lost[frame]}"


def _last_change(path: Path) -> float:
    """Return the time of the last line, or of the beginning; seconds of the wall clock."""
    for name in (JOURNAL, HEADER):
        with suppress(OSError):
            return (path / name).stat().st_mtime
    return 0.0
