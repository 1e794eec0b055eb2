"""From fluorophores to an image: blur every plane by its own defocus, integrate over pixels, sample anywhere.

Owns the Fourier work and its caches. Knows no devices and no units of light: a view (stain, blur, pixel,
defocus, light, time) and the positions of pixel centres come in, expected fluorophores per pixel go out.
Works on the specimen's grid; for a coarse pixel the spectrum is cropped, since the pixel and the aperture
together pass nothing of what is cut.
"""

from collections import OrderedDict
from collections.abc import Hashable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Protocol

import numpy as np
from scipy import fft
from scipy.ndimage import map_coordinates

from acquisition.virtual.specimen import Specimen
from acquisition.virtual.structured_light import Stripes

__all__ = ["Blur", "Renderer", "View"]

FloatArray = np.ndarray[Any, np.dtype[np.floating[Any]]]
FloatImage = np.ndarray[Any, np.dtype[np.float32]]
Spectrum = np.ndarray[Any, np.dtype[np.complex64]]

_MARGINS_PX = (50, 100, 200)
"""Around what is looked at, in grid pixels, for the light that defocus brings in. Steps, so that a focus
sweep finds its spectra in the cache. What lies beyond wraps around: at 8 um the tails of a point in focus
hold 2 % of its light at 0.4 NA."""
_SPECTRA_BYTES = 150_000_000
_FREQUENCIES = 16384
"""In a transfer table, up to the corner of the grid's spectrum."""
_PASSED = 0.85
"""Of the cut-off must lie below an image's Nyquist frequency; what a pupil passes beyond is next to
nothing."""
_ON_PIXEL = 1e-3
_FFT_WORKERS = 2


class Blur(Protocol, Hashable):
    """What stands between a plane of fluorophores and the camera."""

    @property
    def cutoff_per_um(self) -> float:
        """Highest spatial frequency that is passed."""
        ...

    def transfer(
        self, frequency_per_um: np.ndarray[Any, np.dtype[np.float64]], defocus_um: float
    ) -> FloatArray:
        """Return the transfer function at radial frequencies (F,)."""
        ...

    def reach_um(self, defocus_um: float) -> float:
        """Return how far from a point its light is seen."""
        ...


@dataclass(frozen=True, slots=True)
class View:
    """What the optics do to the specimen, wherever the frame lies."""

    stain: str
    blur: Blur
    pixel_um: float
    defocus_um: float
    """Of the plane at depth 0; positive when the focus drive stands above it."""
    stripes: Stripes | None = None
    """Light that is not uniform."""
    time_s: float = 0.0


