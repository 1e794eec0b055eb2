"""Focus scores: pure functions of an image, larger where it is sharper.

Owns what "sharp" means. `gradient_energy` is the one in use: the only one of them whose noise is known, so
that an empty field can be told from a faint one, and whose expectation noise does not raise, so that a weak
exposure finds the same plane as a strong one. The others are the field's usual ones, for comparison
(`bench/autofocus.py --scores`): they have the same peak on well-lit cells, and lose it sooner in weak light.

Every score takes the image, (Y, X) counts, and the standard deviation of a Gaussian by which it is smoothed
first, in camera pixels: the detail at which it is judged.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.fft import dctn
from scipy.ndimage import gaussian_filter, laplace, sobel

__all__ = [
    "SCORES",
    "Sharpness",
    "brenner",
    "dct_entropy",
    "gradient_energy",
    "laplacian_energy",
    "normalised_variance",
    "tenengrad",
]

Image = np.ndarray[Any, np.dtype[Any]]
FloatImage = np.ndarray[Any, np.dtype[np.float32]]


@dataclass(frozen=True, slots=True)
class Sharpness:
    """A focus score."""

    value: float
    noise: float = 0.0
    """Standard deviation that shot and read noise alone give the value; 0 where it is not known."""
    energy: float = 0.0
    """Of `gradient_energy`: the value before it is divided by the squared mean, in counts squared. It grows
    with the square of the exposure, and the camera's offset does not enter."""


def gradient_energy(image: Image, smoothing_px: float) -> Sharpness:
    """Return the mean squared gradient over the squared mean, without what noise adds to it.

    The pixels of each 2 x 2 block are summed along its two diagonals, into two images of the same view whose
    noise is independent. The product of their gradients has the squared gradient for its mean, and nothing of
    the noise; their difference tells how much noise there is.
    """
    one, other = _diagonals(image)
    mean = max(float(one.mean()), 1e-6)
    sigma = smoothing_px / 2  # of an image half as wide
    product, spread = 0.0, 0.0
    for axis in (0, 1):
        a, b = (_slope(part, sigma, axis) for part in (one, other))
        product += float(np.mean(a * b))
        spread += (float(np.var(a - b)) / 2) ** 2
    independent = max(one.size / (4 * np.pi * max(sigma, 0.4) ** 2), 1.0)
    return Sharpness(product / mean**2, float(np.sqrt(spread / independent)) / mean**2, product)


def _diagonals(image: Image) -> tuple[FloatImage, FloatImage]:
    height, width = (side // 2 * 2 for side in image.shape)
    even = image[:height, :width].astype(np.float32)
    return (
        even[0::2, 0::2] + even[1::2, 1::2],
        even[0::2, 1::2] + even[1::2, 0::2],
    )


def _slope(image: FloatImage, sigma: float, axis: int) -> FloatImage:
    """Return the derivative of the smoothed image along one axis, a border left out."""
    order = (1, 0) if axis == 0 else (0, 1)
    slope = gaussian_filter(image, max(sigma, 0.4), order=order, mode="nearest", truncate=3)
    border = min(int(3 * sigma) + 1, min(image.shape) // 4)
    return np.asarray(slope[border:-border, border:-border])


def normalised_variance(image: Image, smoothing_px: float) -> Sharpness:
    """Return the variance over the squared mean (Groen, Young & Ligthart 1985)."""
    smooth = _smooth(image, smoothing_px)
    return Sharpness(float(smooth.var()) / _mean_squared(smooth))


def brenner(image: Image, smoothing_px: float) -> Sharpness:
    """Return the mean squared difference over two pixels, over the squared mean (Brenner et al. 1976)."""
    smooth = _smooth(image, smoothing_px)
    energy = np.mean((smooth[2:] - smooth[:-2]) ** 2) + np.mean((smooth[:, 2:] - smooth[:, :-2]) ** 2)
    return Sharpness(float(energy) / _mean_squared(smooth))


def tenengrad(image: Image, smoothing_px: float) -> Sharpness:
    """Return the mean squared Sobel gradient over the squared mean (Tenenbaum 1970)."""
    smooth = _smooth(image, smoothing_px)
    energy = np.mean(sobel(smooth, 0) ** 2) + np.mean(sobel(smooth, 1) ** 2)
    return Sharpness(float(energy) / _mean_squared(smooth))


def laplacian_energy(image: Image, smoothing_px: float) -> Sharpness:
    """Return the mean squared Laplacian over the squared mean (Subbarao, Choi & Nikzad 1993)."""
    smooth = _smooth(image, smoothing_px)
    return Sharpness(float(np.mean(laplace(smooth) ** 2)) / _mean_squared(smooth))


def dct_entropy(image: Image, smoothing_px: float) -> Sharpness:
    """Return the Shannon entropy of the normalised cosine spectrum inside a band (Royer et al. 2016).

    The band reaches to the frequency that the smoothing halves; of a flat spectrum the entropy is largest.
    """
    spectrum = np.abs(dctn(image.astype(np.float32), norm="ortho"))
    rows, columns = (np.arange(side) / (2 * side) for side in image.shape)
    band = np.hypot(rows[:, np.newaxis], columns) < 0.19 / max(smoothing_px, 0.4)
    share = spectrum[band] / max(float(np.sqrt((spectrum[band] ** 2).sum())), 1e-12)
    inside = share[share > 0]
    return Sharpness(float(-(inside * np.log2(inside)).sum()) / band.sum())


def _smooth(image: Image, smoothing_px: float) -> FloatImage:
    return np.asarray(gaussian_filter(image.astype(np.float32), smoothing_px, mode="nearest", truncate=3))


def _mean_squared(image: FloatImage) -> float:
    return max(float(image.mean()), 1e-6) ** 2


SCORES: dict[str, Callable[[Image, float], Sharpness]] = {
    "gradient energy": gradient_energy,
    "normalised variance": normalised_variance,
    "Brenner": brenner,
    "Tenengrad": tenengrad,
    "Laplacian energy": laplacian_energy,
    "DCT entropy": dct_entropy,
}
