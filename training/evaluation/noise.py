"""Background, noise and signal-to-noise ratio of one image.

METHOD, "What the paper compares", lists the SNR of input, output and truth. Pure functions of arrays: what is
background is told from the image alone.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import ndimage, special

from training.evaluation.not_measurable import NotMeasurableError, check_image, check_side

__all__ = ["BackgroundNoise", "background_noise", "signal_to_noise"]

Image = np.ndarray[Any, np.dtype[Any]]

TILE_PX = 16
"""Side of the squares whose darkest are background: they fit between cells, and hold 256 values each."""
DARKEST = 0.1
"""The share of the squares that is taken for background."""
LEAST_SIDE_PX = 3 * TILE_PX
BRIGHTEST = 0.005
"""The share of the pixels that is taken for bright structure."""
SMOOTH_PX = 1.5
"""Sigma of the surroundings by which bright structure is told."""
ROUNDING = 1e-7
"""Of the largest value, below which a spread is that of single precision."""
CUT_FROM, CUT_TO = 0.05, 0.9
"""The share of the background at the image's lowest value, from which it is taken for cut off there, and to
which something of its noise is left."""


@dataclass(frozen=True, slots=True)
class BackgroundNoise:
    """What an image shows where there is nothing, in its own units."""

    level: float
    std: float


def background_noise(image: Image) -> BackgroundNoise:
    """Return the mean and the standard deviation of the background.

    The image is cut into squares of 16 px; the darkest tenth of them, by their mean, is background. The level
    is the median of their means, the noise the median of their standard deviations: shading wider than a
    square does not count, nor does a square with a spot in it.

    Preprocessing subtracts the background and sets to zero what falls below (METHOD, "Preprocessing"), which
    takes away half of the noise. Where a part of the background stands at the image's lowest value, mean and
    standard deviation are those of the normal distribution that was cut off there. (Of a photon counter that
    sees few photons in the background the noise comes out too high: 1.2-fold at 2 a pixel, 1.7-fold at 1.)

    Parameters
    ----------
    image
        (Y, X), 48 px or more to a side. Where less than a tenth is empty, the noise found holds structure.

    Raises
    ------
    NotMeasurableError
        Of an image that is too small, constant or holds NaN, and of a background without noise.
    """
    check_image(image)
    check_side(image, LEAST_SIDE_PX)
    tiles = _tiles(image)  # (N, P)
    means = tiles.mean(axis=1)
    tiles = tiles[means <= np.quantile(means, DARKEST)]
    lowest = float(image.min())
    cut = float(np.mean(tiles == lowest))
    if cut > CUT_TO:
        msg = f"the background of the image shows no noise: {cut:.0%} of it stands at the lowest value"
        raise NotMeasurableError(msg)
    found = _uncut(tiles, lowest, cut) if cut >= CUT_FROM else _whole(tiles)
    if found.std <= ROUNDING * float(np.abs(image).max()):
        msg = "the background of the image shows no noise"
        raise NotMeasurableError(msg)
    return found


def signal_to_noise(image: Image) -> float:
    """Return the signal-to-noise ratio: bright structure less background, over the noise of the background.

    (s - b) / sigma_b, with b and sigma_b of `background_noise`, and s the mean of the half per cent of the
    pixels that have the brightest surroundings. For beads s is usually the height of a fitted spot; this
    holds for filaments and nuclei too. Surroundings are a Gaussian of 1.5 px without the pixel itself, so
    that no pixel is chosen for its own noise: an image of white noise has a ratio of 0, not of 3.

    Parameters
    ----------
    image
        (Y, X), 48 px or more to a side.

    Raises
    ------
    NotMeasurableError
        Of an image that is too small, constant or holds NaN, and of a background without noise.
    """
    background = background_noise(image)
    return (_bright(image) - background.level) / background.std


def _tiles(image: Image) -> Image:
    """Return the values of whole squares, (N, P) float64; what is left over at two sides does not count."""
    rows, columns = (side // TILE_PX for side in image.shape)
    whole = image[: rows * TILE_PX, : columns * TILE_PX].astype(np.float64)
    cut = whole.reshape(rows, TILE_PX, columns, TILE_PX).swapaxes(1, 2)  # (rows, columns, TILE, TILE)
    return cut.reshape(rows * columns, TILE_PX**2)


def _whole(tiles: Image) -> BackgroundNoise:
    std = np.median(tiles.std(axis=1, ddof=1))
    return BackgroundNoise(level=float(np.median(tiles.mean(axis=1))), std=float(std))


def _uncut(tiles: Image, lowest: float, cut: float) -> BackgroundNoise:
    """Return mean and standard deviation of a normal distribution of which a share stands at its cut.

    With z the place of the cut in standard deviations, share = Phi(z), and the mean above the cut is
    std * (phi(z) - z (1 - Phi(z))).
    """
    z = float(special.ndtri(cut))
    density = np.exp(-0.5 * z**2) / np.sqrt(2 * np.pi)
    std = float(np.median(tiles.mean(axis=1)) - lowest) / (density - z * (1 - cut))
    return BackgroundNoise(level=lowest - z * std, std=std)


def _bright(image: Image) -> float:
    """Return the mean of the pixels with the brightest surroundings."""
    values = image.astype(np.float64)
    bell = np.exp(-0.5 * (np.arange(-6, 7) / SMOOTH_PX) ** 2)
    own = (bell.max() / bell.sum()) ** 2
    surroundings = ndimage.gaussian_filter(values, SMOOTH_PX) - own * values
    count = max(int(BRIGHTEST * values.size), 1)
    chosen = np.argpartition(surroundings, -count, axis=None)[-count:]
    return float(values.flat[chosen].mean())
