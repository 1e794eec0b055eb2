"""How far one image lies from another, to a fraction of a pixel, whatever the camera's orientation.

Owns the normalised cross-correlation and its peak. Pure functions of arrays; knows no stage and no optics.
Everywhere the shift s means second(p + s) = first(p), as (x, y): how far the content of the second image lies
from where the first one shows it.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import fft
from scipy.ndimage import gaussian_filter

__all__ = ["Shift", "best_shift", "find_shift", "overlapping", "structure"]

Image = np.ndarray[Any, np.dtype[Any]]
FloatArray = np.ndarray[Any, np.dtype[np.floating[Any]]]

_COARSEST = 6.0
"""Structure that counts is no wider than so many times the finest: light that is uneven over the field stands
still when the stage moves, and would say that nothing moved."""
_LEAST_SHARE = 0.05
"""Of the images' structure must lie in the overlap of a shift; noise alone correlates well over little."""


@dataclass(frozen=True, slots=True)
class Shift:
    """Where the correlation of two images peaks."""

    xy_px: tuple[float, float]
    correlation: float
    """Pearson's, over what both images show; 0 where there is no peak within reach."""


def structure(image: Image, finest_px: float = 1.0) -> FloatArray:
    """Return an image without noise finer and light coarser than its structure, (Y, X) float32.

    Parameters
    ----------
    finest_px
        Standard deviation of the smoothing; six times that is taken for background.
    """
    smooth = gaussian_filter(np.asarray(image, dtype=np.float32), finest_px)
    return np.asarray(smooth - gaussian_filter(smooth, _COARSEST * finest_px))


def find_shift(
    first: FloatArray,
    second: FloatArray,
    *,
    expected_xy_px: tuple[float, float] = (0.0, 0.0),
    reach_px: int,
    beyond_px: float = 0.0,
) -> Shift:
    """Return the shift of the second image against the first near an expected one.

    Parameters
    ----------
    first, second
        (Y, X) of equal shape, as `structure` returns them.
    reach_px
        How far from the expected shift is looked, along each axis.
    beyond_px
        Shorter shifts than this are none: what stands still is the camera's own pattern.
    """
    x, y = (round(expected) for expected in expected_xy_px)
    first_part, second_part = overlapping(first, second, (x, y))
    if min(first_part.shape) < 8:
        return Shift(expected_xy_px, 0.0)
    found = best_shift(first_part, np.ones_like(first_part), second_part, reach_px, (x, y), beyond_px)
    return Shift((x + found.xy_px[0], y + found.xy_px[1]), found.correlation)


def overlapping(
    first: FloatArray, second: FloatArray, shift_xy_px: tuple[int, int]
) -> tuple[FloatArray, FloatArray]:
    """Return the parts of two equally large images that show the same at a shift of whole pixels."""
    parts = []
    for image, sign in ((first, 1), (second, -1)):
        cuts = []
        for length, shift in zip(image.shape, shift_xy_px[::-1], strict=True):
            begin = max(0, -sign * shift)
            cuts.append(slice(begin, max(begin, length - max(0, sign * shift))))
        parts.append(image[tuple(cuts)])
    return parts[0], parts[1]


def best_shift(
    first: FloatArray,
    first_mask: FloatArray,
    second: FloatArray,
    reach_px: int,
    from_xy_px: tuple[int, int] = (0, 0),
    beyond_px: float = 0.0,
) -> Shift:
    """Return the shift with the highest correlation over the overlap, refined below the pixel.

    Parameters
    ----------
    first, second
        (Y, X) of equal shape and of zero mean; all of the second counts.
    first_mask
        (Y, X), 1 where the first image has a value and 0 elsewhere.
    reach_px
        The largest shift along each axis.
    from_xy_px, beyond_px
        Shifts count that lie at least `beyond_px` from minus `from_xy_px`.
    """
    surface = _correlations(first * first_mask, first_mask, second, reach_px)
    along = np.arange(-reach_px, reach_px + 1)
    surface[np.hypot(along[:, np.newaxis] + from_xy_px[1], along + from_xy_px[0]) < beyond_px] = 0
    row, column = (int(index) for index in np.unravel_index(np.argmax(surface), surface.shape))
    if not (2 <= row < len(along) - 2 and 2 <= column < len(along) - 2):
        return Shift((0.0, 0.0), 0.0)
    (dx, dy), height = _peak(surface[row - 2 : row + 3, column - 2 : column + 3])
    return Shift((column - reach_px + dx, row - reach_px + dy), height)


def _correlations(first: FloatArray, first_mask: FloatArray, second: FloatArray, reach_px: int) -> FloatArray:
    """Return the normalised correlation at shifts -reach to reach, (2 reach + 1, 2 reach + 1).

    Each shift is judged over its own overlap (Padfield, IEEE Trans. Image Process. 21, 2706 (2012)); the
    means are zero already.
    """
    shape = [fft.next_fast_len(length + reach_px, real=True) for length in first.shape]
    indices = [np.arange(-reach_px, reach_px + 1) % length for length in shape]

    def correlate(x: FloatArray, y: FloatArray) -> FloatArray:
        whole = fft.irfft2(np.conj(fft.rfft2(x, shape)) * fft.rfft2(y, shape), shape)
        return np.asarray(whole[np.ix_(*indices)])

    energy_first = correlate(first**2, np.ones_like(second))
    energy_second = correlate(first_mask, second**2)
    least = _LEAST_SHARE**2 * float(np.sum(first**2)) * float(np.sum((second * (first_mask > 0)) ** 2))
    power = np.maximum(energy_first, 0) * np.maximum(energy_second, 0)
    usable = power > max(least, 1e-30)
    return np.where(usable, correlate(first, second) / np.sqrt(np.where(usable, power, 1)), 0)


def _peak(surface: FloatArray) -> tuple[tuple[float, float], float]:
    """Return the vertex of a Gaussian through 5 x 5 correlations, (x, y) from the middle, and its height."""
    y, x = np.mgrid[-2:3, -2:3].astype(np.float64).reshape(2, -1)
    values = np.maximum(surface.astype(np.float64).ravel(), 1e-3)
    terms = np.stack([np.ones_like(x), x, y, x * x, y * y, x * y], axis=1)  # (25, 6)
    weights = values / values.max()  # the logarithm magnifies what is small
    fit, *_ = np.linalg.lstsq(terms * weights[:, np.newaxis], np.log(values) * weights, rcond=None)
    curvature = np.array([[2 * fit[3], fit[5]], [fit[5], 2 * fit[4]]])
    if curvature[0, 0] >= 0 or np.linalg.det(curvature) <= 0:
        return (0.0, 0.0), float(surface[2, 2])
    dx, dy = np.clip(-np.linalg.solve(curvature, fit[1:3]), -1, 1)
    return (float(dx), float(dy)), float(surface[2, 2])
