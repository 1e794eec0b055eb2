"""Small PNG pictures of large images, made when a page asks for them, and the latest of them kept.

Owns the grey window (percentiles), the reduction and the cache. Arrays come in, PNG bytes go out; knows
nothing of files or panels. For people only: nothing is measured on a thumbnail.
"""

import io
from collections import OrderedDict
from collections.abc import Callable
from threading import Lock
from typing import Any

import numpy as np

__all__ = ["ThumbnailCache", "grey_png", "png", "reduced", "signed_png", "stretched"]

ByteImage = np.ndarray[Any, np.dtype[np.uint8]]
Image = np.ndarray[Any, np.dtype[Any]]

LOW_PERCENTILE, HIGH_PERCENTILE = 1.0, 99.8
SAMPLES_PX = 512
"""Percentiles are taken of so many pixels a side."""
NEGATIVE, POSITIVE = (74, 163, 255), (255, 150, 60)
"""Colours of a signed picture's ends; the middle is black."""


class ThumbnailCache:
    """Keeps the latest pictures by name; safe for several threads.

    Parameters
    ----------
    most_bytes
        Of all pictures together; the one that nobody asked for longest goes first.
    """

    def __init__(self, most_bytes: int = 24_000_000) -> None:
        self._most_bytes = most_bytes
        self._kept: OrderedDict[str, bytes] = OrderedDict()
        self._bytes = 0
        self._lock = Lock()

    def get(self, name: str, make: Callable[[], bytes]) -> bytes:
        """Return the picture of a name, made now where it is not kept."""
        with self._lock:
            if name in self._kept:
                self._kept.move_to_end(name)
                return self._kept[name]
        picture = make()  # outside of the lock: reading may be slow
        with self._lock:
            if name not in self._kept:
                self._kept[name] = picture
                self._bytes += len(picture)
            while self._bytes > self._most_bytes and len(self._kept) > 1:
                self._bytes -= len(self._kept.popitem(last=False)[1])
        return picture


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
