"""A thread that writes one thing after the other and tells what came of each.

Owns the bound of what waits for the disk, and that one failure never ends the writing. Knows nothing of
what is written.
"""

import logging
import queue
import threading
from collections.abc import Callable

__all__ = ["Done", "WritingLane", "ignore"]

Done = Callable[[int, str | None], None]
"""Called with a frame's number when it is on the disk, or with the reason why it is not."""

logger = logging.getLogger(__name__)


def ignore(_frame: int, _reason: str | None) -> None:
    """Stand in where the caller does not want to know."""


class WritingLane(threading.Thread):
    """Writes in order, one thing at a time; `put` waits while it is behind.

    Parameters
    ----------
    depth
        Tasks that may wait.
    """

    def __init__(self, name: str, depth: int) -> None:
        super().__init__(name=name, daemon=True)
        self._tasks: queue.Queue[tuple[int, Callable[[], None], Done] | None] = queue.Queue(depth)
        self.start()

    def put(self, frame: int, task: Callable[[], None], done: Done) -> None:
        """Queue a task for a frame; `done` is called after it, whatever came of it."""
        self._tasks.put((frame, task, done))

    def flush(self) -> None:
        """Wait until everything queued so far is done."""
        reached = threading.Event()
        self._tasks.put((-1, reached.set, ignore))
        reached.wait()

    def finish(self) -> None:
        """Do what is queued, then end."""
        self._tasks.put(None)
        self.join()

    def run(self) -> None:
        """Work until `finish`."""
        lost = 0  # in a row, so that a full disk is one line and not thirty a second
        while (entry := self._tasks.get()) is not None:
            frame, task, done = entry
            reason = None
            try:
                task()
            except Exception as error:  # one frame's failure (a full disk) must not end the recording
                reason = f"{type(error).__name__}: {error}"
                lost += 1
                if lost == 1:
                    logger.error("frame %s is not on the disk: %s; the next are counted", frame, reason)
            else:
                if lost > 1:
                    logger.error("%d frames in a row are not on the disk; it takes frames again", lost)
                lost = 0
            try:
                done(frame, reason)
            except Exception:
                logger.exception("whoever was told about frame %s failed", frame)
        if lost > 1:
            logger.error("the last %d frames are not on the disk", lost)
