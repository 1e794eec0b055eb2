"""Spatial-frequency content of an image: its radially averaged power spectrum, alone or against the truth's.

Owns the window, the rings of the Fourier plane and the sums over them; the ring correlation stands on the
same rings. Pure functions of arrays: knows no specimen, no microscope and no network, and fits no intensities
(an offset leaves no trace in a spectrum; a gain of g is g**2 of power: fit first where that must not count).

Where the power of an image stands below the truth's, detail is missing; where it stands above, noise or
invention has been added (METHOD, "What the paper compares": the spatial-frequency spectrum of input, output
and truth).
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import fft
from scipy.signal.windows import tukey

from training.evaluation.not_measurable import NotMeasurableError, check_image, check_pair, check_side

__all__ = [
    "Spectrum",
    "high_frequency_error_db",
    "power_spectrum",
    "ring_frequencies",
    "ring_sums",
    "spectrum_ratio",
    "tapered_transform",
]

Image = np.ndarray[Any, np.dtype[Any]]
FloatArray = np.ndarray[Any, np.dtype[np.float64]]
ComplexArray = np.ndarray[Any, np.dtype[np.complex128]]

LEAST_SIDE_PX = 16
"""Of an image, for a window to leave something of it and rings to hold pixels."""
HANN = 1.0
"""The share of either side on which the window falls (Tukey); all of it is the Hann window."""
ROUNDING = 1e-26
"""Of the strongest ring's power, below which a ring holds the rounding of double precision alone."""


@dataclass(frozen=True, slots=True)
class Spectrum:
    """What an image holds at each spatial frequency, averaged over all directions."""

    frequency_per_px: FloatArray
    """(N,) cycles per px, from the first ring to 0.5 (Nyquist); zero, the mean, is not among them."""
    power: FloatArray
    """(N,) in squared units of the image: white noise of variance v has power v on every ring."""

    def frequency_per_um(self, pixel_size_um: float) -> FloatArray:
        """Return the frequencies, (N,), in cycles per um."""
        return self.frequency_per_px / pixel_size_um


def power_spectrum(image: Image) -> Spectrum:
    """Return the radially averaged power spectrum of an image.

    P(k) is the mean of |F|**2 over the ring of radius k, F the Fourier transform of the image, less its mean,
    times a Hann window along either axis (without it, the jump between opposite edges fills the axes with
    power that is not in the image), over the sum of the squared window. Welch, IEEE Transactions on Audio and
    Electroacoustics 15, 70 (1967), with one segment.

    Parameters
    ----------
    image
        (Y, X), 16 px or more to a side.

    Returns
    -------
    Spectrum
        One ring for each multiple of 1 / min(Y, X) cycles per px.

    Raises
    ------
    NotMeasurableError
        Of an image that is too small, constant, or holds NaN.
    """
    check_image(image)
    check_side(image, LEAST_SIDE_PX)
    transform, gain = tapered_transform(image, HANN)
    power, pixels = ring_sums(transform.real**2 + transform.imag**2, image.shape)
    return Spectrum(ring_frequencies(image.shape), power / pixels / gain)


def spectrum_ratio(image: Image, truth: Image) -> Spectrum:
    """Return the power of an image over the truth's, on the same rings.

    Parameters
    ----------
    image, truth
        (Y, X) both, on the same grid.

    Returns
    -------
    Spectrum
        Its `power` is the ratio, without unit: 1 where the image holds what the truth holds.

    Raises
    ------
    NotMeasurableError
        Of images that are too small, constant, hold NaN or differ in shape, and where the truth holds nothing
        at some frequency.
    """
    check_pair(image, truth)
    have, want = power_spectrum(image), power_spectrum(truth)
    _check_holds(want, "the truth")
    return Spectrum(want.frequency_per_px, have.power / want.power)


