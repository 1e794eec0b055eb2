"""From expected photo-electrons to counts: gain spread, hot pixels, shot noise, read noise, full well, bits.

Owns the camera chip. Knows no optics and no Micro-Manager. The random stream is handed in; what is fixed
about the chip (which pixels are hot, how much each is off) follows from its seed.
"""

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np

from configs.document import WrongInputError

__all__ = ["BIT_DEPTHS", "Roi", "Sensor"]

FloatImage = np.ndarray[Any, np.dtype[np.float32]]
CountImage = np.ndarray[Any, np.dtype[np.uint16]]
Roi = tuple[int, int, int, int]
"""(x, y, width, height) in camera pixels, as Micro-Manager states it."""

BIT_DEPTHS = (8, 12, 16)
_DIM_ELECTRONS = 16.0
"""Below, Poisson's distribution is drawn as it is."""
_SMOOTH_READ_NOISE_ELECTRONS = 0.5
"""Above, nobody can tell single electrons apart, and shot noise may be drawn as a continuous number."""


@dataclass(frozen=True)
class Sensor:
    """A scientific CMOS camera. With the last five at zero, what is left is shot noise and rounding."""

    shape_yx: tuple[int, int] = (512, 512)
    pixel_um: float = 6.5
    bits: int = 16
    """Of the converter: 8, 12 or 16; brighter pixels saturate."""
    electrons_per_count: float = 0.46
    full_well_electrons: float = 30_000.0
    offset_counts: float = 100.0
    read_noise_electrons: float = 1.6
    gain_spread: float = 0.0
    """Photo-response non-uniformity: the standard deviation of the pixels' sensitivities."""
    hot_pixel_fraction: float = 0.0
    hot_pixel_electrons_per_ms: float = 2.0
    """Mean of the dark current of hot pixels, which is exponentially distributed."""
    seed: int = 0

    def __post_init__(self) -> None:
        """Raise WrongInputError for a chip that cannot be."""
        checks = {
            f"bits must be 8, 12 or 16; got {self.bits}": self.bits in BIT_DEPTHS,
            f"shape_yx must be at least 1 x 1; got {self.shape_yx}": min(self.shape_yx) >= 1,
            "pixel_um, electrons_per_count and full_well_electrons must be positive": min(
                self.pixel_um, self.electrons_per_count, self.full_well_electrons
            )
            > 0,
            "read noise, gain spread and dark current must not be negative": min(
                self.read_noise_electrons, self.gain_spread, self.hot_pixel_electrons_per_ms
            )
            >= 0,
            f"hot_pixel_fraction is a share; got {self.hot_pixel_fraction}": 0
            <= self.hot_pixel_fraction
            <= 1,
        }
        for message, right in checks.items():
            if not right:
                raise WrongInputError(f"sensor: {message}")

    def with_bits(self, bits: int) -> "Sensor":
        """Return the same chip read out with other bits: fewer divide the same range more coarsely."""
        coarser = 2.0 ** (self.bits - bits)
        return replace(
            self,
            bits=bits,
            electrons_per_count=self.electrons_per_count * coarser,
            offset_counts=self.offset_counts / coarser,
        )

    def of_shape(self, shape_yx: tuple[int, int] | None) -> "Sensor":
        """Return the same kind of chip with another number of pixels; None leaves it."""
        return self if shape_yx is None else replace(self, shape_yx=shape_yx)

    def expected_counts(self, electrons: FloatImage) -> FloatImage:
        """Return the noise-free counts above the offset that expected electrons give."""
        return electrons / np.float32(self.electrons_per_count)

    def expose(
        self,
        electrons: FloatImage,
        rng: np.random.Generator,
        *,
        exposure_ms: float = 0.0,
        roi: Roi | None = None,
        binning: int = 1,
    ) -> CountImage:
        """Return one noisy exposure.

        Parameters
        ----------
        electrons
            (Y, X) expected photo-electrons, not negative; of the whole chip, or of `roi`, not binned.
        exposure_ms
            In which hot pixels gather dark current.
        binning
            Pixels along a side that are summed before the converter, as a CCD does it.
        """
        light = self._uneven(electrons, exposure_ms, roi)
        detected = self._detected(light if binning == 1 else _summed(light, binning), rng)
        np.minimum(detected, np.float32(self.full_well_electrons), out=detected)
        detected /= np.float32(self.electrons_per_count)
        detected += np.float32(self.offset_counts)
        np.rint(detected, out=detected)
        return np.clip(detected, 0, 2**self.bits - 1, out=detected).astype(np.uint16)

    def _uneven(self, electrons: FloatImage, exposure_ms: float, roi: Roi | None) -> FloatImage:
        """Return what the pixels' own sensitivities and dark currents make of the light."""
        if not self.gain_spread and not self.hot_pixel_fraction:
            return electrons
        x, y, width, height = roi or (0, 0, self.shape_yx[1], self.shape_yx[0])
        window = (slice(y, y + height), slice(x, x + width))
        sensitivity, dark_per_ms = _chip(self.with_bits(16))
        return electrons * sensitivity[window] + dark_per_ms[window] * np.float32(exposure_ms)

    def _detected(self, electrons: FloatImage, rng: np.random.Generator) -> FloatImage:
        """Return shot noise and read noise in one draw.

        A normal number, bent by the skewness that Poisson's distribution has (Cornish & Fisher 1938, first
        term), is within a hundredth of its quantiles from 16 electrons on, at a sixth of the time.
        """
        noise = np.float32(self.read_noise_electrons)
        if noise < _SMOOTH_READ_NOISE_ELECTRONS:
            return rng.poisson(electrons).astype(np.float32) + noise * _normal(rng, electrons.shape)
        variance = electrons + noise**2
        z = _normal(rng, electrons.shape)
        detected = electrons + np.sqrt(variance) * z + electrons / (6 * variance) * (z * z - 1)
        dim = np.flatnonzero(electrons < _DIM_ELECTRONS)
        if dim.size:
            shot = rng.poisson(electrons.ravel()[dim])
            detected.ravel()[dim] = shot + noise * _normal(rng, dim.shape)
        return np.asarray(detected, dtype=np.float32)


def _normal(rng: np.random.Generator, shape: tuple[int, ...]) -> FloatImage:
    return rng.standard_normal(shape, dtype=np.float32)


def _summed(image: FloatImage, binning: int) -> FloatImage:
    height, width = (length // binning for length in image.shape)
    return np.asarray(image.reshape(height, binning, width, binning).sum(axis=(1, 3)))  # (height, width)


@lru_cache(maxsize=4)
def _chip(sensor: Sensor) -> tuple[FloatImage, FloatImage]:
    """Return the sensitivity of every pixel, about 1, and its dark current in electrons per ms."""
    rng = np.random.default_rng([sensor.seed, 80])
    sensitivity = 1 + np.float32(sensor.gain_spread) * _normal(rng, sensor.shape_yx)
    hot = rng.random(sensor.shape_yx) < sensor.hot_pixel_fraction
    dark = hot * rng.exponential(sensor.hot_pixel_electrons_per_ms, sensor.shape_yx)
    return np.maximum(sensitivity, 0), dark.astype(np.float32)