@dataclass(frozen=True, slots=True)
class _Area:
    """A rectangle of grid pixels, how much coarser its image may be, and where that is sampled."""

    origin_yx_px: tuple[int, int]
    shape_yx: tuple[int, int]
    coarser: int
    shift_yx_um: tuple[float, float]
    """Of the image's first sample from the centre of the first grid pixel. It puts samples on the camera's
    pixels, so that without distortion nothing is interpolated."""
    straight: bool
    """Whether all samples lie on the camera's pixels."""

    @property
    def image_shape_yx(self) -> tuple[int, int]:
        return (self.shape_yx[0] // self.coarser, self.shape_yx[1] // self.coarser)


class Renderer:
    """Images a specimen; keeps the spectra of the areas that it was asked for last."""

    def __init__(self, specimen: Specimen) -> None:
        self._specimen = specimen
        self._pitch_um = specimen.pitch_um
        self._spectra: OrderedDict[Hashable, Spectrum] = OrderedDict()

    def image(self, view: View, y_um: FloatArray, x_um: FloatArray) -> FloatImage:
        """Return the expected fluorophores seen by each pixel.

        Parameters
        ----------
        y_um, x_um
            Centres of the pixels in the specimen: a column (Y, 1) and a row (X,) or (1, X), or both (Y, X).

        Returns
        -------
        FloatImage
            (Y, X) float32. The sum over a field of pixels is the sum of the fluorophores in it.
        """
        area = self._area_around(view, y_um, x_um)
        image = self._blurred(view, area)
        y, x = self._indices(area, y_um, x_um)
        light = np.float32((view.pixel_um / self._pitch_um) ** 2)
        if area.straight:
            rows, columns = (np.rint(index).astype(np.intp).ravel() for index in (y, x))
            return image[_slice(rows), _slice(columns)] * light
        places = np.stack(np.broadcast_arrays(y, x))
        # `_sampling_transfer` has done the spline's prefilter in Fourier space.
        sampled = map_coordinates(image, places, order=3, prefilter=False, output=np.float32)
        return np.asarray(sampled * light)

    def _indices(self, area: _Area, y_um: FloatArray, x_um: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Return where positions lie in an area's image, in its pixels."""
        pitch_um = self._pitch_um * area.coarser
        y, x = (
            (position - (origin + 0.5) * self._pitch_um - shift_um) / pitch_um
            for position, origin, shift_um in zip(
                (y_um, x_um), area.origin_yx_px, area.shift_yx_um, strict=True
            )
        )
        return y, x

    def _area_around(self, view: View, y_um: FloatArray, x_um: FloatArray) -> _Area:
        """Return a rectangle with the pixels and the light that reaches them, of a size that FFTs like."""
        pitch_um = self._pitch_um
        coarser = _coarsening(view, pitch_um)
        reach_px = (view.blur.reach_um(view.defocus_um) + view.pixel_um) / pitch_um + 12
        margin_px = next((margin for margin in _MARGINS_PX if margin >= reach_px), _MARGINS_PX[-1])
        origin, shape, shift = [], [], []
        for position in (y_um, x_um):
            first = int(np.floor(position.min() / pitch_um)) - margin_px
            length = int(np.ceil(position.max() / pitch_um)) + margin_px - first
            origin.append(first)
            shape.append(2 * coarser * fft.next_fast_len(-(-length // (2 * coarser)), real=True))
            shift.append(round(float((position.min() - (first + 0.5) * pitch_um) % (pitch_um * coarser)), 5))
        area = _Area(
            (origin[0], origin[1]), (shape[0], shape[1]), coarser, (shift[0], shift[1]), straight=True
        )
        separable = y_um.shape[-1] == 1 and x_um.size == x_um.shape[-1]
        straight = separable and all(
            np.abs(index - np.rint(index)).max() < _ON_PIXEL for index in self._indices(area, y_um, x_um)
        )
        return _Area(area.origin_yx_px, area.shape_yx, coarser, area.shift_yx_um, straight)

    def _blurred(self, view: View, area: _Area) -> FloatImage:
        """Return the image on the area's grid, fluorophores per grid pixel; unless straight, as a spline."""
        spectra = self._planes(view, area)
        total = np.zeros(spectra.shape[1:], dtype=np.complex64)
        index = _frequency_index(area.image_shape_yx, area.coarser)
        for spectrum, depth_um in zip(spectra, self._specimen.plane_depths_um, strict=True):
            defocus_um = round(view.defocus_um - depth_um, 3)
            total += spectrum * _transfer_table(view.blur, self._pitch_um, defocus_um)[index]
        return np.asarray(fft.irfft2(total, s=area.image_shape_yx, workers=_FFT_WORKERS))

    def _planes(self, view: View, area: _Area) -> Spectrum:
        """Return the spectra of the planes (Z, Y, X // 2 + 1), with the pixel's integration applied."""
        key = (view.stain, view.pixel_um, view.stripes, view.time_s if self._specimen.moves else 0.0, area)
        if key in self._spectra:
            self._spectra.move_to_end(key)
            return self._spectra[key]
        density = self._specimen.density(
            view.stain, area.origin_yx_px, area.shape_yx, view.time_s, view.stripes
        )
        height, width = area.image_shape_yx
        spectra = np.empty((len(density), height, width // 2 + 1), dtype=np.complex64)
        for plane, spectrum in zip(density, spectra, strict=True):
            _low_frequencies(plane, area, spectrum)
        for axis, transfer in enumerate(self._sampling_transfer(view, area)):
            spectra *= np.expand_dims(transfer, 1 - axis)
        self._keep(key, spectra)
        return spectra

    def _keep(self, key: Hashable, spectra: Spectrum) -> None:
        self._spectra[key] = spectra
        while sum(kept.nbytes for kept in self._spectra.values()) > _SPECTRA_BYTES and len(self._spectra) > 1:
            self._spectra.popitem(last=False)

    def _sampling_transfer(self, view: View, area: _Area) -> Iterator[Spectrum]:
        """Return, along y and along x, what stands between the specimen's grid and the samples.

        The integration over a pixel, the shift of the samples, and divided out: the shape in which the
        specimen draws a point, and that in which cubic B-splines draw a sample.
        """
        frequencies = _frequencies(area.image_shape_yx, self._pitch_um * area.coarser)
        for frequency, shift_um in zip(frequencies, area.shift_yx_um, strict=True):
            along = frequency.ravel()
            transfer = np.sinc(along * view.pixel_um) / self._specimen.drawing_transfer(along)
            if not area.straight:
                transfer = transfer * 3 / (2 + np.cos(2 * np.pi * along * self._pitch_um * area.coarser))
            yield (transfer * np.exp(2j * np.pi * along * shift_um)).astype(np.complex64)


def _coarsening(view: View, pitch_um: float) -> int:
    """Return how many grid pixels one pixel of the image may span; a camera pixel holds a whole number."""
    across = max(1, round(view.pixel_um / pitch_um))
    passed = _PASSED * view.blur.cutoff_per_um
    return max(
        k for k in range(1, across + 1) if k == 1 or (across % k == 0 and 2 * k * pitch_um * passed <= 1)
    )


def _slice(indices: np.ndarray[Any, np.dtype[np.intp]]) -> slice:
    step = int(indices[1] - indices[0]) if indices.size > 1 else 1
    return slice(int(indices[0]), int(indices[-1]) + 1, step)


def _low_frequencies(plane: FloatImage, area: _Area, spectrum: Spectrum) -> None:
    """Fill in the spectrum (Y, X // 2 + 1) of which the inverse is the image, as coarse as the area wants it.

    What is cut along x is not transformed along y at all.
    """
    half, width = area.image_shape_yx[0] // 2, spectrum.shape[1]
    along_x = fft.rfft(plane, axis=1, workers=_FFT_WORKERS)[:, :width]
    whole = fft.fft(along_x, axis=0, workers=_FFT_WORKERS)
    scale = np.float32(1 / area.coarser**2)
    np.multiply(whole[:half], scale, out=spectrum[:half])
    np.multiply(whole[half - area.image_shape_yx[0] :], scale, out=spectrum[half:])


@lru_cache(maxsize=8)
def _frequencies(shape_yx: tuple[int, int], pitch_um: float) -> tuple[FloatArray, FloatArray]:
    """Return spatial frequencies per um along y, (Y, 1), and along x, (X // 2 + 1)."""
    return fft.fftfreq(shape_yx[0], pitch_um)[:, np.newaxis], fft.rfftfreq(shape_yx[1], pitch_um)


@lru_cache(maxsize=8)
def _frequency_index(shape_yx: tuple[int, int], coarser: int) -> np.ndarray[Any, np.dtype[np.int32]]:
    """Return each frequency's place in a transfer table, (Y, X // 2 + 1)."""
    per_pixel = np.hypot(
        *_frequencies(shape_yx, float(coarser))
    )  # per grid pixel, up to the square root of 1/2
    return np.asarray(np.rint(per_pixel * np.sqrt(2) * _FREQUENCIES), dtype=np.int32)


@lru_cache(maxsize=256)
def _transfer_table(blur: Blur, pitch_um: float, defocus_um: float) -> FloatImage:
    """Return the transfer function at evenly spaced frequencies up to the corner of the grid's spectrum."""
    frequency = np.arange(_FREQUENCIES + 2) / (np.sqrt(2) * _FREQUENCIES * pitch_um)
    nodes = np.linspace(0, blur.cutoff_per_um, 400)
    transfer = blur.transfer(nodes, defocus_um)
    return np.asarray(np.interp(frequency, nodes, transfer, right=0.0), dtype=np.float32)
