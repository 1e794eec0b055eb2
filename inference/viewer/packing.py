"""Frames to one binary message for the page; pure.

    uint32 N, little-endian | N bytes of UTF-8 JSON | zeros to a multiple of 8 | planes at their byte_offset

Every plane is uint16, little-endian, (Y, X): counts = zero_counts + counts_per_step * value. Camera frames of
8 and 16 bits go as they are. Numbers are rounded to whole counts where they lie in 0 to 65535 and cover
enough of it; else their range is spread over the 65,536 steps. Knows no network.
"""

import json
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from inference.viewer.shown_frame import Plane, ShownFrame

__all__ = ["pack"]

ALIGNMENT = 8
MOST_STEPS = 65_535
LEAST_RANGE_COUNTS = 256
"""A plane of numbers that covers less is spread, for whole counts would show as steps in it."""

STRIP_PIXELS = 65_536
"""Of numbers that become values at a time: what is needed meanwhile stays in the processor's cache. For a
whole plane the system would have to find fresh memory each time, which takes longer than the arithmetic."""

Image = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True, slots=True)
class _Scale:
    """The way from the values that travel to counts."""

    zero_counts: float
    counts_per_step: float
    has_nan: bool


AS_IT_IS = _Scale(0.0, 1.0, has_nan=False)


class _Layout:
    """Where the planes of a message stand, relative to the end of the padding."""

    def __init__(self) -> None:
        self.length = 0
        self.planes: list[tuple[int, Image, _Scale]] = []

    def add(self, plane: Plane) -> dict[str, Any]:
        """Find a plane its place; returns what is said of it."""
        pixels = plane.pixels
        scale = AS_IT_IS if pixels.dtype in (np.uint8, np.uint16) else _scale(pixels)
        offset = self.length
        self.planes.append((offset, pixels, scale))
        self.length = _aligned(offset + 2 * pixels.size)
        said: dict[str, Any] = {
            "shape_yx": list(pixels.shape),
            "byte_offset": offset,
            "zero_counts": scale.zero_counts,
            "counts_per_step": scale.counts_per_step,
            "pixel_size_um": plane.pixel_size_um,
        }
        return {**said, "has_nan": True} if scale.has_nan else said


def pack(view: Sequence[tuple[str, ShownFrame]], view_id: int, now_ns: int) -> bytearray:
    """Return the message of a view.

    Parameters
    ----------
    view
        The name of each series with its frame.
    view_id
        By which the page says that it was drawn.
    now_ns
        `time.monotonic_ns`, for the age of the frames.
    """
    layout = _Layout()
    images = [_image(series, frame, layout, now_ns) for series, frame in view]
    head = json.dumps({"id": view_id, "images": images}, allow_nan=False).encode()
    start = _aligned(4 + len(head))
    message = bytearray(start + layout.length)
    struct.pack_into("<I", message, 0, len(head))
    message[4 : 4 + len(head)] = head
    for offset, pixels, scale in layout.planes:
        values: Image = np.frombuffer(message, "<u2", pixels.size, start + offset).reshape(pixels.shape)
        _fill(values, pixels, scale)
    return message


def _image(series: str, frame: ShownFrame, layout: _Layout, now_ns: int) -> dict[str, Any]:
    age_ms = None if frame.captured_ns is None else (now_ns - frame.captured_ns) / 1e6
    return {
        "series": series,
        "number": frame.number,
        "index": frame.index,
        "session": frame.session,
        "channel": frame.channel,
        "position": frame.position,
        "model_name": frame.model_name,
        "model_hash": frame.model_hash,
        "warnings": list(frame.warnings),
        "out_of_domain": list(frame.out_of_domain),
        "shows_raw": frame.shows_raw,
        "reason": frame.reason,
        "elapsed_ms": frame.elapsed_ms,
        "latency_ms": frame.latency_ms,
        "age_ms": age_ms,
        "full_scale": frame.full_scale,
        "raw": layout.add(frame.raw),
        "enhanced": None if frame.enhanced is None else layout.add(frame.enhanced),
    }


def _aligned(length: int) -> int:
    return -(-length // ALIGNMENT) * ALIGNMENT


def _scale(pixels: Image) -> _Scale:
    """Return how numbers become values."""
    if pixels.size == 0:
        return AS_IT_IS
    least, most = float(pixels.min()), float(pixels.max())
    has_nan = not (np.isfinite(least) and np.isfinite(most))
    if has_nan:
        finite = pixels[np.isfinite(pixels)]
        if finite.size == 0:
            return _Scale(0.0, 1.0, has_nan=True)
        least, most = float(finite.min()), float(finite.max())
    inside = least >= 0 and most <= MOST_STEPS
    if inside and most - least >= LEAST_RANGE_COUNTS:
        return _Scale(0.0, 1.0, has_nan)
    return _Scale(least, (most - least) / MOST_STEPS or 1.0, has_nan)


def _fill(values: Image, pixels: Image, scale: _Scale) -> None:
    """Write a plane's values; what is not finite becomes 0."""
    if pixels.dtype in (np.uint8, np.uint16):
        values[...] = pixels
        return
    rows = max(1, STRIP_PIXELS // max(1, pixels.shape[1]))
    for row in range(0, len(pixels), rows):
        _fill_strip(values[row : row + rows], pixels[row : row + rows], scale)


def _fill_strip(values: Image, pixels: Image, scale: _Scale) -> None:
    """Write the values of numbers."""
    if (scale.zero_counts, scale.counts_per_step) == (0.0, 1.0):
        steps = np.rint(pixels)
    else:  # in float64: the range may be far from zero and narrow
        steps = np.rint((pixels.astype(np.float64) - scale.zero_counts) / scale.counts_per_step)
    if scale.has_nan:
        steps[~np.isfinite(pixels)] = 0
    np.copyto(values, steps, casting="unsafe")
