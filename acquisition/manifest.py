"""Contract 1: what a scan folder holds, how a field enters it, and what a reader may rely on.

A scan folder has `manifest.json`, `journal.jsonl` and one OME-TIFF per field of view and imaging state,
(C, Y, X) uint16. What is not in the journal does not exist. This module knows nothing of microscopes and
nothing of training: acquisition writes through it, training reads through it.
"""

import hashlib
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import numpy as np
import tifffile
from pydantic import BaseModel, Field, TypeAdapter

from configs.document import WrongInputError, read_json
from inference.journal import Journal, atomic_path, read_journal, write_atomic

__all__ = [
    "ChannelRecord",
    "FieldRecord",
    "FocusRecord",
    "HoleRecord",
    "ImagingState",
    "Manifest",
    "ObjectiveRecord",
    "ScanFolder",
]

ImagingState = Literal["low", "high"]
MANIFEST = "manifest.json"
JOURNAL = "journal.jsonl"


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


class FocusRecord(BaseModel, frozen=True, extra="forbid"):
    """One autofocus with its curve."""

    kind: Literal["focus"] = "focus"
    region: int
    state: ImagingState
    tile: int
    succeeded: bool
    focus_um: float | None
    reason: str | None = None
    curve: list[tuple[float, float]]
    """Pairs of focus drive position (um) and score, in the order of exposure."""


class HoleRecord(BaseModel, frozen=True, extra="forbid"):
    """A field that could not be acquired, and why. A hole is never silent."""

    kind: Literal["hole"] = "hole"
    region: int
    state: ImagingState
    tile: int
    reason: str


JournalLine = Annotated[FieldRecord | FocusRecord | HoleRecord, Field(discriminator="kind")]
_LINE: TypeAdapter[FieldRecord | FocusRecord | HoleRecord] = TypeAdapter(JournalLine)


class ScanFolder:
    """A scan folder on disk, opened for reading or continued for writing.

    Use `create` for a new scan, `open` for an existing one. Writing goes through `commit_field`,
    `log_focus` and `log_hole`; each returns when its journal line is on the disk.
    """

    def __init__(self, path: Path, manifest: Manifest) -> None:
        self.path = path
        self.manifest = manifest

    @classmethod
    def create(cls, path: Path, manifest: Manifest) -> Self:
        """Start a scan folder; raises WrongInputError when one is already there."""
        if (path / MANIFEST).exists():
            msg = f"{path} already holds a scan; give another folder, or continue it with --resume"
            raise WrongInputError(msg)
        path.mkdir(parents=True, exist_ok=True)
        write_atomic(path / MANIFEST, manifest.model_dump_json(indent=2))
        return cls(path, manifest)

    @classmethod
    def open(cls, path: Path) -> Self:
        """Open an existing scan folder; raises WrongInputError when it is not one."""
        remedy = "give the folder that 'sharpscope scan' wrote"
        return cls(path, read_json(path / MANIFEST, Manifest, what="a scan folder", remedy=remedy))

    def lines(self) -> list[FieldRecord | FocusRecord | HoleRecord]:
        """Return every whole journal line in the order of writing."""
        return [_LINE.validate_python(line) for line in read_journal(self.path / JOURNAL)]

    def fields(self) -> list[FieldRecord]:
        """Return the committed fields in the order of commitment."""
        return [line for line in self.lines() if isinstance(line, FieldRecord)]

    def holes(self) -> list[HoleRecord]:
        """Return the holes that no later field has filled."""
        committed = {(f.region, f.state, f.tile) for f in self.fields()}
        holes = [line for line in self.lines() if isinstance(line, HoleRecord)]
        return [hole for hole in holes if (hole.region, hole.state, hole.tile) not in committed]

    def read_field(self, field: FieldRecord) -> np.ndarray[Any, np.dtype[np.uint16]]:
        """Return the pixels of a field, (C, Y, X) uint16."""
        image = np.asarray(tifffile.imread(self.path / field.file))
        return image if image.ndim == 3 else image[np.newaxis]  # tifffile squeezes one channel

    def commit_field(
        self,
        image: np.ndarray[Any, np.dtype[np.uint16]],
        *,
        region: int,
        state: ImagingState,
        tile: int,
        stage_xy_um: tuple[float, float],
        focus_um: float,
    ) -> FieldRecord:
        """Write a field and enter it in the journal, in the order that survives a kill.

        Parameters
        ----------
        image
            (C, Y, X) uint16, channels in the manifest's order.

        Raises
        ------
        OSError
            When the disk refuses (full); the journal then does not name the field.
        """
        name = f"region{region:04d}_{state}_tile{tile:02d}.ome.tif"
        with atomic_path(self.path / name) as temporary:
            self._write_tiff(temporary, image, state, stage_xy_um, focus_um)
            digest = hashlib.sha256(temporary.read_bytes()).hexdigest()
        record = FieldRecord(
            region=region,
            state=state,
            tile=tile,
            file=name,
            sha256=digest,
            stage_x_um=stage_xy_um[0],
            stage_y_um=stage_xy_um[1],
            focus_um=focus_um,
        )
        self._append(record)
        return record

    def log_focus(self, record: FocusRecord) -> None:
        """Enter an autofocus in the journal."""
        self._append(record)

    def log_hole(self, record: HoleRecord) -> None:
        """Enter a hole in the journal."""
        self._append(record)

    def _append(self, record: BaseModel) -> None:
        with Journal(self.path / JOURNAL) as journal:
            journal.append(json.loads(record.model_dump_json()))

    def _write_tiff(
        self,
        path: Path,
        image: np.ndarray[Any, np.dtype[np.uint16]],
        state: ImagingState,
        stage_xy_um: tuple[float, float],
        focus_um: float,
    ) -> None:
        pixel_size_um = self.manifest.objectives[state].pixel_size_um
        channels = self.manifest.channels
        planes = len(channels)
        metadata = {
            "axes": "CYX",
            "PhysicalSizeX": pixel_size_um,
            "PhysicalSizeXUnit": "µm",
            "PhysicalSizeY": pixel_size_um,
            "PhysicalSizeYUnit": "µm",
            "Channel": {"Name": [channel.name for channel in channels]},
            "Plane": {
                "PositionX": [stage_xy_um[0]] * planes,
                "PositionXUnit": ["µm"] * planes,
                "PositionY": [stage_xy_um[1]] * planes,
                "PositionYUnit": ["µm"] * planes,
                "PositionZ": [focus_um] * planes,
                "PositionZUnit": ["µm"] * planes,
                "ExposureTime": [channel.exposure_ms[state] for channel in channels],
                "ExposureTimeUnit": ["ms"] * planes,
            },
        }
        with tifffile.TiffWriter(path, ome=True) as writer:
            writer.write(image, photometric="minisblack", metadata=metadata)
