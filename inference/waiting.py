"""The worker's waiting room: which frame the engine gets next, and what may wait at all.

Owns the two delivery classes. Record frames wait in order, each client within its credit; of preview
frames only the newest of each client and channel waits. The engine is offered both in turn, and clients in
turn, so that nobody starves. Memory is bounded: clients times credit. Knows no sockets and no engine; one
thread adds, another takes.
"""

import threading
import time
from collections import OrderedDict, deque
from dataclasses import dataclass
from typing import Any

import numpy as np

from inference.protocol import Delivery, Failed, FailureCode, Frame

__all__ = ["Job", "OverCreditError", "WaitingRoom", "late"]

MOST_PREVIEW_STREAMS = 16
"""Of one client; a client that invents channel names does not fill the memory."""


class OverCreditError(Exception):
    """A client sent more record frames than it was granted."""


@dataclass(frozen=True, slots=True, eq=False)
class Job:
    """A frame with whom to answer."""

    client: bytes
    frame: Frame
    image: np.ndarray[Any, np.dtype[Any]]
    """(Y, X)"""
    received_ns: int
    answer: memoryview | None = None
    """Where in shared memory the enhanced pixels may be put; None where they go over the socket."""

    @property
    def deadline_ns(self) -> int | None:
        """When the engine must have begun with it, on this machine's monotonic clock; None is never."""
        limit_ms = self.frame.deadline_ms
        return None if limit_ms is None else self.received_ns + round(limit_ms * 1e6)


def late(job: Job) -> Failed:
    """Return the answer to a frame whose deadline passed while it waited."""
    frame = job.frame
    reason = f"it still waited after {frame.deadline_ms} ms, its deadline"
    return Failed(session=frame.session, sequence=frame.sequence, code=FailureCode.DEADLINE, reason=reason)


class WaitingRoom:
    """The frames between the socket and the engine.

    Parameters
    ----------
    record_credit
        Record frames that one client may have unanswered, those in the engine included.
    """

    def __init__(self, record_credit: int) -> None:
        self.record_credit = record_credit
        self._records: OrderedDict[bytes, deque[Job]] = OrderedDict()
        self._previews: OrderedDict[tuple[bytes, str | None], Job] = OrderedDict()
        self._unanswered: dict[bytes, int] = {}
        self._deadline_ns: int | None = None
        """Not later than the earliest deadline among the frames that wait."""
        self._preview_turn = False
        self._closed = False
        self._changed = threading.Condition()

    def __len__(self) -> int:
        with self._changed:
            return len(self._previews) + sum(len(jobs) for jobs in self._records.values())

    def add(self, job: Job) -> Job | None:
        """Let a frame in; returns the preview frame that it supersedes, if any.

        Raises
        ------
        OverCreditError
            For a record frame beyond its client's credit.
        """
        with self._changed:
            if job.frame.delivery is Delivery.PREVIEW:
                superseded = self._add_preview(job)
            else:
                superseded = None
                self._add_record(job)
            if job.deadline_ns is not None:
                self._deadline_ns = min(job.deadline_ns, self._deadline_ns or job.deadline_ns)
            self._changed.notify()
            return superseded

    def _add_record(self, job: Job) -> None:
        unanswered = self._unanswered.get(job.client, 0)
        if unanswered >= self.record_credit:
            msg = f"{unanswered} record frames are unanswered and the credit is {self.record_credit}"
            raise OverCreditError(f"{msg}; wait for answers")
        self._unanswered[job.client] = unanswered + 1
        self._records.setdefault(job.client, deque()).append(job)

    def _add_preview(self, job: Job) -> Job | None:
        key = (job.client, job.frame.channel)
        mine = [other for other in self._previews if other[0] == job.client]
        if key not in self._previews and len(mine) >= MOST_PREVIEW_STREAMS:
            superseded: Job | None = self._previews.pop(mine[0])
        else:
            superseded = self._previews.get(key)
        self._previews[key] = job  # in the place of the one it supersedes, so that no stream starves
        return superseded

    def take(self, *, wait: bool = True) -> Job | None:
        """Return the next frame; None once the room is closed, or where none waits and `wait` is false."""
        with self._changed:
            while wait and not (self._records or self._previews or self._closed):
                self._changed.wait()
            if not (self._records or self._previews):
                return None
            preview = bool(self._previews) and (self._preview_turn or not self._records)
            self._preview_turn = not preview
            return self._previews.popitem(last=False)[1] if preview else self._take_record()

    def _take_record(self) -> Job:
        client, jobs = self._records.popitem(last=False)
        job = jobs.popleft()
        if jobs:
            self._records[client] = jobs  # to the back of the row of clients
        return job

    def next_deadline_ms(self, most_ms: int) -> int:
        """Return how long until `take_late` has something to do, rounded up; `most_ms` at most."""
        deadline_ns = self._deadline_ns
        if deadline_ns is None:
            return most_ms
        return min(most_ms, max(0, (deadline_ns - time.monotonic_ns()) // 1_000_000 + 1))

    def take_late(self) -> list[Job]:
        """Take out the frames whose deadline has passed, and return them."""
        now_ns = time.monotonic_ns()
        if self._deadline_ns is None or now_ns <= self._deadline_ns:
            return []
        with self._changed:
            waiting = [job for jobs in self._records.values() for job in jobs] + list(self._previews.values())
            timed = [(job.deadline_ns, job) for job in waiting if job.deadline_ns is not None]
            self._deadline_ns = min((at_ns for at_ns, _ in timed if at_ns >= now_ns), default=None)
            overdue = [job for at_ns, job in timed if at_ns < now_ns]
            for job in overdue:
                self._take_out(job)
            return overdue

    def _take_out(self, job: Job) -> None:
        if job.frame.delivery is Delivery.PREVIEW:
            del self._previews[(job.client, job.frame.channel)]
            return
        jobs = self._records[job.client]
        jobs.remove(job)
        if not jobs:
            del self._records[job.client]

    def answered(self, job: Job) -> None:
        """Give a record frame's credit back."""
        with self._changed:
            unanswered = self._unanswered.get(job.client, 0)
            if job.frame.delivery is Delivery.RECORD and unanswered > 0:
                self._unanswered[job.client] = unanswered - 1

    def forget(self, client: bytes) -> None:
        """Throw out the frames of a client that is gone."""
        with self._changed:
            self._records.pop(client, None)
            self._unanswered.pop(client, None)
            for key in [key for key in self._previews if key[0] == client]:
                del self._previews[key]

    def close(self) -> list[Job]:
        """Let nobody in any more, wake the engine, and return the frames that still waited."""
        with self._changed:
            left = [job for jobs in self._records.values() for job in jobs] + list(self._previews.values())
            self._records.clear()
            self._previews.clear()
            self._closed = True
            self._changed.notify_all()
            return left
