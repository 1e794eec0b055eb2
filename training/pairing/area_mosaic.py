"""A placed area of any size, seen as one image that is made block by block.

Owns the blending: each tile is resampled once, by a cubic spline, to the grid of the area, and fades linearly
to its border. Memory holds a block, the spline of one tile and a few tiles, however large the area is. Where
no tile lies, the value is 0. The image is for looking at and for figures of the whole; pairs are interpolated
from the tiles themselves. Knows nothing of files, nor of how the tiles were placed.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from scipy import ndimage

from training.pairing.sampling import FloatArray, Image
from training.pairing.stitching import ReadTile

__all__ = ["BLOCK_PX", "AreaMosaic", "Window", "as_dtype"]

BLOCK_PX = 2048
"""Of the area at a time."""
CACHE_TILES = 8
_SPLINE_ORDER = 3

Window = tuple[slice, slice]


@dataclass(frozen=True, slots=True)
class AreaMosaic:
    """Placed tiles, read when they are needed."""

    read: ReadTile
    """Gives tile k, (C, Y, X)."""
    shape_cyx: tuple[int, int, int]
    """Of every tile."""
    dtype: np.dtype[Any]
    corners_yx_px: Image
    """(N, 2): where the centre of pixel (0, 0) of each tile lies."""

    @property
    def origin_yx_px(self) -> Image:
        """Where the first pixel of the area lies, (2,), in whole pixels."""
        return np.asarray(np.floor(np.asarray(self.corners_yx_px).min(axis=0)).astype(int))

    @property
    def area_shape_cyx(self) -> tuple[int, int, int]:
        """Of the whole."""
        last = np.floor(np.asarray(self.corners_yx_px).max(axis=0)).astype(int) - self.origin_yx_px
        height, width = (int(k) + side for k, side in zip(last, self.shape_cyx[1:], strict=True))
        return self.shape_cyx[0], height, width

    def blocks(self) -> Iterator[tuple[Window, Image]]:
        """Give the area block by block, down one column of blocks after the other.

        Each block is a window of the area and its pixels, (C, Y, X) in the tiles' dtype.
        """
        tile = lru_cache(maxsize=CACHE_TILES)(self.read)
        _, height, width = self.area_shape_cyx
        for left in range(0, width, BLOCK_PX):
            for top in range(0, height, BLOCK_PX):
                window = (slice(top, min(top + BLOCK_PX, height)), slice(left, min(left + BLOCK_PX, width)))
                yield window, self._block(window, tile)

    def _block(self, window: Window, tile: ReadTile) -> Image:
        shape_yx = (window[0].stop - window[0].start, window[1].stop - window[1].start)
        total = np.zeros((self.shape_cyx[0], *shape_yx), dtype=np.float32)
        weights = np.zeros(shape_yx, dtype=np.float32)
        for k, first, fraction in self._tiles_in(window):
            here, there = _common(first, self.shape_cyx[1:], fraction, window)
            if here[0].stop <= here[0].start or here[1].stop <= here[1].start:
                continue
            weight = _fade(self.shape_cyx[1:], fraction)[there]
            weights[here] += weight
            pixels = tile(k)
            for channel in range(self.shape_cyx[0]):
                total[(channel, *here)] += weight * _resampled(pixels[channel], fraction)[there]
        blended = np.divide(total, weights, out=np.zeros_like(total), where=weights > 0)
        return as_dtype(blended, self.dtype)

    def _tiles_in(self, window: Window) -> list[tuple[int, tuple[int, int], tuple[float, float]]]:
        """Return number, first whole pixel of the area and its place within the tile's first pixel.

        In the order of rows, which is that of the blocks.
        """
        corners = np.asarray(self.corners_yx_px, dtype=np.float64) - self.origin_yx_px
        start = np.array([window[0].start, window[1].start])
        stop = np.array([window[0].stop, window[1].stop])
        touching = ((corners < stop) & (corners + self.shape_cyx[1:] > start)).all(axis=1)
        numbers = np.flatnonzero(touching)
        found = []
        for k in numbers[np.lexsort((corners[numbers, 1], np.round(corners[numbers, 0])))]:
            first = np.ceil(corners[k] - 1e-6).astype(int)
            fraction = np.maximum(first - corners[k], 0.0)
            place = (float(fraction[0]), float(fraction[1]))
            found.append((int(k), (int(first[0]), int(first[1])), place))
        return found


def _common(
    first: tuple[int, int], shape_yx: tuple[int, ...], fraction: tuple[float, float], window: Window
) -> tuple[Window, Window]:
    """Return the part of a window that a resampled tile covers, in the window and in the tile."""
    here, there = [], []
    for begin, size, part, span in zip(first, shape_yx, fraction, window, strict=True):
        size = size if part == 0 else size - 1  # the last sample would lie beyond the tile
        low, high = max(begin, span.start), min(begin + size, span.stop)
        here.append(slice(low - span.start, max(low, high) - span.start))
        there.append(slice(low - begin, max(low, high) - begin))
    return (here[0], here[1]), (there[0], there[1])


def _fade(shape_yx: tuple[int, ...], fraction: tuple[float, float]) -> FloatArray:
    """Return the weights of a tile, (Y, X): the distance to its border, at the samples' places."""
    distances = []
    for size, part in zip(shape_yx, fraction, strict=True):
        place = np.arange(size, dtype=np.float32) + np.float32(part)
        distances.append(np.minimum(place, size - 1 - place) + np.float32(0.5))
    return np.asarray(np.minimum(distances[0][:, np.newaxis], distances[1]))


def _resampled(plane: Image, fraction: tuple[float, float]) -> FloatArray:
    """Return a plane at places that lie a fraction of a pixel after its own, by a cubic spline, (Y, X)."""
    values = plane.astype(np.float32)
    for axis, part in enumerate(fraction):
        if part > 0:
            # Along one axis at a time: all samples of a tile lie alike between its pixels.
            values = ndimage.spline_filter1d(values, _SPLINE_ORDER, axis, output=np.float32, mode="mirror")
            values = ndimage.correlate1d(values, _cubic_weights(part), axis, mode="mirror", origin=-1)
    return np.asarray(values)


def _cubic_weights(part: float) -> FloatArray:
    """Return the weights of pixels k - 1 to k + 2 at place k + part."""
    t, s = part, 1 - part
    middle = 2 / 3 - t * t * (1 - t / 2), 2 / 3 - s * s * (1 - s / 2)
    return np.array([s**3 / 6, *middle, t**3 / 6], dtype=np.float32)


def as_dtype(values: FloatArray, dtype: np.dtype[Any]) -> Image:
    """Return values in a dtype: rounded and within its limits where it is one of whole numbers."""
    if dtype.kind == "f":
        return values.astype(dtype)
    limits = np.iinfo(dtype)
    return np.clip(np.rint(values), limits.min, limits.max).astype(dtype)
