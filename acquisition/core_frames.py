"""Listens to a core and hands on every frame that its camera takes, whoever had it taken.

Owns which of the core's signals mean a frame: a snap, an MDA's `frameReady`, live mode and bursts, whose
frames are read out of the core's buffer. Other programs on the same core go on as they like; nothing here
moves or starts anything but `burst`. Imports no microscope library: the core is handed in. Knows no disk.
"""

import logging
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from acquisition.frame_facts import camera_frame, core_facts, mda_facts, stage_position
from acquisition.sequence_reader import SequenceReader
from inference.recording import FrameFacts

if TYPE_CHECKING:
    from pymmcore_plus import CMMCorePlus
    from useq import MDAEvent

__all__ = ["CoreFrames"]

Image = np.ndarray[Any, np.dtype[Any]]

logger = logging.getLogger(__name__)


class CoreFrames:
    """The frames of a core's camera, between `start` and `stop`.

    Parameters
    ----------
    core
        Any core; others may go on using it.
    take
        Called with each frame, in the order of taking; it copies the pixels before it returns.
    missed
        Called with how many frames the camera took that cannot be read any more.
    numerical_aperture
        Of the objective: what the core does not know.
    trouble
        Called with why frames of live mode are not read any more, and with "" when they are again.
    """

    def __init__(
        self,
        core: "CMMCorePlus",
        take: Callable[[Image, FrameFacts], None],
        missed: Callable[[int], None],
        numerical_aperture: float | None = None,
        trouble: Callable[[str], None] = lambda _reason: None,
    ) -> None:
        self._core = core
        self._hand_on = take
        self._numerical_aperture = numerical_aperture
        self._missed = missed
        self._trouble = trouble
        self._reader: SequenceReader | None = None
        self._connections: list[tuple[Any, Callable[..., None]]] = []
        self._own_burst: int | None = None
        self._last_numbers: dict[str | None, int] = {}

    def start(self) -> None:
        """Listen from now on; a live mode that runs already is joined."""
        if self._connections:
            return
        events, mda_events = self._core.events, self._core.mda.events
        self._connections = [
            (mda_events.frameReady, self._on_mda_frame),
            (events.imageSnapped, self._on_snap),
            (events.continuousSequenceAcquisitionStarted, self._on_sequence),
            (events.sequenceAcquisitionStarted, self._on_sequence),
            (events.sequenceAcquisitionStopped, self._stop_reader),
        ]
        for signal, slot in self._connections:
            signal.connect(slot)
        if self._core.isSequenceRunning() and not self._core.mda.is_running():
            self._read(from_newest=True)

    def stop(self) -> None:
        """Listen no more; what is in the camera's buffer is still read."""
        for signal, slot in self._connections:
            with suppress(ValueError):  # disconnected already
                signal.disconnect(slot)
        self._connections = []
        self._stop_reader()

    def burst(self, frames: int) -> None:
        """Have the camera take so many frames at its own pace; returns when it has begun.

        The burst may be longer than the core's buffer: what was read makes room for what comes.
        """
        self._own_burst = frames
        try:
            self._core.startSequenceAcquisition(frames, 0, True)
        finally:
            self._own_burst = None

    def _take(self, image: Image, facts: FrameFacts) -> None:
        self._hand_on(image, replace(facts, numerical_aperture=self._numerical_aperture))

    # ---- what the core tells -----------------------------------------------------------------------

    def _on_mda_frame(self, image: Image, event: "MDAEvent", meta: dict[str, Any]) -> None:
        facts = mda_facts(event, meta, self._core)
        if facts.camera_frame is not None:
            self._count_missed(facts.camera, facts.camera_frame)
        self._take(image, facts)

    def _count_missed(self, camera: str | None, number: int) -> None:
        """Note a number in a hardware sequence; a smaller one than the last begins another sequence."""
        last = self._last_numbers.get(camera, -1)
        self._last_numbers[camera] = number
        expected = last + 1 if number > last else 0
        if number > expected:
            self._missed(number - expected)

    def _on_snap(self, _camera: str = "") -> None:
        if self._core.mda.is_running():
            return  # comes again as frameReady, or is a look of the autofocus
        for number in range(self._core.getNumberOfCameraChannels()):
            camera = self._core.getPhysicalCameraDevice(number)
            facts = replace(core_facts(self._core), camera=camera, **stage_position(self._core))
            self._take(self._core.getImage(number), facts)

    def _on_sequence(self, *_how: object) -> None:
        if not self._core.mda.is_running():  # an MDA's frames come as frameReady
            self._read(burst=self._own_burst)

    def _read(self, *, from_newest: bool = False, burst: int | None = None) -> None:
        self._stop_reader()
        self._trouble("")
        self._reader = SequenceReader(
            self._core,
            self._on_sequence_frame,
            self._missed,
            from_newest=from_newest,
            pops=burst is not None,
            ended=lambda frames: self._burst_ended(frames, burst),
            trouble=self._trouble,
        )

    def _burst_ended(self, frames: int, asked: int | None) -> None:
        if asked is not None and frames < asked and self._core.isBufferOverflowed():
            logger.error(
                "the burst ended after %d of %d frames: the disk is slower than the camera, and the core's "
                "buffer was full; expose longer, or enlarge it (setCircularBufferMemoryFootprint)",
                frames,
                asked,
            )

    def _on_sequence_frame(self, image: Image, tags: dict[str, str]) -> None:
        elapsed = tags.get("ElapsedTime-ms")
        facts = replace(
            core_facts(self._core),
            camera=tags.get("Camera"),
            elapsed_ms=None if elapsed is None else float(elapsed),
            camera_frame=camera_frame(tags),
        )
        self._take(image, facts)

    def _stop_reader(self, _camera: str = "") -> None:
        reader, self._reader = self._reader, None
        if reader is not None:
            reader.stop()
