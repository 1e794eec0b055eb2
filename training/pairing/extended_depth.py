"""Extended depth of field: a focus stack fused into one image of the specimen, in focus everywhere.

Owns the fusion, plane by plane. Knows no files, no optics and no depth in micrometres: (Z, Y, X) counts come
in, (Y, X) counts go out, as a truth for training.

Every plane is split into frequency bands by a Laplacian pyramid (Burt & Adelson 1983), and every band of the
result is the mean of the planes' bands, each weighted by a power of its energy nearby and by what the finer
band decided. Where a plane is in focus its energy is far above the others' and it is taken almost alone;
where nothing but noise is seen the planes are averaged. Neighbours share most of their energy, which stands
for the reference's consistency check. At the end each pixel is held between the darkest and the brightest of
its own values over z, so that no value is invented.

The paper's reference (Forster, Van De Ville, Berent, Sage & Unser, Microsc. Res. Tech. 65, 33 (2004)) picks
the largest complex Daubechies coefficient instead, which fits a surface in bright light. In fluorescence the
planes are dim and transparent: the largest of 34 noisy coefficients is noise, and a decimated orthogonal
transform shows where one plane gives way to the next. tests/pairing/test_extended_depth.py holds the two
against each other.

Low frequencies pass every plane of a wide-field stack alike. Light from other depths therefore stays in the
result as haze; it is no deconvolution.
"""

import numpy as np
from scipy import ndimage

from configs.document import WrongInputError
from training.pairing.sampling import FloatArray, Image

__all__ = ["extended_depth_of_field"]

LEVELS = 5
"""Bands: the coarsest is 32 pixels wide, as wide as defocus makes a point here."""
NEIGHBOURHOOD_PX = 1.25
"""Sigma in pixels of the band: smaller separates crossing filaments better, larger stands more noise."""
HANDED_DOWN = 0.5
"""Exponent with which a finer band's weight counts in the coarser one: fine detail shows focus best."""
FAINT = 1e-9
"""Energy over the squared range of the stack, below which planes are equally good."""
_KERNEL = np.array([1, 4, 6, 4, 1], dtype=np.float32) / 16
_LEAST_SIDE_PX = 8
"""Of what is still halved."""


def extended_depth_of_field(stack: Image) -> FloatArray:
    """Fuse a focus stack into one image that is in focus everywhere.

    Planes are worked on one at a time: beside the stack itself it takes about 80 bytes a pixel of one plane,
    330 MB for 2048 x 2048.

    Parameters
    ----------
    stack
        (Z, Y, X) counts of any real dtype, the planes aligned with each other.

    Returns
    -------
    FloatArray
        (Y, X) float32 counts, each within the values that its own pixel has over z.

    Raises
    ------
    WrongInputError
        It is no stack of planes, has no pixel, or holds NaN or infinities.
    """
    if stack.ndim != 3 or stack.size == 0 or stack.dtype.kind not in "uif":
        msg = f"a focus stack of counts, (Z, Y, X), is needed; got {stack.dtype} of shape {stack.shape}"
        raise WrongInputError(msg)
    # NaN and infinity survive in the extremes; no mask as large as the stack is needed.
    if not np.isfinite([float(stack.min()), float(stack.max())]).all():
        raise WrongInputError("the focus stack holds NaN or infinity; acquire it again")
    fusion = _Fusion(stack.shape[1:], float(stack.max()) - float(stack.min()))
    for plane in stack:
        fusion.add(plane.astype(np.float32))
    return fusion.image()


class _Fusion:
    """Weighted sums of the planes' bands.

    Parameters
    ----------
    shape_yx
        Of a plane.
    span
        From the darkest to the brightest value of the stack.
    """

    def __init__(self, shape_yx: tuple[int, ...], span: float) -> None:
        self._levels = _levels_of(shape_yx)
        self._span = np.float32(span) or np.float32(1)
        self._bands: list[Image] = [np.zeros(1)] * (self._levels + 1)
        self._weights: list[Image] = [np.zeros(1)] * (self._levels + 1)
        self._darkest = np.full(shape_yx, np.inf, dtype=np.float32)
        self._brightest = np.full(shape_yx, -np.inf, dtype=np.float32)

    def add(self, plane: FloatArray) -> None:
        """Take one plane, (Y, X), into account."""
        np.minimum(self._darkest, plane, out=self._darkest)
        np.maximum(self._brightest, plane, out=self._brightest)
        finer: Image = np.ones(plane.shape)
        for level in range(self._levels):
            coarse = _halved(plane)
            band = plane - _doubled(coarse, plane.shape)
            weight = self._weight(band) * finer**HANDED_DOWN
            self._add(level, band, weight)
            plane, finer = coarse, _halved(weight)
        # Wide-field planes have this in common; of sections, take those that show something here.
        self._add(self._levels, plane, finer)

    def image(self) -> FloatArray:
        """Return what was fused so far, (Y, X) float32."""
        fused = self._mean(self._levels)
        for level in reversed(range(self._levels)):
            band = self._mean(level)
            fused = band + _doubled(fused, band.shape)
        return np.asarray(np.clip(fused, self._darkest, self._brightest))

    def _weight(self, band: FloatArray) -> Image:
        """Return the fourth power of the energy nearby, 1e-36 at least.

        A higher power takes one plane alone and its noise with it, a lower one dulls the contrast.
        """
        energy = ndimage.gaussian_filter((band / self._span) ** 2, NEIGHBOURHOOD_PX, mode="mirror")
        return np.asarray(np.square(np.square(energy.astype(np.float64) + FAINT)))

    def _add(self, level: int, band: FloatArray, weight: Image) -> None:
        self._bands[level] = self._bands[level] + weight * band
        self._weights[level] = self._weights[level] + weight

    def _mean(self, level: int) -> FloatArray:
        return np.asarray(self._bands[level] / self._weights[level], dtype=np.float32)


def _levels_of(shape_yx: tuple[int, ...]) -> int:
    """Return how often a plane can be halved, at most LEVELS times."""
    levels, side = 0, min(shape_yx)
    while levels < LEVELS and side >= _LEAST_SIDE_PX:
        levels, side = levels + 1, (side + 1) // 2
    return levels


def _halved(image: Image) -> Image:
    """Return every second pixel of the smoothed image, (ceil(Y / 2), ceil(X / 2))."""
    return np.asarray(_smoothed(image)[::2, ::2])


def _doubled(image: FloatArray, shape_yx: tuple[int, ...]) -> FloatArray:
    """Interpolate to the finer grid that an image was halved from."""
    sparse = np.zeros(shape_yx, dtype=np.float32)
    sparse[::2, ::2] = image
    return 4 * _smoothed(sparse)


def _smoothed(image: Image) -> Image:
    rows = ndimage.convolve1d(image, _KERNEL, axis=0, mode="mirror")
    return np.asarray(ndimage.convolve1d(rows, _KERNEL, axis=1, mode="mirror"))
