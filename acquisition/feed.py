"""From recorded frames to the worker and back: the part of live enhancement that may be slow.

Owns the order in which frames are offered to the worker, how many are in memory, and the thread in which
listeners are called. `offer` never waits, so the camera never waits for a worker or a listener. Record
frames that the worker cannot take yet are forgotten in memory and read from the recording when their turn
comes; without a recording only so many are kept, and what is beyond fails with that reason. Of preview
frames the newest of each channel waits. Knows no microscope.
"""

import logging
import queue
import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from acquisition.live_status import LiveFrame
from inference.client import (
    ClientSettings,
    ClientState,
    DroppedFrame,
    EnhancedFrame,
    FailedFrame,
    FrameId,
    Outcome,
    WorkerBusyError,
)
from inference.keys import ClientKeys
from inference.protocol import Delivery
from inference.recording import Recorder, UnenhancedLine
from inference.worker_list import open_workers

__all__ = ["Feed"]

Image = np.ndarray[Any, np.dtype[Any]]
Settled = Callable[[LiveFrame, Outcome], None]

logger = logging.getLogger(__name__)

KEPT_FRAMES = 16
"""Pixels of waiting record frames that stay in memory."""


class Feed:
    """A client of one or several workers with what stands before and behind it.

    Parameters
    ----------
    workers
        Addresses of the workers; nobody need be there.
    session
        Of the frames.
    recorder
        Where raw frames are read back from and enhanced ones are written to.
    settled
        Called once for each frame with how it ended, in the feed's own thread; it may be slow.
    state
        Called with the state of the connection, in the same thread.
    keys
        This client's; needed for workers beyond this machine.
    """

    def __init__(
        self,
        workers: Sequence[str],
        *,
        session: str,
        recorder: Recorder | None,
        delivery: Delivery,
        allow_out_of_domain: bool,
        settings: ClientSettings,
        settled: Settled,
        state: Callable[[ClientState, str], None],
        keys: ClientKeys | None = None,
    ) -> None:
        self._recorder = recorder
        self._delivery = delivery
        self._allow_out_of_domain = allow_out_of_domain
        self._settled = settled
        self._state = state
        self._frames: dict[int, LiveFrame] = {}
        self._waiting: deque[tuple[LiveFrame, Image | None]] = deque()
        self._changed = threading.Condition()  # guards the two above and _closing
        self._closing = False
        # A place is held from the sending of a frame until the listeners have seen what became of it.
        preview = delivery is Delivery.PREVIEW
        places = settings.preview_credit * len(workers) if preview else settings.stored_frames
        self._places = threading.Semaphore(places)
        self._news: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self.client = open_workers(
            workers,
            lambda outcome: self._post_outcome(outcome, sent=True),
            session=session,
            settings=settings,
            on_state=lambda state, reason: self._news.put(lambda: self._state(state, reason)),
            keys=keys,
        )
        self._feeder = threading.Thread(target=self._feed, name="sharpscope-feeder", daemon=True)
        self._teller = threading.Thread(target=self._tell, name="sharpscope-listeners", daemon=True)
        self._feeder.start()
        self._teller.start()

    # ---- for any thread; none of these waits -------------------------------------------------------

    def offer(self, frame: LiveFrame, image: Image) -> None:
        """Give a frame to the worker in its turn; the image is not changed any more by anybody."""
        dropped = refused = None
        with self._changed:
            self._frames[frame.number] = frame
            full = len(self._waiting) >= KEPT_FRAMES
            if self._delivery is Delivery.PREVIEW:
                dropped = self._replace(frame, image)
            elif full and self._recorder is None:
                refused = f"{KEPT_FRAMES} frames wait for the worker and there is no recording to wait in"
            else:
                self._waiting.append((frame, None if full else image))
            self._changed.notify()
        if dropped is not None:
            self._post_outcome(DroppedFrame(_id(dropped), frame.number))
        if refused is not None:
            self._post_outcome(FailedFrame(_id(frame), refused))

    def _replace(self, frame: LiveFrame, image: Image) -> LiveFrame | None:
        """Put a preview frame in the place of the waiting one of its channel."""
        for place, (other, _) in enumerate(self._waiting):
            if other.facts.channel == frame.facts.channel:
                self._waiting[place] = (frame, image)
                return other
        self._waiting.append((frame, image))
        return None

    def refuse(self, frame: LiveFrame, reason: str) -> None:
        """Let a frame end as failed that is not to be offered."""
        with self._changed:
            self._frames[frame.number] = frame
        self._news.put(lambda: self._end(FailedFrame(_id(frame), reason), None, sent=False))

    def post(self, news: Callable[[], None]) -> None:
        """Have something told in the listeners' thread, in its turn."""
        self._news.put(news)

    def close(self) -> None:
        """Let every frame end: what the worker has not answered fails. Returns when all were told."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        self._feeder.join()
        self.client.close()
        with self._changed:
            self._changed.wait_for(lambda: not self._frames)
        self._news.put(None)
        self._teller.join()

    # ---- the feeder's thread -----------------------------------------------------------------------

    def _feed(self) -> None:
        while self._next_place():
            with self._changed:
                frame, image = self._waiting.popleft()
            try:
                self._submit(frame, image)
            except Exception as error:  # one frame that cannot be read or sent must not stop the others
                logger.warning("frame %s cannot be sent: %s", frame.number, error)
                self._post_outcome(FailedFrame(_id(frame), str(error)), sent=True)
        with self._changed:
            left = [frame for frame, _ in self._waiting]
            self._waiting.clear()
        reason = self.client.status().reason
        for frame in left:
            self._post_outcome(FailedFrame(_id(frame), f"not sent before the end ({reason})"))

    def _next_place(self) -> bool:
        """Wait until a frame may be sent; false at the end."""
        with self._changed:
            self._changed.wait_for(lambda: self._closing or self._waiting)
        while not self._places.acquire(timeout=0.1):
            if self._closing:
                return False
        if self._closing:
            self._places.release()
            return False
        return True

    def _submit(self, frame: LiveFrame, image: Image | None) -> None:
        if image is None:
            assert self._recorder is not None
            image = self._recorder.read(frame.number)
        while True:
            try:
                self.client.submit(
                    image,
                    sequence=frame.number,
                    delivery=self._delivery,
                    pixel_size_um=frame.facts.pixel_size_um,
                    numerical_aperture=frame.facts.numerical_aperture,
                    channel=frame.facts.channel,
                    allow_out_of_domain=self._allow_out_of_domain,
                    captured_ns=frame.captured_ns,
                    timeout_s=0.2,
                    owned=True,
                )
            except WorkerBusyError:
                if self._closing:
                    raise
            else:
                return

    # ---- the listeners' thread ---------------------------------------------------------------------

    def _post_outcome(self, outcome: Outcome, *, sent: bool = False) -> None:
        self._news.put(lambda: self._arrived(outcome, sent=sent))

    def _tell(self) -> None:
        while (news := self._news.get()) is not None:
            try:
                news()
            except Exception:
                logger.exception("live enhancement goes on after an error")

    def _arrived(self, outcome: Outcome, *, sent: bool) -> None:
        """Bring an outcome to the disk, then tell it."""

        def written(_frame: int, reason: str | None) -> None:
            self._news.put(lambda: self._end(outcome, reason, sent=sent))

        number = outcome.source.sequence
        match outcome:
            case EnhancedFrame() if self._recorder is not None:
                self._recorder.put_enhanced(outcome, written)
            case DroppedFrame() if self._recorder is not None:
                reason = f"superseded by frame {outcome.superseded_by}"
                line = UnenhancedLine(frame=number, outcome="dropped", reason=reason)
                self._recorder.put_unenhanced(line, written)
            case FailedFrame(code=code) if self._recorder is not None and code is not None:
                line = UnenhancedLine(frame=number, outcome="failed", reason=outcome.reason)
                self._recorder.put_unenhanced(line, written)
            case _:  # without an answer the journal says enough: it names no enhanced image
                self._end(outcome, None, sent=sent)

    def _end(self, outcome: Outcome, reason: str | None, *, sent: bool) -> None:
        with self._changed:
            frame = self._frames[outcome.source.sequence]
        if reason is not None and isinstance(outcome, EnhancedFrame):
            outcome = FailedFrame(outcome.source, f"enhanced, but not recorded: {reason}")
        try:
            self._settled(frame, outcome)
        finally:
            if sent:
                self._places.release()
            with self._changed:
                del self._frames[frame.number]
                self._changed.notify_all()


def _id(frame: LiveFrame) -> FrameId:
    return FrameId(frame.session, frame.number)
