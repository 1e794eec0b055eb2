"""Two plain folders of images with matching names, from any microscope, as fields of view.

Owns the checking of such images, and the fusion of focus stacks among the high ones. One file is one field of
view and one region; the middle of the high image is taken to lie over the middle of the low one until the
global match says otherwise.
"""

from functools import partial
from pathlib import Path

import numpy as np
import tifffile

from configs.document import WrongInputError
from inference.content_hash import file_sha256
from inference.saturation import saturated_fraction
from training.pairing.extended_depth import extended_depth_of_field
from training.pairing.gate import GateLimits
from training.pairing.image_folder import matched_images
from training.pairing.pairs import Optics
from training.pairing.sampling import Image
from training.pairing.sources import Acquisition, FieldOfView, Frames, UnusableFieldError, read_image

__all__ = ["read_folders", "squeezed"]

LARGEST_SIZE_RATIO = 1.4
"""Of the high image's side to the upsampled low one's, either way; a wrong factor gives 2 or 4."""
LARGEST_COLOURS = 4
"""In the last axis: what is so narrow is a colour image."""


def read_folders(
    low: Path, high: Path, factor: int, channel: str, optics: Optics, *, extend_depth: bool = False
) -> Acquisition:
    """Describe two folders as fields of view; reads no pixel.

    Parameters
    ----------
    low, high
        One image per file. The names are the same in both, or are once what all names of a folder begin and
        end with is taken away: `cell1_low.tif` and `cell1_high.tif`, `LR_001.tif` and `HR_001.tif`.
    factor
        1, 2 or 4: high pixels along one low pixel.
    extend_depth
        A high file may be a focus stack, (Z, Y, X), and is fused into one image that is in focus everywhere.

    Raises
    ------
    WrongInputError
        A folder is missing or empty, names do not match, or the factor is none.
    """
    if factor not in (1, 2, 4):
        msg = f"factor {factor} is not possible; give 1, 2 or 4 (high pixels along one low pixel)"
        raise WrongInputError(msg)
    matched = matched_images(low, high)
    fields = [
        FieldOfView(
            region=region,
            name=f"region{region:04d}_{name}",
            sources={
                f"low/{low_path.name}": file_sha256(low_path),
                f"high/{high_path.name}": file_sha256(high_path),
            },
            fault=None,
            read=partial(_read, low_path, high_path, factor, extend_depth),
        )
        for region, (name, (low_path, high_path)) in enumerate(sorted(matched.items()))
    ]
    return Acquisition(f"{low} and {high}", None, factor, (channel,), optics, fields)


def _read(low_path: Path, high_path: Path, factor: int, extend_depth: bool) -> Frames:
    low, high = _plane(low_path), _high_plane(high_path, extend_depth)
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
    image = squeezed(read_image(path))
    if image.ndim != 2:
        msg = f"{path.name} has shape {image.shape}, expected one plane (Y, X); save one channel per folder"
        raise UnusableFieldError(msg)
    return image


def _high_plane(path: Path, extend_depth: bool) -> Image:
    """Return the high image of a file, (Y, X): its plane, or the planes of its focus stack fused."""
    image = squeezed(read_image(path))
    if image.ndim == 2:
        return image
    planes = _planes_named(path)
    if image.ndim != 3 or planes is not None or image.shape[-1] <= LARGEST_COLOURS:
        what = f"{image.shape}, {planes}" if planes else str(image.shape)
        msg = f"{path.name} has shape {what}, expected one plane (Y, X); save one channel per folder"
        raise UnusableFieldError(msg)
    if not extend_depth:
        msg = (
            f"{path.name} is a stack of {len(image)} planes, {image.shape}, expected one plane (Y, X); "
            "fuse focus stacks with --extend-depth, or save one plane per file"
        )
        raise UnusableFieldError(msg)
    saturated = saturated_fraction(image.max(axis=0))
    if saturated > GateLimits().largest_saturated_fraction:  # the fused image, a float, no longer tells
        msg = f"{path.name} is saturated: {100 * saturated:.2f} % of the pixels are at the camera's limit"
        raise UnusableFieldError(msg)
    return extended_depth_of_field(image)


def squeezed(image: Image) -> Image:
    """Return an image of more than two axes without those of length 1."""
    return image.reshape([n for n in image.shape if n > 1]) if image.ndim > 2 else image


def _planes_named(path: Path) -> str | None:
    """Return what a TIFF says that its planes are, where that is no depth."""
    if path.suffix.lower() == ".png":
        return None
    with tifffile.TiffFile(path) as tiff:
        axes = dict(zip(tiff.series[0].axes, tiff.series[0].shape, strict=True))
    names = {"C": "channels", "S": "colours", "T": "times"}
    return next((f"{axes[axis]} {name}" for axis, name in names.items() if axes.get(axis, 1) > 1), None)
