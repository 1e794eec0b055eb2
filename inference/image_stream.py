"""One OME-Zarr image (0.5) that grows along time: axes t, y, x, one chunk per frame.

Owns the Zarr metadata and the awaited writes: when `write` returns, the chunk is on the disk. The time
axis is grown some frames ahead, since each growth rewrites a metadata file; `trim` cuts it to what counts.
Knows no journal: which frames count is for `inference.recording` to say. Pixels that were never written
read as 0, in floating-point images as NaN.
"""

from pathlib import Path
from typing import Any, Self

import numpy as np
import tensorstore as ts
from yaozarrs import DimSpec, v05

from configs.document import WrongInputError
from inference.journal import write_atomic
from inference.recording_lines import StreamLine

__all__ = ["ImageStream"]

Image = np.ndarray[Any, np.dtype[Any]]

GROWTH_FRAMES = 32
DTYPES = ("uint8", "uint16", "uint32", "float32", "float64")


class ImageStream:
    """An OME-Zarr image on disk; use `create` or `open`."""

    def __init__(self, path: Path, array: Any) -> None:  # noqa: ANN401  tensorstore has no types
        self.path = path
        self._array = array

    @classmethod
    def create(cls, path: Path, line: StreamLine) -> Self:
        """Write an empty image.

        Raises
        ------
        WrongInputError
            When the dtype cannot be stored.
        """
        if line.dtype not in DTYPES:
            msg = f"pixels of type {line.dtype} cannot be recorded; use one of {', '.join(DTYPES)}"
            raise WrongInputError(msg)
        path.mkdir(parents=True, exist_ok=True)
        spec = {**_spec(path), "metadata": _array_metadata(line)}
        array = ts.open(spec, create=True, delete_existing=True).result()
        write_atomic(path / "zarr.json", _group_metadata(line))
        return cls(path, array)

    @classmethod
    def open(cls, path: Path) -> Self:
        """Open an image that `create` made; raises WrongInputError when it is not one."""
        try:
            return cls(path, ts.open(_spec(path), open=True).result())
        except ValueError as error:
            msg = f"{path} is not a readable OME-Zarr image ({' '.join(str(error).split())[:200]})"
            raise WrongInputError(msg) from error

    @property
    def shape(self) -> tuple[int, int, int]:
        """(T, Y, X) as it is on the disk; T may run ahead of the frames that count."""
        frames, height, width = self._array.shape
        return int(frames), int(height), int(width)

    def write(self, index: int, image: Image) -> None:
        """Write one (Y, X) frame and wait until it is on the disk.

        Raises
        ------
        OSError
            When the disk refuses (full).
        """
        try:
            if index >= self.shape[0]:
                self._resize(index + GROWTH_FRAMES)
            self._array[index].write(image).result()
        except ValueError as error:  # how tensorstore reports every status of the file system
            msg = f"{self.path.name}: frame {index} cannot be written ({' '.join(str(error).split())[:300]})"
            raise OSError(msg) from error

    def read(self, index: int) -> Image:
        """Return one frame, (Y, X); NaN or 0 where none was written."""
        image: Image = np.asarray(self._array[index].read().result())
        return image

    def trim(self, frames: int) -> None:
        """Cut the time axis to a length; what lies beyond is deleted."""
        if frames != self.shape[0]:
            self._resize(frames)

    def _resize(self, frames: int) -> None:
        self._array = self._array.resize(exclusive_max=[frames, None, None]).result()


def _spec(path: Path) -> dict[str, Any]:
    return {"driver": "zarr3", "kvstore": {"driver": "file", "path": f"{(path / '0').as_posix()}/"}}


def _array_metadata(line: StreamLine) -> dict[str, Any]:
    size = np.dtype(line.dtype).itemsize
    lz4 = {"cname": "lz4", "clevel": 1, "shuffle": "shuffle", "typesize": size, "blocksize": 0}
    return {
        "shape": [0, *line.shape_yx],
        "data_type": line.dtype,
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [1, *line.shape_yx]}},
        "codecs": [
            {"name": "bytes", "configuration": {"endian": "little"}},
            {"name": "blosc", "configuration": lz4},
        ],
        "fill_value": "NaN" if line.dtype.startswith("float") else 0,
        "dimension_names": ["t", "y", "x"],
    }


def _group_metadata(line: StreamLine) -> str:
    unit = None if line.pixel_size_um is None else "micrometer"
    scale = line.pixel_size_um or 1.0
    dimensions = [
        DimSpec(name="t", type="time"),
        DimSpec(name="y", type="space", unit=unit, scale=scale),
        DimSpec(name="x", type="space", unit=unit, scale=scale),
    ]
    image = v05.Image(multiscales=[v05.Multiscale.from_dims(dimensions, name=_title(line))])
    attributes = v05.OMEAttributes.model_validate(
        {"ome": image, "sharpscope": line.model_dump(mode="json", exclude={"kind"})}
    )
    group = v05.OMEZarrGroupJSON(attributes=attributes)
    return group.model_dump_json(indent=2, exclude_none=True, by_alias=True)


def _title(line: StreamLine) -> str:
    channel = line.channel or "image"
    if line.role == "raw":
        return channel
    return f"{channel}, enhanced by {line.model_name} ({(line.model_hash or '')[:12]})"
