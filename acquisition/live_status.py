"""What live enhancement tells: frames with their facts, its states, counters, and the signals.

Pure values and one tally behind a lock. Knows no core, no disk and no network.
"""

import threading
from collections import deque
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

import numpy as np
from psygnal import Signal

from configs.document import WrongInputError
from inference.client import ClientState, EnhancedFrame
from inference.recording import FrameFacts

__all__ = ["LiveFrame", "LiveSignals", "LiveState", "LiveStatus", "Tally"]

Ending = Literal["enhanced", "dropped", "failed"]
LATENCIES_KEPT = 4096
RATE_FRAMES = 32
"""Of which the camera's rate is the mean."""
IDLE_INTERVALS = 4.0
"""Mean intervals without a frame, and a second, after which the camera counts as standing still."""


class LiveState(StrEnum):
    """What live enhancement does with the camera's frames."""

    RUNNING = "running"
    """Records and enhances them."""
    PAUSED = "paused"
    """Records them; they are enhanced when it goes on."""
    STOPPED = "stopped"
    """Leaves the camera alone; frames taken before are still enhanced."""
    CLOSED = "closed"

    def turned(self, to: "LiveState") -> "LiveState":
        """Return the next state; raises WrongInputError where there is no way to it."""
        if to is not self and to not in _WAYS[self]:
            raise WrongInputError(f"live enhancement is {self} and cannot become {to}; start another one")
        return to


_WAYS = {
    LiveState.RUNNING: {LiveState.PAUSED, LiveState.STOPPED, LiveState.CLOSED},
    LiveState.PAUSED: {LiveState.RUNNING, LiveState.STOPPED, LiveState.CLOSED},
    LiveState.STOPPED: {LiveState.RUNNING, LiveState.CLOSED},
    LiveState.CLOSED: set[LiveState](),
}


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
    """Frames that the camera took and nobody could read any more, by their numbers."""
    latency_ms_p50: float | None
    """From capture to enhanced image; of the last few thousand frames."""
    latency_ms_p99: float | None
    camera_fps: float | None
    """Mean rate of the last frames; None before the second, 0 when none has come for long."""
    state: LiveState
    worker: ClientState
    """Of several connections the worst."""
    worker_reason: str
    camera_reason: str = ""
    """Why frames of live mode are not read any more; empty while they are."""


class LiveSignals:
    """The signals of live enhancement; all are emitted in one thread of their own, in order."""

    raw = Signal(
        np.ndarray, LiveFrame, description="a raw frame to look at; to a slow listener only the newest"
    )
    recorded = Signal(LiveFrame, description="a raw frame is on the disk")
    enhanced = Signal(np.ndarray, LiveFrame, description="an enhanced image; the frame holds its result")
    dropped = Signal(LiveFrame, str, description="a preview frame that a newer one superseded")
    failed = Signal(LiveFrame, str, description="a frame that was not recorded or not enhanced, and why")
    state = Signal(ClientState, str, description="of the connection to the worker, and why")
    turned = Signal(LiveState, description="live enhancement was paused, stopped, or goes on")


class Tally:
    """The counters behind `LiveStatus`, and what has not been enhanced."""

    def __init__(self) -> None:
        self.changed = threading.Condition()
        self._counts = {"in": 0, "recorded": 0, "missed": 0, "enhanced": 0, "dropped": 0, "failed": 0}
        self._latencies_ms: deque[float] = deque(maxlen=LATENCIES_KEPT)
        self._captured_ns: deque[int] = deque(maxlen=RATE_FRAMES)
        self._unenhanced: set[int] = set()
        self._camera_reason = ""

    def taken(self, captured_ns: int) -> None:
        """Count a frame in that was taken at this time, by `time.monotonic_ns`."""
        with self.changed:
            self._captured_ns.append(captured_ns)
        self._add("in", 1)

    def recorded(self) -> None:
        """Count a raw frame on the disk."""
        self._add("recorded", 1)

    def missed(self, frames: int) -> None:
        """Count frames that were overwritten unread."""
        self._add("missed", frames)

    def trouble(self, reason: str) -> None:
        """Note why the camera's frames are not read any more; "" when they are."""
        with self.changed:
            self._camera_reason = reason

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

    def snapshot(self, state: LiveState, worker: ClientState, reason: str, now_ns: int) -> LiveStatus:
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
                camera_fps=_rate_per_s(self._captured_ns, now_ns),
                state=state,
                worker=worker,
                worker_reason=reason,
                camera_reason=self._camera_reason,
            )


def _rate_per_s(captured_ns: "deque[int]", now_ns: int) -> float | None:
    if len(captured_ns) < 2:
        return None
    interval_s = (captured_ns[-1] - captured_ns[0]) / (len(captured_ns) - 1) * 1e-9
    silent_s = (now_ns - captured_ns[-1]) * 1e-9
    return 0.0 if silent_s > 1 + IDLE_INTERVALS * interval_s else 1 / max(interval_s, 1e-9)
