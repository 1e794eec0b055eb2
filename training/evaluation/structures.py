"""Spots and filaments of an image: how far they stand above what is around them, and where they lie.

Owns the filters of `hallucination` and what counts as a spot or a filament. The width of a point is given: it
is the scale of the filters, and what is finer is no structure. Heights are in the image's own intensities.
Knows neither threshold nor truth. Pure functions of arrays.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import ndimage
from scipy.spatial import cKDTree

__all__ = [
    "BoolArray",
    "FloatArray",
    "Image",
    "Places",
    "Relief",
    "Structures",
    "relief_of",
    "ridges",
    "spots",
]

Image = np.ndarray[Any, np.dtype[Any]]
FloatArray = np.ndarray[Any, np.dtype[np.floating[Any]]]
BoolArray = np.ndarray[Any, np.dtype[np.bool_]]
Places = np.ndarray[Any, np.dtype[Any]]
"""(N, 2) pixels (y, x)."""

SIGMA_OF_FWHM = float(1 / (2 * np.sqrt(2 * np.log(2))))
LEAST_SIGMA_PX = 1.0
"""Of the filters: second differences of pixels that are smoothed less are those of noise."""
OF_LIGHT = 0.2
"""What stands out must have this share of the light that is there: shot noise grows with the light."""
FAINT = 0.5
"""Of the threshold and of that share, above which something may be there."""
ROUND, HARDLY_ROUND = 0.5, 0.1
"""The lesser curvature over the greater, from which a peak is a spot and no bump on a filament, and from
which it may be one."""
STRAIGHT = 0.3
"""The same ratio, either way, below which a ridge is straight; up to `ROUND` it may be."""
LONG = 4.0
"""Reach of the shortest filament over the width of a point."""
ON_RIDGE, BESIDE_RIDGE = 0.5, 0.75
"""How far a ridge passes a pixel that counts, along y or x, px; and one that joins parts of a line."""


@dataclass(frozen=True, slots=True)
class Structures:
    """Structure of one image, N pieces: spots, or pixels of filaments. All of it may be there."""

    places_yx: Places
    sizes: FloatArray
    """(N,) what each counts: 1, or the length of filament in the pixel, px."""
    firm: BoolArray
    """(N,) which of it surely is there."""


@dataclass(frozen=True, slots=True)
class Relief:
    """How far each pixel stands above its surroundings."""

    height: FloatArray
    """(Y, X). A lone spot (or filament), as wide as a point, has its own height here."""
    smooth: FloatArray
    """(Y, X) the image, smoothed: a lone spot (or filament) has its own height here too."""
    curvature: tuple[FloatArray, FloatArray, FloatArray]
    """(Y, X) each, second differences of `smooth`: along y, along y and x, along x."""
    fwhm_px: float
    """Of a point."""
    sigma_px: float
    """Of a smoothed point."""


def relief_of(image: Image, fwhm_px: float, *, filaments: bool) -> Relief:
    """Return how far things stand out of an image.

    For spots the height is the negative Laplacian of Gaussian (Lindeberg, International Journal of Computer
    Vision 30, 79-116 (1998), at the one scale of a point), for filaments the greatest curvature downwards.
    Smoothing by s turns a spot of sigma w and height 1 into one of sigma S = sqrt(w**2 + s**2) and height
    (w / S)**2, a filament into one of height w / S; the second difference at its top is the height times
    -2 (1 - exp(-1 / (2 S**2))). All this is divided out.

    Parameters
    ----------
    image
        (Y, X).
    fwhm_px
        Of a point; a thin filament is as wide.
    filaments
        Whether filaments are sought, or spots.
    """
    width = fwhm_px * SIGMA_OF_FWHM
    scale = max(width, LEAST_SIGMA_PX)
    sigma_px = float(np.hypot(width, scale))
    # Single precision is half the time, and enough once the offset is off.
    smooth = ndimage.gaussian_filter((image - np.mean(image, dtype=np.float64)).astype(np.float32), scale)
    smooth *= np.float32(sigma_px / width if filaments else (sigma_px / width) ** 2)
    padded = np.pad(smooth, 1, mode="edge")
    yy = padded[2:, 1:-1] + padded[:-2, 1:-1] - 2 * smooth
    xx = padded[1:-1, 2:] + padded[1:-1, :-2] - 2 * smooth
    yx = (padded[2:, 2:] + padded[:-2, :-2] - padded[2:, :-2] - padded[:-2, 2:]) / 4
    height = -(yy + xx) / 2
    if filaments:
        height += np.sqrt((yy - xx) ** 2 / 4 + yx**2)
    height /= np.float32(2 * (1 - np.exp(-1 / (2 * sigma_px**2))))
    return Relief(height, smooth, (yy, yx, xx), fwhm_px, sigma_px)


def spots(relief: Relief, threshold: float, background: float) -> Structures:
    """Return the spots of an image: peaks of height, curved along all directions.

    Parameters
    ----------
    relief
        For spots.
    threshold
        Height of a spot that surely is there.
    background
        Of `smooth`, above which light is counted.
    """
    places = _peaks(relief.height, FAINT * threshold)
    _, roundness, _ = _bends(relief, places)
    may_be = _stands_out(relief, places, FAINT * threshold, background, FAINT) & (roundness >= HARDLY_ROUND)
    places, roundness = places[may_be], roundness[may_be]
    if len(places):  # A spot midway between pixels has two highest ones.
        twice = cKDTree(places).query_pairs(1.5, output_type="ndarray")[:, 1]
        places, roundness = np.delete(places, twice, axis=0), np.delete(roundness, twice)
    firm = _stands_out(relief, places, threshold, background) & (roundness >= ROUND)
    return Structures(places, np.ones(len(places)), firm)


def ridges(relief: Relief, threshold: float, background: float) -> Structures:
    """Return the pixels of an image through which ridges pass.

    A ridge is where the intensity is highest along the direction of greatest curvature; it is found to less
    than a pixel from slope and curvature (Steger, IEEE Transactions on Pattern Analysis and Machine
    Intelligence 20, 113-125 (1998)). Those that are straight and reach four times as far as a point is wide
    are filaments. A line with the normal n (y, x) passes 1 / max(abs(n)) pixels for each px of its length
    less than half a pixel away along y and x: so a pixel counts max(abs(n)), and no skeleton is needed.

    Parameters
    ----------
    relief
        For filaments.
    threshold
        Height of a filament that surely is there.
    background
        Of `smooth`, above which light is counted.
    """
    places = np.argwhere(relief.height >= FAINT * threshold)
    places = places[_stands_out(relief, places, FAINT * threshold, background, FAINT)]
    greatest, roundness, normal = _bends(relief, places)
    step_px = np.abs((normal * _slope(relief.smooth, places)).sum(axis=1) / greatest)
    away_px = _distance(step_px, normal, relief.sigma_px)
    lengths = np.abs(normal).max(axis=1)
    # Ridges lead down everywhere from a round spot and from the end of a filament, but curved ones.
    straight = np.abs(roundness) < ROUND
    line = np.zeros(relief.height.shape, dtype=bool)
    line[tuple(places[straight & (away_px * lengths <= BESIDE_RIDGE)].T)] = True
    line = _long(line, LONG * relief.fwhm_px)
    firm = _stands_out(relief, places, threshold, background) & line[tuple(places.T)]
    firm &= np.abs(roundness) < STRAIGHT
    on_ridge = away_px * lengths <= ON_RIDGE
    return Structures(places[on_ridge], lengths[on_ridge], firm[on_ridge])


def _peaks(image: FloatArray, least: float) -> Places:
    """Return the pixels that are no lower than their eight neighbours."""
    places = np.argwhere(image >= least)
    y, x = (places + 1).T
    padded = np.pad(image, 1, mode="edge")
    around = [padded[y + up, x + right] for up in (-1, 0, 1) for right in (-1, 0, 1)]
    return np.asarray(places[padded[y, x] >= np.max(around, axis=0)])


def _stands_out(
    relief: Relief, places_yx: Places, threshold: float, background: float, share: float = 1.0
) -> BoolArray:
    """Say of places whether they stand above the threshold and above a share of the light there, (N,)."""
    height, light = (each[tuple(places_yx.T)] for each in (relief.height, relief.smooth))
    return np.asarray((height >= threshold) & (height >= share * OF_LIGHT * (light - background)))


def _bends(relief: Relief, places_yx: Places) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return the greatest curvature downwards (N,), the lesser over it (N,) and its direction (N, 2)."""
    yy, yx, xx = (each[tuple(places_yx.T)] for each in relief.curvature)
    middle, radius = (yy + xx) / 2, np.hypot((yy - xx) / 2, yx)
    greatest = np.minimum(middle - radius, -1e-30)
    across = np.arctan2(-2 * yx, xx - yy) / 2
    return greatest, (middle + radius) / greatest, np.stack([np.cos(across), np.sin(across)], axis=1)


