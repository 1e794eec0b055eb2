"""Says that a figure cannot be had of an image, and why.

Every measurement of this room raises `NotMeasurableError` where there is nothing to measure; the table then
shows the reason in the figure's place, never a number.
"""

from typing import Any

import numpy as np

__all__ = ["NotMeasurableError", "check_image"]

Image = np.ndarray[Any, np.dtype[Any]]


class NotMeasurableError(ValueError):
    """An image does not hold what a measurement needs; the message is the reason, in words."""


def check_image(image: Image, what: str = "the image") -> None:
    """Raise NotMeasurableError for an image (Y, X) that holds NaN or infinity, or one value alone."""
    if not np.isfinite(image).all():
        count = int(image.size - np.isfinite(image).sum())
        msg = f"{what} holds {count} pixel(s) that are no number"
        raise NotMeasurableError(msg)
    if image.size == 0 or image.min() == image.max():
        msg = f"{what} is empty: all pixels are {image.flat[0] if image.size else 'missing'}"
        raise NotMeasurableError(msg)
