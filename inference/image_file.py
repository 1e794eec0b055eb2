"""Reads images and stacks from files with what they say of themselves, and writes enhanced ones.

Owns file formats and their metadata (OME-TIFF, ImageJ TIFF, plain TIFF, and whatever else scikit-image
reads). Knows nothing of models: planes, pixel size and channel names come out, OME-TIFF goes in.
"""

import math
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from ome_types import from_xml
from skimage.io import imread

from configs.document import WrongInputError
from inference.journal import atomic_path

__all__ = ["ImageFile", "TiffFacts", "read_image_file", "tiff_facts", "write_enhanced"]

TIFF_SUFFIXES = (".tif", ".tiff")
NAMESPACE = "sharpscope/enhanced"
"""Of the annotation by which an enhanced image is known from any other."""
STACK_AXES = "TZC"
"""In a file's order; each may be absent. Other axes (colour samples) are not a stack of images."""
MICROMETER_NAMES = ("micron", "microns", "um", "µm", "\\u00b5m")
UM_PER_RESOLUTION_UNIT = {2: 25_400.0, 3: 10_000.0}
"""TIFF tag ResolutionUnit: inch and centimeter. A printer's resolution looks the same, see below."""
UM_PER_OME_UNIT = {"m": 1e6, "cm": 1e4, "mm": 1e3, "µm": 1.0, "nm": 1e-3, "Å": 1e-4, "pm": 1e-6}
LARGEST_PIXEL_UM = 20.0
"""No camera pixel is that large in the specimen; resolution tags of 72 dpi (353 um) are about paper."""

Image = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True, slots=True)
class ImageFile:
    """An image or stack and what its file says of it."""

    pixels: Image
    """(..., Y, X)."""
    axes: str
    """One letter a dimension, for example CYX."""
    pixel_size_um: float | None
    """None where the file does not say."""
    channels: tuple[str | None, ...]
    """Name of each channel; one None where there is no channel axis."""

    def channel_of(self, index: tuple[int, ...]) -> int:
        """Return the channel number of the plane at an index over the leading axes."""
        return index[self.axes.index("C")] if "C" in self.axes else 0


def read_image_file(path: Path) -> ImageFile:
    """Read an image or stack.

    Raises
    ------
    WrongInputError
        The file is missing, not an image, or not 2D or a stack of 2D images.
    """
    if not path.is_file():
        msg = f"{path}: no such file; give an image or a stack of images"
        raise WrongInputError(msg)
    try:
        return _read_tiff(path) if path.suffix.lower() in TIFF_SUFFIXES else _read_other(path)
    except WrongInputError:
        raise
    except Exception as error:  # readers raise whatever their format makes them raise
        msg = f"{path} cannot be read as an image ({' '.join(str(error).split())}); convert it to TIFF"
        raise WrongInputError(msg) from error


@dataclass(frozen=True, slots=True)
class TiffFacts:
    """What a TIFF says of its first series."""

    axes: str
    shape: tuple[int, ...]
    pixel_size_um: float | None
    channels: tuple[str | None, ...]


def tiff_facts(path: Path, tiff: tifffile.TiffFile) -> TiffFacts:
    """Return what an open TIFF says; raises WrongInputError when it is no stack of 2D images."""
    series = tiff.series[0]
    axes = _stack_axes(path, series.axes, series.shape)
    names, pixel_size_um = _ome_facts(tiff) if tiff.is_ome else ((), None)
    if pixel_size_um is None and not tiff.is_ome:
        pixel_size_um = _tag_pixel_size_um(tiff)
    count = series.shape[axes.index("C")] if "C" in axes else 1
    channels = names if len(names) == count else (None,) * count
    return TiffFacts(axes, tuple(series.shape), pixel_size_um, channels)


def _read_tiff(path: Path) -> ImageFile:
    with tifffile.TiffFile(path) as tiff:
        facts = tiff_facts(path, tiff)
        pixels = tiff.series[0].asarray()
    return ImageFile(pixels, facts.axes, facts.pixel_size_um, facts.channels)


def _read_other(path: Path) -> ImageFile:
    pixels = np.asarray(imread(path))
    if pixels.ndim == 3 and pixels.shape[-1] in (3, 4):
        raise WrongInputError(_colour_message(path))
    axes = _stack_axes(path, "TYX"[-pixels.ndim :] if pixels.ndim <= 3 else "?", pixels.shape)
    return ImageFile(pixels, axes, None, (None,))