def _slope(image: FloatArray, places_yx: Places) -> FloatArray:
    """Return central differences along y and x, (N, 2)."""
    y, x = (places_yx + 1).T
    padded = np.pad(image, 1, mode="edge")
    return np.stack([padded[y + 1, x] - padded[y - 1, x], padded[y, x + 1] - padded[y, x - 1]], axis=1) / 2


def _distance(step_px: FloatArray, normal: FloatArray, sigma_px: float) -> FloatArray:
    """Return how far off a ridge is, a Gaussian of that sigma, to which Newton's method steps so far, (N,).

    With a = 1 / (2 sigma**2) the step by derivatives is d / (1 - 2 a d**2) at the distance d. Differences
    over 1 px make both slope and curvature less, by how much depends on the direction.
    """
    a = 1 / (2 * sigma_px**2)
    left = np.exp(-a * normal**2)  # of the intensity, 1 px from the ridge along y and x
    diagonal = np.exp(-a * (normal[:, 0] + [[-1], [1]] * normal[:, 1]) ** 2)  # (2, N)
    slope = 2 * a * (normal**2 * left).sum(axis=1)
    curvature = 2 * (normal**2 * (1 - left)).sum(axis=1) + normal.prod(axis=1) * (diagonal[0] - diagonal[1])
    step = np.maximum(step_px * curvature / slope, 1e-9)
    return np.asarray((np.sqrt(1 + 8 * a * step**2) - 1) / (4 * a * step))


def _long(line: BoolArray, least_px: float) -> BoolArray:
    """Return the connected parts of lines that reach so far, (Y, X)."""
    number, _ = ndimage.label(line, np.ones((3, 3)))
    reach = [np.hypot(*(part.stop - part.start for part in box)) for box in ndimage.find_objects(number)]
    return np.asarray(np.array([0.0, *reach])[number] >= least_px)
