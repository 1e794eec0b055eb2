"""A user's own image or stack under the virtual microscope.

Owns the way from its pixels to the specimen's grid. The picture lies once, centred at stage position (0, 0);
around it there is nothing.
"""

from functools import lru_cache
from typing import Any

import numpy as np
from scipy.ndimage import map_coordinates, spline_filter

from acquisition.virtual.structured_light import Stripes
from configs.document import WrongInputError

__all__ = ["GriddedMicrograph", "Micrograph"]

FloatImage = np.ndarray[Any, np.dtype[np.float32]]
FloatArray = np.ndarray[Any, np.dtype[np.floating[Any]]]

_ORDER = 3


class Micrograph:
    """An image to be put under a stand (`load(..., specimen=Micrograph(...))`).

    Parameters
    ----------
    image
        (Y, X), or a stack (Z, Y, X), of any real type; what is brighter than its darkest hundredth is taken
        for fluorophore. The same in every stain.
    pixel_size_um
        Of the image.
    plane_step_um
        Between the planes of a stack; its middle plane lies in focus.
    fluorophores_per_um2
        Where the image is brightest (99.9th percentile).

    Raises
    ------
    WrongInputError
        The image is no image, holds NaN or is the same everywhere, or a size is not positive.
    """

    def __init__(
        self,
        image: FloatArray,
        pixel_size_um: float,
        *,
        plane_step_um: float = 1.0,
        fluorophores_per_um2: float = 60.0,
    ) -> None:
        planes = _checked(np.asarray(image), pixel_size_um, plane_step_um)
        dark, bright = np.percentile(planes, (1, 99.9))
        if not bright > dark:
            raise WrongInputError("the micrograph is the same everywhere; there is nothing to look at")
        density = np.maximum(planes - dark, 0) / (bright - dark) * fluorophores_per_um2
        depths = (np.arange(len(planes)) - (len(planes) - 1) / 2) * plane_step_um
        self.plane_depths_um = tuple(float(depth) for depth in depths)
        # A stack's planes share the light of a thick specimen.
        self._planes = np.stack([spline_filter(plane, _ORDER) for plane in density / len(planes)])
        self._pixel_size_um = pixel_size_um

    def on_grid(self, pitch_um: float) -> "GriddedMicrograph":
        """Return the specimen on a stand's grid."""
        return GriddedMicrograph(self._planes, self.plane_depths_um, self._pixel_size_um, pitch_um)


class GriddedMicrograph:
    """A micrograph on the grid of a stand.

    Parameters
    ----------
    planes
        (Z, Y, X) spline coefficients of fluorophores per um^2.
    """

    moves = False

    def __init__(
        self, planes: FloatArray, plane_depths_um: tuple[float, ...], pixel_size_um: float, pitch_um: float
    ) -> None:
        self.pitch_um = pitch_um
        self.plane_depths_um = plane_depths_um
        self._planes = planes
        self._scale = pitch_um / pixel_size_um
        self._resampled = lru_cache(maxsize=4)(self._resample)

    def density(
        self,
        stain: str,
        origin_yx_px: tuple[int, int],
        shape_yx: tuple[int, int],
        time_s: float,
        stripes: Stripes | None = None,
    ) -> FloatImage:
        """Return fluorophores per grid pixel; see `Specimen.density`."""
        density = self._resampled(origin_yx_px, shape_yx)
        if stripes is None:
            return density
        y_um, x_um = (
            (origin + np.arange(side) + 0.5) * self.pitch_um
            for origin, side in zip(origin_yx_px, shape_yx, strict=True)
        )
        return density * stripes.intensity(y_um, x_um)

    def drawing_transfer(self, frequency_per_um: FloatArray) -> FloatArray:
        """Return 1: an image is interpolated, not drawn."""
        return np.ones_like(frequency_per_um)

    def _resample(self, origin_yx_px: tuple[int, int], shape_yx: tuple[int, int]) -> FloatImage:
        axes = [
            (origin + np.arange(side) + 0.5) * self._scale + (length - 1) / 2
            for origin, side, length in zip(origin_yx_px, shape_yx, self._planes.shape[1:], strict=True)
        ]
        places = np.stack(np.meshgrid(*axes, indexing="ij"))  # (2, Y, X)
        planes = [
            map_coordinates(plane, places, order=_ORDER, prefilter=False, output=np.float32)
            for plane in self._planes
        ]
        return np.asarray(np.maximum(np.stack(planes), 0) * np.float32(self.pitch_um**2), dtype=np.float32)


def _checked(image: FloatArray, pixel_size_um: float, plane_step_um: float) -> FloatArray:
    """Return the image as float64 planes (Z, Y, X)."""
    if image.ndim not in (2, 3) or min(image.shape[-2:]) < _ORDER + 1:
        msg = f"a micrograph is (Y, X) or (Z, Y, X), at least 4 px wide; got shape {image.shape}"
        raise WrongInputError(msg)
    if not (pixel_size_um > 0 and plane_step_um > 0):
        msg = f"pixel_size_um and plane_step_um must be positive; got {pixel_size_um} and {plane_step_um}"
        raise WrongInputError(msg)
    planes = image.astype(np.float64).reshape(-1, *image.shape[-2:])
    if not np.isfinite(planes).all():
        raise WrongInputError("the micrograph holds NaN or infinity; replace them first")
    return planes
