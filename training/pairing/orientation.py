"""How the high camera's pixel grid lies under the low one's, apart from a shift: scale and rotation.

Owns the linear map between the two grids. It belongs to the microscope, not to a field: it comes from the
calibration, or is estimated once for a whole set (`orientation_estimate`). Knows no images.
"""

from dataclasses import dataclass

import numpy as np

from training.pairing.sampling import FloatArray, Image

__all__ = ["ALIGNED", "Orientation"]


@dataclass(frozen=True, slots=True)
class Orientation:
    """The linear part of the way from the upsampled low grid to the high camera's pixels.

    What lies at v from the centre of the low frame, in pixels of the upsampled low grid, lies at `matrix` v
    in pixels of the high camera.
    """

    matrix_yx: tuple[tuple[float, float], tuple[float, float]]

    @classmethod
    def of(cls, matrix_yx: Image) -> "Orientation":
        """Take a (2, 2) array, acting on (y, x)."""
        (a, b), (c, d) = np.asarray(matrix_yx, dtype=np.float64).tolist()
        return cls(((a, b), (c, d)))

    @property
    def scale(self) -> float:
        """High pixels along one pixel of the upsampled low grid; 1 where the factor says all."""
        return float(np.sqrt(abs(np.linalg.det(np.array(self.matrix_yx)))))

    @property
    def rotation_deg(self) -> float:
        """By which angle the high image is turned, from y towards x."""
        (a, b), (c, d) = self.matrix_yx
        return float(np.rad2deg(np.arctan2(c - b, a + d)) + 0.0)  # never -0

    def displacement(self, positions_yx_px: FloatArray, pivot_yx_px: tuple[float, float]) -> FloatArray:
        """Return what the map adds to positions on the upsampled low grid, (2, Y, X) high pixels.

        Parameters
        ----------
        pivot_yx_px
            Pixel index of the low frame's centre on that grid.
        """
        away = positions_yx_px - np.array(pivot_yx_px, dtype=np.float32)[:, None, None]
        beyond = (np.array(self.matrix_yx) - np.eye(2)).astype(np.float32)
        return np.asarray(np.einsum("ij,jyx->iyx", beyond, away))


ALIGNED = Orientation(((1.0, 0.0), (0.0, 1.0)))
"""Both cameras look the same way, and the factor is the whole of the scale."""
