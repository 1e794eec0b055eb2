"""How this project scores an image, the same everywhere (METHOD, last section).

Pure functions of an image and its truth. Both are divided by the truth's 99.9th percentile after a linear
intensity fit of the image to the truth, 16 px are cropped from every side, and `data_range` is 1. The
unfitted slope and offset stand beside, for a fit hides an error of scale.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from training.evaluation.not_measurable import NotMeasurableError

__all__ = ["Score", "fit_to_truth", "psnr_db", "score"]

BORDER_PX = 16
FULL_PERCENTILE = 99.9

Image = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True, slots=True)
class Score:
    """The figures of one image against its truth."""

    psnr_db: float
    ssim: float
    slope: float
    """Unfitted: image = slope * truth + offset, least squares; 1 where intensities are kept."""
    offset: float
    """Unfitted, in units of the truth's 99.9th percentile."""


def fit_to_truth(image: Image, truth: Image) -> Image:
    """Return `a * image + b` with a and b chosen by least squares against the truth."""
    slope, offset = _line(_values(image), _values(truth))
    return slope * image + offset


def psnr_db(image: Image, truth: Image) -> float:
    """Return the peak signal to noise ratio after the fit, dB.

    Parameters
    ----------
    image, truth
        (Y, X), each larger than 32 px.
    """
    fitted, reference = _prepared(image, truth)
    return float(peak_signal_noise_ratio(reference, fitted, data_range=1.0))


def score(image: Image, truth: Image) -> Score:
    """Return all figures of an image (Y, X) against its truth (Y, X)."""
    fitted, reference = _prepared(image, truth)
    full = _full_scale(truth)
    slope, offset = _line(_values(truth), _values(image))
    return Score(
        psnr_db=float(peak_signal_noise_ratio(reference, fitted, data_range=1.0)),
        ssim=float(structural_similarity(reference, fitted, data_range=1.0)),
        slope=slope,
        offset=offset / full,
    )


def _prepared(image: Image, truth: Image) -> tuple[Image, Image]:
    full = _full_scale(truth)
    return _inside(fit_to_truth(image, truth)) / full, _inside(truth).astype(np.float64) / full


def _full_scale(truth: Image) -> float:
    full = float(np.percentile(truth, FULL_PERCENTILE))
    if full <= 0:
        msg = "the truth holds nothing bright; it cannot be scored against"
        raise NotMeasurableError(msg)
    return full


def _inside(image: Image) -> Image:
    return image[BORDER_PX:-BORDER_PX, BORDER_PX:-BORDER_PX]


def _values(image: Image) -> Image:
    return _inside(image).ravel().astype(np.float64)


def _line(x: Image, y: Image) -> tuple[float, float]:
    """Return slope and offset of the least-squares line y = slope * x + offset."""
    variance = float(np.var(x))
    if variance == 0:
        return 0.0, float(y.mean())
    slope = float(np.mean((x - x.mean()) * (y - y.mean()))) / variance
    return slope, float(y.mean()) - slope * float(x.mean())
