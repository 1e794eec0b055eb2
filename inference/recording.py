"""The recorder: raw and enhanced frames to disk so that a kill at any moment costs none that was counted.

A recording is a folder::

    RECORDING/recording.json                 session, creation time, software (RecordingHeader)
    RECORDING/journal.jsonl                  one fsynced line per stream, frame, enhanced frame, loss, end
    RECORDING/raw/CHANNEL.ome.zarr           OME-Zarr 0.5, axes t, y, x, one chunk per frame
    RECORDING/enhanced/CHANNEL.ome.zarr      the same, float32, with its own pixel size and the model

There is one image for each channel, camera, pixel size, shape and dtype, and of the enhanced ones for each
model. An enhanced image stands at its raw frame's index, so that frames enhanced later fall into place;
what is not yet enhanced reads as NaN. A frame counts as stored only when its journal line is on the disk,
which is written after its chunk; what the journal does not name does not exist.

Owns the order of writes, the bound of what waits in memory, and its own copy of every frame. Knows no
microscope, no network and no model. `inference.recovery` reads recordings back.
"""

import json
import re
import threading
import uuid
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from filelock import FileLock
from pydantic import BaseModel

from configs.document import WrongInputError
from inference.image_stream import ImageStream
from inference.journal import Journal, read_journal, write_atomic
from inference.outcomes import EnhancedFrame
from inference.recording_lines import (
    EndLine,
    EnhancedLine,
    FrameFacts,
    FrameLine,
    LostLine,
    RecordingHeader,
    StreamLine,
    UnenhancedLine,
)
from inference.recording_lock import lock_recording
from inference.recovery import HEADER, JOURNAL, Recording, recover, trim
from inference.writing_lane import Done, WritingLane, ignore

__all__ = ["Done", "FrameFacts", "Recorder", "Recording", "UnenhancedLine", "recover"]

Image = np.ndarray[Any, np.dtype[Any]]

LINES_AT_ONCE = 16
"""At most, that were appended while one of them was brought to the disk: two lanes, with a stream each."""


@dataclass(slots=True)
class _OpenStream:
    line: StreamLine
    image: ImageStream
    frames: int
    """Length that counts; the array may run ahead."""


