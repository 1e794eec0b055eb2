"""All tiles of one imaging state of a scan folder (contract 1), placed and written as one image.

Owns which files belong to an area and what is told of them. Knows nothing of how tiles are placed and
blended.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from acquisition.manifest import FieldRecord, ImagingState, ScanFolder
from configs.document import WrongInputError
from inference.content_hash import file_sha256
from training.pairing.area_image import AreaLabel, check_free, write_area
from training.pairing.area_mosaic import AreaMosaic
from training.pairing.sampling import Image
from training.pairing.scan_source import stage_to_pixels
from training.pairing.sources import UnusableFieldError, read_image
from training.pairing.stitching import Placement, Progress, place_tiles_lazily

__all__ = ["StitchedArea", "stitch_scan"]


@dataclass(frozen=True, slots=True)
class StitchedArea:
    """What was written, and what it rests on."""

    path: Path
    files: tuple[str, ...]
    """Of the tiles, in the order of the placement."""
    placement: Placement
    shape_cyx: tuple[int, int, int]
    bytes_on_disk: int
    missing: int
    """Fields that were not acquired, or whose files are not what they were."""
    notes: tuple[str, ...]
    """One line for each tile that lies where the stage says, was flagged by the scan, or is missing."""

    @property
    def alone(self) -> tuple[str, ...]:
        """The files of the tiles that lie where the stage says."""
        return tuple(self.files[k] for k in self.placement.alone)

    @property
    def whole(self) -> bool:
        """Whether every tile is there, and links hold together all that overlap."""
        return not (self.missing or self.placement.alone or _torn(self.placement))


def stitch_scan(
    scan: Path,
    state: ImagingState,
    out: Path,
    *,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> StitchedArea:
    """Place all tiles of an imaging state and write them as one OME-Zarr image.

    Parameters
    ----------
    scan
        A scan folder. Of a field that was taken again, the latest take counts; flagged ones are taken all
        the same, and noted.
    out
        The OME-Zarr folder to write.
    progress
        Called with steps done and steps in all, for the placement first and for the writing then.

    Raises
    ------
    WrongInputError
        It is no scan folder, has no usable field of that state, or something else is at `out`.
    """
    folder = ScanFolder.open(scan)
    check_free(out, overwrite)
    if state not in folder.manifest.objectives:
        raise WrongInputError(f"{scan}: the manifest names no {state} objective")
    fields, notes = _usable(folder, state)
    if not fields:
        raise WrongInputError(f"{scan} holds no field of the {state} state; scan it, or continue the scan")
    read = _Reader(folder, fields)
    first = read(0)
    objective = folder.manifest.objectives[state]
    stage_um = np.array([(field.stage_x_um, field.stage_y_um) for field in fields])
    stage_px = stage_to_pixels(objective.pixel_size_affine, stage_um)
    placement = place_tiles_lazily(read, np.array(first.shape[1:]), stage_px, progress=progress)
    mosaic = AreaMosaic(
        read=read,
        shape_cyx=(first.shape[0], first.shape[1], first.shape[2]),
        dtype=first.dtype,
        corners_yx_px=placement.corners_yx_px,
    )
    label = AreaLabel(
        title=f"{folder.manifest.run_id}, {state}",
        pixel_size_um=objective.pixel_size_um,
        channels=tuple(channel.name for channel in folder.manifest.channels),
        attributes=_lineage(folder, state, fields, placement),
    )
    write_area(mosaic, label, out, overwrite=overwrite, progress=progress)
    size = sum(path.stat().st_size for path in out.rglob("*") if path.is_file())
    files = tuple(field.file for field in fields)
    missing = len(notes)
    notes += _notes(fields, placement)
    return StitchedArea(out, files, placement, mosaic.area_shape_cyx, size, missing, tuple(notes))


class _Reader:
    """Gives the pixels of the fields by their number."""

    def __init__(self, folder: ScanFolder, fields: list[FieldRecord]) -> None:
        self._paths = [folder.path / field.file for field in fields]
        self._shape: tuple[int, ...] | None = None

    def __call__(self, number: int) -> Image:
        path = self._paths[number]
        try:
            image = read_image(path)
        except UnusableFieldError as error:
            raise WrongInputError(str(error)) from error
        image = image if image.ndim == 3 else image[np.newaxis]  # tifffile squeezes one channel
        self._shape = self._shape or image.shape
        if image.shape != self._shape:
            msg = f"{path.name} has shape {image.shape}, the other fields {self._shape}; stitch equal ones"
            raise WrongInputError(msg)
        return image


def _usable(folder: ScanFolder, state: ImagingState) -> tuple[list[FieldRecord], list[str]]:
    """Return the fields whose files are what the journal says was written, and notes on the others."""
    notes = [
        f"region {hole.region}, {state} tile {hole.tile} is missing: {hole.reason}"
        for hole in folder.holes()
        if hole.state == state
    ]
    usable = []
    for field in sorted(folder.fields(), key=lambda field: (field.region, field.tile)):
        if field.state != state:
            continue
        path = folder.path / field.file
        if not path.is_file():
            notes.append(f"{field.file} is left out: there is no such file")
        elif file_sha256(path) != field.sha256:
            notes.append(f"{field.file} is left out: it is not the file that the journal names")
        else:
            usable.append(field)
    return usable, notes


def _lineage(
    folder: ScanFolder, state: ImagingState, fields: list[FieldRecord], placement: Placement
) -> dict[str, object]:
    """Return what the image says of its making: where each file lies, and whether a link holds it."""
    alone = set(placement.alone)
    tiles = [
        {
            "file": field.file,
            "sha256": field.sha256,
            "corner_yx_px": [round(float(k), 3) for k in placement.corners_yx_px[number]],
            "by_stage_alone": number in alone,
            "flags": field.flags,
        }
        for number, field in enumerate(fields)
    ]
    return {"run_id": folder.manifest.run_id, "state": state, "tiles": tiles}


def _notes(fields: list[FieldRecord], placement: Placement) -> list[str]:
    """Return what to tell: flags, tiles on the stage's word, groups that nothing ties together."""
    notes = [f"{field.file} is flagged: {', '.join(field.flags)}" for field in fields if field.flags]
    notes += [f"{fields[number].file} is placed by the stage alone" for number in placement.alone]
    contradicted = sum(link.contradicted for link in placement.links)
    if contradicted:
        notes.append(f"{contradicted} overlaps contradict the others and were left out")
    torn = _torn(placement)
    apart = len(placement.islands) - len(torn)
    if apart:
        notes.append(f"{apart + 1} groups of tiles do not overlap; the stage ties them to one another")
    for group in torn:
        listed = ", ".join(fields[number].file for number in group[:3])
        more = f" and {len(group) - 3} more" if len(group) > 3 else ""
        notes.append(f"{listed}{more} hold together, but only the stage ties them to the others")
    return notes


def _torn(placement: Placement) -> list[tuple[int, ...]]:
    """Return the groups that overlap others without a link; regions apart by plan are none."""
    overlaps = [{link.first, link.second} for link in placement.links if not link.accepted]
    return [
        group for group in placement.islands if any(len(overlap & set(group)) == 1 for overlap in overlaps)
    ]
