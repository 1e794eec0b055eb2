"""Where in one image another, finer one lies: offset, scale and turn, to a fraction of a pixel.

Owns the search and its refinement on the intensities. Pure functions of arrays; knows no stage and no
objectives. Offsets are (x, y) from the middle of the frames.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.ndimage import gaussian_filter, map_coordinates

from acquisition.image_shift import best_shift, structure

__all__ = ["Placement", "place"]

Image = np.ndarray[Any, np.dtype[Any]]
FloatArray = np.ndarray[Any, np.dtype[np.floating[Any]]]
Support = np.ndarray[Any, np.dtype[np.bool_]]

_SMOOTHINGS_PX = (3.0, 1.0)
"""Of the coarser image: the wider one finds what the narrower one would miss."""
_BACKGROUND = 6.0
"""Times the smoothing: coarser structure than that is uneven light."""
_ROUNDS = 15
_LEAST_PIXELS = 64
_SETTLED_PX = 1e-3


@dataclass(frozen=True, slots=True)
class Placement:
    """Where the finer image lies in the coarser one: its pixel u lies at `matrix` u + offset."""

    matrix: FloatArray
    """(2, 2), (x, y) px of the finer image to (x, y) px of the coarser one."""
    offset_xy_px: tuple[float, float]
    """Of the finer image's middle, in pixels of the coarser one."""
    correlation: float
    """Between the images, where they show the same; 0 where none was found."""


def place(coarse: Image, fine: Image, matrix: FloatArray, reach_px: int) -> Placement:
    """Lay the finer image onto the coarser one.

    Correlation finds the place; Gauss and Newton then refine the affine map together with the images'
    ratio of brightness.

    Parameters
    ----------
    coarse, fine
        (Y, X) each.
    matrix
        (2, 2), about what `Placement.matrix` will be: within 2 % of scale and a degree.
    reach_px
        Largest offset along each axis, in pixels of the coarser image.
    """
    ratio = 1 / abs(float(np.linalg.det(matrix))) ** 0.5
    inward = np.linalg.inv(matrix)  # of a pixel of the coarser image, to the finer one
    first = _SMOOTHINGS_PX[0]
    places = inward @ _offsets(coarse.shape)
    seen = _sampled(structure(fine, first * ratio), places).reshape(coarse.shape)
    mask = _inside(fine, places).reshape(coarse.shape).astype(np.float32)
    found = best_shift(seen, mask, structure(coarse, first), reach_px)
    if found.correlation == 0:
        return Placement(matrix, (0.0, 0.0), 0.0)
    start: FloatArray = -inward @ np.array(found.xy_px)
    correlation = 0.0
    for smoothing in _SMOOTHINGS_PX:
        inward, start, correlation = _refined(coarse, fine, smoothing, inward, start)
    outward = np.linalg.inv(inward)
    x_px, y_px = -outward @ start
    return Placement(outward, (float(x_px), float(y_px)), correlation)


def _offsets(shape_yx: tuple[int, ...]) -> FloatArray:
    """Return the pixels' (x, y) from the middle of a frame, (2, Y X)."""
    y, x = ((np.arange(length) + 0.5 - length / 2) for length in shape_yx)
    return np.stack(np.broadcast_arrays(x, y[:, np.newaxis])).reshape(2, -1)


def _inside(image: Image, places_xy: FloatArray, margin_px: float = 1.0) -> Support:
    """Say which (x, y) from the middle, (2, N), lie in an image, a margin from its edge."""
    half = np.array(image.shape[::-1])[:, np.newaxis] / 2
    return np.asarray((np.abs(places_xy) < half - margin_px).all(axis=0))


def _sampled(image: Image, places_xy: FloatArray) -> Image:
    """Return an image at (x, y) from its middle, (2, N) in, (N,) float32 out; 0 outside."""
    rows_columns = places_xy[::-1] + np.array(image.shape)[:, np.newaxis] / 2 - 0.5
    return np.asarray(map_coordinates(image, rows_columns, order=1, output=np.float32))


def _refined(
    coarse: Image, fine: Image, smoothing_px: float, inward: FloatArray, start: FloatArray
) -> tuple[FloatArray, FloatArray, float]:
    """Return the map into the finer image with the least squares of brightness, and the correlation.

    Gauss and Newton. Both images lose their background over the same pixels, those that both show, so that
    the edge of the finer one does the same to both; it would pass for a change of scale.
    """
    fine_smoothing_px = smoothing_px * abs(float(np.linalg.det(inward))) ** 0.5
    wanted_all = gaussian_filter(np.asarray(coarse, dtype=np.float32), smoothing_px)
    value_all = gaussian_filter(np.asarray(fine, dtype=np.float32), fine_smoothing_px)
    images = (value_all, *np.gradient(value_all)[::-1])  # and along x, along y
    everywhere = _offsets(coarse.shape)
    half, correlation = min(coarse.shape) / 2, 0.0
    for _ in range(_ROUNDS):
        places = inward @ everywhere + start[:, np.newaxis]
        inside = _inside(fine, places, 2 * fine_smoothing_px)
        if inside.sum() < _LEAST_PIXELS:
            return inward, start, 0.0
        value, along_x, along_y = (_sampled(image, places) for image in images)
        support = inside.reshape(coarse.shape)
        wanted, value = (
            _without_background(image.reshape(coarse.shape), support, _BACKGROUND * smoothing_px)
            for image in (wanted_all, value)
        )
        correlation = float(np.corrcoef(value, wanted)[0, 1])
        gain = float(np.dot(value, wanted) / max(np.dot(value, value), 1e-30))
        x, y = everywhere[:, inside] / half
        slopes = [gain * slope[inside] for slope in (along_x, along_y)]
        design = np.stack([slope * by for slope in slopes for by in (x, y, np.ones_like(x))])  # (6, N)
        step, *_ = np.linalg.lstsq(design @ design.T, design @ (wanted - gain * value), rcond=None)
        change = step.reshape(2, 3)
        inward = inward + change[:, :2] / half
        start = start + change[:, 2]
        if np.abs(change).sum(axis=1).max() < _SETTLED_PX:
            break
    return inward, start, correlation if np.isfinite(correlation) else 0.0


def _without_background(image: Image, support: Support, smoothing_px: float) -> Image:
    """Return an image's pixels in the support, (N,), less the smoothed image of the support alone."""
    weight = gaussian_filter(support.astype(np.float32), smoothing_px)
    smooth = gaussian_filter(np.where(support, image, np.float32(0)), smoothing_px)
    return np.asarray(image[support] - smooth[support] / weight[support])
