"""What a worker says of itself while it serves: its counters, and how long its engine takes.

Owns the figures (`Figures`, one strict model, so that they can cross a pipe) and the tally that keeps those
of them that no part of the worker counts for itself. Knows no sockets, no pipes and no metrics format.
"""

import bisect
from collections import Counter
from typing import Protocol

from pydantic import BaseModel, ConfigDict

from inference.messages import Enhanced, Failed, ModelInfo

__all__ = ["ENGINE_BOUNDS_S", "Figures", "Observed", "Observer", "Tally"]

ENGINE_BOUNDS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
"""Upper bounds of the histogram of engine times; what is longer stands in one bin more."""


class Figures(BaseModel):
    """A snapshot of a worker; received = enhanced + failed + dropped + waiting + forgotten."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    worker: str
    """The id that it drew at its start."""
    address: str
    models: tuple[ModelInfo, ...]
    serving: bool
    """False before the first turn and once it stops."""
    received: int
    enhanced: int
    failed: dict[str, int]
    """By failure code."""
    dropped: int
    refused: int
    """Messages answered by a typed error."""
    flagged: int
    """Enhanced frames with at least one flag."""
    waiting: int
    clients: int
    busy_s: float
    """How long the engine has been at its present frame; 0 when it waits."""
    engine_frames: tuple[int, ...]
    """Enhanced frames by engine time, one bin for each of `ENGINE_BOUNDS_S` and one beyond."""
    engine_s: float
    """Sum of all engine times."""


class Observed(Protocol):
    """A worker as its observers see it; `inference.worker.Worker` is one."""

    def figures(self) -> Figures:
        """Return a snapshot; from any thread."""

    def stop(self) -> None:
        """Ask it to end; from any thread."""


class Observer(Protocol):
    """Somebody who looks on while a worker serves. Called in the worker's I/O thread; must not block."""

    def begin(self, worker: Observed) -> None:
        """Know the worker, which is bound and about to serve."""

    def turn(self) -> None:
        """Hear that the I/O thread has gone round once: every `POLL_MS` at least, often thousandfold."""


class Tally:
    """Counts answers; written by the worker's I/O thread, read from any."""

    def __init__(self) -> None:
        self._bins = [0] * (len(ENGINE_BOUNDS_S) + 1)
        self._engine_s = 0.0
        self._flagged = 0
        self._failed: Counter[str] = Counter()

    def count(self, header: Enhanced | Failed) -> None:
        """Take in one answer."""
        if isinstance(header, Failed):
            self._failed[header.code] += 1
            return
        seconds = (header.finished_ns - header.started_ns) / 1e9
        self._bins[bisect.bisect_left(ENGINE_BOUNDS_S, seconds)] += 1
        self._engine_s += seconds
        self._flagged += header.flagged

    @property
    def enhanced(self) -> int:
        """Enhanced frames."""
        return sum(self._bins)

    @property
    def flagged(self) -> int:
        """Enhanced frames with at least one flag."""
        return self._flagged

    @property
    def failed(self) -> dict[str, int]:
        """Failed frames by code."""
        return {str(code): count for code, count in list(self._failed.items())}

    @property
    def engine_frames(self) -> tuple[int, ...]:
        """Enhanced frames by engine time."""
        return tuple(self._bins)

    @property
    def engine_s(self) -> float:
        """Sum of all engine times."""
        return self._engine_s
