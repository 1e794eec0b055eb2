"""The light of a TIRF microscope: uniform, or striped for structured illumination.

Owns the geometry of the stripes. Two waves that meet at the coverslip make stripes of intensity
1 + depth * cos(2 pi k . r + phase), k being twice the illumination aperture over the excitation wavelength
(Gustafsson 2000). Knows no specimen and no detection.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

__all__ = ["EXPOSURES", "Stripes", "stripes_of_exposure"]

FloatArray = np.ndarray[Any, np.dtype[np.floating[Any]]]
FloatImage = np.ndarray[Any, np.dtype[np.float32]]

ORIENTATIONS, PHASES = 3, 3
EXPOSURES = ORIENTATIONS * PHASES
"""Of one image."""
FIRST_ANGLE = np.deg2rad(11.0)
"""No orientation lies along the camera's rows or columns."""


@dataclass(frozen=True, slots=True)
class Stripes:
    """One pattern of light."""

    frequency_xy_per_um: tuple[float, float]
    phase: float
    depth: float
    """Modulation depth, 0 to 1."""

    def at(self, y_um: FloatArray, x_um: FloatArray) -> FloatArray:
        """Return the relative intensity at points, any shape, 1 on average."""
        k_x, k_y = self.frequency_xy_per_um
        return 1 + self.depth * np.cos(2 * np.pi * (k_x * x_um + k_y * y_um) + self.phase)

    def intensity(self, y_um: FloatArray, x_um: FloatArray) -> FloatImage:
        """Return the relative intensity over a grid of rows y (Y,) and columns x (X,), 1 on average."""
        along_x, along_y = (
            2 * np.pi * k * r for k, r in zip(self.frequency_xy_per_um, (x_um, y_um), strict=True)
        )
        # cos(a + b) by its parts, which are vectors.
        rows, columns = along_y + self.phase, along_x
        stripes = np.outer(np.cos(rows), np.cos(columns)) - np.outer(np.sin(rows), np.sin(columns))
        return (1 + self.depth * stripes).astype(np.float32)


def stripes_of_exposure(number: int, aperture: float, excitation_nm: float, depth: float) -> Stripes:
    """Return the pattern of one of the nine exposures: three phases of the first orientation come first.

    Parameters
    ----------
    number
        0 to 8.
    aperture
        Illumination NA of either wave.
    """
    orientation, phase = divmod(number, PHASES)
    angle = FIRST_ANGLE + np.pi * orientation / ORIENTATIONS
    frequency = 2 * aperture / (excitation_nm * 1e-3)
    return Stripes(
        frequency_xy_per_um=(float(frequency * np.cos(angle)), float(frequency * np.sin(angle))),
        phase=float(2 * np.pi * phase / PHASES + 0.7 * orientation),
        depth=depth,
    )
