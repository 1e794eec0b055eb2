"""An area as an OME-Zarr image (0.5): (C, Y, X) in the tiles' dtype, with a pyramid of means.

Owns the Zarr metadata, the levels (each made from the one below, block by block) and that the image appears
whole or not at all. Knows nothing of tiles.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import tensorstore as ts
from yaozarrs import DimSpec, v05

from configs.document import WrongInputError
from inference.journal import write_atomic
from training.pairing.area_mosaic import BLOCK_PX, AreaMosaic, Window, as_dtype
from training.pairing.output_folder import replacing
from training.pairing.sampling import FloatArray, Image
from training.pairing.stitching import Progress

__all__ = ["AreaLabel", "check_free", "write_area"]

FORMAT = "sharpscope-area"
CHUNK_PX = 1024
"""A block is a multiple of it, so that no chunk is written twice."""
SMALLEST_LEVEL_PX = 1024
"""A level of the pyramid whose longer side is no more than this is the last."""
DTYPES = ("uint8", "uint16", "uint32", "int16", "int32", "float32", "float64")


@dataclass(frozen=True, slots=True)
class AreaLabel:
    """What the file says of itself."""

    title: str
    pixel_size_um: float
    channels: tuple[str, ...]
    attributes: dict[str, Any] = field(default_factory=dict)
    """What else, under the key `sharpscope`."""


def write_area(
    mosaic: AreaMosaic,
    label: AreaLabel,
    out: Path,
    *,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> None:
    """Write an area; it appears whole or not at all.

    Parameters
    ----------
    out
        The OME-Zarr folder.
    progress
        Called with blocks written and blocks in all.

    Raises
    ------
    WrongInputError
        Something else is there, or the tiles' dtype cannot be stored.
    OSError
        The disk refuses (full).
    """
    check_free(out, overwrite)
    if mosaic.dtype.name not in DTYPES:
        msg = f"pixels of type {mosaic.dtype.name} cannot be stored; use one of {', '.join(DTYPES)}"
        raise WrongInputError(msg)
    with replacing(out) as folder:
        levels = _write_levels(mosaic, folder, progress)
        write_atomic(folder / "zarr.json", _group_metadata(mosaic, label, levels))


def check_free(out: Path, overwrite: bool) -> None:
    """Refuse to write over anything but an area that may be replaced: not over a recording's raw frames."""
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return
    try:
        attributes = json.loads((out / "zarr.json").read_text(encoding="utf-8"))["attributes"]
        ours = attributes["sharpscope"]["format"] == FORMAT
    except (OSError, ValueError, KeyError, TypeError):
        ours = False
    if not ours:
        raise WrongInputError(f"{out} exists and is no stitched area; give another name")
    if not overwrite:
        raise WrongInputError(f"{out} already exists; give another name, or replace it with --overwrite")


