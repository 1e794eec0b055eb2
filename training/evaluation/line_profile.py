"""Intensity along a line: its peaks, how far apart they stand, and how deep the dip between them is.

METHOD, "What the paper compares": line profiles of input, output and truth over the same structure. Pure
functions of arrays; places are (y, x) in px, a whole number is the centre of a pixel.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import ndimage, signal

from training.evaluation.not_measurable import NotMeasurableError, check_image

__all__ = ["LineProfile", "Peak", "dip_between", "line_profile", "peak_separation_um", "peaks_of"]

Image = np.ndarray[Any, np.dtype[Any]]
FloatArray = np.ndarray[Any, np.dtype[np.float64]]

STEP_PX = 0.25
"""Between samples: the parabola through three of them places a peak within a hundredth of a pixel."""
LEAST_PROMINENCE = 0.05
"""Of a peak, in parts of the profile's range: what it rises above the higher of the dips beside it."""
SPLINE_REACH_PX = 16
"""Around the line, beyond which no pixel counts to the spline: its weight falls fourfold with each px."""


@dataclass(frozen=True, slots=True)
class LineProfile:
    """Intensity along a line."""

    position_px: FloatArray
    """(N,) from the start of the line, evenly spaced."""
    intensity: FloatArray
    """(N,) in the image's units."""


@dataclass(frozen=True, slots=True)
class Peak:
    """One peak of a profile."""

    position_px: float
    """From the start of the line, between samples."""
    height: float
    """Of the profile at the peak, in the image's units."""


def line_profile(
    image: Image, start_yx: tuple[float, float], end_yx: tuple[float, float], width_px: int = 1
) -> LineProfile:
    """Return the intensity along a straight line, by a cubic spline through the pixels.

    Parameters
    ----------
    image
        (Y, X).
    start_yx, end_yx
        Both ends, within the image as all of the line's width must be.
    width_px
        How many parallel lines, 1 px apart, are averaged; the middle one leads through both ends.

    Returns
    -------
    LineProfile
        A sample about every 0.25 px, both ends among them.

    Raises
    ------
    NotMeasurableError
        Of an image that is constant or holds NaN, and of a line shorter than 1 px or not within the image.
    """
    check_image(image)
    lines, length_px = _places(start_yx, end_yx, width_px)  # (2, W, N)
    last_yx = np.array(image.shape)[:, np.newaxis] - 1
    if image.ndim != 2 or (lines.reshape(2, -1) < 0).any() or (lines.reshape(2, -1) > last_yx).any():
        msg = f"the line from {start_yx} to {end_yx}, {width_px} px wide, leaves the image {image.shape}"
        raise NotMeasurableError(msg)
    first = np.maximum(np.floor(lines.min(axis=(1, 2))).astype(int) - SPLINE_REACH_PX, 0)
    beyond = np.ceil(lines.max(axis=(1, 2))).astype(int) + SPLINE_REACH_PX + 1
    part = image[first[0] : beyond[0], first[1] : beyond[1]].astype(np.float64)
    values = ndimage.map_coordinates(part, lines - first[:, np.newaxis, np.newaxis], order=3, mode="mirror")
    return LineProfile(np.linspace(0.0, length_px, values.shape[1]), values.mean(axis=0))


def peaks_of(profile: LineProfile, least_prominence: float = LEAST_PROMINENCE) -> tuple[Peak, ...]:
    """Return the peaks of a profile, from its start to its end.

    Each is placed at the top of the parabola through its highest sample and the two beside it. The ends of
    the profile are no peaks.

    Parameters
    ----------
    profile
        Of `line_profile`.
    least_prominence
        What a peak rises above the higher of the dips beside it, in parts of the profile's range.
    """
    values = profile.intensity
    tops, _ = signal.find_peaks(
        values, prominence=max(least_prominence * np.ptp(values), np.finfo(float).tiny)
    )
    spacing_px = profile.position_px[1] - profile.position_px[0]
    return tuple(_top(values, int(top), spacing_px) for top in tops)


def peak_separation_um(profile: LineProfile, pixel_size_um: float) -> float:
    """Return the distance between the two highest peaks, um.

    Raises
    ------
    NotMeasurableError
        Of a profile with fewer than two peaks.
    """
    first, second = _two_highest(profile)
    return (second.position_px - first.position_px) * pixel_size_um


def dip_between(profile: LineProfile, background: float = 0.0) -> float:
    """Return how far the profile falls between its two highest peaks, in parts of the lower one.

    1 where it falls to the background; 0.26 is Rayleigh's criterion, and at Sparrow's there is none.

    Parameters
    ----------
    profile
        Of `line_profile`.
    background
        Level of the image where there is nothing, from which heights count.

    Raises
    ------
    NotMeasurableError
        Of a profile with fewer than two peaks above the background.
    """
    first, second = _two_highest(profile)
    lower = min(first.height, second.height) - background
    if lower <= 0:
        msg = f"the lower of the two peaks does not rise above the background of {background:g}"
        raise NotMeasurableError(msg)
    between = (profile.position_px > first.position_px) & (profile.position_px < second.position_px)
    return float(1 - (profile.intensity[between].min() - background) / lower)


def _places(
    start_yx: tuple[float, float], end_yx: tuple[float, float], width_px: int
) -> tuple[FloatArray, float]:
    """Return the places (y, x) along parallel lines, (2, W, N) px, and the length of the line, px."""
    start, along = np.asarray(start_yx, np.float64), np.subtract(end_yx, start_yx, dtype=np.float64)
    length_px = float(np.hypot(*along))
    if not 1 <= length_px < np.inf or width_px < 1:
        msg = f"a line {length_px:g} px long and {width_px} px wide cannot be followed; 1 px is the least"
        raise NotMeasurableError(msg)
    steps = np.linspace(0.0, 1.0, int(np.ceil(length_px / STEP_PX)) + 1)
    across = np.array([along[1], -along[0]]) / length_px
    aside_px = np.arange(width_px) - (width_px - 1) / 2
    middle = start[:, np.newaxis, np.newaxis] + along[:, np.newaxis, np.newaxis] * steps  # (2, 1, N)
    return middle + across[:, np.newaxis, np.newaxis] * aside_px[:, np.newaxis], length_px


def _top(values: FloatArray, place: int, spacing_px: float) -> Peak:
    before, here, after = values[place - 1 : place + 2]
    bend = before - 2 * here + after
    aside = 0.5 * (before - after) / bend if bend < 0 else 0.0
    return Peak(float((place + aside) * spacing_px), float(here - 0.25 * (before - after) * aside))


def _two_highest(profile: LineProfile) -> tuple[Peak, Peak]:
    """Return the two highest peaks, in the order of the line."""
    peaks = peaks_of(profile)
    if len(peaks) < 2:
        msg = f"the profile has {len(peaks)} peak(s); two are needed"
        raise NotMeasurableError(msg)
    first, second = sorted(
        sorted(peaks, key=lambda peak: peak.height)[-2:], key=lambda peak: peak.position_px
    )
    return first, second
