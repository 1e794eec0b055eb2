"""Nine striped exposures into one image of twice the resolution: two-dimensional structured illumination.

Owns the reconstruction (Gustafsson 2000; Heintzmann & Cremer 1999): the bands of each orientation are
separated, the stripes' frequency, phase and depth estimated from the data, and the bands put back in their
places by a Wiener filter. Pure functions of arrays: knows no files and no microscope. No well-kept library
for it is on the package index (decision record 0008).
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import fft

from configs.document import WrongInputError

__all__ = ["SimOptics", "StripeEstimate", "estimate_stripes", "reconstruct"]

FloatArray = np.ndarray[Any, np.dtype[np.floating[Any]]]
FloatImage = np.ndarray[Any, np.dtype[np.float32]]
BoolArray = np.ndarray[Any, np.dtype[np.bool_]]
Spectrum = np.ndarray[Any, np.dtype[np.complex128]]

ORIENTATIONS, PHASES = 3, 3
FINER = 2
"""Pixels of the result along one of a frame."""
_TAPER_PX = 12
"""At every side, where a frame is faded, so that its edges do not make lines in the spectrum."""
_RING = (0.55, 1.1)
"""Where the stripes' frequency is looked for, over the cut-off of the detection."""
_ZOOMS = (0.5, 0.1, 0.02)
"""Steps of the refinement, in spectral pixels."""
_OVERLAP = 0.08
"""Least transfer of either band where their ratio is taken."""
_LEAST_OVERLAP = 0.02
"""Of the bands' supports, below which their likeness is chance."""
LEAST_DEPTH = 0.05
"""Of stripes; uniform light shows about 0.01 by chance."""
WIENER = 0.04
"""Added to the summed squares of the transfers, of which the largest is about 1.5: larger gives less noise
and less resolution."""


@dataclass(frozen=True, slots=True)
class SimOptics:
    """What the reconstruction must know of the microscope."""

    pixel_size_um: float
    numerical_aperture: float
    emission_nm: float

    @property
    def cutoff_per_um(self) -> float:
        """Highest frequency that the detection passes."""
        return 2 * self.numerical_aperture / (self.emission_nm * 1e-3)

    def transfer(self, frequency_per_um: FloatArray) -> FloatArray:
        """Return the transfer function of an ideal circular pupil in focus (Born & Wolf, section 9.5)."""
        v = np.clip(frequency_per_um / self.cutoff_per_um, 0, 1)
        return np.asarray(2 / np.pi * (np.arccos(v) - v * np.sqrt(1 - v**2)))


@dataclass(frozen=True, slots=True)
class StripeEstimate:
    """The stripes of one orientation, as the data show them."""

    frequency_yx_per_um: tuple[float, float]
    phase: float
    """Of the first of the three exposures, at the corner of the first pixel."""
    depth: float
    """Modulation depth; what exceeds 1 is noise."""

    @property
    def period_um(self) -> float:
        """Distance of the stripes."""
        return float(1 / np.hypot(*self.frequency_yx_per_um))


def estimate_stripes(frames: FloatArray, optics: SimOptics) -> list[StripeEstimate]:
    """Estimate frequency, phase and depth of the stripes of every orientation.

    Parameters
    ----------
    frames
        (9, Y, X) counts: three exposures with phases a third of a period apart for each of three
        orientations.

    Raises
    ------
    WrongInputError
        There are not nine frames, or they hold NaN.
    """
    checked = _checked(frames)
    grid = _Grid.of(checked.shape, optics)
    return [_estimate(bands, grid) for bands in _bands(checked, grid)]


def reconstruct(
    frames: FloatArray,
    optics: SimOptics,
    *,
    stripes: list[StripeEstimate] | None = None,
    wiener: float = WIENER,
) -> FloatImage:
    """Return the super-resolved image.

    Parameters
    ----------
    frames
        (9, Y, X) counts above the background.
    stripes
        Of the three orientations; estimated from the frames by default.
    wiener
        See `WIENER`.

    Returns
    -------
    FloatImage
        (2Y, 2X) float32 on the grid whose pixels lie four on one of a frame; its mean is the frames' mean.
        The filter may leave small negative values.

    Raises
    ------
    WrongInputError
        There are not nine frames, or they hold NaN.
    """
    checked = _checked(frames)
    grid = _Grid.of(checked.shape, optics)
    separated = _bands(checked, grid)
    known = [_estimate(bands, grid) for bands in separated] if stripes is None else stripes
    _check_stripes(known)
    numerator = np.zeros(grid.shape_yx, dtype=np.complex128)
    denominator = np.full(grid.shape_yx, wiener)
    for bands, stripe in zip(separated, known, strict=True):
        for order, band in zip((0, 1, -1), bands, strict=True):
            weight = grid.transfer_of(order, stripe)
            numerator += weight * grid.shifted(band, order, stripe) * _gain(order, stripe)
            denominator += weight**2
    spectrum = numerator / denominator * grid.apodisation(known)
    at_rest = spectrum[0, 0].real / (checked.mean() * spectrum.size)
    fine = fft.ifft2(spectrum * grid.half_pixel, workers=-1).real / at_rest
    return np.asarray(fine, dtype=np.float32)


