"""What blurred an image: point spread functions on a pixel grid, and a point spread function as an operator.

The PSFs are pure functions of the optics: the in-focus scalar ones (Born & Wolf, Principles of Optics,
section 8.5.2: the Airy pattern). As an operator a PSF works on images that were extended by reflection, where
blurring is exactly circular. Knows no deconvolution.
"""

from typing import Any

import numpy as np
import torch
from scipy import fft
from scipy.special import j1
from torch import Tensor

from training.evaluation.not_measurable import NotMeasurableError, check_image

__all__ = ["Blur", "Observation", "born_wolf_psf", "check_psf", "effective_psf"]

FloatImage = np.ndarray[Any, np.dtype[np.float32]]
Array = np.ndarray[Any, np.dtype[Any]]
OVERSAMPLING = 9
"""Points across a high pixel at which the Airy pattern is summed; odd, so that one lies on the axis."""
RADIUS_PX = 16
SUM_TOLERANCE = 1e-4
"""How far from 1 a PSF may sum, which is more than float32 errs."""


def born_wolf_psf(numerical_aperture: float, emission_nm: float, pixel_size_um: float) -> FloatImage:
    """Return the Airy pattern at the pixels' centres: the PSF that the paper deconvolved with.

    Wang et al. 2019, Methods, "Image deconvolution": NA 0.4, refractive index 1.0, pixel 325 nm, emission
    630, 532 and 450 nm. Neither the camera pixel nor the upsampling is in it. The refractive index enters the
    Born & Wolf model with the defocus alone, so that in focus there is none to give.

    Returns
    -------
    FloatImage
        (33, 33) float32, centred, sum 1. What lies beyond 16 px is left out (2 to 3 % of the light at the
        paper's settings).
    """
    axis_um = np.arange(-RADIUS_PX, RADIUS_PX + 1) * pixel_size_um
    return _normalised(_airy(axis_um, numerical_aperture, emission_nm))


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
    radius = (RADIUS_PX + factor) * OVERSAMPLING
    axis_um = np.arange(-radius, radius + 1) * (high_pixel_size_um / OVERSAMPLING)
    airy = _airy(axis_um, numerical_aperture, emission_nm)
    box = np.ones(factor * OVERSAMPLING) / (factor * OVERSAMPLING)
    triangle = np.convolve(box, box) if factor > 1 else np.ones(1)
    blurred = _separable(_separable(airy, box), triangle)
    picks = radius + OVERSAMPLING * np.arange(-RADIUS_PX, RADIUS_PX + 1)
    return _normalised(blurred[np.ix_(picks, picks)])


def _airy(axis_um: Array, numerical_aperture: float, emission_nm: float) -> Array:
    """Return (2 J1(v) / v)^2 on a square grid, v = 2 pi NA r / wavelength; 1 in the middle."""
    r_um = np.hypot(*np.meshgrid(axis_um, axis_um))
    v = 2 * np.pi / (emission_nm / 1000) * numerical_aperture * np.maximum(r_um, 1e-9)
    pattern: Array = (2 * j1(v) / v) ** 2
    return pattern


def _separable(image: Array, kernel: Array) -> Array:
    for axis in (0, 1):
        image = np.apply_along_axis(np.convolve, axis, image, kernel, "same")
    return image


def _normalised(psf: Array) -> FloatImage:
    normalised: FloatImage = (psf / psf.sum()).astype(np.float32)
    return normalised


def check_psf(psf: Array) -> None:
    """Raise ValueError, which names what is wrong, for a PSF that no light could have."""
    if psf.ndim != 2 or psf.shape[0] % 2 == 0 or psf.shape[1] % 2 == 0:
        msg = f"the PSF is {psf.shape}; it must be (Y, X) with odd sides, so that one pixel is its centre"
        raise ValueError(msg)
    if not np.isfinite(psf).all() or psf.min() < 0:
        msg = f"the PSF holds {psf.min():g}; none of its pixels may be negative or no number"
        raise ValueError(msg)
    total = float(psf.sum(dtype=np.float64))
    if abs(total - 1) > SUM_TOLERANCE:
        msg = f"the PSF sums to {total:g}, not to 1; divide it by its sum, or intensities are lost"
        raise ValueError(msg)


