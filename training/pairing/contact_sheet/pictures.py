"""Pictures of one pair, by which a person sees whether it is aligned.

Owns how a pair looks: both images stretched alike, the overlay in green and magenta, the cut at full
resolution, the arrows of the deformation, the scale bar. Pure functions of arrays; the only bytes that come
out are an encoded picture's. Knows nothing of pages, files or pair sets.
"""

import io
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import ndimage

from training.pairing.pairs import Deformation, FloatImage

__all__ = [
    "CERTAIN_PX",
    "Arrows",
    "ByteImage",
    "PairPictures",
    "Window",
    "arrows",
    "jpeg",
    "overlay",
    "picture_pair",
    "reduced",
    "scale_bar",
    "stretched_alike",
    "textured_window",
]

ByteImage = np.ndarray[Any, np.dtype[np.uint8]]
Points = np.ndarray[Any, np.dtype[np.float64]]
Indices = np.ndarray[Any, np.dtype[np.intp]]

LOW_PERCENTILE, HIGH_PERCENTILE = 1.0, 99.8
LARGEST_RATIO = 2.0
"""Of the intensities of two images that are shown by the same window."""
CERTAIN_PX = 0.3
"""Standard deviation up to which an arrow is drawn solid."""
ARROWS_A_SIDE = 14
MAGNIFICATIONS = (1, 2, 5, 10, 20, 50, 100, 200)
TEXTURE_SIGMA_PX = 2.0
"""Noise would win the contest for the most contrast without it."""


@dataclass(frozen=True, slots=True)
class Window:
    """A cut of an image, in its pixels."""

    top: int
    left: int
    height: int
    width: int

    def of(self, image: ByteImage) -> ByteImage:
        """Return the part of the image that lies in the window."""
        return image[self.top : self.top + self.height, self.left : self.left + self.width]


@dataclass(frozen=True, slots=True)
class Arrows:
    """What to draw of a deformation, on the pixels of the pair."""

    tails_yx_px: Points
    """(K, 2), where the lattice lies."""
    tips_yx_px: Points
    """(K, 2), magnified."""
    certain: np.ndarray[Any, np.dtype[np.bool_]]
    """(K,), false where the images say little and the smooth field runs on."""
    magnification: int
    mean_yx_px: tuple[float, float]
    """The shift that is common to all, which the arrows leave out; (0, 0) where there are none."""
    largest_px: float
    """The longest certain arrow, not magnified."""

    def strokes(self, certain: bool, head_px: float) -> list[Points]:
        """Return what a pen draws: each arrow as (5, 2) points, y and x, along the shaft and the head.

        Parameters
        ----------
        certain
            Which of the two kinds.
        head_px
            Length of the barbs, in pixels of the pair; shorter where the arrow is short.
        """
        chosen = self.certain == certain
        tails, tips = self.tails_yx_px[chosen], self.tips_yx_px[chosen]
        along = tips - tails
        length = np.maximum(np.hypot(along[:, 0], along[:, 1]), 1e-9)[:, np.newaxis]
        back = -along / length * np.minimum(head_px, 0.5 * length)
        across = back[:, ::-1] * (1, -1) * 0.5
        # (K, 5, 2)
        return list(np.stack([tails, tips, tips + back + across, tips, tips + back - across], axis=1))


@dataclass(frozen=True, slots=True)
class PairPictures:
    """All pictures of a pair, ready to be encoded."""

    low: ByteImage
    """(Y, X), the whole field, reduced."""
    high: ByteImage
    """As `low`."""
    shape_yx: tuple[int, int]
    """Of the pair."""
    window: Window
    """Where the cut lies on the pair."""
    low_cut: ByteImage
    """(Y, X), the place with the most contrast, pixel for pixel."""
    high_cut: ByteImage
    """As `low_cut`."""
    arrows: Arrows | None
    """None where no deformation is stored."""


