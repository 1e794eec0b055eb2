"""Pixels of the camera that are always wrong, from the frames of the set themselves.

Owns the finding, fed frame by frame so that memory does not grow with the frames, and the mending. Knows no
files and no dark frames.

A hot or dead pixel differs from its neighbours in every frame, a specimen only where it lies. So the frames
must show different places (a time-lapse of one place will not do). They may be of several channels, but
should be of one exposure time: dark current grows with it.

In each frame, the difference to the median of the neighbours is taken relative to how much those differ among
themselves, since next to a filament any pixel stands out. A pixel is wrong where even the quarter of its
frames in which it stands out least exceeds what the medians of all pixels spread by. (In 20 frames full of
filaments, the median of the plain difference marks one good pixel in a hundred.)
"""

from typing import Any

import numpy as np

from training.pairing.sampling import FloatArray, Image
from training.pairing.thinning import Thinned

__all__ = ["HotPixelFinder", "mend"]

KEPT_FRAMES = 32
LEAST_FRAMES = 4
"""Fewer cannot tell specimen from pixel."""
OUTLIER = 6.0
"""Standard deviations of the medians of all pixels."""
ROUNDING = 0.3
"""Standard deviation of a count that is rounded; integer images are not believed to have less noise."""
BAND_ROWS = 128
"""Of all frames, that are worked on at once."""
NEIGHBOURS = tuple((dy, dx) for dy in range(3) for dx in range(3) if (dy, dx) != (1, 1))

BoolArray = np.ndarray[Any, np.dtype[np.bool_]]


class HotPixelFinder:
    """Collects frames of one camera and finds what is wrong in all of them.

    At most `KEPT_FRAMES` are kept, evenly spaced.
    """

    def __init__(self) -> None:
        self._thinned: Thinned[Image] = Thinned(KEPT_FRAMES)

    @property
    def _frames(self) -> list[Image]:
        return self._thinned.kept

    def add(self, frame: Image) -> None:
        """Take one frame, (Y, X) counts as the camera delivered them, into account.

        Raises
        ------
        ValueError
            When its shape is not that of the frames before.
        """
        if self._frames and frame.shape != self._frames[0].shape:
            msg = f"frames of one camera have one shape; got {frame.shape} after {self._frames[0].shape}"
            raise ValueError(msg)
        self._thinned.offer(frame.copy)  # a view would keep a whole stack alive

    def find(self) -> BoolArray:
        """Return which pixels are always too bright or too dark, (Y, X).

        None are with fewer than `LEAST_FRAMES` frames.

        Raises
        ------
        ValueError
            When no frame was added.
        """
        if not self._frames:
            msg = "no frame was added, so there are no pixels; add at least one"
            raise ValueError(msg)
        shape = self._frames[0].shape
        if len(self._frames) < LEAST_FRAMES:
            return np.zeros(shape, dtype=np.bool_)
        starts = range(0, shape[0], BAND_ROWS)
        quartiles = np.concatenate([self._quartiles(start) for start in starts], axis=1)  # (3, Y, X)
        lower, usual, upper = quartiles - np.median(quartiles[1])
        limit = OUTLIER * 1.4826 * float(np.median(np.abs(usual)))
        return np.asarray((lower > limit) | (upper < -limit))

    def _quartiles(self, start: int) -> FloatArray:
        """Return the quartiles over the frames of how far pixels stand out, for a band of rows, (3, y, X)."""
        stop = min(start + BAND_ROWS, self._frames[0].shape[0])
        above, below = min(start, 1), min(self._frames[0].shape[0] - stop, 1)
        band = [
            _prominence(frame[start - above : stop + below])[above : stop - start + above]
            for frame in self._frames
        ]
        return np.asarray(np.quantile(band, [0.25, 0.5, 0.75], axis=0), dtype=np.float32)


def _prominence(image: Image) -> FloatArray:
    """Return each pixel minus the median of its 8 neighbours, relative to what they differ by and the noise.

    Beyond the border lies the mirror image.
    """
    values = image.astype(np.float32)
    padded = np.pad(values, 1, mode="reflect")
    height, width = values.shape
    around = np.stack([padded[dy : dy + height, dx : dx + width] for dy, dx in NEIGHBOURS])  # (8, Y, X)
    around.sort(axis=0)
    difference = values - (around[3] + around[4]) / 2
    noise = 1.4826 * float(np.median(np.abs(difference)))
    least = ROUNDING if image.dtype.kind in "ui" else float(np.finfo(np.float32).tiny)
    return np.asarray(difference / ((around[6] - around[1]) / 2 + max(noise, least)))


def mend(image: Image, hot: BoolArray) -> Image:
    """Return the image with each hot pixel replaced by the median of its good neighbours.

    Of the 8 around it; where none of those is good, of the nearest square that has some.

    Parameters
    ----------
    image, hot
        (Y, X).

    Returns
    -------
    Image
        (Y, X) of the same dtype; the image itself where no pixel is hot.

    Raises
    ------
    ValueError
        When the shapes differ or no pixel is good.
    """
    if image.shape != hot.shape:
        msg = f"image and hot pixels must have one shape; got {image.shape} and {hot.shape}"
        raise ValueError(msg)
    if not hot.any():
        return image
    if hot.all():
        msg = "every pixel is marked as hot, so none is left to mend from"
        raise ValueError(msg)
    mended = image.copy()
    for y, x in np.argwhere(hot):
        value = np.median(_good_neighbours(image, hot, int(y), int(x)))
        mended[y, x] = value if image.dtype.kind == "f" else np.rint(value)
    return mended


def _good_neighbours(image: Image, hot: BoolArray, y: int, x: int) -> Image:
    reach = 1
    while True:
        window = (slice(max(y - reach, 0), y + reach + 1), slice(max(x - reach, 0), x + reach + 1))
        good = image[window][~hot[window]]
        if good.size:
            return good
        reach += 1
