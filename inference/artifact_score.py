"""Whether an enhanced image explains the frame it was made of: RSP and RSE of SQUIRREL, with a known blur.

Culley et al., Nature Methods 15, 263-266 (2018). `training.evaluation.artifacts` seeks the blur anew for each
image and draws a map; here the blur is known from the training, and two figures are had by Parseval's theorem
without blurring any image, fast enough for every frame of a stream. Detail finer than the blur is not seen,
be it right or wrong. Pure functions of arrays.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from inference.appearance import cosines

__all__ = ["ArtifactScore", "artifact_score", "binned", "gaussian_of_cosines"]

FloatArray = np.ndarray[Any, np.dtype[np.float64]]
FloatImage = np.ndarray[Any, np.dtype[np.float32]]


@dataclass(frozen=True, slots=True)
class ArtifactScore:
    """How well an enhanced image explains its frame."""

    rsp: float
    """Resolution-scaled Pearson coefficient."""
    rse: float
    """Resolution-scaled error, RMS, in the frame's units."""
    gain: float
    """Units of the frame for one unit of the enhanced image; 0 where it is constant."""
    spread: float
    """The frame's standard deviation, in its units."""

    @property
    def unexplained(self) -> float:
        """RSE over the frame's standard deviation: what is left when the best fit is taken away."""
        rsp = max(self.rsp, 0.0) if np.isfinite(self.rsp) else 0.0
        return float(np.sqrt(max(0.0, 1 - rsp**2)))


def artifact_score(enhanced: FloatImage, frame_cosines: FloatImage, sigma_px: float) -> ArtifactScore | None:
    """Return RSP and RSE under the best gain and offset.

    Parameters
    ----------
    enhanced
        (factor * Y, factor * X).
    frame_cosines
        (Y, X) cosine series of the frame.
    sigma_px
        Of the Gaussian that takes the enhanced image, binned to the frame's pixels, to the frame's
        resolution; in pixels of the frame.

    Returns
    -------
    ArtifactScore or None
        None where the frame is constant: there is nothing to explain.
    """
    sharp = cosines(binned(enhanced, enhanced.shape[0] // frame_cosines.shape[0]))
    along_y, along_x = (axis.astype(np.float32) for axis in gaussian_of_cosines(sharp.shape, sigma_px))
    blurred = sharp * along_y[:, np.newaxis]
    blurred *= along_x
    blurred[0, 0] = 0.0  # the mean, which the offset sees to
    varying = frame_cosines.ravel()[1:]  # without its mean, beside which the rest would be lost to rounding
    spread = float(np.vdot(varying, varying))
    if not spread > 0:
        return None
    rms = float(np.sqrt(spread / sharp.size))
    power, product = float(np.vdot(blurred, blurred)), float(np.vdot(blurred, frame_cosines))
    if not power > 0:
        return ArtifactScore(0.0, rms, 0.0, rms)
    rsp = product / np.sqrt(power * spread)
    return ArtifactScore(float(rsp), float(np.sqrt(max(0.0, 1 - rsp**2))) * rms, product / power, rms)


def binned(image: FloatImage, factor: int) -> FloatImage:
    """Return the means of blocks of factor by factor pixels: (factor * Y, factor * X) to (Y, X)."""
    if factor == 1:
        return image
    parts = [image[row::factor, column::factor] for row in range(factor) for column in range(factor)]
    total = parts[0] + parts[1]
    for part in parts[2:]:
        total += part
    return total * np.float32(1 / factor**2)


def gaussian_of_cosines(shape_yx: tuple[int, ...], sigma_px: float) -> tuple[FloatArray, FloatArray]:
    """Return what a Gaussian leaves of each cosine of a series, along y (Y,) and x (X,)."""
    along_y, along_x = (np.exp(-0.5 * (sigma_px * np.pi * np.arange(n) / n) ** 2) for n in shape_yx)
    return along_y, along_x
