"""Which frame goes to which of several workers, and when: the fleet without sockets.

Owns the frames that have no answer yet, who has them, and the light of each stream. The next frame goes to
the worker that is expected to have it done first; if that one has no credit left, the frame waits. The first
frame of a stream decides its photometry: it goes out alone, and the others follow with what it was enhanced
with, whichever worker they go to. A stream stays with its model as long as a worker has it. Pure bookkeeping:
knows no sockets and no threads; the caller locks, and hands in the time.
"""

import heapq
from collections.abc import Hashable, Iterable, Iterator
from dataclasses import dataclass, field

from inference.engine_thread import NoModelError, choose_engine
from inference.frame_memory import Held
from inference.ledger import MOST_WORKERS_LOST, Pending
from inference.messages import Delivery, Frame, ModelInfo, StreamPhotometry
from inference.outcomes import EnhancedFrame, Outcome
from inference.pace import Pace

__all__ = ["Assignment", "Dispatch", "stream_of"]


@dataclass(frozen=True, slots=True)
class Assignment:
    """A frame that a worker is to be given now, stamped with the light of its stream."""

    address: str
    pending: Pending


@dataclass(slots=True)
class _Kept:
    """A frame without an answer."""

    pending: Pending
    place: int
    """In the order of submission."""
    address: str | None = None
    """Of the worker that has it."""
    suspect: bool = False
    """Whether a worker died that had it among others: it then goes alone, and the next death tells."""
    workers_lost: int = 0
    """That had it alone."""

    def __lt__(self, other: "_Kept") -> bool:
        return self.place < other.place


@dataclass(slots=True)
class _Stream:
    """What is known of a stream, by the hash of the model."""

    waiting: list[_Kept] = field(default_factory=list)
    """Record frames, a heap: what was submitted first goes first, also what came back from a lost worker."""
    model_hash: str | None = None
    photometry: dict[str, StreamPhotometry] = field(default_factory=dict)
    deciding: dict[str, int] = field(default_factory=dict)
    """The frame that is out to decide the photometry."""


@dataclass(slots=True)
class _Member:
    """A worker, ready or not."""

    ready: bool = False
    models: tuple[ModelInfo, ...] = ()
    record_credit: int = 0
    records: set[int] = field(default_factory=set)
    previews: set[int] = field(default_factory=set)
    pace: Pace = field(default_factory=Pace)
    seen: dict[Hashable, str] = field(default_factory=dict)
    """The model that last answered for a stream: it may have been exchanged since the worker said Info."""
    worker: str | None = None
    """Its id, drawn anew at each of its starts."""
    had: frozenset[int] = frozenset()
    """The record frames that it had when it was lost."""


