"""The frames of one channel, or of all, on their way to the workers that enhance them.

Owns what waits for the workers, how much of it is in memory, and the thread that hands it over. `offer` never
waits, so the camera never waits for a worker. Record frames that the workers cannot take yet are forgotten in
memory and fetched from the recording when their turn comes; without a recording only so many are kept, and
what is beyond fails with that reason. Of preview frames the newest of each channel waits. Knows no microscope
and no listeners.
"""

import logging
import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from acquisition.live_status import LiveFrame
from inference.client import (
    ClientSettings,
    ClientState,
    ClientStatus,
    DroppedFrame,
    FailedFrame,
    FrameId,
    Outcome,
    WorkerBusyError,
)
from inference.fleet import WorkerFleet
from inference.keys import ClientKeys
from inference.protocol import Delivery

__all__ = ["FeedLane", "FeedRules"]

Image = np.ndarray[Any, np.dtype[Any]]

logger = logging.getLogger(__name__)

KEPT_FRAMES = 16
"""Pixels of waiting record frames that stay in memory."""


@dataclass(frozen=True, slots=True)
class FeedRules:
    """How frames are sent."""

    delivery: Delivery
    allow_out_of_domain: bool = False
    settings: ClientSettings | None = None
    """None takes the usual ones for so many workers."""
    keys: ClientKeys | None = None
    """This client's; needed for workers beyond this machine."""


