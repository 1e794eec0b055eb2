"""What a recording's journal says so far, so that a frame of a series is found at once.

Owns series, the newest enhanced image of each frame, and the counts. Grows line by line. Knows no files and
no pixels; the caller locks.
"""

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime

from inference.recording_lines import (
    EndLine,
    EnhancedLine,
    FrameLine,
    JournalLine,
    LostLine,
    StreamLine,
    UnenhancedLine,
)
from inference.viewer.source import WAITING, Series, series_name

__all__ = ["JournalIndex"]

FRAMES_FOR_PACE = 16
LOOK_BACK_FRAMES = 64


@dataclass(slots=True)
class JournalIndex:
    """The state of a recording after the lines that were added."""

    streams: dict[str, StreamLine] = field(default_factory=dict)
    frames_of: dict[str, list[FrameLine]] = field(default_factory=dict)
    """By the series' name, in the order of being stored; the series in the order of beginning."""
    enhanced: dict[int, EnhancedLine] = field(default_factory=dict)
    """The newest enhanced image of each frame, whichever model made it."""
    lost: dict[int, str] = field(default_factory=dict)
    ended: bool = False
    """The recorder was closed, and none has gone on since."""
    frames: int = 0
    """How many raw frames are stored."""
    newest_model: tuple[str, str] | None = None
    """Name and hash."""
    _unenhanced: dict[int, UnenhancedLine] = field(default_factory=dict)
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
                    self.enhanced[line.frame] = line
                    self.newest_model = (line.model_name, line.model_hash)
                    self._unenhanced.pop(line.frame, None)
                case UnenhancedLine() if line.frame not in self.enhanced:
                    self._unenhanced[line.frame] = line
                case LostLine():
                    self.lost[line.frame] = line.reason
                case _:
                    pass

    def series(self) -> tuple[Series, ...]:
        """Return every series with its length, in the order of beginning."""
        return tuple(
            Series(name, lines[0].facts.channel, lines[0].facts.position, len(lines))
            for name, lines in self.frames_of.items()
        )

    def count(self, outcome: str) -> int:
        """Return how many frames ended as `dropped` or `failed`."""
        return sum(line.outcome == outcome for line in self._unenhanced.values())

    @property
    def waiting(self) -> int:
        """How many stored frames have neither an enhanced image nor a reason."""
        return max(0, self.frames - len(self.enhanced) - len(self._unenhanced))

    def reason(self, frame: int) -> str | None:
        """Return why a frame has no enhanced image; None when it has one."""
        if frame in self.enhanced:
            return None
        line = self._unenhanced.get(frame)
        if line is not None:
            return f"{line.outcome}: {line.reason}"
        return "no answer" if self.ended else WAITING

    def place_to_look_at(self, series: str) -> int | None:
        """Return the index of a series' last frame, or of the last enhanced one while those are under way."""
        lines = self.frames_of.get(series)
        if not lines:
            return None
        last = len(lines) - 1
        if not self.ended:
            for index in range(last, max(-1, last - LOOK_BACK_FRAMES), -1):
                if lines[index].frame in self.enhanced:
                    return index
        return last

    def elapsed_ms(self, line: FrameLine) -> float | None:
        """Return a frame's time by the camera, or since the first frame."""
        if line.facts.elapsed_ms is not None or line.facts.time is None or self._began is None:
            return line.facts.elapsed_ms
        return (line.facts.time - self._began).total_seconds() * 1000

    @property
    def interval_s(self) -> float | None:
        """Between the last frames, in the mean."""
        if len(self._times) < 2:
            return None
        return (self._times[-1] - self._times[0]).total_seconds() / (len(self._times) - 1)

    def _add_frame(self, line: FrameLine) -> None:
        name = series_name(line.facts.channel, line.facts.position)
        self.frames_of.setdefault(name, []).append(line)
        self.frames += 1
        if line.facts.time is not None:
            self._began = self._began or line.facts.time
            self._times.append(line.facts.time)
