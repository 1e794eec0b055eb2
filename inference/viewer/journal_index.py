"""What a recording's journal says so far, so that a frame of a series is found at once.

Owns series, the newest enhanced image of each frame, and the counts. Grows line by line. Knows no files and
no pixels; the caller locks.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

from inference.recording_lines import (
    EndLine,
    EnhancedLine,
    FrameLine,
    JournalLine,
    LostLine,
    StreamLine,
    UnenhancedLine,
)

__all__ = ["JournalIndex", "SeriesKey"]

SeriesKey = tuple[str | None, str | None]
"""Channel and position."""


@dataclass(slots=True)
class JournalIndex:
    """The state of a recording after the lines that were added."""

    streams: dict[str, StreamLine] = field(default_factory=dict)
    series: dict[SeriesKey, list[FrameLine]] = field(default_factory=dict)
    """The frames of each series in the order of being stored; the series in the order of beginning."""
    enhanced: dict[int, EnhancedLine] = field(default_factory=dict)
    """The newest enhanced image of each frame, whichever model made it."""
    lost: dict[int, str] = field(default_factory=dict)
    ended: bool = False
    """The recorder was closed, and none has gone on since."""
    _unenhanced: dict[int, UnenhancedLine] = field(default_factory=dict)
    _frames: int = 0

    def add(self, lines: Iterable[JournalLine]) -> None:
        """Take lines in the journal's order."""
        for line in lines:
            self.ended = isinstance(line, EndLine)
            match line:
                case StreamLine():
                    self.streams[line.stream] = line
                case FrameLine():
                    key = (line.facts.channel, line.facts.position)
                    self.series.setdefault(key, []).append(line)
                    self._frames += 1
                case EnhancedLine():
                    self.enhanced[line.frame] = line
                    self._unenhanced.pop(line.frame, None)
                case UnenhancedLine() if line.frame not in self.enhanced:
                    self._unenhanced[line.frame] = line
                case LostLine():
                    self.lost[line.frame] = line.reason
                case _:
                    pass

    @property
    def frames(self) -> int:
        """How many raw frames are stored."""
        return self._frames

    def count(self, outcome: str) -> int:
        """Return how many frames ended as `dropped` or `failed`."""
        return sum(line.outcome == outcome for line in self._unenhanced.values())

    @property
    def waiting(self) -> int:
        """How many stored frames have neither an enhanced image nor a reason."""
        return max(0, self._frames - len(self.enhanced) - len(self._unenhanced))

    def reason(self, frame: int) -> str | None:
        """Return why a frame has no enhanced image; None when it has one."""
        if frame in self.enhanced:
            return None
        line = self._unenhanced.get(frame)
        if line is not None:
            return f"{line.outcome}: {line.reason}"
        return "not enhanced" if self.ended else "waiting"
