"""Two plain folders of images with matching names, from any microscope, as fields of view.

Owns the matching and the checking of such folders. One file is one field of view and one region; the middle
of the high image is taken to lie over the middle of the low one until the global match says otherwise.
"""

import hashlib
from functools import partial
from pathlib import Path

import numpy as np

from configs.document import WrongInputError
from training.pairing.pairs import Optics
from training.pairing.sampling import Image
from training.pairing.sources import Acquisition, FieldOfView, Frames, UnusableFieldError, read_image

__all__ = ["read_folders"]

SUFFIXES = {".tif", ".tiff", ".png"}
LARGEST_SIZE_RATIO = 1.4
"""Of the high image's side to the upsampled low one's, either way; a wrong factor gives 2 or 4."""


def read_folders(low: Path, high: Path, factor: int, channel: str, optics: Optics) -> Acquisition:
    """Describe two folders as fields of view; reads no pixel.

    Raises
    ------
    WrongInputError
        A folder is missing or empty, names do not match, or the factor is none.
    """
    if factor not in (1, 2, 4):
        msg = f"factor {factor} is not possible; give 1, 2 or 4 (high pixels along one low pixel)"
        raise WrongInputError(msg)
    lows, highs = _images(low), _images(high)
    for here, there, others in (
        (low, high, lows.keys() - highs.keys()),
        (high, low, highs.keys() - lows.keys()),
    ):
        if others:
            msg = f"{here} has '{min(others)}' and {there} has not; give both folders the same file names"
            raise WrongInputError(msg + (f" ({len(others)} do not match)" if len(others) > 1 else ""))
    fields = [
        FieldOfView(
            region=region,
            name=f"region{region:04d}_{stem}",
            sources={
                f"low/{lows[stem].name}": _sha256(lows[stem]),
                f"high/{highs[stem].name}": _sha256(highs[stem]),
            },
            fault=None,
            read=partial(_read, lows[stem], highs[stem], factor),
        )
        for region, stem in enumerate(sorted(lows))
    ]
    return Acquisition(f"{low} and {high}", None, factor, (channel,), optics, fields)


def _images(folder: Path) -> dict[str, Path]:
    """Return the images of a folder by their stem."""
    if not folder.is_dir():
        msg = f"{folder} is not a folder; give one that holds TIFF or PNG images"
        raise WrongInputError(msg)
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() not in SUFFIXES or path.name.startswith("."):
            continue
        stem = path.name.split(".ome.")[0] if ".ome." in path.name else path.stem
        if stem in found:
            msg = f"{folder} has both {found[stem].name} and {path.name}; keep one of them"
            raise WrongInputError(msg)
        found[stem] = path
    if not found:
        msg = f"{folder} holds no image; give a folder with files that end in {', '.join(sorted(SUFFIXES))}"
        raise WrongInputError(msg)
    return found


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _read(low_path: Path, high_path: Path, factor: int) -> Frames:
    low, high = _plane(low_path), _plane(high_path)
    expected = (factor * low.shape[0], factor * low.shape[1])
    ratios = [size / fitting for size, fitting in zip(high.shape, expected, strict=True)]
    if max(ratios) > LARGEST_SIZE_RATIO or min(ratios) < 1 / LARGEST_SIZE_RATIO:
        given = f"{low_path.name} is {low.shape[0]} x {low.shape[1]}"
        wanted = f"about {expected[0]} x {expected[1]}"
        msg = (
            f"sizes do not fit factor {factor}: {given}, so the high image should be {wanted}, "
            f"got {high.shape[0]} x {high.shape[1]}"
        )
        raise UnusableFieldError(msg)
    corner = [(fitting - size) // 2 for fitting, size in zip(expected, high.shape, strict=True)]
    return Frames(low[np.newaxis], [high[np.newaxis]], np.array([corner], dtype=np.float64))


def _plane(path: Path) -> Image:
    image = read_image(path)
    image = image.reshape([n for n in image.shape if n > 1]) if image.ndim > 2 else image
    if image.ndim != 2:
        msg = f"{path.name} has shape {image.shape}, expected one plane (Y, X); save one channel per folder"
        raise UnusableFieldError(msg)
    return image
