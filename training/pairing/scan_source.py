"""A scan folder (contract 1) as fields of view.

Owns the way from stage coordinates to pixels, and what the journal says went wrong. Knows nothing of how
the fields are aligned. A field of view is one low frame; the high tiles of its region that may show a part
of it come with it.
"""

from collections import defaultdict
from functools import partial
from pathlib import Path

import numpy as np

from acquisition.manifest import FieldRecord, FocusRecord, ImagingState, Manifest, ScanFolder
from configs.document import WrongInputError
from inference.content_hash import file_sha256
from training.pairing.orientation import Orientation
from training.pairing.pairs import Optics
from training.pairing.sampling import Image
from training.pairing.sources import Acquisition, FieldOfView, Frames, UnusableFieldError, read_image

__all__ = ["read_scan", "stage_to_pixels"]

LARGEST_SCALE_ERROR = 0.1
LARGEST_ROTATION_DEG = 6.0
"""More is no tolerance of a microscope but another pixel size, or a camera turned or mirrored."""
REACH_PX = 256
"""How far from the low frame a high tile may lie, by the stage, and still be looked at."""


def read_scan(path: Path) -> Acquisition:
    """Describe a scan folder as fields of view; reads no pixel.

    Raises
    ------
    WrongInputError
        It is no scan folder, has no low field, or its two objectives do not fit together.
    """
    scan = ScanFolder.open(path)
    manifest = scan.manifest
    missing = {"low", "high"} - set(manifest.objectives)
    if missing:
        msg = f"{path}: the manifest names no {missing.pop()} objective; scan with two imaging states"
        raise WrongInputError(msg)
    factor, orientation = _grids(path, manifest)
    fields = _fields(scan, factor)
    if not fields:
        msg = f"{path} holds no field of the low state; scan it, or continue the scan with --resume"
        raise WrongInputError(msg)
    low, high = manifest.objectives["low"], manifest.objectives["high"]
    optics = Optics(
        low_pixel_size_um=low.pixel_size_um,
        high_pixel_size_um=high.pixel_size_um,
        low_numerical_aperture=low.numerical_aperture,
        high_numerical_aperture=high.numerical_aperture,
        emission_nm={channel.name: channel.emission_nm for channel in manifest.channels},
    )
    channels = tuple(channel.name for channel in manifest.channels)
    return Acquisition(str(path), manifest.run_id, factor, channels, optics, fields, orientation)


def stage_to_pixels(affine: tuple[float, float, float, float, float, float], stage_xy_um: Image) -> Image:
    """Return a stage displacement in image pixels, (..., 2) as (x, y) um in, as (y, x) px out.

    The affine maps an image pixel (x, y) to the stage displacement that would bring it to the centre, so
    its inverse takes sign, mirror and rotation of the camera into account: the image of a field at stage
    position s shows, at pixel offset p from the centre, the specimen at s + A p.
    """
    matrix = np.array([[affine[0], affine[1]], [affine[3], affine[4]]])
    pixels_xy = np.asarray(stage_xy_um, dtype=np.float64) @ np.linalg.inv(matrix).T
    return np.asarray(pixels_xy[..., ::-1])


def _grids(path: Path, manifest: Manifest) -> tuple[int, Orientation]:
    """Return the whole ratio of the pixel sizes, and how the two pixel grids lie apart from it."""
    matrices = []
    for state in ("low", "high"):
        affine = manifest.objectives[state].pixel_size_affine
        matrices.append(np.array([[affine[0], affine[1]], [affine[3], affine[4]]]))
    if min(abs(np.linalg.det(matrix)) for matrix in matrices) == 0:
        msg = f"{path}: a pixel_size_affine of the manifest has no inverse; calibrate the objectives"
        raise WrongInputError(msg)
    relative = np.linalg.inv(matrices[1]) @ matrices[0]  # low pixels to high pixels, (x, y)
    scale = float(np.sqrt(abs(np.linalg.det(relative))))
    factor = min((1, 2, 4), key=lambda candidate: abs(scale / candidate - 1))
    if abs(scale / factor - 1) > LARGEST_SCALE_ERROR:
        msg = f"{path}: a low pixel is {scale:.3f} high pixels wide, not 1, 2 or 4; calibrate the objectives"
        raise WrongInputError(msg)
    turned_deg = np.rad2deg(np.abs(relative / scale - np.eye(2)).max())
    if turned_deg > LARGEST_ROTATION_DEG:
        msg = f"{path}: the affines of the objectives differ by a rotation or mirror; calibrate them"
        raise WrongInputError(msg)
    return factor, Orientation.of(relative[::-1, ::-1] / factor)


