"""The memory that a client shares with its worker: slots for raw frames and slots for enhanced ones.

Owns the slots, who has which, and what is offered to the worker. A slot is free again when the last array
that shows it is gone, wherever that is: with whoever looks at an enhanced image, or in a socket's queue. The
memory belongs to one worker: a worker that was given up may still write into it, so that the next one is
offered another piece. Where there is none to share with, the slots are private and frames travel over the
socket; memory that was in use before costs a fifth of fresh memory. Thread-safe. Knows no sockets.
"""

import logging
import math
import mmap
import threading
import weakref
from collections import deque
from dataclasses import dataclass
from typing import Any

import numpy as np

from inference.messages import Share, Shared, SharedPlace
from inference.shared_file import ALIGNMENT, SharedFile, SharedFileError

__all__ = ["FrameMemory", "Held"]

Image = np.ndarray[Any, np.dtype[Any]]
FloatImage = np.ndarray[Any, np.dtype[np.float32]]

MOST_BYTES = 256 * 1024**2
"""Of one piece of memory; larger frames have fewer slots."""
LEAST_SLOTS = 3
"""One with the camera, one on its way, one with the reader: else memory does not pay."""

logger = logging.getLogger(__name__)


class Slots:
    """Equal parts of one piece of memory, some for frames and, where it is shared, as many for answers."""

    def __init__(self, frame_bytes: int, answer_bytes: int, frames: int, *, shared: bool) -> None:
        self.frame_bytes, self.answer_bytes = (
            ALIGNMENT * math.ceil(size / ALIGNMENT) for size in (frame_bytes, answer_bytes)
        )
        count = min(frames, MOST_BYTES // (self.frame_bytes + self.answer_bytes))
        if count < LEAST_SLOTS:
            msg = f"frames of {frame_bytes} bytes, {answer_bytes} enhanced, are too large for memory of slots"
            raise SharedFileError(msg)
        end_of_frames = count * self.frame_bytes
        size = end_of_frames + count * self.answer_bytes
        self.file = SharedFile.create(size) if shared else None
        self.accepted = False
        """Whether the worker sees them, and is still the same."""
        self._memory = memoryview(mmap.mmap(-1, size)) if self.file is None else self.file.view
        self._frames = deque(range(0, end_of_frames, self.frame_bytes))
        self._answers = deque(range(end_of_frames, size, self.answer_bytes)) if shared else deque[int]()

    def take_frame(self, size: int) -> tuple[Image, int] | None:
        """Return memory (N,) uint8 for a frame with its offset, or None where none is free."""
        return self._take(self._frames, size)

    def take_answer(self, size: int) -> tuple[Image, int] | None:
        """Return memory (N,) uint8 for an answer with its offset, or None where none is free."""
        return self._take(self._answers, size) if size <= self.answer_bytes else None

    def _take(self, free: "deque[int]", size: int) -> tuple[Image, int] | None:
        try:
            offset = free.pop()  # the last one that was used: it is in the processor's cache still
        except IndexError:
            return None
        array = np.frombuffer(self._memory[offset : offset + size], np.uint8)
        # All views keep this array, as their base or their base's base.
        weakref.finalize(array, free.append, offset).atexit = False
        return array, offset


@dataclass(slots=True)
class Held:
    """A frame's own pixels."""

    image: Image
    """(Y, X)"""
    slots: Slots | None = None
    """Where it stands in shared memory; None where it does not."""
    offset: int = 0
    answer: Image | None = None
    """(N,) uint8: where the worker was told to put the answer."""

    def answered(self, shape_yx: tuple[int, int]) -> FloatImage | None:
        """Return what the worker put there, read-only; None where it is not of that shape."""
        if self.answer is None or self.answer.nbytes != 4 * math.prod(shape_yx):
            return None
        image: FloatImage = self.answer.view("<f4").reshape(shape_yx)
        image.flags.writeable = False
        return image


class FrameMemory:
    """What one client shares, with one worker after another.

    Parameters
    ----------
    frames
        How many slots it wants.
    enabled
        Whether the worker can be on the same machine.
    """

    def __init__(self, frames: int, *, enabled: bool) -> None:
        self._frames = frames
        self._enabled = enabled
        self._lock = threading.Lock()
        self._factor: int | None = None
        self._slots: Slots | None = None
        self._retired: weakref.WeakSet[Slots] = weakref.WeakSet()
        self._offer: Share | None = None

    def hold(self, image: Image) -> Held:
        """Copy a (Y, X) frame, into shared memory where that is possible."""
        slots = self._fitting(image)
        taken = None if slots is None else slots.take_frame(image.nbytes)
        if taken is None:
            return Held(np.array(image, order="C", copy=True))
        memory, offset = taken
        own = memory.view(image.dtype.newbyteorder("<")).reshape(image.shape)
        own[...] = image
        return Held(own, slots, offset)

    def adopt(self, held: Held) -> Held:
        """Return a frame that somebody else keeps, in memory that the worker sees where that is possible."""
        return held if held.slots is not None or self._factor is None else self.hold(held.image)

    def _fitting(self, image: Image) -> Slots | None:
        """Return slots that an image fits in, made now if there are none; None where it is too large."""
        with self._lock:
            answer_bytes = 0 if self._factor is None else 4 * image.size * self._factor**2
            slots = self._slots
            if image.nbytes == 0 or image.nbytes + answer_bytes > MOST_BYTES // LEAST_SLOTS:
                return None
            if slots is None or image.nbytes > slots.frame_bytes or answer_bytes > slots.answer_bytes:
                self._slots = slots = self._larger(slots, image.nbytes, answer_bytes)
            return slots

    def _larger(self, before: Slots | None, frame_bytes: int, answer_bytes: int) -> Slots | None:
        """Return slots for what there was and what comes, so that frames of two shapes do not take turns."""
        if before is not None:
            self._retire(before)
            both = max(frame_bytes, before.frame_bytes), max(answer_bytes, before.answer_bytes)
            if sum(both) <= MOST_BYTES // LEAST_SLOTS:
                frame_bytes, answer_bytes = both
        for shared in (True, False) if self._factor is not None else (False,):
            try:
                slots = Slots(frame_bytes, answer_bytes if shared else 0, self._frames, shared=shared)
            except SharedFileError as error:
                logger.info("memory is not shared: %s", error)
                self._factor = None
                continue
            if slots.file is not None:
                self._offer = Share(file=slots.file.name, bytes=slots.file.size)
            return slots
        return None

    def _retire(self, slots: Slots) -> None:
        """Let slots be used no more but by the frames that are in them."""
        self._offer = None
        if slots.file is not None:
            self._retired.add(slots)
            slots.file.remove()

    def offer(self) -> Share | None:
        """Return what the worker is to be offered, once."""
        with self._lock:
            offer, self._offer = self._offer, None
            return offer

    def hear(self, answer: Shared) -> None:
        """Take the worker's answer to an offer."""
        with self._lock:
            file = None if self._slots is None else self._slots.file
            if self._slots is None or file is None or answer.file != file.name:
                return
            file.remove()  # it has been opened, or never will be
            self._slots.accepted = answer.accepted
            if not answer.accepted:
                logger.info("memory is not shared: %s", answer.reason)
                self._slots, self._factor = None, None

    def place(self, held: Held) -> SharedPlace | None:
        """Return where the worker finds a frame and may put the answer; None where the socket is the way."""
        factor = self._factor
        if factor is None or held.slots is None or held.slots.file is None or not held.slots.accepted:
            held.answer = None
            return None
        taken = held.slots.take_answer(4 * held.image.size * factor**2)
        held.answer, offset = taken or (None, 0)
        size = 0 if held.answer is None else held.answer.nbytes
        return SharedPlace(
            file=held.slots.file.name, offset=held.offset, answer_offset=offset, answer_bytes=size
        )

    def meet(self, largest_factor: int) -> None:
        """Prepare for a worker that answers."""
        with self._lock:
            self._factor = largest_factor if self._enabled else None

    def forget(self) -> None:
        """Share nothing more with the worker of now, who may still write to what it has."""
        with self._lock:
            if self._slots is not None:
                self._retire(self._slots)
            for slots in self._retired:
                slots.accepted = False
            self._slots, self._factor, self._offer = None, None, None