class Blur:
    """A point spread function as a circular operator on extended images, (B, H, W) float32.

    H and W exceed the image's sides by a PSF's side less one, or more. The strip that is added mirrors the
    nearer border, so that no step stands where the image is looked at.
    """

    def __init__(self, psf: FloatImage, shape_yx: tuple[int, int], device: str | torch.device) -> None:
        check_psf(psf)
        self._shape_yx = shape_yx
        self._extended_yx = [
            fft.next_fast_len(side + kernel - 1, real=True)
            for side, kernel in zip(shape_yx, psf.shape, strict=True)
        ]
        whole = np.zeros(self._extended_yx, np.float32)
        whole[: psf.shape[0], : psf.shape[1]] = psf
        whole = np.roll(whole, (-(psf.shape[0] // 2), -(psf.shape[1] // 2)), axis=(0, 1))
        self.transfer = torch.fft.rfft2(torch.from_numpy(whole).to(device))  # (H, W / 2 + 1)
        self._conjugate = self.transfer.conj().resolve_conj()

    def apply(self, extended: Tensor) -> Tensor:
        """Return the image as the microscope would show it, (B, H, W)."""
        return self.filtered(extended, self.transfer)

    def adjoint(self, extended: Tensor) -> Tensor:
        """Return the correlation with the PSF, (B, H, W)."""
        return self.filtered(extended, self._conjugate)

    @staticmethod
    def filtered(extended: Tensor, spectrum: Tensor) -> Tensor:
        """Return the image times a spectrum (H, W / 2 + 1), complex or real."""
        filtered: Tensor = torch.fft.irfft2(torch.fft.rfft2(extended).mul_(spectrum), s=extended.shape[-2:])
        return filtered

    def extend(self, images: Tensor) -> Tensor:
        """Return images (B, Y, X) with the strip added below and on the right, (B, H, W)."""
        for axis, length in zip((-2, -1), self._extended_yx, strict=True):
            shown = _mirrored(images.shape[axis], length)
            images = images.index_select(axis, torch.from_numpy(shown).to(images.device))
        return images

    def crop(self, extended: Tensor) -> Tensor:
        """Return what lies in the image, (B, Y, X)."""
        return extended[..., : self._shape_yx[0], : self._shape_yx[1]]


def _mirrored(side: int, length: int) -> Array:
    """Return which pixel of the image each position shows, (length,); the border pixel stands twice."""
    position = np.arange(length)
    position[side + (length - side) // 2 :] -= length  # this half lies before the next period's first pixel
    within = position % (2 * side)
    return np.minimum(within, 2 * side - 1 - within)


class Observation:
    """A blurred image on a device: extended, with the operator that blurred it, and the way back.

    Raises
    ------
    NotMeasurableError
        When an image holds NaN or infinity, one value alone, or nothing above zero.
    ValueError
        When the image is not (Y, X) or (B, Y, X), or the PSF has an even side, a negative pixel or another
        sum than 1.
    """

    def __init__(self, image: FloatImage, psf: FloatImage, device: str | torch.device) -> None:
        if image.ndim not in (2, 3):
            msg = f"the image has shape {image.shape}; expected (Y, X) or (B, Y, X)"
            raise ValueError(msg)
        planes = image.reshape(-1, *image.shape[-2:])  # (B, Y, X)
        for number, plane in enumerate(planes):
            _check_light(plane, "the image" if image.ndim == 2 else f"image {number} of the batch")
        self.blur = Blur(psf, (image.shape[-2], image.shape[-1]), device)
        light = np.maximum(planes, 0).astype(np.float32)
        self.extended = self.blur.extend(torch.from_numpy(light).to(device))
        """(B, H, W) float32; what was negative is zero."""
        self._shape = image.shape

    def result(self, estimate: Tensor) -> FloatImage:
        """Return an estimate (B, H, W) in the shape that the image had."""
        cropped: FloatImage = self.blur.crop(estimate).reshape(self._shape).cpu().numpy()
        return cropped


def _check_light(plane: FloatImage, what: str) -> None:
    check_image(plane, what)
    if plane.max() <= 0:
        msg = f"{what} holds no light: none of its pixels is above zero"
        raise NotMeasurableError(msg)
