"""Where a high mosaic lies under a low image: the global match.

Owns the search over any distance (masked normalised cross-correlation of binned images, the channels
together) and the sub-pixel step (normalised cross-correlation on the high grid, a 2D Gaussian fitted to its
peak; METHOD step 4). Knows nothing of elastic deformation. The shift s means that the mosaic at q + s shows
what the upsampled low image shows at q, in pixels of the high grid.
"""

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from inference.preprocess import upsample
from training.pairing.correlation import masked_correlation, small_shift
from training.pairing.mosaic import Mosaic
from training.pairing.sampling import FloatArray, Image, block_mean, high_pass

__all__ = ["CoarseMatch", "coarse_match", "fine_match"]

LARGEST_BINNED_SIDE_PX = 256
HIGH_PASS_BINS = 31
MIN_CORRELATION = 0.1
"""Unrelated binned images of 256 x 256 px reach 0.02 to 0.04 somewhere."""
HIGH_PASS_LOW_PX = 32
FINE_SEARCH_PX = 12


@dataclass(frozen=True, slots=True)
class CoarseMatch:
    """The shift to whole bins, and whether it was found or is the stage's."""

    shift_yx_px: tuple[int, int]
    correlation: float
    found: bool


def coarse_match(
    lows: Image, mosaics: list[Mosaic], factor: int, largest_side_px: int = LARGEST_BINNED_SIDE_PX
) -> CoarseMatch:
    """Find the mosaic under the low image, over any distance that leaves a quarter of it in view.

    Parameters
    ----------
    lows
        (C, Y, X) counts.
    mosaics
        One for each channel, on the upsampled low grid where the stage puts them.
    largest_side_px
        Of the binned low image.
    """
    bin_low = int(np.ceil(max(lows.shape[-2:]) / largest_side_px))
    bin_high = bin_low * factor
    origin, shape = _bounds(mosaics[0], bin_high)
    scores = []
    for low, mosaic in zip(lows, mosaics, strict=True):
        image, covered = mosaic.render(origin, shape)
        a, a_mask = _binned(low.astype(np.float32), np.ones(low.shape, np.float32), bin_low)
        b, b_mask = _binned(image, covered, bin_high)
        scores.append(masked_correlation(a, a_mask, b, b_mask))
    surface = np.mean(scores, axis=0)
    row, column = np.unravel_index(int(surface.argmax()), surface.shape)
    correlation = float(surface[row, column])
    if correlation < MIN_CORRELATION:
        return CoarseMatch((0, 0), max(correlation, 0.0), found=False)
    height, width = lows.shape[-2] // bin_low, lows.shape[-1] // bin_low
    dy = (int(row) - (height - 1)) * bin_high + origin[0]
    dx = (int(column) - (width - 1)) * bin_high + origin[1]
    # Shifted by s, the low image lies at q + s in the mosaic, which the orientation has moved with its s.
    shift = np.rint(np.array(mosaics[0].orientation.matrix_yx) @ (dy, dx)).astype(int)
    return CoarseMatch((int(shift[0]), int(shift[1])), correlation, found=True)


def _bounds(mosaic: Mosaic, step: int) -> tuple[tuple[int, int], tuple[int, int]]:
    """Return origin and shape of the smallest box around all tiles that starts on a multiple of `step`."""
    sizes = np.array([tile.shape for tile in mosaic.tiles])
    start = np.floor(mosaic.corners_yx_px.min(axis=0) / step).astype(int) * step
    stop = np.ceil((mosaic.corners_yx_px + sizes).max(axis=0)).astype(int)
    height, width = stop - start
    return (int(start[0]), int(start[1])), (int(height), int(width))


def _binned(image: FloatArray, covered: FloatArray, side: int) -> tuple[FloatArray, FloatArray]:
    """Return block means, high-passed, and the mask of the blocks that are wholly covered."""
    mask = (block_mean(covered, side) > 0.999).astype(np.float32)
    return high_pass(block_mean(image, side), mask, HIGH_PASS_BINS), mask


def fine_match(
    low: Image, mosaic: Mosaic, factor: int, coarse: CoarseMatch
) -> tuple[tuple[float, float], bool]:
    """Return the shift of one channel to sub-pixel, in high pixels, and whether the channel matches at all.

    Parameters
    ----------
    low
        (Y, X) counts.
    coarse
        Its shift is returned for a channel in which low and high have nothing in common.
    """
    shape = (low.shape[0] * factor, low.shape[1] * factor)
    image, covered = mosaic.render((0, 0), shape, coarse.shift_yx_px)
    blurred = ndimage.gaussian_filter(image, 0.5 * factor + 0.5)
    side = HIGH_PASS_LOW_PX * factor + 1
    fade = _fade(covered)
    fine = upsample(low.astype(np.float32), factor)
    (dy, dx), correlation = small_shift(
        high_pass(fine, covered, side) * fade, high_pass(blurred, covered, side) * fade, FINE_SEARCH_PX
    )
    row, column = coarse.shift_yx_px
    if correlation < MIN_CORRELATION:
        return (float(row), float(column)), False
    return (row + dy, column + dx), True


def _fade(covered: FloatArray) -> FloatArray:
    """Return a Hann window over the bounding box of what is covered, (Y, X)."""
    sides = []
    for axis in (1, 0):
        inside = np.flatnonzero(covered.any(axis=axis))
        window = np.zeros(covered.shape[1 - axis], dtype=np.float32)
        if inside.size:
            window[inside[0] : inside[-1] + 1] = np.hanning(inside[-1] - inside[0] + 3)[1:-1]
        sides.append(window)
    return np.outer(*sides) * covered