def picture_pair(
    low: FloatImage,
    high: FloatImage,
    deformation: Deformation | None,
    origin_yx_px: tuple[int, int],
    *,
    whole_px: int,
    cut_px: int,
) -> PairPictures:
    """Make the pictures of one pair.

    Parameters
    ----------
    low, high
        (Y, X) each, on the same pixels.
    origin_yx_px
        Of the pair on the grid that the deformation's origin is given in.
    whole_px
        Longer side of the whole field's picture.
    cut_px
        Side of the cut at full resolution.
    """
    grey_low, grey_high = stretched_alike(low, high)
    window = textured_window(grey_low, grey_high, cut_px)
    height, width = low.shape
    return PairPictures(
        low=reduced(grey_low, whole_px),
        high=reduced(grey_high, whole_px),
        shape_yx=(height, width),
        window=window,
        low_cut=window.of(grey_low),
        high_cut=window.of(grey_high),
        arrows=None if deformation is None else arrows(deformation, origin_yx_px, (height, width)),
    )


def stretched_alike(low: FloatImage, high: FloatImage) -> tuple[ByteImage, ByteImage]:
    """Stretch both images of a pair from black to white by the same window, so that their overlay is neutral.

    The window is the mean of both images' 1st to 99.8th percentile: the normalisation of the set has made
    their intensities equal already. Where the windows differ more than twofold, each image has its own; one
    without contrast is black.
    """
    finite = [np.nan_to_num(image, nan=0.0, posinf=0.0, neginf=0.0) for image in (low, high)]
    windows = [_window(image) for image in finite]
    spans = [end - begin for begin, end in windows]
    if max(spans) <= LARGEST_RATIO * min(spans):
        common = (windows[0][0] + windows[1][0]) / 2, (windows[0][1] + windows[1][1]) / 2
        windows = [common, common]
    grey_low, grey_high = (_grey(image, *window) for image, window in zip(finite, windows, strict=True))
    return grey_low, grey_high


def _window(image: FloatImage) -> tuple[float, float]:
    """Return the grey window of one image; a sparse one (a single bead) has that of all its values."""
    begin, end = np.percentile(image[::2, ::2], (LOW_PERCENTILE, HIGH_PERCENTILE))
    return (float(begin), float(end)) if end > begin else (float(image.min()), float(image.max()))


def _grey(image: FloatImage, begin: float, end: float) -> ByteImage:
    share = np.clip((image - begin) / max(end - begin, 1e-9), 0, 1)
    return np.asarray(np.rint(255 * share), dtype=np.uint8)


def overlay(low: ByteImage, high: ByteImage) -> ByteImage:
    """Lay the low image in green and the high image in magenta, (Y, X, 3): grey where they are equal."""
    return np.stack([high, low, high], axis=-1, dtype=np.uint8)


def textured_window(low: ByteImage, high: ByteImage, side_px: int) -> Window:
    """Return the window in which both images together have the most contrast.

    The square of the gradient counts, of either image in units of its mean and cut off at its 99th
    percentile, so that one bright bead does not outdo a net of filaments.
    """
    height, width = min(side_px, low.shape[0]), min(side_px, low.shape[1])
    texture = _texture(low) + _texture(high)
    sums = np.pad(texture.cumsum(axis=0).cumsum(axis=1), ((1, 0), (1, 0)))  # (Y + 1, X + 1)
    inside = sums[height:, width:] - sums[:-height, width:] - sums[height:, :-width] + sums[:-height, :-width]
    top, left = np.unravel_index(int(inside.argmax()), inside.shape)
    return Window(int(top), int(left), height, width)


def _texture(image: ByteImage) -> Points:
    smooth = ndimage.gaussian_filter(image.astype(np.float32), TEXTURE_SIGMA_PX)
    squared = np.square(np.diff(smooth, axis=0, append=smooth[-1:])).astype(np.float64)
    squared += np.square(np.diff(smooth, axis=1, append=smooth[:, -1:]))
    squared = np.minimum(squared, np.percentile(squared[::2, ::2], 99))
    return np.asarray(squared / max(float(squared.mean()), 1e-9))


