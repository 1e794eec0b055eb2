"""Values of images at places between pixels, and means over blocks: the arithmetic under registration.

Owns interpolation (linear or spline), the box high-pass and the block views. Pure functions of
arrays; knows nothing of tiles, of low and high or of files. Coordinates are pixel indices: the centre of
pixel k is at k.
"""

from concurrent.futures import ThreadPoolExecutor
from functools import cache
from itertools import pairwise
from os import cpu_count
from typing import Any

import numpy as np
from scipy import ndimage

__all__ = ["FloatArray", "Image", "block_mean", "block_view", "high_pass", "sample", "spline_coefficients"]

Image = np.ndarray[Any, np.dtype[Any]]
FloatArray = np.ndarray[Any, np.dtype[np.float32]]

LEAST_BAND_ROWS = 64
"""Of an image that several threads share; less is not worth waking them."""
_CORES = cpu_count() or 1


def block_view(image: Image, side_px: int) -> Image:
    """Cut an image into whole square blocks and return them as rows, (N, side * side)."""
    rows, columns = image.shape[0] // side_px, image.shape[1] // side_px
    whole = image[: rows * side_px, : columns * side_px]
    blocks = whole.reshape(rows, side_px, columns, side_px).swapaxes(1, 2)  # (R, C, side, side)
    return blocks.reshape(rows * columns, side_px * side_px)


def block_mean(image: FloatArray, side_px: int) -> FloatArray:
    """Return the means of square blocks, (Y // side, X // side); what does not fill a block is left out."""
    rows, columns = image.shape[0] // side_px, image.shape[1] // side_px
    whole = image[: rows * side_px, : columns * side_px].reshape(rows, side_px, columns, side_px)
    return np.asarray(whole.mean(axis=(1, 3), dtype=np.float32))


def spline_coefficients(image: Image, order: int) -> FloatArray:
    """Return the spline coefficients of an image, to be sampled with the same order (3 or 5)."""
    return np.asarray(ndimage.spline_filter(image, order=order, output=np.float32, mode="mirror"))


def sample(coefficients: FloatArray, positions_yx_px: Image, order: int) -> FloatArray:
    """Interpolate at positions between pixels; outside the image its mirror image is taken.

    Parameters
    ----------
    coefficients
        (Y, X): the image itself for order 1, `spline_coefficients` of it for higher ones.
    positions_yx_px
        (2, ...) pixel indices.
    order
        1 (linear), 3 or 5 (spline).

    Returns
    -------
    FloatArray
        (...) float32.
    """
    values = np.empty(positions_yx_px.shape[1:], dtype=np.float32)

    def fill(rows: slice) -> None:
        ndimage.map_coordinates(
            coefficients, positions_yx_px[:, rows], order=order, mode="mirror", prefilter=False,
            output=values[rows],
        )  # fmt: skip

    rows = len(values)
    bands = max(1, min(_CORES, rows // LEAST_BAND_ROWS))
    edges = [rows * k // bands for k in range(bands + 1)]
    list(_pool().map(fill, [slice(*edge) for edge in pairwise(edges)]))
    return values


@cache
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(_CORES, thread_name_prefix="sample")


def high_pass(image: FloatArray, covered: FloatArray, side_px: int) -> FloatArray:
    """Subtract the local mean over the covered part of a box, twice smoothed; uncovered pixels become 0.

    Haze and a wrong background differ between objectives; what is finer than the box is the structure
    that both show.

    Parameters
    ----------
    image
        (Y, X).
    covered
        (Y, X), 1 where the image has a value and 0 elsewhere.
    side_px
        Side of the box.
    """
    local_sum = _box_twice(image * covered, side_px)
    local_weight = _box_twice(covered, side_px)
    return np.asarray((image - local_sum / np.maximum(local_weight, np.float32(1e-3))) * covered)


def _box_twice(image: FloatArray, side_px: int) -> FloatArray:
    once = ndimage.uniform_filter(image, side_px, output=np.float32, mode="constant")
    return np.asarray(ndimage.uniform_filter(once, side_px, output=np.float32, mode="constant"))
