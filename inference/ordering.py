"""Puts outcomes back into the order of their frames, stream by stream.

Several workers answer when they are done; whoever watches a stream sees its frames in the order in which they
were submitted. What came early waits here for what was before it. Bounded by whoever adds: no more frames
are let in than there is room for. Pure bookkeeping: knows no workers and no threads; the caller locks.
"""

from collections import deque
from collections.abc import Hashable

from inference.outcomes import Outcome

__all__ = ["Ordering"]


class Ordering:
    """The frames of all streams that were not told of yet, each stream in its order."""

    def __init__(self) -> None:
        self._rows: dict[Hashable, deque[int]] = {}
        self._streams: dict[int, Hashable] = {}
        self._ended: dict[int, Outcome] = {}

    def __len__(self) -> int:
        return len(self._streams)

    def add(self, stream: Hashable, sequence: int) -> None:
        """Put a frame at the end of its stream."""
        self._rows.setdefault(stream, deque()).append(sequence)
        self._streams[sequence] = stream

    def end(self, outcome: Outcome) -> list[Outcome]:
        """Take how a frame ended; return what may be told now, in order."""
        sequence = outcome.source.sequence
        stream = self._streams[sequence]
        self._ended[sequence] = outcome
        row = self._rows[stream]
        told = []
        while row and row[0] in self._ended:
            first = row.popleft()
            del self._streams[first]
            told.append(self._ended.pop(first))
        if not row:
            del self._rows[stream]
        return told
