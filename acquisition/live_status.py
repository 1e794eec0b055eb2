"""What live enhancement tells: frames with their facts, counters, and the signals.

Pure values and one tally behind a lock. Knows no core, no disk and no network.
"""

import threading
from collections import deque
from dataclasses import dataclass
from typing import Literal

import numpy as np
from psygnal import Signal

from inference.client import ClientState, EnhancedFrame
from inference.recording import FrameFacts

__all__ = ["LiveFrame", "LiveSignals", "LiveStatus", "Tally"]

Ending = Literal["enhanced", "dropped", "failed"]
LATENCIES_KEPT = 4096


@dataclass(frozen=True, slots=True)
class LiveFrame:
    """A frame of the microscope on its way."""

    number: int
    """With the session: its id."""
    session: str
    facts: FrameFacts
    captured_ns: int
    """By `time.monotonic_ns`."""
    result: EnhancedFrame | None = None
    """What the worker made of it, with model name, hash, flags and pixel size."""


@dataclass(frozen=True, slots=True)
class LiveStatus:
    """A snapshot: frames_in = enhanced + dropped + failed + waiting."""

    frames_in: int
    recorded: int
    """Raw frames on the disk."""
    enhanced: int
    dropped: int
    failed: int
    waiting: int
    missed: int
    """Frames of live mode that the core overwrote before they were read."""
    latency_ms_p50: float | None
    """From capture to enhanced image; of the last few thousand frames."""
    latency_ms_p99: float | None
    worker: ClientState
    worker_reason: str


class LiveSignals:
    """The signals of live enhancement; all are emitted in one thread of their own, in order."""

    recorded = Signal(LiveFrame, description="a raw frame is on the disk")
    enhanced = Signal(np.ndarray, LiveFrame, description="an enhanced image; the frame holds its result")
    dropped = Signal(LiveFrame, str, description="a preview frame that a newer one superseded")
    failed = Signal(LiveFrame, str, description="a frame that was not recorded or not enhanced, and why")
    state = Signal(ClientState, str, description="of the connection to the worker, and why")


class Tally:
    """The counters behind `LiveStatus`, and what has not been enhanced."""

    def __init__(self) -> None:
        self.changed = threading.Condition()
        self._counts = {"in": 0, "recorded": 0, "missed": 0, "enhanced": 0, "dropped": 0, "failed": 0}
        self._latencies_ms: deque[float] = deque(maxlen=LATENCIES_KEPT)
        self._unenhanced: set[int] = set()

    def taken(self) -> None:
        """Count a frame in."""
        self._add("in", 1)

    def recorded(self) -> None:
        """Count a raw frame on the disk."""
        self._add("recorded", 1)

    def missed(self, frames: int) -> None:
        """Count frames that were overwritten unread."""
        self._add("missed", frames)

    def owed(self, frame: int) -> None:
        """Note a frame that should become enhanced."""
        with self.changed:
            self._unenhanced.add(frame)

    def ended(self, frame: int, ending: Ending, latency_ms: float | None = None) -> None:
        """Count how a frame ended."""
        with self.changed:
            if ending == "enhanced":
                self._unenhanced.discard(frame)
            if latency_ms is not None:
                self._latencies_ms.append(latency_ms)
        self._add(ending, 1)

    def _add(self, name: str, count: int) -> None:
        with self.changed:
            self._counts[name] += count
            self.changed.notify_all()

    def unenhanced(self) -> tuple[int, ...]:
        """Return the numbers of the frames without an enhanced image."""
        with self.changed:
            return tuple(sorted(self._unenhanced))

    def waiting(self) -> int:
        """Return how many frames have not ended; hold `changed` to wait for it."""
        counts = self._counts
        return counts["in"] - counts["enhanced"] - counts["dropped"] - counts["failed"]

    def snapshot(self, worker: ClientState, reason: str) -> LiveStatus:
        """Return the counters as they stand."""
        with self.changed:
            counts = self._counts
            latencies_ms = np.asarray(self._latencies_ms)
            known = latencies_ms.size > 0
            return LiveStatus(
                frames_in=counts["in"],
                recorded=counts["recorded"],
                enhanced=counts["enhanced"],
                dropped=counts["dropped"],
                failed=counts["failed"],
                waiting=self.waiting(),
                missed=counts["missed"],
                latency_ms_p50=float(np.percentile(latencies_ms, 50)) if known else None,
                latency_ms_p99=float(np.percentile(latencies_ms, 99)) if known else None,
                worker=worker,
                worker_reason=reason,
            )
