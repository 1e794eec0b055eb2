"""Lucy-Richardson deconvolution with a Born & Wolf point spread function: the baseline to beat.

Pure functions of arrays. The PSF is the in-focus scalar one (Airy pattern), convolved with the camera
pixel and with the kernel of the upsampling, which is what really blurred the image that is deconvolved.
Sources: Richardson 1972, Lucy 1974; Wang et al. 2019, Methods, "Image deconvolution".
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import fft
from scipy.special import j1

from training.evaluation.metrics import psnr_db

__all__ = ["BestDeconvolution", "best_richardson_lucy", "effective_psf", "richardson_lucy"]

FloatImage = np.ndarray[Any, np.dtype[np.float32]]
Array = np.ndarray[Any, np.dtype[Any]]
OVERSAMPLING = 9
"""Points across a high pixel at which the Airy pattern is summed; odd, so that one lies on the axis."""
RADIUS_PX = 16


def effective_psf(
    numerical_aperture: float, emission_nm: float, high_pixel_size_um: float, factor: int
) -> FloatImage:
    """Return what blurred the upsampled low image, on the high pixel grid.

    The Airy pattern of the low objective, integrated over the low camera pixel, then spread by the linear
    interpolation (a triangle one low pixel wide on either side).

    Returns
    -------
    FloatImage
        (33, 33) float32, centred, sum 1.
    """
    fine_um = high_pixel_size_um / OVERSAMPLING
    radius = (RADIUS_PX + factor) * OVERSAMPLING
    axis_um = np.arange(-radius, radius + 1) * fine_um
    r_um = np.hypot(*np.meshgrid(axis_um, axis_um))
    v = 2 * np.pi / (emission_nm / 1000) * numerical_aperture * np.maximum(r_um, 1e-9)
    airy = (2 * j1(v) / v) ** 2
    box = np.ones(factor * OVERSAMPLING) / (factor * OVERSAMPLING)
    triangle = np.convolve(box, box) if factor > 1 else np.ones(1)
    blurred = _separable(_separable(airy, box), triangle)
    centre = blurred.shape[0] // 2
    picks = centre + OVERSAMPLING * np.arange(-RADIUS_PX, RADIUS_PX + 1)
    psf: Array = blurred[np.ix_(picks, picks)]
    normalised: FloatImage = (psf / psf.sum()).astype(np.float32)
    return normalised


def _separable(image: Array, kernel: Array) -> Array:
    for axis in (0, 1):
        image = np.apply_along_axis(np.convolve, axis, image, kernel, "same")
    return image


def richardson_lucy(image: FloatImage, psf: FloatImage, iterations: int) -> Iterator[FloatImage]:
    """Yield the estimate after each iteration, (Y, X) float32.

    Parameters
    ----------
    image
        (Y, X), not negative. Extended by reflection while it is worked on, against ringing at the border.
    psf
        Odd sides, centred, sum 1.
    """
    margin = psf.shape[0]
    observed = np.pad(np.maximum(image, 0).astype(np.float32), margin, mode="symmetric")
    shape = [fft.next_fast_len(side, real=True) for side in observed.shape]
    transfer = _transfer(psf, shape)
    inside = (slice(margin, margin + image.shape[0]), slice(margin, margin + image.shape[1]))
    height, width = observed.shape
    floor = np.float32(1e-6 * max(float(observed.max()), 1e-6))
    padding = [(0, shape[0] - height), (0, shape[1] - width)]
    observed = np.pad(observed, padding, mode="edge").astype(np.float32)
    estimate: FloatImage = np.full_like(observed, observed.mean())
    for _ in range(iterations):
        ratio = (observed / np.maximum(_apply(estimate, transfer), floor)).astype(np.float32, copy=False)
        estimate = estimate * _apply(ratio, transfer.conj())
        yield estimate[inside]


def _transfer(psf: FloatImage, shape: list[int]) -> Array:
    whole = np.zeros(shape, dtype=np.float32)
    whole[: psf.shape[0], : psf.shape[1]] = psf
    whole = np.roll(whole, (-(psf.shape[0] // 2), -(psf.shape[1] // 2)), axis=(0, 1))
    transfer: Array = fft.rfft2(whole, workers=-1)
    return transfer


def _apply(image: FloatImage, transfer: Array) -> FloatImage:
    blurred: FloatImage = fft.irfft2(fft.rfft2(image, workers=-1) * transfer, s=image.shape, workers=-1)
    positive: FloatImage = np.maximum(blurred, np.float32(0))
    return positive


@dataclass(frozen=True, slots=True)
class BestDeconvolution:
    """The estimate that scores highest, which favours the baseline: in use, nobody has the truth."""

    image: FloatImage
    iterations: int


def best_richardson_lucy(
    image: FloatImage, truth: FloatImage, psf: FloatImage, most_iterations: int = 40
) -> BestDeconvolution:
    """Return the estimate, of 1 to `most_iterations` iterations, with the highest PSNR against the truth."""
    best = BestDeconvolution(image, 0)
    best_db = -np.inf
    for iteration, estimate in enumerate(richardson_lucy(image, psf, most_iterations), start=1):
        estimate_db = psnr_db(estimate, truth)
        if estimate_db > best_db:
            best_db, best = estimate_db, BestDeconvolution(estimate, iteration)
    return best
