"""Decorrelation analysis: the resolution of one image, without a truth and without a second acquisition.

Descloux, Grussmayer & Radenovic, Nature Methods 16, 918-924 (2019). An image is correlated with itself after
every Fourier coefficient was given the same weight, within a growing radius: signal raises the correlation,
noise lowers it, and the peak lies where noise takes over. High-pass filters of many widths move that peak
outwards; where it comes farthest is the finest detail that stands above the noise.

Owns the analysis alone. All that it needs of the image are sums over the rings of `spectrum`, so that it
works on every ring instead of the paper's 50 radii. Pure functions of arrays.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from training.evaluation.not_measurable import NotMeasurableError, check_image, check_side
from training.evaluation.spectrum import ring_frequencies, ring_sums, tapered_transform

__all__ = ["Decorrelation", "decorrelation"]

Image = np.ndarray[Any, np.dtype[Any]]
FloatArray = np.ndarray[Any, np.dtype[np.float64]]

LEAST_SIDE_PX = 64
EDGE_PX = 20
"""Along every side, on which the image falls to its mean (the paper's apodisation)."""
FILTERS = 10
"""High-pass filters tried, and as many again between the neighbours of the best (the paper's number)."""
FINEST_FILTER_PX = 0.15
"""Of the Gaussians that are taken off, the sigma of the narrowest: below it nothing of the image is left."""
LEAST_FALL = 1e-3
"""Of the correlation beyond a peak; less is rounding, or the trace of an interpolation (the authors'
programme)."""
LEAST_PEAK = 0.05
"""Of the correlation at a peak, for it to count (the authors' programme)."""


@dataclass(frozen=True, slots=True)
class Decorrelation:
    """What the analysis finds in one image."""

    resolution_px: float
    """A period, px: 2 is the least. Times the pixel size it is in um."""
    contrast: float
    """Height of the peak before any filter, 0 (none) to 1; it rises with the signal-to-noise ratio."""


def decorrelation(image: Image) -> Decorrelation:
    """Return the resolution of an image, from the image alone.

    With F the Fourier transform, the correlation within radius r is d(r) = sum_r |F| / sqrt(sum |F|**2 N_r)
    (Descloux 2019, equation 1): sum_r over the N_r pixels within r, the other sum over all within 0.5 cycles
    per px. It is taken of the image, and of the image less itself blurred by Gaussians of sigma between 0.15
    px and the period of the first peak. The resolution is the period of the outermost of all peaks.

    Parameters
    ----------
    image
        (Y, X), 64 px or more to a side.

    Raises
    ------
    NotMeasurableError
        Of an image that is too small, constant or holds NaN, and where the correlation has no peak: it is
        mostly noise, or holds structure down to 2 px.
    """
    check_image(image)
    check_side(image, LEAST_SIDE_PX)
    transform, _ = tapered_transform(image, min(1.0, 2 * EDGE_PX / min(image.shape)))
    power = transform.real**2 + transform.imag**2
    rings = _Rings(
        ring_frequencies(image.shape),
        ring_sums(np.sqrt(power), image.shape)[0],
        *ring_sums(power, image.shape),
    )
    plain_per_px, contrast = rings.peak(None)
    finest_per_px = max(plain_per_px, _finest(rings, _widest_px(plain_per_px, image)))
    if finest_per_px == 0:
        msg = "the image has no decorrelation peak: it is mostly noise, or as sharp as its pixels"
        raise NotMeasurableError(msg)
    return Decorrelation(1 / finest_per_px, contrast)


@dataclass(frozen=True, slots=True)
class _Rings:
    """Sums over the rings of the Fourier plane, (N,) each."""

    frequency_per_px: FloatArray
    amplitude: FloatArray
    power: FloatArray
    pixels: FloatArray

    def peak(self, sigma_px: float | None) -> tuple[float, float]:
        """Return place (cycles per px) and height of the peak after a high-pass; zeros without a peak."""
        passed = np.ones_like(self.power)
        if sigma_px is not None:
            passed -= np.exp(-2 * (np.pi * sigma_px * self.frequency_per_px) ** 2)
        total = np.sqrt((self.power * passed**2).sum())
        if total == 0:
            return 0.0, 0.0
        correlation = np.cumsum(self.amplitude * passed) / (total * np.sqrt(np.cumsum(self.pixels)))
        lowest_beyond = np.minimum.accumulate(correlation[::-1])[::-1]
        falls = (correlation - lowest_beyond > LEAST_FALL) & (correlation >= LEAST_PEAK)
        if not falls.any():
            return 0.0, 0.0
        place = int(np.argmax(np.where(falls, correlation, 0.0)))
        return float(self.frequency_per_px[place]), float(correlation[place])


def _widest_px(plain_per_px: float, image: Image) -> float:
    """Return the sigma of the widest Gaussian to try, px."""
    return 1 / plain_per_px if plain_per_px > 0 else max(image.shape) / 2


def _finest(rings: _Rings, widest_px: float) -> float:
    """Return the outermost peak over all high-pass filters, cycles per px; 0 where there is none."""
    sigmas_px = np.geomspace(max(widest_px, 2 * FINEST_FILTER_PX), FINEST_FILTER_PX, FILTERS)
    places = [rings.peak(sigma_px)[0] for sigma_px in sigmas_px]
    best = int(np.argmax(places))
    first, last = max(best - 1, 0), min(best + 1, FILTERS - 1)
    between = np.geomspace(sigmas_px[first], sigmas_px[last], FILTERS)
    return max(*places, *(rings.peak(sigma_px)[0] for sigma_px in between))