class FeedLane:
    """A client of one or several workers with what waits before it.

    Parameters
    ----------
    workers
        Addresses; nobody need be there.
    session
        Of the frames.
    connection
        The session's name on the wire; lanes that share a worker have each their own.
    fetch
        Reads a frame back that was forgotten in memory; None where there is nothing to read from.
    ended
        Called with each outcome, and whether the frame held a place, which `release` then gives back. It must
        not block.
    state
        Called with each new state of the connection and its reason; it must not block.
    """

    def __init__(
        self,
        workers: Sequence[str],
        rules: FeedRules,
        *,
        session: str,
        connection: str,
        fetch: Callable[[int], Image] | None,
        ended: Callable[[Outcome, bool], None],
        state: Callable[[ClientState, str], None],
    ) -> None:
        self._rules = rules
        self._session = session
        self._fetch = fetch
        self._ended = ended
        settings = rules.settings or ClientSettings.for_workers(len(workers))
        self._preview_credit = settings.preview_credit
        self._changed = threading.Condition()  # guards the next four
        self._waiting: deque[tuple[LiveFrame, Image | None]] = deque()
        self._paused = False
        self._closing = False
        # A place is held from the sending of a frame until the listeners have seen what became of it.
        preview = rules.delivery is Delivery.PREVIEW
        self._places = settings.preview_credit * len(workers) if preview else settings.stored_frames
        self._pointing = threading.Lock()
        self._client = WorkerFleet(
            workers,
            lambda outcome: self._ended(self._ours(outcome), True),
            session=connection,
            settings=settings,
            on_state=state,
            keys=rules.keys,
        )
        self._feeder = threading.Thread(target=self._feed, name="sharpscope-feeder", daemon=True)
        self._feeder.start()

    # ---- for any thread; none of these waits -------------------------------------------------------

    def offer(self, frame: LiveFrame, image: Image) -> None:
        """Give a frame to the workers in its turn; the image is not changed any more by anybody."""
        outcome: Outcome | None = None
        with self._changed:
            full = len(self._waiting) >= KEPT_FRAMES
            if self._closing:
                outcome = FailedFrame(self._id(frame), "the end had come before it could be sent")
            elif self._rules.delivery is Delivery.PREVIEW:
                other = self._replace(frame, image)
                outcome = None if other is None else DroppedFrame(self._id(other), frame.number)
            elif full and self._fetch is None:
                reason = f"{KEPT_FRAMES} frames wait for the worker and there is no recording to wait in"
                outcome = FailedFrame(self._id(frame), reason)
            else:
                self._waiting.append((frame, None if full else image))
            self._changed.notify_all()
        if outcome is not None:
            self._ended(outcome, False)

    def _replace(self, frame: LiveFrame, image: Image) -> LiveFrame | None:
        """Put a preview frame in the place of the waiting one of its channel."""
        for place, (other, _) in enumerate(self._waiting):
            if other.facts.channel == frame.facts.channel:
                self._waiting[place] = (frame, image)
                return other
        self._waiting.append((frame, image))
        return None

    def pause(self, paused: bool) -> None:
        """Send nothing more, or go on; what is with a worker is answered all the same."""
        with self._changed:
            self._paused = paused
            self._changed.notify_all()

    def release(self) -> None:
        """Give a place back: everybody has seen what became of its frame."""
        with self._changed:
            self._places += 1
            self._changed.notify_all()

    def status(self) -> ClientStatus:
        """Return a snapshot of the connection."""
        return self._client.status()

    def workers(self) -> tuple[str, ...]:
        """Return the addresses of the workers."""
        return tuple(self._client.workers())

    # ---- these may wait ----------------------------------------------------------------------------

    def repoint(self, workers: Sequence[str]) -> None:
        """Send to other workers from now on; what the old ones have not answered goes to the new ones."""
        with self._pointing:
            now = self._client.workers()
            for address in workers:
                if address not in now:
                    self._client.add_worker(address)
            for address in now:
                if address not in workers:
                    self._client.remove_worker(address)
            if self._rules.delivery is Delivery.PREVIEW:
                with self._changed:
                    self._places += self._preview_credit * (len(workers) - len(now))
                    self._changed.notify_all()

    def wait_ready(self, timeout_s: float | None) -> bool:
        """Wait until a worker answers; false when none did in time."""
        return self._client.wait_ready(timeout_s)

    def close(self) -> None:
        """Let every frame end: what has no answer fails."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        self._feeder.join()
        reason = "enhancement was paused" if self._paused else self._client.status().reason
        for frame, _ in self._waiting:
            self._ended(FailedFrame(self._id(frame), f"not sent before the end ({reason})"), False)
        self._waiting.clear()
        self._client.close()

    # ---- the feeder's thread -----------------------------------------------------------------------

    def _feed(self) -> None:
        while (next_one := self._next()) is not None:
            frame, image = next_one
            try:
                self._submit(frame, image)
            except Exception as error:  # one frame that cannot be read or sent must not stop the others
                logger.warning("frame %s cannot be sent: %s", frame.number, error)
                self._ended(FailedFrame(self._id(frame), str(error)), True)

    def _next(self) -> tuple[LiveFrame, Image | None] | None:
        """Wait until a frame may be sent, and take its place; None at the end."""
        with self._changed:
            self._changed.wait_for(
                lambda: self._closing or (self._waiting and self._places > 0 and not self._paused)
            )
            if self._closing:
                return None
            self._places -= 1
            return self._waiting.popleft()

    def _submit(self, frame: LiveFrame, image: Image | None) -> None:
        if image is None:
            assert self._fetch is not None
            image = self._fetch(frame.number)
        while True:
            try:
                self._client.submit(
                    image,
                    sequence=frame.number,
                    delivery=self._rules.delivery,
                    pixel_size_um=frame.facts.pixel_size_um,
                    numerical_aperture=frame.facts.numerical_aperture,
                    channel=frame.facts.channel,
                    allow_out_of_domain=self._rules.allow_out_of_domain,
                    captured_ns=frame.captured_ns,
                    timeout_s=0.2,
                    owned=True,
                )
            except WorkerBusyError:
                if self._closing:
                    raise
            else:
                return

    def _ours(self, outcome: Outcome) -> Outcome:
        """Return an outcome under the session's own name."""
        if outcome.source.session == self._session:
            return outcome
        return replace(outcome, source=FrameId(self._session, outcome.source.sequence))

    def _id(self, frame: LiveFrame) -> FrameId:
        return FrameId(self._session, frame.number)
