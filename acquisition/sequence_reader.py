"""Reads every frame of a running live mode or burst out of the core's image buffer, and leaves them there.

Other programs on the same core show live mode by `getLastImage`, which fails once somebody pops frames, and
pop the frames of a burst that they have started. So frames are looked at by their age and told apart by the
`ImageNumber` that the core gives them. Numbers that were gone before they were read are counted as missed,
but for those after the last one that was seen. Only from a burst of our own, which may be longer than the
buffer, frames are popped, and the newest is left for others to look at. Knows nothing of what becomes of a
frame.
"""

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

POLL_S = 0.003
RETRIES = 5


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
    ) -> None:
        self._core = core
        self._take = take
        self._missed = missed
        self._ended = ended
        self._next = self._next_popped if pops else self._next_seen
        newest = self._look(0) if from_newest else None
        self._last_number = -1 if newest is None else newest[1]
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="sharpscope-live-mode", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Read what is left in the buffer, then end."""
        self._stopping.set()
        if threading.current_thread() is not self._thread:
            self._thread.join()

    def _run(self) -> None:
        running = True
        while running:
            # Asked before the buffer is read, so that the last frames are read after the end.
            running = not self._stopping.is_set() and self._core.isSequenceRunning()
            while (found := self._next()) is not None:
                image, number, tags = found
                if number > self._last_number + 1:
                    self._missed(number - self._last_number - 1)
                self._last_number = number
                self._take(image, tags)
            self._stopping.wait(POLL_S)
        self._ended(self._last_number + 1)

    def _next_popped(self) -> tuple[Image, int, Tags] | None:
        """Return the oldest frame that was not read, taken out unless it is the newest."""
        while True:
            while self._core.getRemainingImageCount() > 1:
                image, metadata = self._core.popNextImageAndMD()
                found = _tagged(image, metadata)
                if found[1] > self._last_number:
                    return found
            newest = self._look(0)
            if newest is None or newest[1] <= self._last_number:
                return None
            if newest[1] == self._last_number + 1 or self._core.getRemainingImageCount() == 1:
                return newest

    def _next_seen(self) -> tuple[Image, int, Tags] | None:
        """Return the oldest frame that is newer than the last one read."""
        found = None
        for _ in range(RETRIES):
            newest = self._look(0)
            if newest is None or newest[1] <= self._last_number:
                return None
            behind = newest[1] - self._last_number - 1
            if behind == 0:
                return newest
            oldest = max(0, self._core.getRemainingImageCount() - 1)
            found = self._look(min(behind, oldest))
            if found is not None and found[1] == self._last_number + 1:
                return found  # else the camera was faster than the two looks: look again
        return found if found is not None and found[1] > self._last_number else None

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
