"""The client's ledger: which frames have no answer yet, and which goes out next.

Owns the promise that every submitted frame is settled exactly once. Record frames are kept with their
pixels until they are answered, so that they can be sent again to a restarted worker; of preview frames the
newest of each channel is kept. Pure bookkeeping: knows no sockets and no threads; the caller locks.
"""

from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

import numpy as np

from inference.frame_memory import Held
from inference.messages import Delivery, Frame

__all__ = ["BLAMED", "MOST_WORKERS_LOST", "Ledger", "Pending"]

MOST_WORKERS_LOST = 2
"""That had one record frame of ours and no other; then it is taken for the cause."""
BLAMED = f"{MOST_WORKERS_LOST} workers were lost that had only this frame"


@dataclass(slots=True)
class Pending:
    """A frame that waits for its answer."""

    frame: Frame
    held: Held
    in_flight: bool = False
    workers_lost: int = 0
    """While they had this record frame and no other."""

    @property
    def image(self) -> np.ndarray[Any, np.dtype[Any]]:
        """(Y, X); owned by the ledger."""
        return self.held.image


class Ledger:
    """The unanswered frames of one client, in the order of submission."""

    def __init__(self) -> None:
        self._records: OrderedDict[int, Pending] = OrderedDict()
        self._previews: dict[str | None, Pending] = {}
        self._previews_in_flight: dict[int, Pending] = {}
        self._suspects: frozenset[int] = frozenset()
        """What the last worker had that was lost; until they are settled, they go out one by one."""

    def __len__(self) -> int:
        return len(self._records) + len(self._previews) + len(self._previews_in_flight)

    @property
    def record_count(self) -> int:
        """Record frames that are kept."""
        return len(self._records)

    def unanswered(self) -> tuple[int, ...]:
        """Return the sequence numbers without an answer, in rising order."""
        waiting = [pending.frame.sequence for pending in self._previews.values()]
        return tuple(sorted([*self._records, *self._previews_in_flight, *waiting]))

    def add(self, pending: Pending) -> Pending | None:
        """Enter a frame; returns the preview frame that it supersedes, if any."""
        frame = pending.frame
        if frame.sequence in self._records or frame.sequence in self._previews_in_flight:
            msg = f"frame {frame.sequence} of session {frame.session} has been submitted and is unanswered"
            raise ValueError(msg)
        if frame.delivery is Delivery.PREVIEW:
            superseded = self._previews.get(frame.channel)
            self._previews[frame.channel] = pending
            return superseded
        self._records[frame.sequence] = pending
        return None

    def next_to_send(self, record_credit: int, preview_credit: int) -> Pending | None:
        """Return the next frame that may go out, marked as in flight."""
        if self._previews and len(self._previews_in_flight) < preview_credit:
            pending = self._previews.pop(next(iter(self._previews)))
            self._previews_in_flight[pending.frame.sequence] = pending
            pending.in_flight = True
            return pending
        if any(sequence in self._records for sequence in self._suspects):
            record_credit = 1  # the next loss then says which of them it was
        for count, pending in enumerate(self._records.values()):
            if count >= record_credit:
                break
            if not pending.in_flight:
                pending.in_flight = True
                return pending
        return None

    def settle(self, sequence: int) -> Pending | None:
        """Take out an answered frame; None when it was settled before (a repeated answer)."""
        return self._records.pop(sequence, None) or self._previews_in_flight.pop(sequence, None)

    def take_back(self, pending: Pending) -> Pending | None:
        """Undo `next_to_send` for a frame that could not be sent.

        Returns
        -------
        Pending or None
            The newer preview frame of its channel that waits already: this one is then out of the ledger.
        """
        pending.in_flight = False
        if self._previews_in_flight.pop(pending.frame.sequence, None) is None:
            return None
        newer = self._previews.get(pending.frame.channel)
        if newer is None:
            self._previews[pending.frame.channel] = pending
        return newer

    def worker_lost(self) -> list[Pending]:
        """Mark every record frame as not sent; returns the preview frames that went with the worker."""
        flying = [pending for pending in self._records.values() if pending.in_flight]
        if flying:
            self._suspects = frozenset(pending.frame.sequence for pending in flying)
        for pending in flying:
            pending.in_flight = False
        lost = list(self._previews_in_flight.values())
        self._previews_in_flight.clear()
        return lost

    def blame(self, *, dead: bool) -> Pending | None:
        """Settle what the loss of a worker was about: it died (another answers) or is there again.

        Returns
        -------
        Pending or None
            The record frame that has now cost so many workers that no other shall have it; it is taken out.
        """
        if not dead:
            self._suspects = frozenset()
        if len(self._suspects) != 1:
            return None
        suspect = self._records.get(next(iter(self._suspects)))
        if suspect is None:
            return None
        suspect.workers_lost += 1
        return self.settle(suspect.frame.sequence) if suspect.workers_lost >= MOST_WORKERS_LOST else None

    def clear(self) -> list[Pending]:
        """Take out everything, in the order of the sequence numbers."""
        left = [*self._records.values(), *self._previews_in_flight.values(), *self._previews.values()]
        self._records.clear()
        self._previews_in_flight.clear()
        self._previews.clear()
        self._suspects = frozenset()
        return sorted(left, key=lambda pending: pending.frame.sequence)
