"""An enhanced image as OME-Zarr (0.5) with a pyramid, written chunk by chunk by any number of processes.

Owns the Zarr metadata and the awaited writes: when `write` returns, the chunk is on the disk, whole. A chunk
is written by one piece of work alone, and always with the same bytes. Knows no journal: which chunks count is
for `inference.unfinished` to say. What was never written reads as NaN.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import tensorstore as ts
from yaozarrs import v05

from configs.document import WrongInputError
from inference.chunk_plan import ChunkPlan, Window
from inference.journal import write_atomic
from inference.volume import AxisStep, VolumeFacts

__all__ = ["EnhancedImage", "ImageLabel"]

FloatImage = np.ndarray[Any, np.dtype[np.float32]]

LZ4 = {"cname": "lz4", "clevel": 1, "shuffle": "shuffle", "typesize": 4, "blocksize": 0}
AXIS_TYPES = {"T": "time", "C": "channel", "Z": "space", "Y": "space", "X": "space"}


@dataclass(frozen=True, slots=True)
class ImageLabel:
    """What an enhanced image says of itself."""

    title: str
    factor: int
    pixel_size_um: float | None
    """Of the source; None where it is unknown."""
    display_counts: tuple[tuple[float, float], ...]
    """Black and white of each channel."""
    attributes: dict[str, Any]
    """What else must go with it, under the key `sharpscope`."""


class EnhancedImage:
    """The levels of an image on disk; use `create` or `open`."""

    def __init__(self, path: Path, levels: int) -> None:
        self.path = path
        self._levels: list[Any] = [ts.open(_spec(path, level), open=True).result() for level in range(levels)]

    @classmethod
    def create(cls, path: Path, plan: ChunkPlan, facts: VolumeFacts, label: ImageLabel) -> Self:
        """Write an empty image."""
        path.mkdir(parents=True, exist_ok=True)
        try:
            for level, shape_yx in enumerate(plan.levels):
                spec = {**_spec(path, level), "metadata": _array_metadata(plan, facts, shape_yx)}
                ts.open(spec, create=True, delete_existing=True).result()
        except ValueError as error:
            raise _file_error(path, error) from error
        write_atomic(path / "zarr.json", _group_metadata(plan, facts, label))
        return cls(path, len(plan.levels))

    @classmethod
    def open(cls, path: Path, plan: ChunkPlan) -> Self:
        """Open an image that `create` made."""
        try:
            return cls(path, len(plan.levels))
        except ValueError as error:
            msg = f"{path} is not a readable OME-Zarr image ({' '.join(str(error).split())[:200]})"
            raise WrongInputError(msg) from error

    def write(self, level: int, index: tuple[int, ...], window: Window, pixels: FloatImage) -> None:
        """Write the (Y, X) pixels of a chunk and wait until they are on the disk.

        Raises
        ------
        OSError
            When the disk refuses (full).
        """
        try:
            self._levels[level][(*index, *window)].write(pixels).result()
        except ValueError as error:  # how tensorstore reports every status of the file system
            raise _file_error(self.path, error) from error

    def read(self, level: int, index: tuple[int, ...], window: Window) -> FloatImage:
        """Return a window of a level's plane, (Y, X)."""
        try:
            pixels: FloatImage = np.asarray(self._levels[level][(*index, *window)].read().result())
        except ValueError as error:
            raise _file_error(self.path, error) from error
        return pixels


def _file_error(path: Path, error: ValueError) -> OSError:
    """Return the system's error that tensorstore wraps, with its number, so that a full disk is known."""
    text = " ".join(str(error).split())
    number = re.search(r"os_error_code='(\d+)'", text)
    said = f"the image cannot be written or read ({text[:300]})"
    return OSError(int(number[1]), said, str(path)) if number else OSError(f"{path}: {said}")


def _spec(path: Path, level: int) -> dict[str, Any]:
    store = {"driver": "file", "path": f"{(path / str(level)).as_posix()}/"}
    return {"driver": "zarr3", "kvstore": store}


def _array_metadata(plan: ChunkPlan, facts: VolumeFacts, shape_yx: tuple[int, int]) -> dict[str, Any]:
    chunk = [1] * len(plan.leading) + [plan.chunk_px] * 2
    return {
        "shape": [*plan.leading, *shape_yx],
        "data_type": "float32",
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": chunk}},
        "codecs": [
            {"name": "bytes", "configuration": {"endian": "little"}},
            {"name": "blosc", "configuration": LZ4},
        ],
        "fill_value": "NaN",
        "dimension_names": list(facts.axes.lower()),
    }


def _group_metadata(plan: ChunkPlan, facts: VolumeFacts, label: ImageLabel) -> str:
    datasets = [_dataset(level, facts, label) for level in range(len(plan.levels))]
    axes = [_axis(letter, facts, label) for letter in facts.axes]
    image = {
        "version": "0.5",
        "multiscales": [{"name": label.title, "axes": axes, "datasets": datasets}],
        "omero": {"channels": _channels(facts, label)},
    }
    attributes = v05.OMEAttributes.model_validate({"ome": image, "sharpscope": label.attributes})
    group = v05.OMEZarrGroupJSON(attributes=attributes)
    return group.model_dump_json(indent=2, exclude_none=True, by_alias=True)


def _axis(letter: str, facts: VolumeFacts, label: ImageLabel) -> dict[str, Any]:
    axis = {"name": letter.lower(), "type": AXIS_TYPES[letter]}
    unit = facts.steps.get(letter, AxisStep()).unit
    if letter in "YX":
        unit = None if label.pixel_size_um is None else "micrometer"
    return axis if unit is None else {**axis, "unit": unit}


def _dataset(level: int, facts: VolumeFacts, label: ImageLabel) -> dict[str, Any]:
    """Return scale and place of a level.

    Its first pixel's centre lies where the edges say: a finer pixel's centre is nearer to the edge of the
    source's first pixel than the source's own, a coarser one's further away.
    """
    steps = [_step(letter, level, facts, label) for letter in facts.axes]
    return {
        "path": str(level),
        "coordinateTransformations": [
            {"type": "scale", "scale": [step.scale for step in steps]},
            {"type": "translation", "translation": [step.translation for step in steps]},
        ],
    }


def _step(letter: str, level: int, facts: VolumeFacts, label: ImageLabel) -> AxisStep:
    step = facts.steps.get(letter, AxisStep())
    if letter not in "YX":
        return step
    finer = 2.0**level / label.factor
    if label.pixel_size_um is None:  # then the enhanced pixel is the unit
        return AxisStep(2.0**level, None, (2.0**level - 1) / 2)
    place = step.translation if step.unit == "micrometer" else 0.0
    size_um = label.pixel_size_um
    return AxisStep(size_um * finer, "micrometer", place + size_um * (finer - 1) / 2)


def _channels(facts: VolumeFacts, label: ImageLabel) -> list[dict[str, Any]]:
    return [
        {
            "label": f"{name or 'channel'} enhanced",
            "color": "FFFFFF",
            "window": {"start": black, "end": white, "min": black, "max": white},
        }
        for name, (black, white) in zip(facts.channels, label.display_counts, strict=True)
    ]
