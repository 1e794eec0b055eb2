"""Fourier ring correlation: to which detail two images of the same field agree.

Two independent acquisitions agree where the signal stands above the noise, which is a resolution that counts
noise as well as optics (Saxton & Baumeister, Journal of Microscopy 127, 127-138 (1982); Nieuwenhuizen et al.,
Nature Methods 10, 557-562 (2013)). An output and its truth agree where the output's detail lies at its right
place. Pure functions of arrays; the rings are those of `spectrum`.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from training.evaluation.not_measurable import NotMeasurableError, check_pair, check_side
from training.evaluation.spectrum import HANN, ring_frequencies, ring_sums, tapered_transform

__all__ = ["ONE_SEVENTH", "RingCorrelation", "resolution_px", "ring_correlation", "two_sigma"]

Image = np.ndarray[Any, np.dtype[Any]]
FloatArray = np.ndarray[Any, np.dtype[np.float64]]

ONE_SEVENTH = 1 / 7
"""The threshold for two independent halves of what was acquired (Nieuwenhuizen 2013)."""
LEAST_SIDE_PX = 32
SMOOTHING = np.array([1, 2, 1]) / 4
"""Over three rings. The span of a twentieth of the curve (Nieuwenhuizen 2013) would move a sharp cutoff at
0.1 cycles per px by a tenth."""


@dataclass(frozen=True, slots=True)
class RingCorrelation:
    """How well two images agree at each spatial frequency."""

    frequency_per_px: FloatArray
    """(N,) cycles per px, to 0.5 (Nyquist)."""
    correlation: FloatArray
    """(N,) from -1 to 1, not smoothed."""
    pixels: FloatArray
    """(N,) of the Fourier plane on each ring, both halves."""


def ring_correlation(first: Image, second: Image) -> RingCorrelation:
    """Return the Fourier ring correlation of two images.

    FRC(k) = Re sum(F1 conj(F2)) / sqrt(sum |F1|**2 sum |F2|**2), sums over the ring of radius k
    (Nieuwenhuizen 2013, equation 1), under a Hann window: one that falls faster leaks signal across the
    cutoff, where the same leak in both images is taken for agreement. Intensities need no fit: a gain
    cancels, and an offset is taken off.

    Parameters
    ----------
    first, second
        (Y, X) both, 32 px or more to a side, of the same field on the same grid.

    Raises
    ------
    NotMeasurableError
        Of images that are too small, constant, hold NaN or differ in shape.
    """
    check_pair(first, second)
    check_side(first, LEAST_SIDE_PX)
    one, two = (tapered_transform(image, HANN)[0] for image in (first, second))
    shape_yx = first.shape
    cross, pixels = ring_sums(one.real * two.real + one.imag * two.imag, shape_yx)
    power_one, power_two = (ring_sums(each.real**2 + each.imag**2, shape_yx)[0] for each in (one, two))
    power = np.sqrt(power_one * power_two)
    # Where one image holds nothing at all, it agrees with nothing.
    correlation = np.divide(cross, power, out=np.zeros_like(cross), where=power > 0)
    return RingCorrelation(ring_frequencies(shape_yx), correlation, pixels)


def two_sigma(curve: RingCorrelation) -> FloatArray:
    """Return the correlation, (N,), that two images of pure noise exceed on one ring in 44.

    2 / sqrt(n / 2) for n pixels on a ring, of which half mirror the other (Saxton & Baumeister 1982). Without
    a window two standard deviations are 2 / sqrt(n); the Hann window, which ties neighbours, brings them to
    0.93 to 1.05 of this figure.
    """
    return np.asarray(2 / np.sqrt(curve.pixels / 2))


def resolution_px(curve: RingCorrelation, threshold: float | FloatArray = ONE_SEVENTH) -> float:
    """Return the resolution: the period at which the smoothed curve first falls below a threshold.

    The curve is averaged over three rings with weights 1, 2 and 1, each ring by its pixels. The place between
    two rings is found on the straight line through them.

    Parameters
    ----------
    curve
        Of `ring_correlation`.
    threshold
        One number, 1/7 by default, or one for each ring, (N,), as `two_sigma` returns. 1/7 is meant for two
        independent acquisitions of the same kind; against a noise-free truth it is lenient.

    Returns
    -------
    float
        px, a period: 2 is the least that an image can show. Times the pixel size it is in um.

    Raises
    ------
    NotMeasurableError
        Of a curve that never rises above the threshold, or never falls below it.
    """
    above = _smooth(curve) - threshold
    start = _first(above >= 0)
    if start is None or start > above.size // 4:
        # A ring far out rises above the threshold by chance; the coarsest ones are few and noisy.
        highest = _smooth(curve).max()
        msg = f"the images agree in no detail: their ring correlation is {highest:.2f} at most"
        raise NotMeasurableError(msg)
    fallen = _first(above[start:] < 0)
    if fallen is None:
        msg = (
            "the images agree down to 2 px, the finest that their pixels can show; the resolution is not seen"
        )
        raise NotMeasurableError(msg)
    after = start + fallen
    before = after - 1
    share = above[before] / (above[before] - above[after])
    low, high = curve.frequency_per_px[[before, after]]
    return float(1 / (low + share * (high - low)))


def _smooth(curve: RingCorrelation) -> FloatArray:
    # Each ring counts by its pixels, and beyond the ends there are none.
    weighted = np.convolve(curve.correlation * curve.pixels, SMOOTHING, "same")
    return np.asarray(weighted / np.convolve(curve.pixels, SMOOTHING, "same"))


def _first(where: np.ndarray[Any, np.dtype[np.bool_]]) -> int | None:
    return int(np.argmax(where)) if where.any() else None
