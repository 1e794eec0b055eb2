"""What a recording's journal says so far, so that a frame of a series is found at once.

Owns series, the newest enhanced image of each frame, and the counts. Grows line by line and keeps of each
what showing it needs, since a recording may have a hundred thousand. Knows no files and no pixels; the caller
locks.
"""

from collections import Counter, deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from sys import intern

from inference.recording_lines import (
    EndLine,
    EnhancedLine,
    FrameFacts,
    FrameLine,
    JournalLine,
    LostLine,
    StreamLine,
    UnenhancedLine,
)
from inference.viewer.source import WAITING, Series, series_name

__all__ = ["JournalIndex", "StoredEnhanced", "StoredFrame", "StoredSeries"]

FRAMES_FOR_PACE = 16
LOOK_BACK_FRAMES = 64


@dataclass(frozen=True, slots=True)
class StoredFrame:
    """Where a raw frame lies."""

    number: int
    stream: str
    index: int
    elapsed_ms: float | None
    """By the camera, or since the first frame."""


@dataclass(frozen=True, slots=True)
class StoredEnhanced:
    """Where an enhanced image lies, and what must be said of it."""

    stream: str
    index: int
    model_name: str
    model_hash: str
    out_of_domain: tuple[str, ...]
    warnings: tuple[str, ...]
    shows_raw: bool


@dataclass(frozen=True, slots=True)
class StoredSeries:
    """The frames of one channel at one stage position, in the order of being stored."""

    channel: str | None
    position: str | None
    full_scale: float | None = None
    """Counts at which the camera saturates."""
    frames: list[StoredFrame] = field(default_factory=list)


@dataclass(slots=True)
class JournalIndex:
    """The state of a recording after the lines that were added."""

    streams: dict[str, StreamLine] = field(default_factory=dict)
    by_name: dict[str, StoredSeries] = field(default_factory=dict)
    """The series in the order of beginning."""
    enhanced: dict[int, StoredEnhanced] = field(default_factory=dict)
    """The newest enhanced image of each frame, whichever model made it."""
    lost: dict[int, str] = field(default_factory=dict)
    ended: bool = False
    """The recorder was closed, and none has gone on since."""
    frames: int = 0
    """How many raw frames are stored."""
    newest_model: tuple[str, str] | None = None
    """Name and hash."""
    _unenhanced: dict[int, tuple[str, str]] = field(default_factory=dict)
    """Outcome and reason."""
    _outcomes: Counter[str] = field(default_factory=Counter)
    _times: deque[datetime] = field(default_factory=lambda: deque(maxlen=FRAMES_FOR_PACE))
    _began: datetime | None = None

    def add(self, lines: Iterable[JournalLine]) -> None:
        """Take lines in the journal's order."""
        for line in lines:
            self.ended = isinstance(line, EndLine)
            match line:
                case StreamLine():
                    self.streams[line.stream] = line
                case FrameLine():
                    self._add_frame(line)
                case EnhancedLine():
                    self._add_enhanced(line)
                case UnenhancedLine() if line.frame not in self.enhanced:
                    self._set_outcome(line.frame, (line.outcome, intern(line.reason)))
                case LostLine():
                    self.lost[line.frame] = line.reason
                case _:
                    pass

    def series(self) -> tuple[Series, ...]:
        """Return every series with its length, in the order of beginning."""
        return tuple(
            Series(name, stored.channel, stored.position, len(stored.frames))
            for name, stored in self.by_name.items()
        )

    def count(self, outcome: str) -> int:
        """Return how many frames ended as `dropped` or `failed`."""
        return self._outcomes[outcome]

    @property
    def waiting(self) -> int:
        """How many stored frames have neither an enhanced image nor a reason."""
        return max(0, self.frames - len(self.enhanced) - len(self._unenhanced))

    def reason(self, number: int, *, running: bool) -> str | None:
        """Return why a frame has no enhanced image; None when it has one."""
        if number in self.enhanced:
            return None
        if number in self._unenhanced:
            return ": ".join(self._unenhanced[number])
        return WAITING if running else "no answer"

    def place_to_look_at(self, series: str) -> int | None:
        """Return the index of a series' last frame, or of the last enhanced one while those are under way."""
        stored = self.by_name.get(series)
        if stored is None:
            return None
        last = len(stored.frames) - 1
        if not self.ended:
            for index in range(last, max(-1, last - LOOK_BACK_FRAMES), -1):
                if stored.frames[index].number in self.enhanced:
                    return index
        return last

    @property
    def interval_s(self) -> float | None:
        """Between the last frames, in the mean."""
        if len(self._times) < 2:
            return None
        return (self._times[-1] - self._times[0]).total_seconds() / (len(self._times) - 1)

    def _add_frame(self, line: FrameLine) -> None:
        facts = line.facts
        if facts.time is not None:
            self._began = self._began or facts.time
            self._times.append(facts.time)
        name = series_name(facts.channel, facts.position)
        stored = self.by_name.setdefault(name, StoredSeries(facts.channel, facts.position, facts.full_scale))
        stored.frames.append(
            StoredFrame(line.frame, intern(line.stream), line.index, self._elapsed_ms(facts))
        )
        self.frames += 1

    def _elapsed_ms(self, facts: FrameFacts) -> float | None:
        if facts.elapsed_ms is not None or facts.time is None or self._began is None:
            return facts.elapsed_ms
        return (facts.time - self._began).total_seconds() * 1000

    def _add_enhanced(self, line: EnhancedLine) -> None:
        self.newest_model = (intern(line.model_name), intern(line.model_hash))
        self._set_outcome(line.frame, None)
        self.enhanced[line.frame] = StoredEnhanced(
            intern(line.stream),
            line.index,
            *self.newest_model,
            tuple(map(intern, line.out_of_domain)),
            line.warnings,
            line.shows_raw,
        )

    def _set_outcome(self, number: int, outcome: tuple[str, str] | None) -> None:
        before = self._unenhanced.pop(number, None)
        if before is not None:
            self._outcomes[before[0]] -= 1
        if outcome is not None:
            self._unenhanced[number] = outcome
            self._outcomes[outcome[0]] += 1
