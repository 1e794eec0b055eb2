"""What one browser sees next: one view in flight, then the newest, never a queue; no sockets.

Owns the rules: a view is packed only when the one before was acknowledged, a frame goes out once unless it
changed (its enhanced image came), and what a browser was too slow for is counted. `look` may be slow and runs
in a worker thread; everything else is called in the event loop. One `look` at a time.
"""

import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from inference.viewer.browser_messages import Show, WrongMessageError
from inference.viewer.packing import pack
from inference.viewer.shown_frame import ShownFrame
from inference.viewer.source import WAITING, Source

__all__ = ["Look", "Subscription", "View", "look", "one_line"]

RATE_WINDOW_S = 2.0
RECHECK_S = 0.5
"""How often a frame of the past is looked at again whose enhanced image may still come."""

FrameKey = tuple[object, ...]


@dataclass(frozen=True, slots=True)
class Look:
    """What is to be looked for, and what the browser has already."""

    show: Show
    asked: int
    """Counts what the browser asked for."""
    view_id: int
    seen: tuple[FrameKey, ...] | None
    """None: the browser just asked, and gets an answer whatever it has."""


@dataclass(frozen=True, slots=True)
class View:
    """What was found: a message to send, a reason why there is none, or nothing new."""

    look: Look
    message: bytearray | None = None
    keys: tuple[FrameKey, ...] = ()
    indices: tuple[tuple[str, int], ...] = ()
    """Of each series' frame."""
    unsettled: bool = False
    """An enhanced image may still come."""
    error: Exception | None = None
    """Why the source could not say."""


class Subscription:
    """The state of one browser."""

    def __init__(self) -> None:
        self.skipped = 0
        """Frames that came and went without being drawn here."""
        self._show: Show | None = None
        self._asked = 0
        self._answered = 0
        self._in_flight: int | None = None
        self._next_id = 1
        self._seen: tuple[FrameKey, ...] = ()
        self._indices: dict[str, int] = {}
        self._unsettled = False
        self._told: str | None = None
        self._drawn_s: deque[float] = deque(maxlen=1024)
        self._looked_s = 0.0

    # ---- what the browser says ---------------------------------------------------------------------

    def show(self, show: Show) -> None:
        """Take what it wants to see from now on."""
        self._show = show
        self._asked += 1
        self._indices = {}
        self._told = None

    def acknowledge(self, view_id: int) -> None:
        """Note that a view was drawn; raises WrongMessageError when it is not the one in flight."""
        if view_id != self._in_flight:
            msg = f"view {view_id} is not in flight; acknowledge each view once, after it was drawn"
            raise WrongMessageError(msg)
        self._in_flight = None
        self._drawn_s.append(time.monotonic())

    # ---- what it gets ------------------------------------------------------------------------------

    def next_look(self) -> Look | None:
        """Return what to look for now; None while a view is in flight or nothing can have changed."""
        show = self._show
        if show is None or self._in_flight is not None:
            return None
        fresh = self._asked != self._answered
        if not fresh and show.at is not None:
            if not self._unsettled or time.monotonic() < self._looked_s + RECHECK_S:
                return None
        return Look(show, self._asked, self._next_id, None if fresh else self._seen)

    def found(self, view: View) -> str | None:
        """Take what a look found, before it is sent; returns what went wrong in one line, once."""
        self._looked_s = time.monotonic()
        self._answered = view.look.asked
        self._unsettled = view.unsettled
        before, self._told = self._told, None if view.error is None else one_line(view.error)
        if view.message is not None:
            self._seen = view.keys
            self._in_flight = view.look.view_id
            self._next_id += 1
            if view.look.show.at is None and view.look.asked == self._asked:
                self._count_skipped(view.indices)
        return None if self._told == before else self._told

    def shown_fps(self) -> float:
        """Return how many views a second were drawn of late."""
        since_s = time.monotonic() - RATE_WINDOW_S
        while self._drawn_s and self._drawn_s[0] < since_s:
            self._drawn_s.popleft()
        return len(self._drawn_s) / RATE_WINDOW_S

    def _count_skipped(self, indices: Sequence[tuple[str, int]]) -> None:
        for series, index in indices:
            before = self._indices.get(series, index)
            self.skipped += max(0, index - before - 1)
        self._indices = dict(indices)


def look(source: Source, wanted: Look) -> View:
    """Fetch and pack what a browser wants; raises nothing: a source's mistake is told to the browser.

    The call for a worker thread.
    """
    try:
        frames = list(_frames(source, wanted.show))
        keys = tuple(_key(series, frame) for series, frame in frames)
        unsettled = any(frame.enhanced is None and frame.reason == WAITING for _, frame in frames)
        if keys == wanted.seen or not frames:
            return View(wanted, unsettled=unsettled)
        message = pack(frames, wanted.view_id, time.monotonic_ns())
    except Exception as error:
        return View(wanted, error=error)
    indices = tuple((series, frame.index) for series, frame in frames)
    return View(wanted, message, keys, indices, unsettled)


def _frames(source: Source, show: Show) -> Iterator[tuple[str, ShownFrame]]:
    """Give the frames that there are; a series that is not so long is left out unless it is alone."""
    missing, found = None, 0
    for name in dict.fromkeys(show.series):
        try:
            frame = source.newest(name) if show.at is None else source.at(name, show.at)
        except IndexError as error:
            missing = error
            continue
        if frame is not None:
            found += 1
            yield name, frame
    if missing is not None and not found:
        raise missing


def _key(series: str, frame: ShownFrame) -> FrameKey:
    enhanced = frame.enhanced is not None
    return series, frame.session, frame.number, frame.index, enhanced, frame.model_hash, frame.reason


def one_line(error: Exception) -> str:
    """Return what went wrong, for a person."""
    text = str(error.args[0]) if isinstance(error, KeyError) and error.args else str(error)
    return (" ".join(text.split()) or type(error).__name__)[:300]
