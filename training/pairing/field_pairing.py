"""One field of view turned into aligned pairs, one for each channel.

Owns the order of steps for the frames of one field (light, stitching, global match, registration, crop); the
channels share the stitching and the crop, so that their pairs overlay, and are registered independently. Pure
of files: frames come in, arrays in counts come out, and what cannot be used comes out as a reason.
"""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from math import lcm
from os import cpu_count

import numpy as np

from training.pairing.elastic import ElasticSettings
from training.pairing.gate import acquisition_fault
from training.pairing.global_match import CoarseMatch, coarse_match
from training.pairing.light import NO_LIGHT, ChannelLight
from training.pairing.mosaic import Mosaic
from training.pairing.orientation import ALIGNED, Orientation
from training.pairing.registration import Registration, register
from training.pairing.sampling import FloatArray, Image
from training.pairing.settings import PairingSettings
from training.pairing.sources import Frames
from training.pairing.stitching import place_tiles

__all__ = ["AlignedPair", "Crop", "Findings", "common_crop", "pair_field"]

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


@dataclass(frozen=True, slots=True)
class Findings:
    """What a whole set says, and each of its fields is given."""

    lights: tuple[ChannelLight, ...]
    """One for each channel."""
    orientation: Orientation = ALIGNED


def pair_field(
    frames: Frames, factor: int, settings: PairingSettings, findings: Findings | None = None
) -> dict[int, AlignedPair | str]:
    """Align every channel of one field of view.

    Parameters
    ----------
    findings
        None takes the light as even and the cameras as aligned.

    Returns
    -------
    dict
        For each channel its aligned pair, or the reason why there is none.
    """
    findings = findings or Findings((NO_LIGHT,) * len(frames.low))
    found: dict[int, AlignedPair | str] = {}
    for channel, low in enumerate(frames.low):
        fault = acquisition_fault(low, [tile[channel] for tile in frames.tiles], settings.limits)
        if fault is not None:
            found[channel] = fault
    usable = [channel for channel in range(len(frames.low)) if channel not in found]
    if not usable:
        return found
    lights = [findings.lights[channel] for channel in usable]
    lows = np.stack([light.low.mended(frames.low[k]) for light, k in zip(lights, usable, strict=True)])
    mosaics, notes = _mosaics(frames, usable, findings, factor)
    coarse = coarse_match(lows, mosaics, factor)
    if not coarse.found:
        notes.append("low and high have nothing in common to match; the stage's word was kept")
    registrations = _register_all(lows, mosaics, factor, coarse, settings.elastic)
    crop = common_crop([r.covered for r in registrations], factor)
    for channel, light, registration in zip(usable, lights, registrations, strict=True):
        if min(crop.height, crop.width) < settings.limits.least_side_px:
            found[channel] = f"low and high share only {crop.height} x {crop.width} px"
            continue
        high = light.under_low(registration.high, frames.low[channel].shape, factor)
        lit = replace(registration, high=high)
        found[channel] = AlignedPair(channel, frames.low[channel], lit, crop, notes)
    return found


def _mosaics(
    frames: Frames, usable: list[int], findings: Findings, factor: int
) -> tuple[list[Mosaic], list[str]]:
    """Return the placed tiles of every usable channel, evenly lit, and what the stitching has to say."""
    tiles = [
        np.stack([findings.lights[channel].high.flattened(tile[channel]) for channel in usable])
        for tile in frames.tiles
    ]  # (C, V, U) each
    placement = place_tiles(tiles, frames.corners_yx_px)
    height, width = frames.low.shape[-2:]
    pivot = ((factor * height - 1) / 2, (factor * width - 1) / 2)
    mosaics = [
        Mosaic(tuple(tile[k] for tile in tiles), placement.corners_yx_px, findings.orientation, pivot)
        for k in range(len(usable))
    ]
    return mosaics, list(placement.notes)


def _register_all(
    lows: Image, mosaics: list[Mosaic], factor: int, coarse: CoarseMatch, settings: ElasticSettings
) -> list[Registration]:
    """Register the channels side by side; numpy and scipy release the interpreter in nearly all of it."""
    with ThreadPoolExecutor(max_workers=min(len(lows), cpu_count() or 1)) as pool:
        return list(
            pool.map(
                lambda pair: register(pair[0], pair[1], factor, coarse, settings),
                zip(lows, mosaics, strict=True),
            )
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
