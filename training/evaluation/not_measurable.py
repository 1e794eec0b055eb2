"""Says that a figure cannot be had of an image, and why.

Every measurement of this room raises `NotMeasurableError` where there is nothing to measure; the table then
shows the reason in the figure's place, never a number.
"""

from typing import Any

import numpy as np

__all__ = ["NotMeasurableError", "check_image", "check_pair", "check_side"]

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


def check_side(image: Image, least_side_px: int, what: str = "the image") -> None:
    """Raise NotMeasurableError for an image that is not (Y, X) or is smaller than a side."""
    if image.ndim != 2 or min(image.shape) < least_side_px:
        msg = f"{what} is {_size(image)}; this needs a plane of {least_side_px} px or more to a side"
        raise NotMeasurableError(msg)


def check_pair(image: Image, truth: Image) -> None:
    """Raise NotMeasurableError for images that differ in shape or that cannot be measured at all."""
    check_image(image)
    check_image(truth, "the truth")
    if image.shape != truth.shape:
        msg = f"the image is {_size(image)} and the truth {_size(truth)}; bring both to one grid"
        raise NotMeasurableError(msg)


def _size(image: Image) -> str:
    return " x ".join(map(str, image.shape)) + " px"
