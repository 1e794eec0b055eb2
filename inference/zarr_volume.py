"""An OME-Zarr image (0.4 or 0.5) that is read window by window.

Owns what a group's metadata says: which array is the full resolution, its axes, pixel size and channel names.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import tensorstore as ts
from pydantic import ValidationError
from yaozarrs import v04, v05

from configs.document import WrongInputError
from inference.content_hash import folder_sha256
from inference.volume import AxisStep, VolumeFacts

__all__ = ["ZarrVolume"]

Image = np.ndarray[Any, np.dtype[Any]]

UM_PER_UNIT = {"meter": 1e6, "centimeter": 1e4, "millimeter": 1e3, "micrometer": 1.0, "nanometer": 1e-3}
CACHE_BYTES = 256 * 1024**2
"""Of decoded chunks: neighbouring windows share those at their border."""


class ZarrVolume:
    """The full resolution of an OME-Zarr image.

    Parameters
    ----------
    path
        The image's group: the folder that holds ``zarr.json`` or ``.zattrs``.

    Raises
    ------
    WrongInputError
        It is not an image, or not a stack of 2D images.
    """

    def __init__(self, path: Path) -> None:
        image, driver, self._metadata = _read_group(path)
        multiscale = image.multiscales[0]
        self._folder = path / multiscale.datasets[0].path
        self._array = _open_array(path, self._folder, driver)
        names = [axis.name for axis in multiscale.axes]
        axes = "".join(names).upper()
        if any(len(name) != 1 for name in names) or axes[-2:] != "YX" or set(axes[:-2]) - set("TCZ"):
            msg = f"{path} has axes {', '.join(names)}; a 2D image or a stack (t, c, z, y, x) is needed"
            raise WrongInputError(msg)
        steps = _steps(multiscale, axes)
        shape = tuple(int(length) for length in self._array.shape)
        self._facts = VolumeFacts(
            axes, shape, self._array.dtype.numpy_dtype, _pixel_size_um(steps),
            _channels(image, shape[axes.index("C")] if "C" in axes else 1), steps,
        )  # fmt: skip

    @property
    def facts(self) -> VolumeFacts:
        """What it says of itself."""
        return self._facts

    def read(self, index: tuple[int, ...], rows: slice, columns: slice) -> Image:
        """Return a window of a plane, (Y, X)."""
        try:
            window: Image = np.asarray(self._array[(*index, rows, columns)].read().result())
        except ValueError as error:  # how tensorstore reports a chunk that cannot be decoded
            msg = f"plane {index} of {self._folder} cannot be read ({_one_line(error)})"
            raise WrongInputError(msg) from error
        return window

    def sha256(self) -> str:
        """Return a hash of the group's metadata and of the array's files."""
        return hashlib.sha256(self._metadata + folder_sha256(self._folder).encode()).hexdigest()


def _read_group(path: Path) -> tuple[v05.Image | v04.Image, str, bytes]:
    """Return an image's metadata, tensorstore's driver for its arrays, and the file's bytes."""
    for name, driver in (("zarr.json", "zarr3"), (".zattrs", "zarr")):
        if (path / name).is_file():
            raw = (path / name).read_bytes()
            try:
                return _parsed(path, json.loads(raw), driver), driver, raw
            except (ValidationError, ValueError, TypeError, AttributeError) as error:
                msg = f"{path / name} is not the metadata of an OME-Zarr image ({_one_line(error)})"
                raise WrongInputError(msg) from error
    msg = f"{path} is not an OME-Zarr image: it holds neither zarr.json nor .zattrs"
    raise WrongInputError(msg)


def _parsed(path: Path, document: dict[str, Any], driver: str) -> v05.Image | v04.Image:
    attributes = document.get("attributes", {}).get("ome", {}) if driver == "zarr3" else document
    if "multiscales" in attributes:
        model = v05.Image if driver == "zarr3" else v04.Image
        return model.model_validate(attributes)
    inner = sorted(child.name for child in path.iterdir() if (child / "0").is_dir())
    hint = f"; give one image in it, for example {path / inner[0]}" if inner else ""
    msg = f"{path} is an OME-Zarr group without an image of its own (a plate or a set of images?){hint}"
    raise WrongInputError(msg)


def _open_array(path: Path, folder: Path, driver: str) -> Any:  # noqa: ANN401  tensorstore has no types
    spec = {
        "driver": driver,
        "kvstore": {"driver": "file", "path": f"{folder.as_posix()}/"},
        "context": {"cache_pool": {"total_bytes_limit": CACHE_BYTES}},
        "recheck_cached_data": "open",
    }
    try:
        return ts.open(spec, open=True, read=True).result()
    except ValueError as error:
        msg = f"{path}: its array '{folder.name}' cannot be opened ({_one_line(error)})"
        raise WrongInputError(msg) from error


def _steps(multiscale: v05.Multiscale | v04.Multiscale, axes: str) -> dict[str, AxisStep]:
    """Return scale, unit and place of each axis of the full resolution."""
    scales, places = np.ones(len(axes)), np.zeros(len(axes))
    for transform in multiscale.datasets[0].coordinateTransformations:
        if transform.type == "scale":
            scales = scales * np.asarray(transform.scale)
        else:
            places = places + np.asarray(transform.translation)
    for transform in multiscale.coordinateTransformations or []:
        if transform.type == "scale":
            scales, places = scales * np.asarray(transform.scale), places * np.asarray(transform.scale)
        else:
            places = places + np.asarray(transform.translation)
    units = [getattr(axis, "unit", None) for axis in multiscale.axes]
    return {
        letter: AxisStep(float(scale), unit, float(place))
        for letter, scale, unit, place in zip(axes, scales, units, places, strict=True)
    }


def _pixel_size_um(steps: dict[str, AxisStep]) -> float | None:
    step = steps["X"]
    um_per_unit = UM_PER_UNIT.get(step.unit or "")
    return None if um_per_unit is None else step.scale * um_per_unit


def _channels(image: v05.Image | v04.Image, count: int) -> tuple[str | None, ...]:
    names = tuple(channel.label for channel in image.omero.channels) if image.omero else ()
    return names if len(names) == count else (None,) * count


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]
