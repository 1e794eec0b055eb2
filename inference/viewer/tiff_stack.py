"""Frames into an OME-TIFF of true counts, (T, Y, X), one frame in memory at a time.

Owns what the file says of itself: pixel size, times, the id of each source frame, and of enhanced images the
model and its hash. Frames without an enhanced image are NaN, and listed. Knows no source and no pictures.
"""

import errno
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import tifffile

from configs.document import WrongInputError
from inference.bulk_result import FORMAT, in_short
from inference.image_file import NAMESPACE
from inference.viewer.look import planes_of
from inference.viewer.shown_frame import Plane, ShownFrame
from inference.viewer.source import series_name

__all__ = ["RAW_NAMESPACE", "write_stack"]

RAW_NAMESPACE = "sharpscope/raw"
UM_PER_CM = 1e4
BIG_BYTES = 2**31

Image = np.ndarray[Any, np.dtype[Any]]
Fetch = Callable[[Sequence[ShownFrame]], Iterator[ShownFrame]]
Kind = Literal["raw", "enhanced"]


def write_stack(frames: Sequence[ShownFrame], path: Path, kind: Kind, fetch: Fetch = iter) -> None:
    """Write the raw or the enhanced images of frames.

    Parameters
    ----------
    fetch
        Goes through the frames for the writing.

    Raises
    ------
    WrongInputError
        When nothing of it is enhanced, or the images are not of one shape, type and pixel size.
    OSError
        When the disk refuses (full).
    """
    first = next((plane for frame in frames for plane in planes_of(frame, kind)), None)
    if first is None:
        raise WrongInputError("none of these frames has an enhanced image; export them raw")
    stack = _Stack(kind, first)
    shape = (len(frames), *first.pixels.shape)
    size_um = first.pixel_size_um
    resolution = {} if size_um is None else {"resolution": (UM_PER_CM / size_um,) * 2, "resolutionunit": 3}
    big = int(np.prod(shape)) * first.pixels.itemsize > BIG_BYTES
    try:
        with tifffile.TiffWriter(path, ome=False, bigtiff=big) as tiff:
            tiff.write(
                stack.planes(fetch(frames)),
                shape=shape,
                dtype=first.pixels.dtype,
                photometric="minisblack",
                metadata=None,
                description="OME",  # replaced below, when all is known
                **resolution,
            )
    except OSError as error:
        if "requested and" not in str(error):  # how numpy says that the disk took less, without a number
            raise
        raise OSError(errno.ENOSPC, f"no room ({error})", str(path)) from error
    tifffile.tiffcomment(path, stack.ome(shape).encode())


@dataclass(slots=True)
class _Stack:
    """What becomes known of a stack while its planes are written."""

    kind: Kind
    like: Plane
    seen: list[ShownFrame] = field(default_factory=list)
    """Without their pixels."""

    def planes(self, frames: Iterable[ShownFrame]) -> Iterator[Image]:
        """Return the plane of each frame, NaN where there is none."""
        for frame in frames:
            self.seen.append(_without_pixels(frame))
            plane = next(iter(planes_of(frame, self.kind)), None)
            if plane is None:
                yield np.full(self.like.pixels.shape, np.nan, self.like.pixels.dtype)
            else:
                self._check(frame, plane)
                yield plane.pixels

    def ome(self, shape: tuple[int, ...]) -> str:
        """Return the OME-XML."""
        facts = self._facts()
        channel = self.seen[0].channel or "channel"
        enhanced = self.kind == "enhanced"
        metadata: dict[str, Any] = {
            "Name": f"{series_name(channel, self.seen[0].position)} ({self.kind})",
            "Description": "; ".join(f"{key}: {value}" for key, value in facts.items()),
            "MapAnnotation": {"Namespace": NAMESPACE if enhanced else RAW_NAMESPACE, **facts},
            "Channel": {"Name": f"{channel} enhanced" if enhanced else channel},
        }
        times = [frame.elapsed_ms for frame in self.seen]
        if None not in times:
            metadata["Plane"] = {"DeltaT": times, "DeltaTUnit": ["ms"] * len(times)}
        if self.like.pixel_size_um is not None:
            for axis in "XY":
                metadata |= {f"PhysicalSize{axis}": self.like.pixel_size_um, f"PhysicalSize{axis}Unit": "µm"}
        xml = tifffile.OmeXml()
        stored = (shape[0], 1, 1, shape[1], shape[2], 1)
        xml.addimage(self.like.pixels.dtype, shape, stored, axes="TYX", **metadata)
        return str(xml.tostring())

    def _check(self, frame: ShownFrame, plane: Plane) -> None:
        ours, theirs = (
            (known.pixels.shape, known.pixels.dtype.name, known.pixel_size_um) for known in (self.like, plane)
        )
        if ours != theirs:
            msg = (
                f"frame {frame.index} is {_told(plane)} and those before it {_told(self.like)}: "
                "one TIFF cannot hold both; export the ranges apart"
            )
            raise WrongInputError(msg)

    def _facts(self) -> dict[str, str]:
        frames = self.seen
        facts = {
            "format": f"{FORMAT}-export" if self.kind == "enhanced" else "sharpscope-raw-export",
            "session": frames[0].session,
            "source_frames": _ranges([frame.number for frame in frames]),
            "units": "counts of the camera",
        }
        if self.kind == "raw":
            return facts
        missing = {frame.number: frame.reason or "no reason" for frame in frames if frame.enhanced is None}
        flags = sorted({flag for frame in frames for flag in frame.out_of_domain})
        remarks = [f"frame {frame.number}: {text}" for frame in frames for text in frame.warnings]
        return facts | {
            "enhanced": "by a neural network; finer structure than the input resolves is its guess",
            "model": _by_model(frames, lambda frame: frame.model_name),
            "model_sha256": _by_model(frames, lambda frame: frame.model_hash),
            "out_of_domain": "; ".join(flags) or "no",
            "warnings": in_short(tuple(remarks)),
            "not_enhanced": _ranges(list(missing)) or "none",
            "not_enhanced_because": "; ".join(sorted(set(missing.values()))) or "-",
            "raw_shown_instead": _ranges([frame.number for frame in frames if frame.shows_raw]) or "none",
        }


def _without_pixels(frame: ShownFrame) -> ShownFrame:
    nothing = Plane(np.empty((0, 0), np.float32))
    return replace(frame, raw=nothing, enhanced=None if frame.enhanced is None else nothing)


def _told(plane: Plane) -> str:
    height, width = plane.pixels.shape
    size = "unknown pixel size" if plane.pixel_size_um is None else f"{plane.pixel_size_um:g} um per pixel"
    return f"{height} x {width} {plane.pixels.dtype.name} at {size}"


def _by_model(frames: Sequence[ShownFrame], said: Callable[[ShownFrame], str | None]) -> str:
    """Return the one word for all enhanced frames, or each word with its frames."""
    numbers: dict[str, list[int]] = {}
    for frame in frames:
        word = said(frame)
        if frame.enhanced is not None and word is not None:
            numbers.setdefault(word, []).append(frame.number)
    if len(numbers) == 1:
        return next(iter(numbers))
    return "; ".join(f"{word} (frames {_ranges(of)})" for word, of in numbers.items())


def _ranges(numbers: Sequence[int]) -> str:
    """Return rising numbers in short: 0-3, 7, 9-10."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return ", ".join(f"{first}-{last}" if last > first else f"{first}" for first, last in runs)
