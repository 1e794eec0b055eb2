"""The calibration of a microscope's two imaging states, as a file, and when it no longer holds.

Owns the format of a calibration, its reading and writing, the check that it fits an experiment, and its form
as Micro-Manager configuration lines. Knows no devices and no images: `acquisition.calibration_run` measures.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Literal

from pydantic import AwareDatetime, BaseModel, Field, ValidationError

from acquisition.manifest import ImagingState
from acquisition.plan import Experiment
from configs.document import WrongInputError
from inference.journal import write_atomic

__all__ = [
    "Calibration",
    "CameraRecord",
    "Offset",
    "StateCalibration",
    "cfg_lines",
    "check_fresh",
    "read_calibration",
    "write_calibration",
]

DEFAULT_MAX_AGE_DAYS = 30.0
_REMEDY = "run 'sharpscope calibrate'"


class _Model(BaseModel, frozen=True, extra="forbid", allow_inf_nan=False):
    """A part of the file; an unknown key is an error."""


class Offset(_Model):
    """A figure that is the mean over fields."""

    mean: float
    standard_error: float = Field(ge=0)
    fields: int = Field(ge=1)


class CameraRecord(_Model):
    """The camera as it was read out. Other pixels than these are not calibrated."""

    frame_shape_yx: tuple[int, int]
    binning: int = Field(ge=1)
    camera_pixel_um: float = Field(gt=0)
    """Side of one pixel of the chip, not binned."""


class StateCalibration(_Model):
    """An imaging state."""

    objective: str
    magnification: float = Field(gt=0)
    pixel_size_um: float = Field(gt=0)
    """Square root of the determinant of the affine; of a binned pixel, if the camera bins."""
    pixel_size_standard_error_um: float = Field(ge=0)
    affine: tuple[float, float, float, float, float, float]
    """Micro-Manager's order: image pixel (x, y) to stage um, (xx, xy, x0, yx, yy, y0). The image of a field
    at stage position s shows, at pixel offset p from the centre, the specimen at s + A p."""
    rotation_deg: float
    """By which the camera's axes are turned from the stage's x axis towards its y axis."""
    rotation_standard_error_deg: float = Field(ge=0)
    mirrored: bool
    """Whether the camera's x axis is flipped, before it is turned."""
    fields: int = Field(ge=1)
    """Whose images went into it."""


class Calibration(_Model):
    """What was measured of a microscope with two imaging states."""

    format: Literal["sharpscope-calibration"] = "sharpscope-calibration"
    version: Literal[1] = 1
    created: AwareDatetime = Field(default_factory=lambda: datetime.now(UTC))
    microscope: str
    camera: CameraRecord
    states: dict[ImagingState, StateCalibration]
    parfocal_um: Offset
    """Best focus of the high state minus that of the low one, in the focus channel."""
    parcentric_um: tuple[Offset, Offset]
    """Where the high objective's centre lies in the specimen, x and y, seen from the low one's."""
    focus_channel: str
    channel_focus_um: dict[ImagingState, dict[str, Offset]]
    """Each channel's best focus minus that of the focus channel."""


def read_calibration(path: Path) -> Calibration:
    """Read a calibration; raises WrongInputError that says why it cannot be used."""
    try:
        return Calibration.model_validate_json(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not a text file"
        raise WrongInputError(f"{path}: no calibration can be read ({reason}); {_REMEDY}") from error
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"]) or "the document"
        msg = f"{path} is not a calibration of this version (key '{key}': {first['msg']}); {_REMEDY}"
        raise WrongInputError(msg) from error


def write_calibration(path: Path, calibration: Calibration) -> None:
    """Write a calibration so that a reader sees the old file or the new one, never a part."""
    write_atomic(path, calibration.model_dump_json(indent=2) + "\n")


def check_fresh(
    calibration: Calibration,
    experiment: Experiment,
    frame_shape_yx: tuple[int, int],
    binning: int,
    *,
    now: datetime | None = None,
    max_age_days: float = DEFAULT_MAX_AGE_DAYS,
) -> None:
    """Raise WrongInputError that names the first thing for which the calibration does not hold.

    Parameters
    ----------
    frame_shape_yx, binning
        Of the camera as it is now.
    now
        With a time zone; the present by default.
    """
    age = (now or datetime.now(UTC)) - calibration.created
    if age > timedelta(days=max_age_days):
        days = age / timedelta(days=1)
        msg = f"the calibration is {days:.0f} days old, and may be {max_age_days:g}; {_REMEDY}"
        raise WrongInputError(msg)
    microscope, camera = experiment.microscope, calibration.camera
    asked: list[tuple[str, object, object]] = [
        ("microscope", calibration.microscope, microscope.name),
        ("frame shape (y, x)", camera.frame_shape_yx, tuple(frame_shape_yx)),
        ("binning", camera.binning, binning),
        ("camera pixel (um)", camera.camera_pixel_um, microscope.camera_pixel_um),
        ("focus channel", calibration.focus_channel, experiment.focus.channel),
    ]
    for state, settings in experiment.states.items():
        known = calibration.states.get(state)
        asked += [
            (f"objective of '{state}'", known and known.objective, settings.objective),
            (f"magnification of '{state}'", known and known.magnification, settings.magnification),
        ]
    for what, calibrated, present in asked:
        if calibrated != present:
            msg = f"the calibration was made with another {what}: {calibrated}, now {present}; {_REMEDY}"
            raise WrongInputError(msg)
    for state in experiment.states:
        for channel in experiment.channels:
            if channel.name not in calibration.channel_focus_um.get(state, {}):
                msg = f"the calibration lacks channel '{channel.name}' in state '{state}'; {_REMEDY}"
                raise WrongInputError(msg)


def cfg_lines(
    calibration: Calibration, settings: Mapping[ImagingState, Sequence[tuple[str, str, str]]]
) -> list[str]:
    """Return the calibration as pixel size lines of a Micro-Manager configuration.

    They take the place of those that are there: of two that fit, Micro-Manager takes the first.

    Parameters
    ----------
    settings
        By state: (device, property, value) that the objective's turret then has.
    """
    lines = []
    for state, known in calibration.states.items():
        name = "Res" + "".join(character for character in known.objective if character.isalnum())
        binning = calibration.camera.binning  # Micro-Manager multiplies by it itself
        numbers = ",".join(f"{number / binning:.8g}" for number in known.affine)
        lines += [f"ConfigPixelSize,{name},{','.join(setting)}" for setting in settings[state]]
        lines += [
            f"PixelSize_um,{name},{known.pixel_size_um / binning:.8g}",
            f"PixelSizeAffine,{name},{numbers}",
        ]
    return lines