def _stack_axes(path: Path, axes: str, shape: tuple[int, ...]) -> str:
    """Return the axes with unnamed ones (Q, I) taken as time; refuse what is not a stack of images."""
    if "S" in axes:
        raise WrongInputError(_colour_message(path))
    named = axes
    for letter in "QI":
        free = [axis for axis in STACK_AXES if axis not in named]
        named = named.replace(letter, free[0]) if letter in named and free else named
    leading = named[:-2]
    if named[-2:] != "YX" or set(leading) - set(STACK_AXES) or len(set(leading)) != len(leading):
        msg = f"{path} has axes {axes} and shape {shape}; a 2D image or a stack (T, Z, C, Y, X) is needed"
        raise WrongInputError(msg)
    return named


def _colour_message(path: Path) -> str:
    return f"{path} is a colour picture, not a camera image; give the single channels as a stack"


def _ome_facts(tiff: tifffile.TiffFile) -> tuple[tuple[str | None, ...], float | None]:
    """Return channel names and pixel size (um) of the first image of an OME-TIFF."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of units and versions in foreign files
        pixels = from_xml(str(tiff.ome_metadata), validate=False).images[0].pixels
    names = tuple(channel.name for channel in pixels.channels)
    size, um_per_unit = pixels.physical_size_x, UM_PER_OME_UNIT.get(pixels.physical_size_x_unit.value)
    return names, None if size is None or um_per_unit is None else size * um_per_unit


def _tag_pixel_size_um(tiff: tifffile.TiffFile) -> float | None:
    """Return the pixel size from ImageJ's metadata or from the resolution tags, if it is believable."""
    tags = tiff.pages[0].tags
    if "XResolution" not in tags:
        return None
    numerator, denominator = tags["XResolution"].value
    if not numerator or not denominator:
        return None
    units_per_pixel = denominator / numerator
    if tiff.is_imagej:
        unit = str((tiff.imagej_metadata or {}).get("unit", "")).lower()
        return units_per_pixel if unit in MICROMETER_NAMES else None
    unit_tag = tags.get("ResolutionUnit")
    um_per_unit = UM_PER_RESOLUTION_UNIT.get(int(unit_tag.value)) if unit_tag is not None else None
    pixel_size_um = None if um_per_unit is None else units_per_pixel * um_per_unit
    return pixel_size_um if pixel_size_um and pixel_size_um < LARGEST_PIXEL_UM else None


def is_enhanced(path: Path) -> bool:
    """Say whether a file is a TIFF that `write_enhanced` made."""
    try:
        with tifffile.TiffFile(path) as tiff:
            return NAMESPACE in str(tiff.ome_metadata)
    except (OSError, ValueError):
        return False


def write_enhanced(
    path: Path,
    pixels: Image,
    axes: str,
    *,
    pixel_size_um: float | None,
    channels: tuple[str | None, ...],
    facts: dict[str, str],
) -> None:
    """Write an enhanced image or stack as OME-TIFF, whole or not at all.

    Parameters
    ----------
    pixels
        (..., Y, X) float32.
    facts
        What must go with it (model, hash, source, flags), stored as an OME map annotation.
    """
    names = [f"{name or 'channel'} enhanced" for name in channels]
    metadata: dict[str, Any] = {
        "axes": axes,
        "Name": f"{path.stem.removesuffix('.ome')} (enhanced)",
        "Description": "; ".join(f"{key}: {value}" for key, value in facts.items()),
        "MapAnnotation": {"Namespace": NAMESPACE, **facts},
    }
    if "C" in axes:
        metadata["Channel"] = {"Name": names}
    elif names:
        metadata["Channel"] = {"Name": names[0]}
    if pixel_size_um is not None and math.isfinite(pixel_size_um):
        for axis in "XY":
            metadata |= {f"PhysicalSize{axis}": pixel_size_um, f"PhysicalSize{axis}Unit": "µm"}
    path.parent.mkdir(parents=True, exist_ok=True)
    writer = tifffile.TiffWriter
    with atomic_path(path) as temporary, writer(temporary, ome=True, bigtiff=_is_big(pixels)) as tiff:
        tiff.write(pixels, photometric="minisblack", metadata=metadata)


def _is_big(pixels: Image) -> bool:
    return pixels.nbytes > 2**31
