"""Small PNG pictures of large images, made when a page asks for them.

Owns the grey window (percentiles) and the reduction. Arrays come in, PNG bytes go out; knows
nothing of files or panels. For people only: nothing is measured on a thumbnail.
"""

import io
from typing import Any

import numpy as np

__all__ = ["KEPT_BYTES", "grey_png", "png", "reduced", "signed_png", "stretched"]

ByteImage = np.ndarray[Any, np.dtype[np.uint8]]
Image = np.ndarray[Any, np.dtype[Any]]

KEPT_BYTES = 24_000_000
"""Of a panel's pictures that are kept."""
LOW_PERCENTILE, HIGH_PERCENTILE = 1.0, 99.8
SAMPLES_PX = 512
"""Percentiles are taken of so many pixels a side."""
NEGATIVE, POSITIVE = (74, 163, 255), (255, 150, 60)
"""Colours of a signed picture's ends; the middle is black."""


def grey_png(image: Image, longest_px: int) -> bytes:
    """Return an image, (Y, X) of any number type, as a small grey PNG, from its 1st to 99.8th percentile."""
    return png(stretched(reduced(image, longest_px)))


def signed_png(image: Image, longest_px: int) -> bytes:
    """Return a difference, (Y, X): black at zero, blue below, orange above, full at the 99.8th percentile."""
    small = np.nan_to_num(reduced(image, longest_px))
    share = np.clip(small / max(float(np.percentile(np.abs(small), HIGH_PERCENTILE)), 1e-9), -1, 1)
    colour = np.where(share[..., np.newaxis] < 0, NEGATIVE, POSITIVE)  # (Y, X, 3)
    return png(np.asarray(np.rint(np.abs(share)[..., np.newaxis] * colour), dtype=np.uint8))


def stretched(image: Image) -> ByteImage:
    """Stretch an image, (Y, X), from black to white; one without contrast is black."""
    finite = np.nan_to_num(image.astype(np.float32), posinf=0.0, neginf=0.0)
    step = max(1, min(finite.shape) // SAMPLES_PX)
    low, high = np.percentile(finite[::step, ::step], (LOW_PERCENTILE, HIGH_PERCENTILE))
    if high <= low:  # a few bright spots on nothing
        low, high = finite.min(), finite.max()
    share = np.clip((finite - low) / max(float(high - low), 1e-9), 0, 1)
    return np.asarray(np.rint(255 * share), dtype=np.uint8)


def reduced(image: Image, longest_px: int) -> Image:
    """Bin an image, (Y, X), by a whole factor, so that its longer side is hardly longer than asked."""
    factor = max(1, round(max(image.shape) / longest_px))
    if factor == 1 or min(image.shape) < factor:
        return image
    rows, columns = image.shape[0] // factor, image.shape[1] // factor
    blocks = image[: rows * factor, : columns * factor].reshape(rows, factor, columns, factor)
    return np.asarray(blocks.mean(axis=(1, 3), dtype=np.float32))


def png(image: ByteImage) -> bytes:
    """Encode (Y, X) or (Y, X, 3) as PNG."""
    from PIL import Image as Pillow  # takes a while to import

    stream = io.BytesIO()
    Pillow.fromarray(image).save(stream, format="PNG", compress_level=4)
    return stream.getvalue()