class Recorder:
    """A recording that is being written; use `create` or `resume`. Thread-safe.

    Parameters
    ----------
    path
        The recording's folder.
    held
        The lock of the folder; let go of when the recording is closed.
    depth
        Frames of each kind, raw and enhanced, that may wait in memory; then `put` waits.
    """

    def __init__(self, path: Path, held: FileLock, depth: int = 16) -> None:
        self._held = held
        recording = Recording.open(path)
        self.path = path
        self.session = recording.header.session
        self._lock = threading.RLock()  # the journal, the streams and the places
        self._door = threading.Lock()  # numbers are given in the order of the queue; never held by a writer
        self._journal = Journal(path / JOURNAL)
        self._reopen = False
        """Whether the journal was closed after an error and could not be opened again yet."""
        self._next_frame = recording.next_frame
        self._places = {line.frame: (line.stream, line.index) for line in recording.frames.values()}
        self._streams = {
            name: _OpenStream(line, ImageStream.open(path / name), recording.length(name))
            for name, line in recording.streams.items()
        }
        self._raw_lane = WritingLane("sharpscope-raw-writer", depth)
        self._enhanced_lane = WritingLane("sharpscope-enhanced-writer", depth)
        self._closed = False

    @classmethod
    def create(cls, path: Path, *, session: str | None = None, depth: int = 16) -> Self:
        """Start a recording; raises WrongInputError when one is already there."""
        if (path / HEADER).exists():
            msg = f"{path} already holds a recording; give another folder"
            raise WrongInputError(msg)
        path.mkdir(parents=True, exist_ok=True)
        held = lock_recording(path)
        try:
            header = RecordingHeader(
                session=session or uuid.uuid4().hex, software={"sharpscope": version("sharpscope")}
            )
            write_atomic(path / HEADER, header.model_dump_json(indent=2))
            return cls(path, held, depth)
        except BaseException:
            held.release()
            raise

    @classmethod
    def resume(cls, path: Path, *, depth: int = 16) -> Self:
        """Go on with a recording, also after a kill; raises WrongInputError while another one writes it."""
        Recording.header_of(path)  # or no lock is left in a folder that is no recording
        held = lock_recording(path)
        try:
            trim(path)
            return cls(path, held, depth)
        except BaseException:
            held.release()
            raise

    # ---- for any thread ----------------------------------------------------------------------------

    def put(self, image: Image, facts: FrameFacts, done: Done = ignore, *, owned: bool = False) -> int:
        """Hand in a raw frame; waits while the disk is behind.

        Parameters
        ----------
        image
            (Y, X); copied before this returns, so the buffer may be used again.
        done
            Called in the writer's thread, in the order of the frames.
        owned
            The caller gives the image away and never changes it: it is not copied again.

        Returns
        -------
        int
            The frame's number in the recording.
        """
        own = np.ascontiguousarray(image) if owned else np.array(image, order="C", copy=True)
        with self._door:
            if self._closed:
                msg = f"the recording {self.path} is closed; start another one"
                raise WrongInputError(msg)
            frame = self._next_frame
            self._next_frame += 1
            self._raw_lane.put(frame, partial(self._store, frame, own, facts), done)
        return frame

    def put_enhanced(self, enhanced: EnhancedFrame, done: Done = ignore) -> None:
        """Hand in the enhanced image of a stored frame; waits while the disk is behind."""
        frame = enhanced.source.sequence
        self._enhanced_lane.put(frame, partial(self._store_enhanced, enhanced), done)

    def put_unenhanced(self, line: UnenhancedLine, done: Done = ignore) -> None:
        """Enter why a frame was not enhanced."""
        self._enhanced_lane.put(line.frame, partial(self._enter, line), done)

    def read(self, frame: int) -> Image:
        """Return a stored raw frame, (Y, X); raises KeyError when it is not stored."""
        with self._lock:
            stream, index = self._places[frame]
            image = self._streams[stream].image
        return image.read(index)

    def flush(self) -> None:
        """Wait until every raw frame handed in so far is on the disk, or was told not to be."""
        if not self._closed:
            self._raw_lane.flush()

    def close(self) -> None:
        """Write what waits, cut the time axes to what counts, and seal the recording."""
        with self._door:
            if self._closed:
                return
            self._closed = True
        try:
            self._seal()
        finally:
            self._held.release()

    def _seal(self) -> None:
        self._raw_lane.finish()
        self._enhanced_lane.finish()
        for stream in self._streams.values():
            with suppress(ValueError):  # a full disk; recovery trims as well
                stream.image.trim(stream.frames)
        with suppress(OSError):  # a full disk; then the recording reads as interrupted, and is whole
            self._enter(EndLine())
        self._journal.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # ---- in the writers' threads -------------------------------------------------------------------

    def _store(self, frame: int, image: Image, facts: FrameFacts) -> None:
        try:
            stream = self._raw_stream(image, facts)
            stream.image.write(stream.frames, image)
            self._enter(FrameLine(frame=frame, stream=stream.line.stream, index=stream.frames, facts=facts))
        except Exception as error:
            with suppress(OSError):  # the disk that refused the frame may refuse the line; `done` tells it
                self._enter(LostLine(frame=frame, reason=str(error)))
            raise
        with self._lock:
            self._places[frame] = (stream.line.stream, stream.frames)
            stream.frames += 1

    def _store_enhanced(self, enhanced: EnhancedFrame) -> None:
        frame = enhanced.source.sequence
        with self._lock:
            if frame not in self._places:
                msg = f"frame {frame} is not stored, so its enhanced image has no place; store it raw first"
                raise WrongInputError(msg)
            source, index = self._places[frame]
            raw = self._streams[source].line
        stream = self._enhanced_stream(enhanced, raw)
        stream.image.write(index, enhanced.image)
        self._enter(
            EnhancedLine(
                session=enhanced.source.session,
                frame=frame,
                stream=stream.line.stream,
                index=index,
                model_name=enhanced.model_name,
                model_hash=enhanced.model_hash,
                out_of_domain=enhanced.out_of_domain,
                warnings=enhanced.warnings,
                shows_raw=enhanced.shows_raw,
                photometry=enhanced.photometry,
            )
        )
        with self._lock:
            stream.frames = max(stream.frames, index + 1)

    def _raw_stream(self, image: Image, facts: FrameFacts) -> _OpenStream:
        if image.ndim != 2:
            msg = f"a frame of shape {image.shape} cannot be recorded; set the camera to a grey pixel type"
            raise WrongInputError(msg)
        line = StreamLine(
            stream="",
            role="raw",
            channel=facts.channel,
            camera=facts.camera,
            pixel_size_um=facts.pixel_size_um,
            shape_yx=(image.shape[0], image.shape[1]),
            dtype=image.dtype.name,
        )
        return self._stream(line)

    def _enhanced_stream(self, enhanced: EnhancedFrame, raw: StreamLine) -> _OpenStream:
        line = StreamLine(
            stream="",
            role="enhanced",
            channel=raw.channel,
            camera=raw.camera,
            pixel_size_um=enhanced.pixel_size_um,
            shape_yx=(enhanced.image.shape[0], enhanced.image.shape[1]),
            dtype=enhanced.image.dtype.name,
            source=raw.stream,
            model_name=enhanced.model_name,
            model_hash=enhanced.model_hash,
        )
        return self._stream(line)

    def _stream(self, wanted: StreamLine) -> _OpenStream:
        """Return the stream that fits, or begin one."""
        with self._lock:
            for stream in self._streams.values():
                if stream.line.model_copy(update={"stream": ""}) == wanted:
                    return stream
            line = wanted.model_copy(update={"stream": self._free_name(wanted)})
            image = ImageStream.create(self.path / line.stream, line)
            self._enter(line)
            self._streams[line.stream] = _OpenStream(line, image, 0)
            return self._streams[line.stream]

    def _free_name(self, line: StreamLine) -> str:
        stem = re.sub(r"[^0-9A-Za-z]+", "_", line.channel or "").strip("_") or "image"
        taken = {name.lower() for name in self._streams}  # some file systems ignore case
        name, number = f"{line.role}/{stem}.ome.zarr", 1
        while name.lower() in taken:
            number += 1
            name = f"{line.role}/{stem}_{number}.ome.zarr"
        return name

    def _enter(self, line: BaseModel) -> None:
        """Append to the journal. After an error the file is opened anew, which cuts off a torn line.

        A line that got onto the disk all the same counts: else its place would be given away twice. Where the
        disk refuses that as well, the next line opens the file. Raises OSError.
        """
        content = json.loads(line.model_dump_json(exclude_none=True))
        try:
            with self._lock:
                if self._reopen:
                    self._open_anew()
                journal = self._journal
                journal.append(content, sync=False)
            journal.sync()  # no raw frame's line waits for the disk's answer to an enhanced one's
        except (OSError, ValueError) as error:  # the latter where another thread has just opened it anew
            with self._lock:
                self._open_anew()
                if content not in read_journal(self.path / JOURNAL)[-LINES_AT_ONCE:]:
                    raise OSError(f"the journal cannot be written ({error})") from error

    def _open_anew(self) -> None:
        self._reopen = True
        with suppress(OSError):
            self._journal.close()
        self._journal = Journal(self.path / JOURNAL)
        self._reopen = False
