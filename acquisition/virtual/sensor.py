"""From expected photo-electrons to counts: shot noise, read noise, gain, offset, full well, 16 bits.

Owns the camera chip. Knows no optics and no Micro-Manager. The random stream is handed in.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

__all__ = ["Sensor"]

FloatImage = np.ndarray[Any, np.dtype[np.float32]]
CountImage = np.ndarray[Any, np.dtype[np.uint16]]


@dataclass(frozen=True)
class Sensor:
    """A scientific CMOS camera. With zero read noise, what is left is shot noise and rounding."""

    shape_yx: tuple[int, int] = (512, 512)
    pixel_um: float = 6.5
    offset_counts: float = 100.0
    electrons_per_count: float = 0.46
    read_noise_electrons: float = 1.6
    full_well_electrons: float = 30_000.0

    def expected_counts(self, electrons: FloatImage) -> FloatImage:
        """Return the noise-free counts above the offset that expected electrons give."""
        return electrons / np.float32(self.electrons_per_count)

    def expose(self, electrons: FloatImage, rng: np.random.Generator) -> CountImage:
        """Return one noisy exposure.

        Parameters
        ----------
        electrons
            (Y, X) expected photo-electrons, not negative.
        """
        detected = np.minimum(rng.poisson(electrons), self.full_well_electrons).astype(np.float32)
        detected += np.float32(self.read_noise_electrons) * rng.standard_normal(
            detected.shape, dtype=np.float32
        )
        counts = np.rint(detected / np.float32(self.electrons_per_count) + np.float32(self.offset_counts))
        return np.asarray(np.clip(counts, 0, np.iinfo(np.uint16).max), dtype=np.uint16)
