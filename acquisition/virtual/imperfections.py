"""What is not ideal about the virtual stand; all zero by default, and all readable as truth.

Owns the names, the units and the checking of the imperfections, and those that are functions of a position:
the error of the stage, the hills of the sample, the distortion of an objective. How they enter an image is
the stand's matter; what light does to the dye, `acquisition.virtual.bleaching`'s.
"""

from typing import Any

import numpy as np
from pydantic import BaseModel, Field, ValidationError

from configs.document import WrongInputError

__all__ = ["Distortion", "Imperfections", "StageError", "Waviness"]

FloatArray = np.ndarray[Any, np.dtype[np.float64]]

_STAGE_WAVES = 5


class Imperfections(BaseModel, frozen=True, extra="forbid", allow_inf_nan=False):
    """Named departures from an ideal stand. Zero means absent; those of the camera chip are the sensor's."""

    sample_height_um: float = 0.0
    """Focus drive position of the low objective's best focus at stage position (0, 0)."""
    sample_tilt_um_per_mm: tuple[float, float] = (0.0, 0.0)
    """Rise of the best focus along x and along y. Within a field it is taken as level."""
    sample_waviness_um: float = Field(default=0.0, ge=0)
    """Amplitude of slow hills of the sample plane, about a millimetre long."""
    parfocal_offset_um: float = 0.0
    """Best focus of the high objective minus that of the low one."""
    parcentric_offset_um: tuple[float, float] = (0.0, 0.0)
    """Where the high objective's centre lies in the specimen, (x, y), seen from the low one's."""
    stage_error_um: float = Field(default=0.0, ge=0)
    """Root mean square, in x and in y, of how far the stage misses; always the same at the same place."""
    stage_backlash_um: float = Field(default=0.0, ge=0)
    """How much less far the stage comes, along each axis, where it arrives in the positive direction."""
    camera_rotation_deg: float = 0.0
    """By which the camera's x axis is turned from the stage's x axis towards its y axis."""
    camera_mirrored: bool = False
    """Whether the camera's x axis is flipped, before it is turned."""
    distortion_px: float = Field(default=0.0, ge=0)
    """Largest displacement in the high objective's field, in camera pixels."""
    low_distortion_px: float = Field(default=0.0, ge=0)
    """The same in the low objective's field, with a pattern of its own."""
    lateral_chromatic_um: dict[str, tuple[float, float]] = {}
    """By channel: where its image lies in the specimen, (x, y), seen from a channel without shift."""
    axial_chromatic_um: dict[str, float] = {}
    """By channel: its best focus minus that of a channel without shift."""
    vignetting: float = Field(default=0.0, ge=0, lt=1)
    """Fraction of light that the corners of a frame lack."""
    background_gradient: tuple[float, float] = (0.0, 0.0)
    """Relative rise of the autofluorescence from the middle to the right and to the lower edge of a frame."""
    bleaching_per_s: float = Field(default=0.0, ge=0, lt=1)
    """Fraction of the fluorescence that a second of exposure takes, where the light falls."""
    drift_um_per_min: tuple[float, float, float] = (0.0, 0.0, 0.0)
    """Of the specimen along x, y and focus."""
    excitation_underfill: float = Field(default=0.0, ge=0)
    """Of a scanned focus: radius of the pupil over that of the excitation beam (1 / e^2). It widens the
    focus; 0 fills the pupil evenly."""
    spherical_aberration_waves: float = 0.0
    """Of a scanned focus: root mean square, in wavelengths."""

    @classmethod
    def of(cls, **values: Any) -> "Imperfections":  # noqa: ANN401 - pydantic does the checking
        """Return checked imperfections; raises WrongInputError that names the first wrong one."""
        try:
            return cls(**values)
        except ValidationError as error:
            first = error.errors()[0]
            raise WrongInputError(f"imperfection '{first['loc'][0]}': {first['msg']}") from error


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


class Waviness:
    """Height of the sample plane over its tilted mean, a smooth function of the place.

    Parameters
    ----------
    amplitude_um
        Root mean square over long ways.
    """

    def __init__(self, amplitude_um: float, seed: int) -> None:
        rng = np.random.default_rng([seed, 76])
        self._amplitude_um = amplitude_um * np.sqrt(2 / _STAGE_WAVES)
        length_um = rng.uniform(700, 2500, _STAGE_WAVES)
        direction = rng.uniform(0, 2 * np.pi, _STAGE_WAVES)
        self._wave: FloatArray = 2 * np.pi / length_um * np.stack([np.cos(direction), np.sin(direction)])
        self._phase: FloatArray = rng.uniform(0, 2 * np.pi, _STAGE_WAVES)

    def at(self, xy_um: tuple[float, float]) -> float:
        """Return the height at a stage position, in um."""
        angle = self._wave[0] * xy_um[0] + self._wave[1] * xy_um[1] + self._phase  # (waves,)
        return float(self._amplitude_um * np.cos(angle).sum())


class Distortion:
    """A smooth displacement over the field: barrel and a few slow waves, fixed by the seed.

    There is none at the centre.

    Parameters
    ----------
    largest_px
        Largest displacement inside the frame, in camera pixels.
    objective
        Another number gives another pattern.
    """

    def __init__(self, largest_px: float, seed: int, objective: int = 0) -> None:
        key = [seed, 78, objective] if objective else [seed, 78]
        self._wave: FloatArray = np.random.default_rng(key).uniform(-1, 1, (2, 5))
        self.largest_px = largest_px
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