def _gain(order: int, stripe: StripeEstimate) -> complex:
    """Return what undoes the phase of a side band; its depth is left in its weight, as its noise is."""
    return complex(np.exp(-1j * order * stripe.phase))


def _checked(frames: FloatArray) -> FloatArray:
    if frames.ndim != 3 or frames.shape[0] != ORIENTATIONS * PHASES:
        msg = f"structured illumination needs 9 frames, (9, Y, X); got shape {frames.shape}"
        raise WrongInputError(msg)
    if not np.isfinite(frames).all():
        raise WrongInputError("the striped frames hold NaN or infinity; acquire them again")
    if not frames.mean() > 0:
        raise WrongInputError("the striped frames hold no light above the background")
    return frames.astype(np.float64)


def _check_stripes(stripes: list[StripeEstimate]) -> None:
    """Raise where there is nothing to reconstruct from: a sharpened mean would come out, and look fine."""
    if len(stripes) != ORIENTATIONS:
        raise WrongInputError(f"stripes of {ORIENTATIONS} orientations are needed; got {len(stripes)}")
    for number, stripe in enumerate(stripes, start=1):
        if stripe.depth < LEAST_DEPTH:
            msg = (
                f"orientation {number} shows stripes of depth {stripe.depth:.3f}, less than {LEAST_DEPTH}; "
                "give the nine exposures of structured illumination, three phases of each orientation in turn"
            )
            raise WrongInputError(msg)


@dataclass(frozen=True, slots=True)
class _Grid:
    """The fine grid: its frequencies, its positions, and the detection's transfer there."""

    optics: SimOptics
    frame_yx: tuple[int, int]
    frequency_y: FloatArray
    frequency_x: FloatArray
    y_um: FloatArray
    x_um: FloatArray

    @classmethod
    def of(cls, shape: tuple[int, ...], optics: SimOptics) -> "_Grid":
        height, width = shape[-2:]
        pitch_um = optics.pixel_size_um / FINER
        return cls(
            optics,
            (height, width),
            fft.fftfreq(FINER * height, pitch_um)[:, np.newaxis],
            fft.fftfreq(FINER * width, pitch_um),
            # Sample k of a zero-padded spectrum lies where frame pixel k / FINER does, at its centre.
            (np.arange(FINER * height)[:, np.newaxis] * pitch_um + optics.pixel_size_um / 2),
            np.arange(FINER * width) * pitch_um + optics.pixel_size_um / 2,
        )

    @property
    def shape_yx(self) -> tuple[int, int]:
        return (self.frequency_y.size, self.frequency_x.size)

    @property
    def half_pixel(self) -> Spectrum:
        """What moves the samples from frame pixel centres to those of the fine pixels."""
        shift_um = -self.optics.pixel_size_um / (2 * FINER)
        return np.asarray(np.exp(2j * np.pi * shift_um * (self.frequency_y + self.frequency_x)))

    def transfer_of(self, order: int, stripe: StripeEstimate) -> FloatArray:
        """Return with which weight a band, in its place, shows each frequency."""
        ky, kx = (order * k for k in stripe.frequency_yx_per_um)
        fy, fx = self.frequency_y + ky, self.frequency_x + kx
        pixel = np.sinc(fy * self.optics.pixel_size_um) * np.sinc(fx * self.optics.pixel_size_um)
        depth = min(stripe.depth, 1.0) / 2 if order else 1.0
        return np.asarray(depth * pixel * self.optics.transfer(np.hypot(fy, fx)))

    def shifted(self, band: Spectrum, order: int, stripe: StripeEstimate) -> Spectrum:
        """Return a band's spectrum moved by the stripes' frequency to its place."""
        if order == 0:
            return band
        ky, kx = (order * k for k in stripe.frequency_yx_per_um)
        wave = np.exp(-2j * np.pi * ky * self.y_um) * np.exp(-2j * np.pi * kx * self.x_um)
        return np.asarray(fft.fft2(fft.ifft2(band, workers=-1) * wave, workers=-1))

    def apodisation(self, stripes: list[StripeEstimate]) -> FloatArray:
        """Return a filter that falls to zero at the widened cut-off, against ringing."""
        reached = self.optics.cutoff_per_um + min(1 / stripe.period_um for stripe in stripes)
        radius = np.clip(np.hypot(self.frequency_y, self.frequency_x) / reached, 0, 1)
        return np.asarray(np.cos(np.pi / 2 * radius))


def _bands(frames: FloatArray, grid: _Grid) -> list[tuple[Spectrum, Spectrum, Spectrum]]:
    """Return the bands of orders 0, 1 and -1 of every orientation, as spectra on the fine grid."""
    faded = _faded(frames)
    step = np.exp(-2j * np.pi * np.arange(PHASES) / PHASES)[:, np.newaxis, np.newaxis]
    bands = []
    for three in faded.reshape(ORIENTATIONS, PHASES, *faded.shape[1:]):
        spectra = fft.fft2(three, workers=-1)
        orders = (spectra.mean(axis=0), (spectra * step).mean(axis=0), (spectra * step.conj()).mean(axis=0))
        bands.append(tuple(_padded(order, grid.shape_yx) for order in orders))
    return bands  # type: ignore[return-value] # three bands each


