"""A live source: the newest frames of a microscope, in memory.

Whoever has the frames hands them in, and never waits: a frame is kept by reference, and those who look are
only woken. Of each series the newest raw frame and the newest enhanced one are kept, and the raw frames whose
enhanced image is still to come, thinned out where those are many. Older ones are asked of a recording.

What is newest for a person: the newest *enhanced* frame as long as enhanced images keep coming, so that raw
and enhanced of the same frame stand beside each other; else the newest raw one with its reason.
"""

import itertools
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from inference.viewer.listeners import Listeners
from inference.viewer.shown_frame import Plane, ShownFrame
from inference.viewer.source import WAITING, Series, Source, SourceStatus, series_name

__all__ = ["Screen"]

MOST_PENDING = 48
"""Raw frames that wait for their enhanced image; when there are more every second one is let go."""
MOST_PENDING_BYTES = 256_000_000
MOST_NEWEST_BYTES = 512_000_000
"""Of the newest frames of all series; of the series used last they are kept whatever their size."""
LEAST_FRESH_S = 1.0
MOST_FRESH_S = 10.0
FRESH_LATENCIES = 3.0
"""So many times its latency, within the bounds, an enhanced frame stays while newer raw ones come."""
RATE_FRAMES = 60
RATE_WINDOW_S = 5.0


@dataclass(slots=True)
class _Line:
    """What is known of a series."""

    channel: str | None
    position: str | None
    length: int
    raw: ShownFrame | None = None
    """The newest raw frame, whatever became of it."""
    enhanced: ShownFrame | None = None
    enhanced_s: float = 0.0
    """When it came."""
    turn: int = 0
    """When it was used last, by whoever adds or looks, as a count."""

    def pixel_bytes(self) -> int:
        """Return how much memory its frames hold."""
        planes = [
            plane for frame in (self.raw, self.enhanced) if frame for plane in (frame.raw, frame.enhanced)
        ]
        return sum({id(plane): plane.pixels.nbytes for plane in planes if plane is not None}.values())

    def let_go(self) -> None:
        """Keep no pixels."""
        self.raw = self.enhanced = None


@dataclass(slots=True)
class _Count:
    """What became of the frames."""

    frames_in: int = 0
    enhanced: int = 0
    ended: int = 0
    taken_s: deque[float] = field(default_factory=lambda: deque(maxlen=RATE_FRAMES))


