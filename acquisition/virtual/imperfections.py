"""What is not ideal about the virtual stand; all zero by default, and all readable as truth.

Owns the names, the units and the checking of the imperfections, and those that are functions of a position:
the error of the stage and the distortion of an objective. How they enter an image is the stand's matter.
"""

from typing import Any

import numpy as np
from pydantic import BaseModel, Field, ValidationError

from configs.document import WrongInputError

__all__ = ["Distortion", "Imperfections", "StageError"]

FloatArray = np.ndarray[Any, np.dtype[np.float64]]

_STAGE_WAVES = 5


class Imperfections(BaseModel, frozen=True, extra="forbid"):
    """Named departures from an ideal stand. Zero means absent."""

    sample_height_um: float = 0.0
    """Focus drive position of the low objective's best focus at stage position (0, 0)."""
    sample_tilt_um_per_mm: tuple[float, float] = (0.0, 0.0)
    """Rise of the best focus along x and along y. Within a field it is taken as level."""
    parfocal_offset_um: float = 0.0
    """Best focus of the high objective minus that of the low one."""
    parcentric_offset_um: tuple[float, float] = (0.0, 0.0)
    """Where the high objective's centre lies in the specimen, (x, y), seen from the low one's."""
    stage_error_um: float = Field(default=0.0, ge=0)
    """Root mean square, in x and in y, of how far the stage misses; always the same at the same place."""
    distortion_px: float = Field(default=0.0, ge=0)
    """Largest displacement in the high objective's field, in its camera pixels."""
    vignetting: float = Field(default=0.0, ge=0, lt=1)
    """Fraction of light that the corners of a frame lack."""

    @classmethod
    def of(cls, **values: Any) -> "Imperfections":  # noqa: ANN401 - pydantic does the checking
        """Return checked imperfections; raises WrongInputError that names the first wrong one."""
        try:
            return cls(**values)
        except ValidationError as error:
            first = error.errors()[0]
            known = ", ".join(cls.model_fields)
            msg = f"imperfection '{first['loc'][0]}': {first['msg']}; the virtual stand has: {known}"
            raise WrongInputError(msg) from error


class StageError:
    """How far the stage misses, a smooth function of where it was sent, as lead screws make it.

    Parameters
    ----------
    rms_um
        Root mean square along each axis, over long ways.
    """

    def __init__(self, rms_um: float, seed: int) -> None:
        rng = np.random.default_rng([seed, 77])
        self._amplitude_um = rms_um * np.sqrt(2 / _STAGE_WAVES)
        length_um = rng.uniform(100, 900, (2, _STAGE_WAVES))
        direction = rng.uniform(0, 2 * np.pi, (2, _STAGE_WAVES))
        self._wave: FloatArray = 2 * np.pi / length_um * np.stack([np.cos(direction), np.sin(direction)])
        self._phase: FloatArray = rng.uniform(0, 2 * np.pi, (2, _STAGE_WAVES))

    def at(self, commanded_xy_um: tuple[float, float]) -> tuple[float, float]:
        """Return (x, y) of where the stage goes minus where it was sent, in um."""
        x_um, y_um = commanded_xy_um
        angle = self._wave[0] * x_um + self._wave[1] * y_um + self._phase  # (2, waves)
        dx_um, dy_um = self._amplitude_um * np.cos(angle).sum(axis=1)
        return (float(dx_um), float(dy_um))


class Distortion:
    """A smooth displacement over the field: barrel and a few slow waves, fixed by the seed.

    There is none at the centre.

    Parameters
    ----------
    largest_px
        Largest displacement inside the frame, in camera pixels.
    """

    def __init__(self, largest_px: float, seed: int) -> None:
        self._wave: FloatArray = np.random.default_rng([seed, 78]).uniform(-1, 1, (2, 5))
        v, u = np.meshgrid(*[np.linspace(-1, 1, 65)] * 2, indexing="ij")
        self._scale_px = largest_px / float(np.hypot(*self._shape(v, u)).max())

    def displacement_yx_px(self, v: FloatArray, u: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Return how much farther along (y, x) a camera pixel looks than it would without distortion.

        Parameters
        ----------
        v, u
            Position in the frame, -1 to 1 from edge to edge, in y and in x.
        """
        dy, dx = self._shape(v, u)
        return dy * self._scale_px, dx * self._scale_px

    def _shape(self, v: FloatArray, u: FloatArray) -> tuple[FloatArray, FloatArray]:
        dy, dx = (
            along * (u**2 + v**2)
            + a * (np.sin(1.9 * u + 3 * b) - np.sin(3 * b))
            + c * (np.cos(1.7 * v + 3 * d) - np.cos(3 * d))
            + 0.5 * e * np.sin(2.3 * u * v)
            for along, (a, b, c, d, e) in zip((v, u), self._wave, strict=True)
        )
        return dy, dx