def _faded(frames: FloatArray) -> FloatArray:
    """Fade the frames towards their mean at the edges."""
    mean = frames.mean()
    faded = frames - mean
    for axis in (1, 2):
        length = frames.shape[axis]
        distance = np.minimum(np.arange(length), np.arange(length)[::-1]) + 0.5
        taper = np.sin(np.pi / 2 * np.clip(distance / min(_TAPER_PX, length / 4), 0, 1)) ** 2
        faded = faded * np.expand_dims(taper, [other for other in (0, 1, 2) if other != axis])
    return np.asarray(faded + mean)


def _padded(spectrum: Spectrum, shape_yx: tuple[int, int]) -> Spectrum:
    """Put a spectrum into the middle of a finer grid's, scaled so that the image keeps its values."""
    padded = np.zeros(shape_yx, dtype=np.complex128)
    height, width = spectrum.shape
    rows = fft.fftfreq(height, 1 / height).astype(int)
    columns = fft.fftfreq(width, 1 / width).astype(int)
    padded[np.ix_(rows, columns)] = spectrum
    return np.asarray(padded * (padded.size / spectrum.size))


_STILL = StripeEstimate((0.0, 0.0), 0.0, 0.0)


def _estimate(bands: tuple[Spectrum, Spectrum, Spectrum], grid: _Grid) -> StripeEstimate:
    """Find the stripes' frequency where the side band, moved back, is most like the middle one."""
    middle, side, _ = bands
    seen = grid.transfer_of(0, _STILL)
    inside = seen > _OVERLAP
    white = inside * seen / (seen**2 + _OVERLAP**2)
    product = _image(middle * white).conj() * _image(side * white)
    frequency = _refined(product, _coarse_peak(middle * white, side * white, inside, grid), grid)
    guess = StripeEstimate(frequency, 0.0, 1.0)
    moved = grid.transfer_of(1, guess)
    both = (seen > _OVERLAP) & (moved > _OVERLAP)
    reference, shifted = middle[both] * moved[both], grid.shifted(side, 1, guess)[both] * seen[both]
    ratio = np.vdot(reference, shifted) / np.vdot(reference, reference).real
    return StripeEstimate(frequency, float(np.angle(ratio)), float(np.abs(ratio)))


def _coarse_peak(middle: Spectrum, side: Spectrum, inside: BoolArray, grid: _Grid) -> tuple[float, float]:
    """Return the spectral pixel, (y, x) per um, at which the bands correlate best where both are seen.

    Normalised by the energy of either band in the overlap, which is small where the stripes are fine.
    """
    shown = _image(inside.astype(np.complex128))
    correlation = np.abs(fft.fft2(_image(middle).conj() * _image(side), workers=-1))
    energies = [
        fft.fft2(_image(np.abs(a) ** 2 + 0j).conj() * _image(np.abs(b) ** 2 + 0j), workers=-1).real
        for a, b in ((middle, np.sqrt(inside)), (np.sqrt(inside), side))
    ]
    energy = np.sqrt(np.maximum(energies[0], 0) * np.maximum(energies[1], 0))
    overlap = fft.fft2(np.abs(shown) ** 2, workers=-1).real
    radius = np.hypot(grid.frequency_y, grid.frequency_x) / grid.optics.cutoff_per_um
    allowed = (radius > _RING[0]) & (radius < _RING[1]) & (overlap > _LEAST_OVERLAP * overlap.max())
    score = np.where(allowed, correlation / np.maximum(energy, 1e-9 * energy.max()), 0)
    row, column = np.unravel_index(int(np.argmax(score)), score.shape)
    return (float(grid.frequency_y[row, 0]), float(grid.frequency_x[column]))


def _image(spectrum: Spectrum) -> Spectrum:
    return np.asarray(fft.ifft2(spectrum, workers=-1))


def _refined(product: Spectrum, start: tuple[float, float], grid: _Grid) -> tuple[float, float]:
    """Climb to the peak between spectral pixels, by Fourier sums at finer and finer steps."""
    best = start
    pixel = (float(grid.frequency_y[1, 0]), float(grid.frequency_x[1]))
    for zoom in _ZOOMS:
        steps = np.arange(-6, 7) * zoom
        ky, kx = (centre + steps * size for centre, size in zip(best, pixel, strict=True))
        along_y = np.exp(-2j * np.pi * np.outer(ky, grid.y_um.ravel()))  # (13, Y)
        along_x = np.exp(-2j * np.pi * np.outer(grid.x_um, kx))  # (X, 13)
        power = np.abs(along_y @ product @ along_x)
        row, column = np.unravel_index(int(np.argmax(power)), power.shape)
        best = (float(ky[row]), float(kx[column]))
    return best