def _fields(scan: ScanFolder, factor: int) -> list[FieldOfView]:
    """Return a field of view for every low frame that was acquired or should have been."""
    latest = {(field.region, field.state, field.tile): field for field in scan.fields()}
    tiles: dict[int, list[FieldRecord]] = defaultdict(list)
    for (region, state, _), field in sorted(latest.items()):
        if state == "high":
            tiles[region].append(field)
    faults = _faults(scan)
    fields = [
        _field(scan, field, tiles[region], faults, factor)
        for (region, state, _), field in sorted(latest.items())
        if state == "low"
    ]
    fields += [
        _hole(hole.region, hole.tile, f"hole: {hole.reason}") for hole in scan.holes() if hole.state == "low"
    ]
    return sorted(fields, key=lambda field: (field.region, field.name))


def _faults(scan: ScanFolder) -> dict[tuple[int, ImagingState, int], str]:
    """Return what the journal holds against each frame: holes that stayed, flags, and failed autofocus."""
    faults: dict[tuple[int, ImagingState, int], str] = {}
    for line in scan.lines():
        if isinstance(line, FocusRecord):  # the last focus of a frame counts
            faults.pop((line.region, line.state, line.tile), None)
            if not line.succeeded:
                reason = line.reason or "no reason given"
                faults[line.region, line.state, line.tile] = f"autofocus failed: {reason}"
    for field in scan.fields():
        if field.flags:
            faults[field.region, field.state, field.tile] = f"flagged: {', '.join(field.flags)}"
    for hole in scan.holes():
        faults[hole.region, hole.state, hole.tile] = f"hole: {hole.reason}"
    return faults


def _field(
    scan: ScanFolder,
    low: FieldRecord,
    tiles: list[FieldRecord],
    faults: dict[tuple[int, ImagingState, int], str],
    factor: int,
) -> FieldOfView:
    found = [
        f"{state} tile {tile}: {fault}"
        for (region, state, tile), fault in sorted(faults.items())
        if region == low.region and (state == "high" or tile == low.tile)
    ]
    if not tiles:
        found.append("no high tile was acquired")
    return FieldOfView(
        region=low.region,
        name=f"region{low.region:04d}_tile{low.tile:02d}",
        sources={field.file: field.sha256 for field in (low, *tiles)},
        fault="; ".join(found) or None,
        read=partial(_read, scan, low, tiles, factor),
    )


def _hole(region: int, tile: int, reason: str) -> FieldOfView:
    def refuse() -> Frames:
        raise UnusableFieldError(reason)

    return FieldOfView(region, f"region{region:04d}_tile{tile:02d}", {}, reason, refuse)


def _read(scan: ScanFolder, low: FieldRecord, tiles: list[FieldRecord], factor: int) -> Frames:
    frame = _checked(scan, low)
    affine = scan.manifest.objectives["high"].pixel_size_affine
    images, corners = [], []
    for tile in tiles:
        stage = np.array([tile.stage_x_um - low.stage_x_um, tile.stage_y_um - low.stage_y_um])
        image = _checked(scan, tile)
        # Pixel edges: half the upsampled low frame to its centre, back by half a tile.
        middle = 0.5 * factor * np.array(frame.shape[-2:]) - 0.5 * np.array(image.shape[-2:])
        corner = middle + stage_to_pixels(affine, stage)
        if _within_reach(corner, image.shape, frame.shape, factor):
            images.append(image)
            corners.append(corner)
    if not images:
        msg = "by the stage, no high tile of the region shows any of this low frame"
        raise UnusableFieldError(msg)
    return Frames(frame, images, np.array(corners))


def _checked(scan: ScanFolder, field: FieldRecord) -> Image:
    """Return the pixels of a field, once the file is what the journal says was written."""
    path = scan.path / field.file
    try:
        digest = file_sha256(path)
    except OSError as error:
        msg = f"{field.file} cannot be read ({error.strerror})"
        raise UnusableFieldError(msg) from error
    if digest != field.sha256:
        msg = f"{field.file} is not the file that the journal names (SHA-256 differs)"
        raise UnusableFieldError(msg)
    image = read_image(path)
    image = image if image.ndim == 3 else image[np.newaxis]  # tifffile squeezes one channel
    channels = len(scan.manifest.channels)
    if image.ndim != 3 or len(image) != channels:
        msg = f"{field.file} has shape {image.shape}, expected {channels} channels"
        raise UnusableFieldError(msg)
    return image


def _within_reach(corner: Image, tile: tuple[int, ...], low: tuple[int, ...], factor: int) -> bool:
    size, frame = np.array(tile[-2:]), factor * np.array(low[-2:])
    return bool(((corner + size > -REACH_PX) & (corner < frame + REACH_PX)).all())
