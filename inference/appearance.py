"""What the specimen of a frame looks like, in nine numbers: how fine its detail is, how much there is of it.

Defocus takes away fine detail; another specimen has other detail, or more or less of it. The numbers are
logarithms of ratios, so that neither the light nor the camera's counts matter. Pure functions of arrays;
knows no limits.
"""

from functools import lru_cache
from typing import Any

import numpy as np
from scipy import fft

__all__ = ["LEAST_SIDE_PX", "NUMBERS", "PERIODS_PX", "appearance", "cosines"]

BANDS = 8
EDGES_PER_PX = np.geomspace(1 / 32, 1 / 2, BANDS + 1)
"""Cycles per pixel, half an octave a band: what is coarser varies from field to field."""
PERIODS_PX = tuple(float(period) for period in 1 / EDGES_PER_PX[1:-1])
"""Of the detail that lies between two neighbouring bands."""
NUMBERS = len(PERIODS_PX) + 2
LEAST_SIDE_PX = 32
TINY = 1e-12

Image = np.ndarray[Any, np.dtype[Any]]
FloatImage = np.ndarray[Any, np.dtype[np.float32]]


def cosines(image: Image) -> FloatImage:
    """Return the orthonormal cosine series of an image (Y, X), beyond its edges its own mirror image."""
    spectrum: FloatImage = fft.dctn(image.astype(np.float32), norm="ortho", overwrite_x=True)
    return spectrum


def appearance(spectrum: FloatImage, bright: float) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Return the nine numbers of a frame.

    Parameters
    ----------
    spectrum
        (Y, X) cosine series of the frame above its background, 32 px or more to a side.
    bright
        Its 99.9th percentile above the background.

    Returns
    -------
    array
        (9,): of each two neighbouring bands, from coarse to fine, the logarithm of the finer one's power over
        the coarser one's; the logarithm of the detail in all bands (RMS) over the mean; that of the mean over
        the bright level.
    """
    bands, sizes = _bands((spectrum.shape[0], spectrum.shape[1]))
    power = np.bincount(bands, weights=np.square(spectrum).ravel(), minlength=BANDS + 2)[1:-1]
    falls = np.diff(np.log(power / sizes + TINY))
    mean = float(spectrum[0, 0]) / np.sqrt(spectrum.size)
    detail = np.sqrt(power.sum() / spectrum.size)
    cover = np.log((mean + TINY) / (bright + TINY)) if bright > 0 else 0.0
    return np.array([*falls, np.log((detail + TINY) / (mean + TINY)), cover])


@lru_cache(maxsize=8)
def _bands(
    shape_yx: tuple[int, int],
) -> tuple[np.ndarray[Any, np.dtype[np.intp]], np.ndarray[Any, np.dtype[np.intp]]]:
    """Return the band of every cosine (Y X,), 0 and 9 for none, and how many are in each of the eight."""
    y, x = (np.arange(length) / (2 * length) for length in shape_yx)
    bands = np.digitize(np.hypot(y[:, np.newaxis], x).ravel(), EDGES_PER_PX)
    return bands, np.maximum(np.bincount(bands, minlength=BANDS + 2)[1:-1], 1)
