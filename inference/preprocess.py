"""The one definition of what happens to an image before the network sees it, and after.

Training makes the low plane of a pair with these functions and serving feeds the network with them, so
both are the same to the last bit. Pure numpy; knows no torch, no files and no sockets.

The grid
--------
Pixel k of an image of pixel size p covers the interval [k p, (k + 1) p]: coordinates are those of pixel
edges, and centres lie at (k + 1/2) p. An image upsampled f times therefore has f pixels exactly on top of
each low pixel, and low pixel centre i lies at f (i + 1/2) - 1/2 in high pixel indices. Every shift and
every crop of this project is stated on this grid.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

__all__ = [
    "FULL_SCALE",
    "Photometry",
    "normalise",
    "prepare",
    "restore",
    "undo_doubling",
    "undo_upsampling",
    "upsample",
]

FULL_SCALE = 255.0
"""The network works on a scale of 0 to 255 (Wang et al. 2019, Methods, image preprocessing)."""

Image = np.ndarray[Any, np.dtype[Any]]
FloatImage = np.ndarray[Any, np.dtype[np.float32]]


@dataclass(frozen=True, slots=True)
class Photometry:
    """The linear map between camera counts and the network's scale; one per channel and state.

    It is fixed for a whole pair set and for a whole stream: scaled image by image, intensities would lose
    their meaning and a time-lapse would flicker.
    """

    background: float
    """Counts of a region without objects."""
    scale: float
    """Network units per count above the background."""
    flux_gain: float = 1.0
    """Factor on the network's output that gives it the input's flux; 1 inside the training domain, where
    the pair set's normalisation has seen to that (decision record 0003)."""


def normalise(image: Image, photometry: Photometry) -> FloatImage:
    """Subtract the background (what falls below becomes zero) and bring to the network's scale.

    Parameters
    ----------
    image
        (..., Y, X) camera counts of any real dtype.

    Returns
    -------
    FloatImage
        (..., Y, X) float32, not negative.
    """
    above = image.astype(np.float32) - np.float32(photometry.background)
    positive: FloatImage = np.maximum(above, np.float32(0))
    return positive * np.float32(photometry.scale)


def upsample(image: FloatImage, factor: int) -> FloatImage:
    """Upsample linearly onto a grid `factor` times finer, centres aligned as the module docstring states.

    Parameters
    ----------
    image
        (..., Y, X) float32.
    factor
        1 or more; edges are extended by their outermost pixel.

    Returns
    -------
    FloatImage
        (..., factor * Y, factor * X) float32.
    """
    if factor == 1:
        return image
    return _upsample_last(_upsample_last(image, factor).swapaxes(-1, -2), factor).swapaxes(-1, -2)


def _upsample_last(image: FloatImage, factor: int) -> FloatImage:
    before = np.concatenate([image[..., :1], image[..., :-1]], axis=-1)
    after = np.concatenate([image[..., 1:], image[..., -1:]], axis=-1)
    fine = np.empty((*image.shape, factor), dtype=np.float32)  # (..., X, factor)
    for phase in range(factor):
        offset = np.float32((phase + 0.5) / factor - 0.5)  # of the fine centre from the coarse centre
        neighbour = after if offset > 0 else before
        weight = np.abs(offset)
        fine[..., phase] = (np.float32(1) - weight) * image + weight * neighbour
    return fine.reshape(*image.shape[:-1], -1)  # (..., factor * X)


def undo_doubling(fine: FloatImage) -> FloatImage:
    """Return the image that `upsample(image, 2)` was made of, to rounding.

    Between two low pixels a and b lie 3a/4 + b/4 and a/4 + 3b/4, so a is 3/2 of the one less 1/2 of the
    other.

    Parameters
    ----------
    fine
        (..., 2Y, 2X) float32, from an even origin on the upsampled grid.
    """
    once = _undo_last(fine)
    return np.ascontiguousarray(_undo_last(once.swapaxes(-1, -2)).swapaxes(-1, -2))


def undo_upsampling(fine: FloatImage, factor: int) -> FloatImage:
    """Return the image that `upsample(image, factor)` was made of, to rounding.

    Parameters
    ----------
    fine
        (..., factor * Y, factor * X) float32, from where a low pixel begins.
    factor
        1, 2 or 4.
    """
    if factor == 4:  # upsampled twice is not upsampled by four, but both lie on one line within a low pixel
        rows = 1.5 * fine[..., 2::4, :] - 0.5 * fine[..., 3::4, :]
        return np.ascontiguousarray(1.5 * rows[..., 2::4] - 0.5 * rows[..., 3::4], dtype=np.float32)
    return fine if factor == 1 else undo_doubling(fine)


def _undo_last(fine: FloatImage) -> FloatImage:
    even, odd = fine[..., 0::2], fine[..., 1::2]
    coarse = np.empty_like(even)
    coarse[..., :-1] = np.float32(1.5) * odd[..., :-1] - np.float32(0.5) * even[..., 1:]
    coarse[..., -1] = np.float32(1.5) * even[..., -1] - np.float32(0.5) * odd[..., -2]
    return coarse


def prepare(image: Image, photometry: Photometry, factor: int) -> FloatImage:
    """Turn camera counts into what the network is fed: background, scale, then upsampling.

    Parameters
    ----------
    image
        (..., Y, X) camera counts.

    Returns
    -------
    FloatImage
        (..., factor * Y, factor * X) float32, C-contiguous.
    """
    return np.ascontiguousarray(upsample(normalise(image, photometry), factor))


def restore(image: FloatImage, photometry: Photometry, out: FloatImage | None = None) -> FloatImage:
    """Bring the network's output back to the input's counts, background included; into `out` where given."""
    restored = np.multiply(image, np.float32(photometry.flux_gain / photometry.scale), out=out)
    restored += np.float32(photometry.background)
    return restored