def arrows(deformation: Deformation, origin_yx_px: tuple[int, int], shape_yx: tuple[int, int]) -> Arrows:
    """Choose the arrows of a deformation that lie on a pair, without the shift that all have in common.

    At most 14 a side, magnified by the largest round number at which neighbours hardly touch. An arrow
    starts at a place of the pair and points to where the high image showed it before it was registered.
    """
    rows = _inside(deformation, 0, origin_yx_px[0], shape_yx[0])
    columns = _inside(deformation, 1, origin_yx_px[1], shape_yx[1])
    moved = deformation.displacement_yx_px[:, rows[:, np.newaxis], columns].astype(np.float64)  # (2, N, M)
    spread_px = deformation.uncertainty_px[rows[:, np.newaxis], columns]
    known = np.asarray(np.isfinite(moved).all(axis=0))
    certain = np.asarray(known & (spread_px <= CERTAIN_PX))
    trusted = certain if certain.any() else known
    mean = moved[:, trusted].mean(axis=1) if trusted.any() else np.zeros(2)
    bent = moved - mean[:, np.newaxis, np.newaxis]
    lengths = np.hypot(bent[0], bent[1])[trusted]
    stride = max(-(-max(len(rows), len(columns)) // ARROWS_A_SIDE), 1)
    i, j = (np.arange((len(axis) - 1) % stride // 2, len(axis), stride) for axis in (rows, columns))
    magnification = _magnification(lengths, stride * deformation.spacing_px)
    keep = known[np.ix_(i, j)]
    offset = np.subtract(deformation.origin_yx_px, origin_yx_px, dtype=np.float64)
    grid = np.meshgrid(rows[i], columns[j], indexing="ij")
    places = np.stack([axis[keep] for axis in grid], axis=-1)  # (K, 2)
    tails = np.asarray(places * deformation.spacing_px + offset, dtype=np.float64)
    steps = bent[:, i[:, np.newaxis], j][:, keep].T
    return Arrows(
        tails_yx_px=tails,
        tips_yx_px=tails + magnification * steps,
        certain=certain[np.ix_(i, j)][keep],
        magnification=magnification,
        mean_yx_px=(float(mean[0]), float(mean[1])),
        largest_px=float(lengths.max()) if lengths.size else 0.0,
    )


def _inside(deformation: Deformation, axis: int, begin_px: int, length_px: int) -> Indices:
    """Return which rows (axis 0) or columns of the lattice lie on the pair."""
    indices = np.arange(deformation.displacement_yx_px.shape[1 + axis])
    places: Points = deformation.origin_yx_px[axis] + indices * deformation.spacing_px - begin_px
    return indices[(places >= 0) & (places < length_px)]


def _magnification(lengths_px: Points, distance_px: float) -> int:
    longest = float(np.percentile(lengths_px, 95)) if lengths_px.size else 0.0
    fitting = [m for m in MAGNIFICATIONS if m * longest <= distance_px]
    return fitting[-1] if fitting else MAGNIFICATIONS[0]


def scale_bar(width_px: int, pixel_size: float, unit: str) -> tuple[float, str]:
    """Return the length in pixels and the label of a bar of a round length, up to a third of the width.

    Parameters
    ----------
    pixel_size
        Of the picture's pixels, in `unit`.
    """
    longest = width_px * pixel_size / 3
    power = 10.0 ** np.floor(np.log10(longest))
    length = max(step * power for step in (1, 2, 5) if step * power <= longest * (1 + 1e-9))
    return float(length / pixel_size), f"{length:g} {unit}"


def reduced(image: ByteImage, longer_side_px: int) -> ByteImage:
    """Make a picture smaller by averaging; one that is small already stays as it is."""
    from PIL import Image

    height, width = image.shape[:2]
    factor = longer_side_px / max(height, width)
    if factor >= 1:
        return image
    size = max(round(width * factor), 1), max(round(height * factor), 1)
    return np.asarray(Image.fromarray(image).resize(size, Image.Resampling.LANCZOS))


def jpeg(image: ByteImage, quality: int) -> bytes:
    """Encode (Y, X) or (Y, X, 3) as JPEG with full colour resolution, or a thin fringe would fade."""
    from PIL import Image

    stream = io.BytesIO()
    Image.fromarray(image).save(stream, format="JPEG", quality=quality, subsampling=0)
    return stream.getvalue()
