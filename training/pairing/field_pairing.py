"""One field of view turned into aligned pairs, one for each channel.

Owns the order stitch, global match, registration, crop for the frames of one field; the channels share the
stitching and the crop, so that their pairs overlay, and are registered independently. Pure of files: frames
come in, arrays in counts come out, and what cannot be used comes out as a reason.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from math import lcm
from os import cpu_count

import numpy as np

from training.pairing.elastic import ElasticSettings
from training.pairing.gate import GateLimits, acquisition_fault
from training.pairing.global_match import CoarseMatch, coarse_match
from training.pairing.mosaic import Mosaic
from training.pairing.registration import Registration, register
from training.pairing.sampling import FloatArray, Image
from training.pairing.sources import Frames
from training.pairing.stitching import place_tiles

__all__ = ["AlignedPair", "Crop", "common_crop", "pair_field"]

BORDER_PX = 10
"""Cut from every side (METHOD, preprocessing step 6)."""


@dataclass(frozen=True, slots=True)
class Crop:
    """A rectangle on the upsampled low grid; starts and sizes are even and whole low pixels."""

    top: int
    left: int
    height: int
    width: int

    def of(self, image: FloatArray) -> FloatArray:
        """Return the rectangle of an image on that grid, (..., Y, X)."""
        return image[..., self.top : self.top + self.height, self.left : self.left + self.width]


@dataclass(frozen=True, slots=True)
class AlignedPair:
    """One channel of one field, aligned, in counts."""

    channel: int
    low: Image
    """(Y, X), the whole low frame as the camera delivered it."""
    registration: Registration
    crop: Crop
    notes: list[str]


def pair_field(
    frames: Frames, factor: int, limits: GateLimits, settings: ElasticSettings | None = None
) -> dict[int, AlignedPair | str]:
    """Align every channel of one field of view.

    Parameters
    ----------
    settings
        Of the elastic registration; None takes METHOD's figures.

    Returns
    -------
    dict
        For each channel its aligned pair, or the reason why there is none.
    """
    found: dict[int, AlignedPair | str] = {}
    for channel, low in enumerate(frames.low):
        fault = acquisition_fault(low, [tile[channel] for tile in frames.tiles], limits)
        if fault is not None:
            found[channel] = fault
    usable = [channel for channel in range(len(frames.low)) if channel not in found]
    if not usable:
        return found
    placement = place_tiles([tile[usable] for tile in frames.tiles], frames.corners_yx_px)
    mosaics = [
        Mosaic(tuple(tile[channel] for tile in frames.tiles), placement.corners_yx_px) for channel in usable
    ]
    coarse = coarse_match(frames.low[usable], mosaics, factor)
    notes = list(placement.notes)
    if not coarse.found:
        notes.append("low and high have nothing in common to match; the stage's word was kept")
    registered = _register_all(frames.low[usable], mosaics, factor, coarse, settings)
    registrations = dict(zip(usable, registered, strict=True))
    crop = common_crop([r.covered for r in registrations.values()], factor)
    for channel, registration in registrations.items():
        if min(crop.height, crop.width) < limits.least_side_px:
            found[channel] = f"low and high share only {crop.height} x {crop.width} px"
        else:
            found[channel] = AlignedPair(channel, frames.low[channel], registration, crop, notes)
    return found


def _register_all(
    lows: Image, mosaics: list[Mosaic], factor: int, coarse: CoarseMatch, settings: ElasticSettings | None
) -> Iterator[Registration]:
    """Register the channels side by side; numpy and scipy release the interpreter in nearly all of it."""
    with ThreadPoolExecutor(max_workers=min(len(lows), cpu_count() or 1)) as pool:
        yield from pool.map(
            lambda pair: register(pair[0], pair[1], factor, coarse, settings),
            zip(lows, mosaics, strict=True),
        )


def common_crop(covered: list[FloatArray], factor: int) -> Crop:
    """Return a large rectangle that all masks cover, less METHOD's border.

    Parameters
    ----------
    covered
        (Y, X) each, 1 or 0.
    """
    mask = np.logical_and.reduce([plane > 0 for plane in covered])
    top, bottom, left, right = _inscribed(mask)
    step = lcm(factor, 2)
    first = [-(-(start + BORDER_PX) // step) * step for start in (top, left)]  # rounded up
    size = [
        max(0, (stop - BORDER_PX - start) // step * step)
        for start, stop in zip(first, (bottom, right), strict=True)
    ]
    return Crop(first[0], first[1], size[0], size[1])


def _inscribed(mask: np.ndarray) -> tuple[int, int, int, int]:
    """Return top, bottom, left, right of a rectangle without holes; the worst edge is cut until it is one."""
    top, bottom, left, right = 0, mask.shape[0], 0, mask.shape[1]
    while bottom > top and right > left:
        window = mask[top:bottom, left:right]
        edges = (window[0], window[-1], window[:, 0], window[:, -1])
        missing = [1 - float(edge.mean()) for edge in edges]
        if max(missing) == 0:
            if window.all():
                break
            missing = [1.0, 1.0, 1.0, 1.0]  # a hole inside: shrink from all sides until it touches an edge
        worst = int(np.argmax(missing))
        top, bottom = top + (worst == 0), bottom - (worst == 1)
        left, right = left + (worst == 2), right - (worst == 3)
    return top, bottom, left, right
