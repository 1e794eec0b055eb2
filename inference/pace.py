"""How long a worker takes for a frame, as its client sees it: transport, waiting and engine together.

Owns the estimate by which the next frame goes to the worker that will have it done first. Times are handed
in; knows no workers and no clock.
"""

import statistics
from collections import deque

__all__ = ["Pace"]

REMEMBERED = 5
"""Intervals; their median is the estimate, so that one slow frame (a new shape compiles) does not count."""
IDLE_FORGIVES = 1 / 20
"""Of the time that a worker has had nothing to do: a slow one is tried again after 20 of its frames' time."""


class Pace:
    """The rhythm of one worker's answers."""

    def __init__(self) -> None:
        self._intervals_s: deque[float] = deque(maxlen=REMEMBERED)
        self._outstanding = 0
        self._since_s = 0.0  # the last answer, or the first frame after a time without any
        self._warm = False

    def sent(self, now_s: float) -> None:
        """Count a frame that the worker was given."""
        if self._outstanding == 0:
            self._since_s = now_s
        self._outstanding += 1

    def answered(self, now_s: float, *, enhanced: bool = True) -> None:
        """Count an answer; the first one warms up, a failure may be quick: neither is remembered."""
        if self._warm and enhanced:
            self._intervals_s.append(now_s - self._since_s)
        self._warm = self._warm or enhanced
        self._outstanding -= 1
        self._since_s = now_s

    def frame_s(self) -> float | None:
        """Return the time for a frame; None while it is not known."""
        return statistics.median(self._intervals_s) if self._intervals_s else None

    def expected_s(self, now_s: float, unknown_s: float) -> float:
        """Return how long the next frame would take.

        Parameters
        ----------
        unknown_s
            For a worker whose pace is not known.
        """
        frame_s = self.frame_s() or unknown_s
        since_s = now_s - self._since_s
        if self._outstanding == 0:
            return frame_s - IDLE_FORGIVES * since_s
        overdue_s = max(0.0, since_s - frame_s)
        return (self._outstanding + 1) * frame_s + overdue_s