def _write_levels(mosaic: AreaMosaic, folder: Path, progress: Progress | None) -> int:
    """Write all levels of the pyramid; return how many."""
    shapes = list(_level_shapes(mosaic.area_shape_cyx))
    sides = [BLOCK_PX] + [BLOCK_PX // 2] * (len(shapes) - 1)
    blocks = [-(-y // side) * -(-x // side) for (_, y, x), side in zip(shapes, sides, strict=True)]
    done = 0

    def tell() -> None:
        nonlocal done
        done += 1
        if progress is not None:
            progress(done, sum(blocks))

    below = _create(folder / "0", shapes[0], mosaic.dtype)
    for (rows, columns), pixels in mosaic.blocks():
        _write(below, rows, columns, pixels)
        tell()
    for level, shape in enumerate(shapes[1:], start=1):
        above = _create(folder / str(level), shape, mosaic.dtype)
        for (rows, columns), pixels in _halved(below, shape):
            _write(above, rows, columns, as_dtype(pixels, mosaic.dtype))
            tell()
        below = above
    return len(shapes)


def _write(array: Any, rows: slice, columns: slice, pixels: Image) -> None:  # noqa: ANN401  tensorstore's
    """Write a block and wait until it is on the disk."""
    try:
        array[:, rows, columns].write(pixels).result()
    except ValueError as error:  # how tensorstore reports every status of the file system
        raise OSError(f"the area cannot be written ({' '.join(str(error).split())[:300]})") from error


def _level_shapes(shape_cyx: tuple[int, int, int]) -> Iterator[tuple[int, int, int]]:
    yield shape_cyx
    channels, height, width = shape_cyx
    while max(height, width) > SMALLEST_LEVEL_PX:
        height, width = -(-height // 2), -(-width // 2)
        yield channels, height, width


def _halved(below: Any, shape_cyx: tuple[int, int, int]) -> Iterator[tuple[Window, FloatArray]]:  # noqa: ANN401
    """Give the means of 2 x 2 pixels block by block; an odd last row or column is repeated."""
    _, height, width = below.shape
    side = BLOCK_PX // 2  # of which a whole block is read
    for top in range(0, shape_cyx[1], side):
        for left in range(0, shape_cyx[2], side):
            rows = slice(top, min(top + side, shape_cyx[1]))
            columns = slice(left, min(left + side, shape_cyx[2]))
            fine = below[:, 2 * top : min(2 * rows.stop, height), 2 * left : min(2 * columns.stop, width)]
            means = [_mean_of_four(fine[channel].read().result()) for channel in range(shape_cyx[0])]
            yield (rows, columns), np.stack(means)


def _mean_of_four(plane: Image) -> FloatArray:
    height, width = plane.shape
    even = np.pad(plane, ((0, height % 2), (0, width % 2)), mode="edge")
    quads = even.reshape(even.shape[0] // 2, 2, even.shape[1] // 2, 2)
    return np.asarray(quads.mean(axis=(1, 3), dtype=np.float32))


def _create(path: Path, shape_cyx: tuple[int, int, int], dtype: np.dtype[Any]) -> Any:  # noqa: ANN401  tensorstore has no types
    lz4 = {"cname": "lz4", "clevel": 1, "shuffle": "shuffle", "typesize": dtype.itemsize, "blocksize": 0}
    chunk = [1, min(CHUNK_PX, shape_cyx[1]), min(CHUNK_PX, shape_cyx[2])]
    metadata = {
        "shape": list(shape_cyx),
        "data_type": dtype.name,
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": chunk}},
        "codecs": [
            {"name": "bytes", "configuration": {"endian": "little"}},
            {"name": "blosc", "configuration": lz4},
        ],
        "fill_value": 0,
        "dimension_names": ["c", "y", "x"],
    }
    store = {"driver": "file", "path": f"{path.as_posix()}/"}
    spec = {"driver": "zarr3", "kvstore": store, "metadata": metadata}
    return ts.open(spec, create=True, delete_existing=True).result()


def _group_metadata(mosaic: AreaMosaic, label: AreaLabel, levels: int) -> str:
    each = [_level(mosaic, label.pixel_size_um, level) for level in range(levels)]
    datasets = [scale.datasets[0].model_copy(update={"path": str(k)}) for k, scale in enumerate(each)]
    image = v05.Image(multiscales=[v05.Multiscale(name=label.title, axes=each[0].axes, datasets=datasets)])
    own = {"format": FORMAT, "channels": list(label.channels), **label.attributes}
    attributes = v05.OMEAttributes.model_validate({"ome": image, "sharpscope": own})
    group = v05.OMEZarrGroupJSON(attributes=attributes)
    return group.model_dump_json(indent=2, exclude_none=True, by_alias=True)


def _level(mosaic: AreaMosaic, size_um: float, level: int) -> v05.Multiscale:
    """Return the axes and the place of a level; its first pixel is the mean of the first 2^level."""
    coarser = 2.0**level
    space = [
        DimSpec(
            name=name,
            type="space",
            unit="micrometer",
            scale=size_um * coarser,
            translation=size_um * (float(first) + (coarser - 1) / 2),
        )
        for name, first in zip("yx", mosaic.origin_yx_px, strict=True)
    ]
    return v05.Multiscale.from_dims([DimSpec(name="c", type="channel"), *space])
