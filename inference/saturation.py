"""Which share of a frame the camera could not measure: one definition for training and serving.

Owns one figure, taken from the frame as delivered. Pure function of an array.
"""

from typing import Any

import numpy as np

__all__ = ["LARGEST_SATURATED_FRACTION", "saturated_fraction"]

LARGEST_SATURATED_FRACTION = 1e-3
"""Of a frame that a network may learn from."""
CONVERTER_FULL_SCALES = (255, 1023, 4095, 16383, 65535)
JUST_BELOW, LEAST_BELOW = 0.995, 16
"""Of the brightest count, and counts below it. From there up to it, noise leaves more pixels than at the
brightest count itself; at a full well it does not."""

Image = np.ndarray[Any, np.dtype[Any]]


def saturated_fraction(image: Image) -> float:
    """Return the share of pixels at the camera's upper limit.

    The limit of an integer image is that of its converter, which may have fewer bits than the file (an image
    whose maximum is exactly 4095 comes from 12 bits), or that of the pixels' wells, which may be full before:
    then more pixels lie at the brightest count than just below it. A float image does not tell its limit: 0,
    and neither does one that is the same everywhere.

    Parameters
    ----------
    image
        (Y, X) counts.
    """
    if image.dtype.kind not in "ui":
        return 0.0
    highest = image.max()
    share = float(np.count_nonzero(image == highest)) / image.size
    if int(highest) in {*CONVERTER_FULL_SCALES, int(np.iinfo(image.dtype).max)}:
        return share
    below = min(JUST_BELOW * float(highest), float(highest) - LEAST_BELOW)
    upper = float(np.count_nonzero(image >= below)) / image.size
    return share if upper - share < share < 1 else 0.0
