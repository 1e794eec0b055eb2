"""Reads recordings back, whole or torn, finished or running, and trims what a kill left behind.

Owns the reader's view: which frames are stored, which are enhanced and which are not. What the journal
does not name does not exist, whatever lies in the images. Knows no writer: `inference.recording` tells the
layout.
"""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np
from pydantic import ValidationError

from configs.document import WrongInputError
from inference.image_stream import ImageStream
from inference.journal import read_journal
from inference.recording_lines import (
    EnhancedLine,
    FrameLine,
    JournalLine,
    LostLine,
    RecordingHeader,
    StreamLine,
    UnenhancedLine,
    parse_line,
)
from inference.recording_lock import lock_recording

__all__ = ["HEADER", "JOURNAL", "Recording", "recover", "trim"]

HEADER = "recording.json"
JOURNAL = "journal.jsonl"
Image = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True)
class Recording:
    """A recording as its journal stood when it was opened; use `open`."""

    path: Path
    header: RecordingHeader
    lines: tuple[JournalLine, ...]

    @classmethod
    def open(cls, path: Path) -> Self:
        """Read a recording; raises WrongInputError when the folder is not one."""
        header = cls.header_of(path)
        try:
            lines = tuple(parse_line(line) for line in read_journal(path / JOURNAL))
        except ValidationError as error:
            msg = f"{path} is not a recording of version 1 or 2: {error.errors()[0]['msg']}"
            raise WrongInputError(msg) from error
        return cls(path, header, lines)

    @staticmethod
    def header_of(path: Path) -> RecordingHeader:
        """Read what was known before the first frame; raises WrongInputError when there is no recording."""
        try:
            return RecordingHeader.model_validate_json((path / HEADER).read_text(encoding="utf-8"))
        except OSError as error:
            msg = f"{path} is not a recording (no {HEADER}); give the folder that 'sharpscope live' wrote"
            raise WrongInputError(msg) from error
        except ValidationError as error:
            msg = f"{path} is not a recording of version 1 or 2: {error.errors()[0]['msg']}"
            raise WrongInputError(msg) from error

    @cached_property
    def streams(self) -> dict[str, StreamLine]:
        """Every stream by its name, in the order of beginning."""
        return {line.stream: line for line in self.lines if isinstance(line, StreamLine)}

    @cached_property
    def frames(self) -> dict[int, FrameLine]:
        """Every stored raw frame by its number, in rising order."""
        return {line.frame: line for line in self.lines if isinstance(line, FrameLine)}

    @cached_property
    def enhanced(self) -> dict[int, EnhancedLine]:
        """The last enhanced image of each frame that has one."""
        return {line.frame: line for line in self.lines if isinstance(line, EnhancedLine)}

    @cached_property
    def lost(self) -> dict[int, str]:
        """Why frames could not be stored, by their number."""
        return {line.frame: line.reason for line in self.lines if isinstance(line, LostLine)}

    @cached_property
    def unenhanced(self) -> dict[int, str]:
        """Every stored frame without an enhanced image, with the reason where one is known."""
        reasons = {line.frame: line.reason for line in self.lines if isinstance(line, UnenhancedLine)}
        return {frame: reasons.get(frame, "no answer") for frame in self.frames if frame not in self.enhanced}

    @property
    def next_frame(self) -> int:
        """The number of the next frame, should the recording go on."""
        return max([*self.frames, *self.lost], default=-1) + 1

    def length(self, stream: str) -> int:
        """Return how far a stream reaches along time."""
        ends = (
            line.index + 1
            for line in self.lines
            if isinstance(line, FrameLine | EnhancedLine) and line.stream == stream
        )
        return max(ends, default=0)

    def read(self, frame: int) -> Image:
        """Return a stored raw frame, (Y, X); raises KeyError when there is none of that number."""
        line = self.frames[frame]
        return ImageStream.open(self.path / line.stream).read(line.index)

    def read_enhanced(self, frame: int) -> Image:
        """Return a frame's enhanced image, (factor Y, factor X) float32; raises KeyError without one."""
        line = self.enhanced[frame]
        return ImageStream.open(self.path / line.stream).read(line.index)


def recover(path: Path) -> Recording:
    """Trim the images of a recording to its journal, after a kill.

    Raises
    ------
    WrongInputError
        When the folder is not a recording, or somebody writes it.
    """
    Recording.header_of(path)
    held = lock_recording(path)
    try:
        return trim(path)
    finally:
        held.release()


def trim(path: Path) -> Recording:
    """Trim the images to the journal; for the one who holds the recording's lock."""
    recording = Recording.open(path)
    for name in recording.streams:
        ImageStream.open(path / name).trim(recording.length(name))
    return recording
