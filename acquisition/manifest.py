"""Contract 1: what a scan folder holds, how a field enters it, and what a reader may rely on.

A scan folder has `manifest.json`, `journal.jsonl` and one OME-TIFF per field of view and imaging state,
(C, Y, X) uint16. What is not in the journal does not exist. This module knows nothing of microscopes and
nothing of training: acquisition writes through it, training reads through it. The forms of the lines are
`acquisition.scan_records`'s.
"""

import errno
import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import numpy as np
import tifffile

from acquisition.scan_records import (
    BeginRecord,
    ChannelRecord,
    ExtraLightRecord,
    FieldKey,
    FieldQuality,
    FieldRecord,
    FocusRecord,
    HoleRecord,
    ImagingState,
    Manifest,
    ObjectiveRecord,
    Record,
    ResumeRecord,
    ShiftToLow,
    read_record,
)
from configs.document import WrongInputError, read_json
from inference.journal import Journal, atomic_path, read_journal, write_atomic

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
    "ScanFolder",
    "ShiftToLow",
]

MANIFEST = "manifest.json"
JOURNAL = "journal.jsonl"
_SETTLED_BY = ("field", "program")
"""Who enters the light of a take that has no line of its own: it was no better, or was interrupted."""


class ScanFolder:
    """A scan folder on disk, opened for reading or continued for writing.

    Use `create` for a new scan, `open` for an existing one. Writing goes through `commit_field` and `log`;
    each returns when its journal line is on the disk.
    """

    def __init__(self, path: Path, manifest: Manifest) -> None:
        self.path = path
        self.manifest = manifest
        self._journal: Journal | None = None

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

    def lines(self) -> list[Record]:
        """Return every whole journal line in the order of writing."""
        return [read_record(line) for line in read_journal(self.path / JOURNAL)]

    def fields(self) -> list[FieldRecord]:
        """Return the committed fields, the last take of each, in the order of first commitment."""
        latest: dict[FieldKey, FieldRecord] = {}
        for line in self.lines():
            if isinstance(line, FieldRecord):
                latest[line.region, line.state, line.tile] = line
        return list(latest.values())

    def holes(self) -> list[HoleRecord]:
        """Return the holes that no field has filled, the last reason of each."""
        committed = {(f.region, f.state, f.tile) for f in self.fields()}
        latest = {
            (line.region, line.state, line.tile): line
            for line in self.lines()
            if isinstance(line, HoleRecord)
        }
        return [hole for key, hole in latest.items() if key not in committed]

    def interrupted(self) -> list[BeginRecord]:
        """Return the fields whose exposure began and neither ended nor was begun again."""
        open_fields: dict[tuple[int | None, ImagingState | None, int | None], BeginRecord] = {}
        for line in self.lines():
            if isinstance(line, BeginRecord):
                open_fields[line.region, line.state, line.tile] = line
            elif isinstance(line, FieldRecord | HoleRecord) or (
                isinstance(line, ExtraLightRecord) and line.device in _SETTLED_BY
            ):
                open_fields.pop((line.region, line.state, line.tile), None)
        return list(open_fields.values())

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
        take: int = 1,
        quality: FieldQuality | None = None,
        flags: list[str] | None = None,
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
        again = f"_take{take}" if take > 1 else ""
        name = f"region{region:04d}_{state}_tile{tile:02d}{again}.ome.tif"
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
            take=take,
            quality=quality,
            flags=flags or [],
        )
        self.log(record)
        return record

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Keep the journal open for a whole scan; without it, each line opens it anew."""
        with Journal(self.path / JOURNAL) as journal:
            self._journal = journal
            try:
                yield
            finally:
                self._journal = None

    def log(self, record: Record) -> None:
        """Enter a line in the journal; returns when it is on the disk, raises OSError when that refuses."""
        line = json.loads(record.model_dump_json())
        if self._journal is not None:
            self._journal.append(line)
            return
        with Journal(self.path / JOURNAL) as journal:
            journal.append(line)

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
        try:
            with tifffile.TiffWriter(path, ome=True) as writer:
                writer.write(image, photometric="minisblack", metadata=metadata)
        except OSError as error:
            if error.errno is not None:
                raise
            # tifffile's own: the disk took a part of the image and no more.
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path.parent)) from error
