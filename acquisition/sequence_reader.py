"""Reads every frame of a running live mode or burst out of the core's image buffer, and leaves them there.

Other programs on the same core show live mode by `getLastImage`, which fails once somebody pops frames, and
pop the frames of a burst that they have started. So frames are looked at by their age and told apart by the
`ImageNumber` that the core gives them, which counts for each camera behind a Multi Camera by itself. Frames
are read in the buffer's order, so what is older than one that was read was read too. Numbers that were gone
before they were read are counted as missed, but for those after the last one that was seen. Only from a burst
of our own, which may be longer than the buffer, frames are popped, and the newest is left for others to look
at. Knows nothing of what becomes of a frame.
"""

import logging
import math
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from pymmcore_plus import CMMCorePlus
    from pymmcore_plus.core import Metadata

__all__ = ["SequenceReader"]

Image = np.ndarray[Any, np.dtype[Any]]
Tags = dict[str, str]

logger = logging.getLogger(__name__)

POLL_S = 0.003
MOST_FAILURES = 100
"""In a row; then the reader gives up."""
RETRIES = 5
SKEW = 4
"""Exposures by which the cameras behind a Multi Camera may be apart."""


class SequenceReader:
    """A thread that reads from the start of live mode to its end.

    Parameters
    ----------
    core
        With a sequence acquisition running.
    take
        Called in the reader's thread with each frame and its tags, in order.
    missed
        Called with how many frames were overwritten unread.
    from_newest
        Live mode has been running: begin with the next frame.
    pops
        The burst is our own: make room for its later frames.
    ended
        Called in the reader's thread at the end, with the frames that the sequence had.
    trouble
        Called in the reader's thread with why it gives up: too many frames in a row failed. A single one that
        fails is counted as missed.
    """

    def __init__(
        self,
        core: "CMMCorePlus",
        take: Callable[[Image, Tags], None],
        missed: Callable[[int], None],
        *,
        from_newest: bool = False,
        pops: bool = False,
        ended: Callable[[int], None] = lambda _frames: None,
        trouble: Callable[[str], None] = lambda _reason: None,
    ) -> None:
        self._core = core
        self._take = take
        self._missed = missed
        self._ended = ended
        self._trouble = trouble
        self._failures = 0  # in a row
        self._next = self._next_popped if pops else self._next_seen
        self._cameras = core.getNumberOfCameraChannels()
        self._joins = from_newest
        self._last_numbers: dict[str, int] = {}  # of each camera
        if from_newest:
            self._pass_by()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="sharpscope-live-mode", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Read what is left in the buffer, then end."""
        self._stopping.set()
        if threading.current_thread() is not self._thread:
            self._thread.join()

    def _pass_by(self) -> None:
        """Take what is there for read."""
        for age in range(SKEW * self._cameras if self._cameras > 1 else 1):
            found = self._look(age)
            if found is not None:
                _, number, tags = found
                self._last_numbers.setdefault(_camera(tags), number)

    def _run(self) -> None:
        running = True
        while running and self._failures < MOST_FAILURES:
            try:
                # Asked before the buffer is read, so that the last frames are read after the end.
                running = not self._stopping.is_set() and self._core.isSequenceRunning()
                self._read_all(most=math.inf if running else self._core.getRemainingImageCount())
            except Exception as error:  # a core whose buffer cannot be read now may be read again
                self._failed(error)
            self._stopping.wait(POLL_S)
        self._ended(min(self._last_numbers.values(), default=-1) + 1)

    def _read_all(self, most: float) -> None:
        """Read what is there, at most so many: somebody's camera may go on, faster than it can be read."""
        stopping = self._stopping.is_set()
        while most > 0 and self._failures < MOST_FAILURES and self._stopping.is_set() is stopping:
            if (found := self._next()) is None:
                return
            self._read(*found)
            most -= 1

    def _read(self, image: Image, number: int, tags: Tags) -> None:
        camera = _camera(tags)
        # Of a camera that runs already the first number that is seen says nothing of those before.
        expected = self._last_numbers.get(camera, number - 1 if self._joins else -1) + 1
        if number > expected:
            self._missed(number - expected)
        self._last_numbers[camera] = number
        try:
            self._take(image, tags)
        except Exception as error:  # one frame must not cost those after it
            self._missed(1)
            self._failed(error)
        else:
            self._failures = 0

    def _failed(self, error: Exception) -> None:
        self._failures += 1
        reason = " ".join(str(error).split()) or type(error).__name__
        if self._failures == 1:
            logger.error("frames of live mode cannot be read: %s", reason)
        if self._failures == MOST_FAILURES:
            why = (
                f"live mode is not read any more: {MOST_FAILURES} failures in a row, the last with: {reason}"
            )
            logger.error("%s; start it anew", why)
            self._trouble(why)

    def _ahead(self, found: tuple[Image, int, Tags]) -> int:
        """Return how far a frame is from the last one of its camera that was read; 0 or less: it was read."""
        _, number, tags = found
        return number - self._last_numbers.get(_camera(tags), -1)

    def _next_popped(self) -> tuple[Image, int, Tags] | None:
        """Return the oldest frame that was not read, taken out unless it is the newest."""
        while True:
            while self._core.getRemainingImageCount() > 1:
                found = _tagged(*self._core.popNextImageAndMD())
                if self._ahead(found) > 0:
                    return found
            newest = self._look(0)
            if newest is None or self._ahead(newest) <= 0:
                return None
            if self._core.getRemainingImageCount() == 1:  # or others came between the two looks
                return newest

    def _next_seen(self) -> tuple[Image, int, Tags] | None:
        """Return the oldest frame that was not read."""
        if self._cameras > 1:
            return self._next_of_several()
        found = None
        for _ in range(RETRIES):
            newest = self._look(0)
            if newest is None or self._ahead(newest) <= 0:
                return None
            behind = self._ahead(newest) - 1
            if behind == 0:
                return newest
            oldest = max(0, self._core.getRemainingImageCount() - 1)
            found = self._look(min(behind, oldest))
            if found is not None and self._ahead(found) == 1:
                return found  # else the camera was faster than the two looks: look again
        return found if found is not None and self._ahead(found) > 0 else None

    def _next_of_several(self) -> tuple[Image, int, Tags] | None:
        """Return the frame behind which one stands that was read, or none."""
        newest = self._look(0)
        if newest is None:
            return None
        oldest = max(0, self._core.getRemainingImageCount() - 1)
        age = min(max(self._ahead(newest) - 1, 0) * self._cameras, oldest)
        found = None
        while age >= 0:
            # Frames only grow older between two looks: what stands behind an unread one is never skipped.
            looked = self._look(age)
            if looked is not None and self._ahead(looked) > 0:
                found = looked
                age += 1
            elif found is not None:
                return found
            else:
                age -= 1
        return None

    def _look(self, age: int) -> tuple[Image, int, Tags] | None:
        """Return the frame that `age` frames came after, or None where the buffer has none."""
        try:
            image, metadata = self._core.getNBeforeLastImageAndMD(age)
        except (RuntimeError, IndexError):  # the C++ core's and the Python core's words for an empty place
            return None
        return _tagged(image, metadata)


def _tagged(image: Image, metadata: "Metadata") -> tuple[Image, int, Tags]:
    tags = dict(metadata)
    return image, int(tags.get("ImageNumber", -1)), tags


def _camera(tags: Tags) -> str:
    return tags.get("Camera", "")
