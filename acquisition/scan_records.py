"""The lines of a scan folder's journal and the head of its manifest, as frozen models.

Owns their form, which is part of contract 1. What order they are written in is `acquisition.manifest`'s,
which gives them on to readers.
"""

from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, TypeAdapter

__all__ = [
    "BeginRecord",
    "ChannelRecord",
    "ExtraLightRecord",
    "FieldKey",
    "FieldQuality",
    "FieldRecord",
    "FocusRecord",
    "HoleRecord",
    "ImagingState",
    "Manifest",
    "ObjectiveRecord",
    "Record",
    "ResumeRecord",
    "ShiftToLow",
    "read_record",
]

ImagingState = Literal["low", "high"]


class ObjectiveRecord(BaseModel, frozen=True, extra="forbid"):
    """An objective as the scan used it."""

    name: str
    magnification: float
    numerical_aperture: float
    immersion: str
    pixel_size_um: float
    pixel_size_affine: tuple[float, float, float, float, float, float]
    """Micro-Manager's order: image pixel to stage micrometer, (xx, xy, x0, yx, yy, y0)."""


class ChannelRecord(BaseModel, frozen=True, extra="forbid"):
    """A fluorescence channel; fields hold the channels in the manifest's order."""

    name: str
    emission_nm: float
    exposure_ms: dict[ImagingState, float]


class Manifest(BaseModel, frozen=True, extra="forbid"):
    """The part of a scan folder that is known before the first field."""

    format: Literal["sharpscope-scan"] = "sharpscope-scan"
    version: Literal[1] = 1
    run_id: str
    created: datetime = Field(default_factory=lambda: datetime.now(UTC))
    microscope: str
    camera_pixel_um: float
    objectives: dict[ImagingState, ObjectiveRecord]
    channels: list[ChannelRecord]
    plan: dict[str, Any]
    """The whole experiment file, so that the folder explains itself."""
    software: dict[str, str]


class ShiftToLow(BaseModel, frozen=True, extra="forbid"):
    """Where a high field was found in the low field of its region."""

    shift_xy_um: tuple[float, float]
    """How much farther along x and y its content lies than the stage says."""
    correlation: float
    overlap: float
    """Fraction of the high field that the low one covers."""


class FieldQuality(BaseModel, frozen=True, extra="forbid"):
    """A field as it was judged at the microscope; lists follow the manifest's channels."""

    saturated_fraction: list[float]
    median_counts: list[float]
    bright_counts: list[float]
    """99.9th percentile."""
    structured: bool = True
    """Whether the focus channel shows anything above its noise; else the field is empty, or had no light."""
    sharpness_ratio: float | None = None
    """Sharpness in the focus channel over that of the focus curve's best; None without a curve."""
    registration: ShiftToLow | None = None
    """Of high fields, where there is structure to compare."""


class FieldRecord(BaseModel, frozen=True, extra="forbid"):
    """One committed field of view in one imaging state."""

    kind: Literal["field"] = "field"
    region: int
    """Fields of one region show the same place in both states."""
    state: ImagingState
    tile: int
    """Position of the field inside its region and state, in acquisition order."""
    file: str
    sha256: str
    stage_x_um: float
    stage_y_um: float
    focus_um: float
    time: datetime = Field(default_factory=lambda: datetime.now(UTC))
    take: int = 1
    """A field that was taken again replaces the one before; both files stay."""
    quality: FieldQuality | None = None
    flags: list[str] = []
    """What the limits of quality hold against the field, after all takes."""


class FocusRecord(BaseModel, frozen=True, extra="forbid"):
    """One plane of best focus: searched with its curve, predicted by the focus map, or held by a device."""

    kind: Literal["focus"] = "focus"
    region: int
    state: ImagingState
    tile: int
    succeeded: bool
    focus_um: float | None
    reason: str | None = None
    curve: list[tuple[float, float]]
    """Pairs of focus drive position (um) and score, in the order of exposure."""
    method: Literal["searched", "predicted", "hardware"] = "searched"
    found_um: float | None = None
    """What a search found, before it was weighed against the focus map,"""
    error_um: float | None = None
    """and its standard deviation."""
    expected_um: float | None = None
    expected_uncertainty_um: float | None = None
    """What the focus map expected, as a standard deviation."""
    stage_x_um: float | None = None
    stage_y_um: float | None = None
    light_ms: float = 0.0
    """Exposure of the specimen for it."""
    time: datetime = Field(default_factory=lambda: datetime.now(UTC))


class HoleRecord(BaseModel, frozen=True, extra="forbid"):
    """A field that could not be acquired, and why. A hole is never silent."""

    kind: Literal["hole"] = "hole"
    region: int
    state: ImagingState
    tile: int
    reason: str
    light_ms: float = 0.0
    """Exposure of the specimen for the images that were taken of it; that for focus has a line of its own."""


class BeginRecord(BaseModel, frozen=True, extra="forbid"):
    """A field is about to be exposed; without a line that says what became of it, it was interrupted."""

    kind: Literal["begin"] = "begin"
    region: int
    state: ImagingState
    tile: int
    take: int = 1


class ExtraLightRecord(BaseModel, frozen=True, extra="forbid"):
    """Something was done a second time, and what light that cost the specimen at most."""

    kind: Literal["extra_light"] = "extra_light"
    region: int | None = None
    state: ImagingState | None = None
    tile: int | None = None
    device: str
    reason: str
    light_ms: float
    time: datetime = Field(default_factory=lambda: datetime.now(UTC))


class ResumeRecord(BaseModel, frozen=True, extra="forbid"):
    """The scan went on after an interruption."""

    kind: Literal["resume"] = "resume"
    compared_with: str | None = None
    """File of the committed field that the stage was checked against; None where there was none yet."""
    shift_xy_um: tuple[float, float] | None = None
    """How far its content now lies from where it lay."""
    time: datetime = Field(default_factory=lambda: datetime.now(UTC))


Record = FieldRecord | FocusRecord | HoleRecord | BeginRecord | ExtraLightRecord | ResumeRecord
FieldKey = tuple[int, ImagingState, int]
"""(region, imaging state, tile)."""
_LINE: TypeAdapter[Record] = TypeAdapter(Annotated[Record, Field(discriminator="kind")])


def read_record(line: dict[str, Any]) -> Record:
    """Return the record that a line of the journal holds; raises pydantic's ValidationError."""
    return _LINE.validate_python(line)
