"""The fine structure of a tile by which two tiles are compared, and how much of it is noise.

Owns the two scales of comparison. Pure functions of arrays; knows nothing of places.
"""

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from training.pairing.sampling import FloatArray, Image, high_pass

__all__ = ["COARSE", "FINE", "TextureScale", "texture"]

_NOISE_MASK = np.array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]], dtype=np.float32) / 6


@dataclass(frozen=True, slots=True)
class TextureScale:
    """Which structure of a tile is compared: finer than a box, coarser than a pixel's noise."""

    smoothing_px: float
    """Against pixel noise, which two tiles do not share."""
    high_pass_px: int
    margin_px: int
    """Around the strip, so that its filtered border is that of the tile."""


COARSE = TextureScale(smoothing_px=1.5, high_pass_px=31, margin_px=31)
"""To find the place, of however dim a specimen."""
FINE = TextureScale(smoothing_px=0.7, high_pass_px=15, margin_px=0)
"""To find it exactly. Both strips then end at the same place of the specimen, and what the filters do there
they do to both."""


def texture(tile: Image, window: tuple[slice, slice], scale: TextureScale) -> tuple[FloatArray, float]:
    """Return the fine structure of a window of a tile, and its noise.

    Parameters
    ----------
    tile
        (C, Y, X) counts.

    Returns
    -------
    tuple
        (C, Y, X), each channel of unit standard deviation, and the share of its variance that may be the
        pixels' noise: measured by a mask that a plane or an edge leaves at zero (Immerkaer, Comput. Vis.
        Image Underst. 64, 300 (1996)), here as a mean square, so that the finest structure counts as noise
        as well.
    """
    padded = tuple(
        slice(max(0, span.start - scale.margin_px), min(size, span.stop + scale.margin_px))
        for span, size in zip(window, tile.shape[-2:], strict=True)
    )
    inner = tuple(
        slice(span.start - outer.start, span.stop - outer.start)
        for span, outer in zip(window, padded, strict=True)
    )
    planes, shares = [], []
    for plane in tile[..., padded[0], padded[1]]:
        counts = plane.astype(np.float32)
        smooth = ndimage.gaussian_filter(counts, scale.smoothing_px)
        fine = high_pass(smooth, np.ones(smooth.shape, dtype=np.float32), scale.high_pass_px)[inner]
        fine -= fine.mean()
        variance = max(float(fine.var()), 1e-12)
        noise = float((ndimage.convolve(counts, _NOISE_MASK)[1:-1, 1:-1] ** 2).mean())
        shares.append(min(1.0, noise / (4 * np.pi * scale.smoothing_px**2) / variance))
        planes.append(fine / np.float32(variance**0.5))
    return np.stack(planes), float(np.mean(shares))