class Dispatch:
    """The unanswered frames of a fleet and its workers.

    Parameters
    ----------
    preview_credit
        Preview frames that each worker may have at once.
    """

    def __init__(self, preview_credit: int) -> None:
        self._preview_credit = preview_credit
        self._members: dict[str, _Member] = {}
        self._kept: dict[int, _Kept] = {}
        self._streams: dict[Hashable, _Stream] = {}
        self._previews: dict[str | None, _Kept] = {}  # the newest of each channel that nobody has yet
        self._places = 0

    def __len__(self) -> int:
        return len(self._kept)

    def unanswered(self) -> tuple[int, ...]:
        """Return the sequence numbers without an answer, in rising order."""
        return tuple(sorted(self._kept))

    # ---- workers -----------------------------------------------------------------------------------

    def join(self, address: str) -> None:
        """Let a worker join; it gets nothing before it is ready."""
        self._members[address] = _Member()

    def ready(
        self, address: str, models: tuple[ModelInfo, ...], record_credit: int, worker: str | None = None
    ) -> Pending | None:
        """Note that a worker takes frames; another id than before means that the one before has died.

        Returns
        -------
        Pending or None
            The record frame that has now cost so many workers that no other shall have it; it is taken out.
        """
        member = self._members[address]
        culprit = self._blamed(member.had) if member.worker not in (None, worker) else None
        member.ready, member.models, member.record_credit = True, models, record_credit
        member.worker, member.had = worker, frozenset()
        member.seen.clear()
        return culprit

    def _blamed(self, had: frozenset[int]) -> Pending | None:
        """Suspect what a dead worker had, and give a frame up that two of them had alone."""
        left = [self._kept[number] for number in had if number in self._kept]
        for kept in left:
            kept.suspect = True
            kept.workers_lost += len(had) == 1
        if not left or left[0].workers_lost < MOST_WORKERS_LOST or left[0].address is not None:
            return None
        culprit = left[0]
        del self._kept[culprit.pending.frame.sequence]
        waiting = self._streams[stream_of(culprit.pending.frame)].waiting
        waiting.remove(culprit)
        heapq.heapify(waiting)
        return culprit.pending

    def lost(self, address: str) -> list[tuple[Pending, int]]:
        """Take back all that a worker had, for the others.

        Returns
        -------
        list
            Preview frames of which a newer one waits already, with its number: these are dropped.
        """
        member = self._members[address]
        numbers = sorted(member.records | member.previews)
        had = frozenset(member.records) or member.had
        self._members[address] = _Member(models=member.models, worker=member.worker, had=had)
        dropped = []
        for kept in sorted(self._kept[number] for number in numbers):
            newer = self._wait_again(kept)
            if newer is not None:
                dropped.append((kept.pending, newer))
        return dropped

    def leave(self, address: str) -> list[tuple[Pending, int]]:
        """Let a worker go; else as `lost`."""
        dropped = self.lost(address)
        del self._members[address]
        return dropped

    def _wait_again(self, kept: _Kept) -> int | None:
        """Put a frame back in its place; returns the newer preview frame that stands there."""
        kept.address = None
        self._decides_no_more(kept)
        frame = kept.pending.frame
        if frame.delivery is Delivery.RECORD:
            heapq.heappush(self._streams[stream_of(frame)].waiting, kept)
            return None
        newer = self._previews.get(frame.channel)
        if newer is None:
            self._previews[frame.channel] = kept
            return None
        del self._kept[frame.sequence]
        return newer.pending.frame.sequence

    # ---- frames ------------------------------------------------------------------------------------

    def add(self, pending: Pending) -> Pending | None:
        """Take a frame on; returns the preview frame that it supersedes, if any."""
        frame = pending.frame
        if frame.sequence in self._kept:
            msg = f"frame {frame.sequence} of session {frame.session} has been submitted and is unanswered"
            raise ValueError(msg)
        kept = self._kept[frame.sequence] = _Kept(pending, self._places)
        self._places += 1
        stream = self._streams.setdefault(stream_of(frame), _Stream())
        if frame.photometry is not None:
            stream.photometry.setdefault(frame.photometry.model_hash, frame.photometry)
        if frame.delivery is Delivery.RECORD:
            heapq.heappush(stream.waiting, kept)
            return None
        superseded = self._previews.get(frame.channel)
        self._previews[frame.channel] = kept
        if superseded is None:
            return None
        del self._kept[superseded.pending.frame.sequence]
        return superseded.pending

    def next(self, now_s: float) -> Assignment | None:
        """Return the next frame that some worker is to be given, and note that it has it."""
        for kept in self._candidates():
            address = self._choose(kept, now_s)
            if address is not None:
                return self._assign(kept, address, now_s)
        return None

    def _candidates(self) -> Iterator[_Kept]:
        """Go through the frames that are first in their row."""
        yield from list(self._previews.values())
        yield from sorted(stream.waiting[0] for stream in self._streams.values() if stream.waiting)

    def _choose(self, kept: _Kept, now_s: float) -> str | None:
        """Return the worker for a frame; None where it has to wait."""
        frame = kept.pending.frame
        stream = self._streams[stream_of(frame)]
        able = {
            address: _model_of(member, frame) for address, member in self._members.items() if member.ready
        }
        if stream.model_hash is not None and stream.model_hash in able.values():
            able = {address: known for address, known in able.items() if known == stream.model_hash}
        elif any(able.values()):  # whoever has no model for it would only say so
            able = {address: known for address, known in able.items() if known is not None}
        if not able:
            return None
        best = self._soonest(able, now_s)
        model_hash = able[best]
        undecided = model_hash is not None and model_hash not in stream.photometry
        if undecided and model_hash in stream.deciding:
            return None
        return best if self._has_credit(self._members[best], kept) else None

    def _soonest(self, addresses: Iterable[str], now_s: float) -> str:
        known_s = [pace for member in self._members.values() if (pace := member.pace.frame_s()) is not None]
        unknown_s = sum(known_s) / len(known_s) if known_s else 1.0
        return min(addresses, key=lambda address: self._members[address].pace.expected_s(now_s, unknown_s))

    def _has_credit(self, member: _Member, kept: _Kept) -> bool:
        if kept.pending.frame.delivery is Delivery.PREVIEW:
            return len(member.previews) < self._preview_credit
        alone = kept.suspect or any(self._kept[number].suspect for number in member.records)
        return len(member.records) < (1 if alone else member.record_credit)

    def _assign(self, kept: _Kept, address: str, now_s: float) -> Assignment:
        frame = kept.pending.frame
        member, stream = self._members[address], self._streams[stream_of(frame)]
        model_hash = _model_of(member, frame)
        known = None if model_hash is None else stream.photometry.get(model_hash)
        if model_hash is not None:
            stream.model_hash = model_hash
            if known is None:
                stream.deciding[model_hash] = frame.sequence
        if frame.delivery is Delivery.RECORD:
            heapq.heappop(stream.waiting)
            member.records.add(frame.sequence)
        else:
            del self._previews[frame.channel]
            member.previews.add(frame.sequence)
        member.pace.sent(now_s)
        kept.address = address
        stamped = frame.model_copy(update={"photometry": known})
        return Assignment(address, Pending(stamped, Held(kept.pending.image)))

    def answered(self, address: str, outcome: Outcome, now_s: float) -> bool:
        """Take out a frame that has its answer; false when it had one, or somebody else has it by now."""
        sequence = outcome.source.sequence
        kept = self._kept.get(sequence)
        if kept is None or kept.address != address:
            return False
        del self._kept[sequence]
        member = self._members[address]
        member.records.discard(sequence)
        member.previews.discard(sequence)
        member.pace.answered(now_s, enhanced=isinstance(outcome, EnhancedFrame))
        self._decides_no_more(kept)
        if isinstance(outcome, EnhancedFrame) and not outcome.shows_raw:
            key = stream_of(kept.pending.frame)
            model_hash = outcome.photometry.model_hash
            self._streams[key].photometry.setdefault(model_hash, outcome.photometry)
            member.seen[key] = model_hash
        return True

    def _decides_no_more(self, kept: _Kept) -> None:
        deciding = self._streams[stream_of(kept.pending.frame)].deciding
        for model_hash, sequence in list(deciding.items()):
            if sequence == kept.pending.frame.sequence:
                del deciding[model_hash]

    def clear(self) -> list[Pending]:
        """Take out everything, in the order of submission."""
        left = [kept.pending for kept in sorted(self._kept.values())]
        self._kept.clear()
        self._previews.clear()
        self._streams.clear()
        return left


def stream_of(frame: Frame) -> Hashable:
    """Return what the frames of a stream have in common, as the worker sees it."""
    return (frame.channel, frame.pixel_size_um, frame.model)


def _model_of(member: _Member, frame: Frame) -> str | None:
    """Return the hash of the model that a worker will take for a frame; None where it has none."""
    if (seen := member.seen.get(stream_of(frame))) is not None:
        return seen
    try:
        return choose_engine(member.models, frame).model_hash
    except NoModelError:
        return None
