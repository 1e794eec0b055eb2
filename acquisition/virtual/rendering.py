"""From fluorophores to an image: blur every plane by its own defocus, integrate over pixels, sample anywhere.

Owns the Fourier work and its caches. Knows no devices and no units of light: a view (stain, aperture,
wavelength, pixel, defocus) and the positions of pixel centres come in, expected fluorophores per pixel go
out. Works on the specimen's grid; for a coarse objective the spectrum is cropped, since the pixel and the
aperture together pass nothing of what is cut.
"""

from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from scipy import fft
from scipy.ndimage import map_coordinates

from acquisition.virtual import optics
from acquisition.virtual.specimen import GRID_UM, Specimen

__all__ = ["Renderer", "View"]

FloatArray = np.ndarray[Any, np.dtype[np.floating[Any]]]
FloatImage = np.ndarray[Any, np.dtype[np.float32]]
Spectrum = np.ndarray[Any, np.dtype[np.complex64]]

_MARGINS_UM = (8.0, 16.0, 32.0)
"""Around what is looked at, for the light that defocus brings in. Steps, so that a focus sweep finds its
spectra in the cache. What lies beyond wraps around: at 8 um the tails of a point in focus hold 2 % of its
light at 0.4 NA."""
_SPECTRA_BYTES = 150_000_000
_FREQUENCY_STEP_PER_UM = 1 / 4096
_FFT_WORKERS = 2


@dataclass(frozen=True, slots=True)
class View:
    """What the optics do to the specimen, wherever the frame lies."""

    stain: str
    emission_nm: float
    numerical_aperture: float
    pixel_um: float
    defocus_um: float
    """Of the plane at depth 0; positive when the focus drive stands above it."""


