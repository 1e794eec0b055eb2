"""What the viewer shows: the Protocol of a source of frames, and what a source says of itself.

A source is live (`inference.viewer.screen`) or looked back at. A *series* is the frames of one channel at one
stage position, in the order in which they were taken. Knows no pixels' way to a page.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from inference.viewer.shown_frame import ShownFrame

__all__ = ["WAITING", "Series", "Source", "SourceStatus", "series_name"]

WAITING = "waiting"
"""The reason of a frame whose enhanced image may still come."""


def series_name(channel: str | None, position: str | None) -> str:
    """Return what the series of a channel at a stage position is called, by every source."""
    name = channel or "image"
    return f"{name} at {position}" if position else name


@dataclass(frozen=True, slots=True)
class Series:
    """The frames of one channel at one stage position."""

    name: str
    """As `series_name` says."""
    channel: str | None
    position: str | None
    length: int
    """Frames so far."""
    kept: bool = True
    """Whether earlier frames than the newest can be asked for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceStatus:
    """How a source is, and what became of its frames; None is unknown."""

    live: bool
    """Whether frames may still come."""
    state: str
    """For a person: "running", "paused", "finished", "worker lost" ..."""
    reason: str = ""
    """Why the state is what it is, where that needs a word."""
    frames_in: int = 0
    recorded: int = 0
    enhanced: int = 0
    dropped: int = 0
    """Preview frames that a newer one superseded."""
    failed: int = 0
    """Ended without an enhanced image; of a recording that nobody writes also what never got an answer."""
    waiting: int = 0
    """Frames whose enhanced image may still come."""
    missed: int = 0
    """Frames that the camera took and nobody fetched in time."""
    latency_ms_p50: float | None = None
    """From capture to enhanced image."""
    latency_ms_p99: float | None = None
    camera_fps: float | None = None
    model_name: str | None = None
    model_hash: str | None = None
    worker: str | None = None
    """Address."""


class Source(Protocol):
    """Where frames come from. All of it may be called from any thread."""

    @property
    def title(self) -> str:
        """Name it for a person."""
        ...

    def series(self) -> tuple[Series, ...]:
        """Return the series there are by now, in a lasting order."""
        ...

    def newest(self, series: str) -> ShownFrame | None:
        """Return the frame of a series to look at now; None while there is none, or no such series."""
        ...

    def at(self, series: str, index: int) -> ShownFrame:
        """Return a frame of a series; may be slow (disk), and is never called where that would matter.

        Raises
        ------
        IndexError
            When there is no such series, or no such frame in it.
        """
        ...

    def status(self) -> SourceStatus:
        """Return how it is now."""
        ...

    def subscribe(self, changed: Callable[[], None]) -> Callable[[], None]:
        """Have a function called at each change.

        Parameters
        ----------
        changed
            Called in any thread, also often; returns at once and raises nothing.

        Returns
        -------
        Callable[[], None]
            Ends it; once is enough.
        """
        ...
