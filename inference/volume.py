"""An image of any size that is read window by window: what is known of it, and the way to open one.

Owns the Protocol that `inference.zarr_volume` and `inference.tiff_volume` fulfil. Knows nothing of models.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from configs.document import WrongInputError

__all__ = ["AxisStep", "Volume", "VolumeFacts", "open_volume", "same_volume", "windows_of"]

Image = np.ndarray[Any, np.dtype[Any]]
TIFF_SUFFIXES = (".tif", ".tiff")
WINDOW_PX = 2048


@dataclass(frozen=True, slots=True)
class AxisStep:
    """How far the planes of an axis lie apart, and where the first one lies."""

    scale: float = 1.0
    unit: str | None = None
    translation: float = 0.0


@dataclass(frozen=True, slots=True)
class VolumeFacts:
    """What an image says of itself."""

    axes: str
    """One capital letter a dimension, of T, C, Z; the last two are Y and X."""
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    pixel_size_um: float | None
    """None where it does not say."""
    channels: tuple[str | None, ...]
    """Name of each channel; one where there is no channel axis."""
    steps: dict[str, AxisStep]
    """Of the axes that say it."""

    @property
    def shape_yx(self) -> tuple[int, int]:
        """Height and width of a plane, in px."""
        return self.shape[-2], self.shape[-1]

    def planes(self) -> Iterator[tuple[int, ...]]:
        """Give the index of every plane over the leading axes, in order."""
        return np.ndindex(*self.shape[:-2])

    def channel_of(self, index: tuple[int, ...]) -> int:
        """Return the channel number of the plane at an index over the leading axes."""
        return index[self.axes.index("C")] if "C" in self.axes else 0


class Volume(Protocol):
    """An image that is read window by window; its memory is bounded by how its file is cut into chunks."""

    @property
    def facts(self) -> VolumeFacts:
        """What it says of itself."""
        ...

    def read(self, index: tuple[int, ...], rows: slice, columns: slice) -> Image:
        """Return a window of a plane, (Y, X), in the file's dtype."""
        ...

    def sha256(self) -> str:
        """Return a hash of all that it is read from."""
        ...


def open_volume(path: Path) -> Volume:
    """Open an OME-Zarr image (0.4, 0.5) or a TIFF.

    Raises
    ------
    WrongInputError
        It is missing, or not an image or a stack of images.
    """
    if path.is_dir():
        from inference.zarr_volume import ZarrVolume

        return ZarrVolume(path)
    if not path.is_file():
        msg = f"{path}: no such image; give a TIFF or the folder of an OME-Zarr image"
        raise WrongInputError(msg)
    if path.suffix.lower() not in TIFF_SUFFIXES:
        msg = f"{path}: only TIFF and OME-Zarr become OME-Zarr; give an output that ends in .ome.tiff"
        raise WrongInputError(msg)
    from inference.tiff_volume import TiffVolume

    return TiffVolume(path)


def stamp_of(path: Path) -> tuple[int, int]:
    """Return size and time of the file that an image is known by: another file under the name has others."""
    status = (next(iter(sorted(path.glob("zarr.json"))), path / ".zattrs") if path.is_dir() else path).stat()
    return status.st_size, status.st_mtime_ns


@lru_cache(maxsize=4)
def same_volume(path: Path, stamp: tuple[int, int]) -> Volume:
    """Return an image as this process has it open.

    Raises
    ------
    WrongInputError
        Another file lies under the name, here or by now.
    """
    if stamp_of(path) != stamp:
        msg = f"{path} is another file here, or was changed; let all workers see the same, and leave it alone"
        raise WrongInputError(msg)
    return open_volume(path)


def windows_of(shape_yx: tuple[int, int], side_px: int = WINDOW_PX) -> Iterator[tuple[slice, slice]]:
    """Give windows that cover a plane exactly once, row after row."""
    height, width = shape_yx
    for top in range(0, height, side_px):
        for left in range(0, width, side_px):
            yield slice(top, min(top + side_px, height)), slice(left, min(left + side_px, width))