@dataclass(frozen=True, slots=True)
class _Area:
    """A rectangle of grid pixels, how much coarser its image may be, and where that is sampled."""

    origin_yx_px: tuple[int, int]
    shape_yx: tuple[int, int]
    coarser: int
    shift_yx_um: tuple[float, float]
    """Of the image's first sample from the centre of the first grid pixel. It puts samples on the camera's
    pixels, so that without distortion nothing is interpolated."""

    @property
    def image_shape_yx(self) -> tuple[int, int]:
        return (self.shape_yx[0] // self.coarser, self.shape_yx[1] // self.coarser)


class Renderer:
    """Images a specimen; keeps the spectra of the areas that it was asked for last."""

    def __init__(self, specimen: Specimen) -> None:
        self._specimen = specimen
        self._spectra: OrderedDict[tuple[str, float, _Area], Spectrum] = OrderedDict()

    def image(self, view: View, y_um: FloatArray, x_um: FloatArray) -> FloatImage:
        """Return the expected fluorophores seen by each pixel.

        Parameters
        ----------
        y_um, x_um
            Centres of the pixels in the specimen, broadcastable to (Y, X).

        Returns
        -------
        FloatImage
            (Y, X) float32. The sum over a field of pixels is the sum of the fluorophores in it.
        """
        area = _area_around(view, y_um, x_um)
        image = self._blurred(view, area)
        pitch_um = GRID_UM * area.coarser
        y, x = (
            (position - (origin + 0.5) * GRID_UM - shift_um) / pitch_um
            for position, origin, shift_um in zip(
                (y_um, x_um), area.origin_yx_px, area.shift_yx_um, strict=True
            )
        )
        shape = np.broadcast_shapes(y.shape, x.shape)
        coordinates = np.stack([np.broadcast_to(y, shape), np.broadcast_to(x, shape)])
        # `_sampling_transfer` has done the spline's prefilter in Fourier space.
        sampled = map_coordinates(image, coordinates, order=3, prefilter=False, output=np.float32)
        return np.asarray(sampled * np.float32((view.pixel_um / GRID_UM) ** 2))

    def _blurred(self, view: View, area: _Area) -> FloatImage:
        """Return the image on the area's grid, as spline coefficients of fluorophores per grid pixel."""
        spectra = self._planes(view, area)
        total = np.zeros(spectra.shape[1:], dtype=np.complex64)
        index = _frequency_index(area.image_shape_yx, area.coarser)
        for spectrum, depth_um in zip(spectra, self._specimen.plane_depths_um, strict=True):
            defocus_um = round(view.defocus_um - depth_um, 3)
            total += spectrum * _transfer_table(view.numerical_aperture, view.emission_nm, defocus_um)[index]
        return np.asarray(fft.irfft2(total, s=area.image_shape_yx, workers=_FFT_WORKERS))

    def _planes(self, view: View, area: _Area) -> Spectrum:
        """Return the spectra of the planes (Z, Y, X // 2 + 1), with the pixel's integration applied."""
        key = (view.stain, view.pixel_um, area)
        if key in self._spectra:
            self._spectra.move_to_end(key)
            return self._spectra[key]
        density = self._specimen.density(view.stain, area.origin_yx_px, area.shape_yx)
        spectra = _cropped(fft.rfft2(density, workers=_FFT_WORKERS), area)
        for axis, transfer in enumerate(self._sampling_transfer(view, area)):
            spectra *= np.expand_dims(transfer, 1 - axis)
        self._spectra[key] = spectra
        while sum(kept.nbytes for kept in self._spectra.values()) > _SPECTRA_BYTES and len(self._spectra) > 1:
            self._spectra.popitem(last=False)
        return spectra

    def _sampling_transfer(self, view: View, area: _Area) -> Iterator[Spectrum]:
        """Return, along y and along x, what stands between the specimen's grid and the samples.

        The integration over a pixel, the shift of the samples, and divided out: the shape in which the
        specimen draws a point, and that in which cubic B-splines draw a sample.
        """
        frequencies = _frequencies(area.image_shape_yx, area.coarser)
        for frequency, shift_um in zip(frequencies, area.shift_yx_um, strict=True):
            along = frequency.ravel()
            spline = (2 + np.cos(2 * np.pi * along * GRID_UM * area.coarser)) / 3
            pixel = np.sinc(along * view.pixel_um) / self._specimen.drawing_transfer(along)
            yield (pixel / spline * np.exp(2j * np.pi * along * shift_um)).astype(np.complex64)


def _area_around(view: View, y_um: FloatArray, x_um: FloatArray) -> _Area:
    """Return a rectangle that holds the pixels and the light that reaches them, of a size that FFTs like."""
    coarser = max(1, round(view.pixel_um / (2 * GRID_UM)))
    blur_um = optics.defocus_blur_radius_um(view.numerical_aperture, view.defocus_um) + view.pixel_um
    margin_um = next((margin for margin in _MARGINS_UM if margin >= blur_um + 2), _MARGINS_UM[-1])
    origin, shape, shift = [], [], []
    for position in (y_um, x_um):
        first = int(np.floor((position.min() - margin_um) / GRID_UM))
        length = int(np.ceil((position.max() + margin_um) / GRID_UM)) - first
        origin.append(first)
        shape.append(2 * coarser * fft.next_fast_len(-(-length // (2 * coarser)), real=True))
        shift.append(round(float((position.min() - (first + 0.5) * GRID_UM) % (GRID_UM * coarser)), 4))
    return _Area((origin[0], origin[1]), (shape[0], shape[1]), coarser, (shift[0], shift[1]))


def _cropped(spectra: Spectrum, area: _Area) -> Spectrum:
    """Keep the low frequencies of (Z, Y, X // 2 + 1), so that the inverse gives a coarser image."""
    if area.coarser == 1:
        return spectra
    height, width = area.image_shape_yx
    rows = np.r_[0 : height // 2, spectra.shape[1] - height // 2 : spectra.shape[1]]
    return np.asarray(spectra[:, rows, : width // 2 + 1] / np.float32(area.coarser**2))


@lru_cache(maxsize=8)
def _frequencies(shape_yx: tuple[int, int], coarser: int) -> tuple[FloatArray, FloatArray]:
    """Return spatial frequencies per um along y, (Y, 1), and along x, (X // 2 + 1)."""
    pitch_um = GRID_UM * coarser
    return fft.fftfreq(shape_yx[0], pitch_um)[:, np.newaxis], fft.rfftfreq(shape_yx[1], pitch_um)


@lru_cache(maxsize=8)
def _frequency_index(shape_yx: tuple[int, int], coarser: int) -> np.ndarray[Any, np.dtype[np.int32]]:
    """Return each frequency's place in a transfer table, (Y, X // 2 + 1)."""
    frequency = np.hypot(*_frequencies(shape_yx, coarser))
    return np.rint(frequency / _FREQUENCY_STEP_PER_UM).astype(np.int32)


@lru_cache(maxsize=256)
def _transfer_table(numerical_aperture: float, emission_nm: float, defocus_um: float) -> FloatImage:
    """Return the transfer function at multiples of the frequency step, up to the grid's corner."""
    highest = np.sqrt(2) / (2 * GRID_UM)
    frequency = np.arange(int(highest / _FREQUENCY_STEP_PER_UM) + 3) * _FREQUENCY_STEP_PER_UM
    nodes = np.linspace(0, optics.cutoff_per_um(numerical_aperture, emission_nm), 400)
    transfer = optics.transfer_function(nodes, numerical_aperture, emission_nm, defocus_um)
    return np.asarray(np.interp(frequency, nodes, transfer, right=0.0), dtype=np.float32)