def high_frequency_error_db(
    image: Image, truth: Image, low_per_px: float = 0.15, high_per_px: float = 0.5
) -> float:
    """Return how far the power of an image is from the truth's over a band of frequencies, dB.

    The mean over the rings of the band of |10 log10(P_image / P_truth)|: 0 where the image holds as much
    detail as the truth, 3 where it holds half or twice as much. Missing detail and added noise count alike.
    It compares amounts alone, not where the detail lies: the ring correlation does that. The band should end
    where the truth still holds more than its noise, or than the rounding of its pixels.

    Parameters
    ----------
    image, truth
        (Y, X) both, on the same grid.
    low_per_px, high_per_px
        The band, cycles per px, both ends within.

    Raises
    ------
    NotMeasurableError
        Of images that are too small, constant, hold NaN or differ in shape, where no ring lies in the band,
        and where either image holds nothing at some frequency of it.
    """
    check_pair(image, truth)
    have, want = (_band(power_spectrum(each), low_per_px, high_per_px) for each in (image, truth))
    _check_holds(want, "the truth")
    _check_holds(have, "the image")
    return float(np.abs(10 * np.log10(have.power / want.power)).mean())


def tapered_transform(image: Image, share: float) -> tuple[ComplexArray, float]:
    """Return the Fourier transform of an image under a window, and the sum of the squared window.

    Parameters
    ----------
    image
        (Y, X). Its mean under the window is taken off before.
    share
        Of either side, on which the window falls to zero: a Tukey window, 1 for Hann.

    Returns
    -------
    ComplexArray
        (Y, X // 2 + 1): the half-plane that a real image fills.
    float
        The sum, which makes power of the squared transform.
    """
    along_y, along_x = (tukey(side, share, sym=False) for side in image.shape)
    values = image.astype(np.float64)
    values -= along_y @ values @ along_x / (along_y.sum() * along_x.sum())
    values *= along_y[:, np.newaxis]
    values *= along_x
    gain = float((along_y**2).sum() * (along_x**2).sum())
    return np.asarray(fft.rfft2(values, overwrite_x=True)), gain


def ring_frequencies(shape_yx: tuple[int, ...]) -> FloatArray:
    """Return the radii of the rings, (N,) cycles per px: multiples of 1 / min(Y, X), to 0.5."""
    side = min(shape_yx)
    return np.arange(1, side // 2 + 1) / side


def ring_sums(values: FloatArray, shape_yx: tuple[int, ...]) -> tuple[FloatArray, FloatArray]:
    """Return sums over the rings of the Fourier plane, and how many pixels each ring has.

    A pixel belongs to the ring whose radius is nearest. Corners beyond 0.5 cycles per px are left out.

    Parameters
    ----------
    values
        (Y, X // 2 + 1), for example of `tapered_transform`; the other half mirrors it.
    shape_yx
        Of the image.

    Returns
    -------
    FloatArray, FloatArray
        (N,) each, for the rings of `ring_frequencies`.
    """
    side = min(shape_yx)
    y, x = fft.fftfreq(shape_yx[0], 1 / side), fft.rfftfreq(shape_yx[1], 1 / side)  # in rings
    outside = side // 2 + 1
    ring = np.minimum(np.sqrt(y[:, np.newaxis] ** 2 + x**2) + 0.5, outside).astype(np.intp).ravel()
    times = np.full(x.size, 2.0)  # The other half mirrors all columns but that of zero frequency ...
    times[0] = 1.0
    if shape_yx[1] % 2 == 0:
        times[-1] = 1.0  # ... and that of Nyquist.
    pixels = np.bincount(ring, np.broadcast_to(times, values.shape).ravel(), outside + 1)
    sums = np.bincount(ring, (values * times).ravel(), outside + 1)
    return np.asarray(sums[1:outside], np.float64), np.asarray(pixels[1:outside], np.float64)


def _band(spectrum: Spectrum, low_per_px: float, high_per_px: float) -> Spectrum:
    frequency = spectrum.frequency_per_px
    within = (frequency >= low_per_px) & (frequency <= high_per_px)
    if not within.any():
        msg = (
            f"no frequency lies between {low_per_px:g} and {high_per_px:g} cycles per px: "
            f"this image has {frequency[0]:.3g} to {frequency[-1]:.3g}"
        )
        raise NotMeasurableError(msg)
    # A ring that holds nothing is told by the strongest of all: it stays as an exact zero.
    power = np.where(spectrum.power > ROUNDING * spectrum.power.max(), spectrum.power, 0.0)
    return Spectrum(frequency[within], power[within])


def _check_holds(spectrum: Spectrum, what: str) -> None:
    nothing = spectrum.power <= ROUNDING * spectrum.power.max()
    if nothing.any():
        msg = f"{what} holds nothing at {spectrum.frequency_per_px[nothing][0]:.3g} cycles per px"
        raise NotMeasurableError(msg)
