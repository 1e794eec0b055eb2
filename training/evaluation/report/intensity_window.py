"""The window of intensities by which an image becomes 8-bit grey, and one for all images of a field.

Owns which intensity is black and which is white. Pure functions of arrays.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from training.evaluation.pictures import HIGH_PERCENTILE, LOW_PERCENTILE

__all__ = ["ByteImage", "Image", "IntensityWindow", "window_of"]

Image = np.ndarray[Any, np.dtype[Any]]
ByteImage = np.ndarray[Any, np.dtype[np.uint8]]


@dataclass(frozen=True, slots=True)
class IntensityWindow:
    """Which intensities are black and white."""

    black: float
    white: float

    def stretch(self, image: Image) -> ByteImage:
        """Return an image of any real type as 0 to 255; what is no number becomes black."""
        share = (image.astype(np.float32) - self.black) / (self.white - self.black)
        share = np.nan_to_num(share, nan=0.0, posinf=1.0, neginf=0.0)
        return np.asarray(np.rint(255 * np.clip(share, 0, 1)), dtype=np.uint8)


def window_of(image: Image) -> IntensityWindow:
    """Return the window from the 1st to the 99.8th percentile of an image.

    Of an image without contrast, or without a number, it is one unit wide.
    """
    values = image[np.isfinite(image)]
    black, white = np.percentile(values, (LOW_PERCENTILE, HIGH_PERCENTILE)) if values.size else (0.0, 0.0)
    return IntensityWindow(float(black), float(white if white > black else black + 1.0))