class Screen:
    """The source of a live microscope or a worker's stream. Thread-safe.

    Parameters
    ----------
    title
        Names it for a person.
    session
        Of the frames.
    status
        Says how the whole is; called in any thread. None: the screen says what it counted.
    past
        The recording that is being written of the same frames, for earlier ones.
    """

    def __init__(
        self,
        title: str,
        *,
        session: str = "",
        status: Callable[[], SourceStatus] | None = None,
        past: Source | None = None,
    ) -> None:
        self._title = title
        self._session = session
        self._say_status = status
        self._past = past
        self._lock = threading.Lock()
        self._lines: dict[str, _Line] = {}
        self._turns = itertools.count(1)
        self._pending: dict[int, ShownFrame] = {}
        self._count = _Count()
        self._listeners = Listeners()

    # ---- for whoever has the frames ----------------------------------------------------------------

    def raw(
        self,
        number: int,
        channel: str | None,
        position: str | None,
        raw: Plane,
        *,
        elapsed_ms: float | None = None,
        full_scale: float | None = None,
        captured_ns: int | None = None,
        index: int | None = None,
    ) -> None:
        """Show a frame that was taken.

        Parameters
        ----------
        raw
            Its pixels are not copied, and may never change.
        index
            Its place in its series; None: after those that came before.
        """
        name = series_name(channel, position)
        with self._lock:
            line = self._lines.setdefault(name, _Line(channel, position, 0))
            frame = ShownFrame(
                number=number,
                index=line.length if index is None else index,
                session=self._session,
                raw=raw,
                channel=channel,
                position=position,
                reason=WAITING,
                elapsed_ms=elapsed_ms,
                full_scale=full_scale,
                captured_ns=captured_ns,
            )
            line.length = max(line.length, frame.index + 1)
            line.raw = frame
            self._pend(frame)
            self._used(line)
            self._count.frames_in += 1
            self._count.taken_s.append(time.monotonic())
        self.changed()

    def enhanced(
        self,
        number: int,
        enhanced: Plane,
        *,
        model_name: str,
        model_hash: str,
        latency_ms: float | None = None,
        warnings: tuple[str, ...] = (),
        out_of_domain: tuple[str, ...] = (),
        shows_raw: bool = False,
    ) -> None:
        """Show the enhanced image of a frame; its pixels are not copied, and may never change."""
        with self._lock:
            self._count.enhanced += 1
            waiting = self._pending.pop(number, None)
            if waiting is None:  # let go
                return
            frame = replace(
                waiting,
                enhanced=enhanced,
                reason=None,
                model_name=model_name,
                model_hash=model_hash,
                latency_ms=latency_ms,
                warnings=warnings,
                out_of_domain=out_of_domain,
                shows_raw=shows_raw,
            )
            line = self._settle(frame)
            if line.enhanced is None or frame.index >= line.enhanced.index:
                line.enhanced, line.enhanced_s = frame, time.monotonic()
            self._used(line)
        self.changed()

    def ended(self, number: int, reason: str) -> None:
        """Say why a frame has no enhanced image: "dropped: ...", "failed: ..."."""
        with self._lock:
            self._count.ended += 1
            waiting = self._pending.pop(number, None)
            if waiting is None:
                return
            self._settle(replace(waiting, reason=reason))
        self.changed()

    def changed(self) -> None:
        """Wake those who look: something changed that the status tells."""
        self._listeners.call()

    # ---- for those who look ------------------------------------------------------------------------

    @property
    def title(self) -> str:
        """Name it for a person."""
        return self._title

    def series(self) -> tuple[Series, ...]:
        """Return the series there are by now, in the order in which they came."""
        past = {} if self._past is None else {series.name: series for series in self._past.series()}
        kept = self._past is not None
        with self._lock:
            own = {
                name: Series(name, line.channel, line.position, line.length, kept)
                for name, line in self._lines.items()
            }
        longer = {
            name: series
            for name, series in past.items()
            if name not in own or series.length > own[name].length
        }
        return tuple({**own, **longer}.values())

    def newest(self, series: str) -> ShownFrame | None:
        """Return the frame of a series to look at now, of the recording where it is no longer here."""
        with self._lock:
            line = self._lines.get(series)
            if line is None:
                return None
            line.turn = next(self._turns)
            here = line.enhanced if line.raw is None or _is_fresh(line, time.monotonic()) else line.raw
        return self._past.newest(series) if here is None and self._past is not None else here

    def at(self, series: str, index: int) -> ShownFrame:
        """Return a frame of a series, of the recording where it is no longer here."""
        with self._lock:
            line = self._lines.get(series)
            here = () if line is None else (line.enhanced, line.raw)
            if line is not None:
                line.turn = next(self._turns)
        for frame in here:
            if frame is not None and frame.index == index:
                return frame
        if self._past is None:
            msg = f"frame {index} of '{series}' is not kept: nothing is recorded here"
            raise IndexError(msg)
        return self._past.at(series, index)

    def status(self) -> SourceStatus:
        """Return how it is now."""
        if self._say_status is not None:
            return self._say_status()
        with self._lock:
            count, newest = self._count, [line.enhanced for line in self._lines.values() if line.enhanced]
            latest = max(newest, key=lambda frame: frame.number, default=None)
            return SourceStatus(
                live=True,
                state="running",
                frames_in=count.frames_in,
                enhanced=count.enhanced,
                failed=count.ended,
                waiting=max(0, count.frames_in - count.enhanced - count.ended),
                camera_fps=_rate(count.taken_s),
                model_name=None if latest is None else latest.model_name,
                model_hash=None if latest is None else latest.model_hash,
            )

    def camera_fps(self) -> float | None:
        """Return how many frames a second came of late; None where none did."""
        with self._lock:
            return _rate(self._count.taken_s)

    def subscribe(self, changed: Callable[[], None]) -> Callable[[], None]:
        """Have a function called at each change."""
        return self._listeners.subscribe(changed)

    # ---- under the lock ----------------------------------------------------------------------------

    def _pend(self, frame: ShownFrame) -> None:
        held_bytes = sum(each.raw.pixels.nbytes for each in self._pending.values())
        if len(self._pending) >= MOST_PENDING or held_bytes + frame.raw.pixels.nbytes > MOST_PENDING_BYTES:
            for number in list(self._pending)[1::2]:
                del self._pending[number]
        self._pending[frame.number] = frame

    def _settle(self, frame: ShownFrame) -> _Line:
        line = self._lines[series_name(frame.channel, frame.position)]
        is_newest = frame.index + 1 == line.length if line.raw is None else line.raw.number == frame.number
        if is_newest:
            line.raw = frame
        return line

    def _used(self, used: _Line) -> None:
        """Let go of the pixels of those series that were not used for longest, where all are too many."""
        used.turn = next(self._turns)
        held_bytes = {name: line.pixel_bytes() for name, line in self._lines.items()}
        too_many = sum(held_bytes.values()) - MOST_NEWEST_BYTES
        if too_many <= 0:
            return
        for name, line in sorted(self._lines.items(), key=lambda named: named[1].turn):
            if too_many <= 0 or line is used:
                return
            line.let_go()
            too_many -= held_bytes[name]


def _is_fresh(line: _Line, now_s: float) -> bool:
    """Say whether the enhanced frame is to be shown though a newer raw one is there."""
    if line.enhanced is None or line.raw is None:
        return False
    if line.raw.number == line.enhanced.number:
        return True
    latency_s = (line.enhanced.latency_ms or 0.0) / 1000
    bound_s = min(max(LEAST_FRESH_S, FRESH_LATENCIES * latency_s), MOST_FRESH_S)
    return latency_s <= MOST_FRESH_S and now_s - line.enhanced_s <= bound_s


def _rate(taken_s: deque[float]) -> float | None:
    """Return frames a second from when they came; None where fewer than two came of late."""
    since_s = time.monotonic() - RATE_WINDOW_S
    recent = [moment for moment in taken_s if moment >= since_s]
    if len(recent) < 2 or recent[-1] == recent[0]:
        return None
    return (len(recent) - 1) / (recent[-1] - recent[0])
