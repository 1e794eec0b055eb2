"""Whether the uncertainty that a model states for each pixel is the error that it makes.

For models with a second output, a standard deviation for each pixel (`inference.generator`: exp(half of the
log-variance), times 255). Owns coverage, the calibration curve and its error. Pure functions of arrays of any
shape: several fields are pooled by stacking them. What is compared with an acquired truth must have learned
from acquired truths: the noise of the truth is part of both errors.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import special

from training.evaluation.not_measurable import NotMeasurableError, check_image

__all__ = ["Calibration", "calibration", "coverage", "expected_coverage"]

Image = np.ndarray[Any, np.dtype[Any]]
FloatArray = np.ndarray[Any, np.dtype[np.float64]]

BINS = 15
LEAST_IN_BIN = 100
"""Pixels, with which a root mean square is known to 7 %."""


@dataclass(frozen=True, slots=True)
class Calibration:
    """Stated against made errors, in bins of the stated one with equally many pixels."""

    predicted: FloatArray
    """(B,) root mean square of the stated standard deviations, ascending, in the image's units."""
    observed: FloatArray
    """(B,) root mean square of the errors of the same pixels."""
    ence: float
    """Expected normalised calibration error, 0 at best; 1 where errors are twice what is stated."""
    dispersion: float
    """Standard deviation of the stated standard deviations over their mean: 0 where all pixels are given the
    same, which can be right on the whole and tells nothing."""
    coverage_1_sigma: float
    """Share of the pixels whose error is no more than what is stated: 0.683 at best for normal errors."""
    coverage_2_sigma: float
    """The same for twice what is stated: 0.954."""


def expected_coverage(sigmas: float) -> float:
    """Return the share of normally distributed errors within so many standard deviations."""
    return float(special.erf(sigmas / np.sqrt(2)))


def coverage(image: Image, std: Image, truth: Image, sigmas: float) -> float:
    """Return the share of pixels whose error is within so many stated standard deviations.

    Parameters
    ----------
    image, std, truth
        (..., Y, X) all alike: output, its stated standard deviation, and truth, in one unit, unfitted.
    sigmas
        1 or 2 as a rule; compare with `expected_coverage`.

    Raises
    ------
    NotMeasurableError
        Of arrays that hold NaN or differ in shape, and of a standard deviation that is not positive.
    """
    error, stated = _checked(image, std, truth)
    return float(np.mean(np.abs(error) <= sigmas * stated))


def calibration(image: Image, std: Image, truth: Image, bins: int = BINS) -> Calibration:
    """Return how nearly stated and made errors agree.

    Pixels are sorted by their stated standard deviation and cut into bins of equally many. Of bin j the
    root mean variance RMV = sqrt(mean(std**2)) stands against RMSE = sqrt(mean((image - truth)**2)), and
    ENCE = mean over bins of abs(RMV - RMSE) / RMV (Levi et al., Sensors 22, 5540 (2022), the section on
    calibration metrics, as are the dispersion and the curve). Well calibrated, ENCE is not 0 but about
    0.56 sqrt(B / N) for N pixels with independent errors.

    Parameters
    ----------
    image, std, truth
        (..., Y, X) all alike: output, its stated standard deviation, and truth, in one unit, unfitted.
    bins
        B.

    Raises
    ------
    NotMeasurableError
        Of arrays that hold NaN or differ in shape, of a standard deviation that is not positive, and of fewer
        than 100 pixels a bin.
    """
    error, stated = _checked(image, std, truth)
    if error.size < bins * LEAST_IN_BIN:
        msg = f"{error.size} pixels are too few for {bins} bins of {LEAST_IN_BIN}"
        raise NotMeasurableError(msg)
    order = np.argsort(stated, kind="stable")
    predicted, observed = (
        np.array([np.sqrt(np.mean(part**2)) for part in np.array_split(values[order], bins)])
        for values in (stated, error)
    )
    return Calibration(
        predicted=predicted,
        observed=observed,
        ence=float(np.mean(np.abs(predicted - observed) / predicted)),
        dispersion=float(stated.std(ddof=1) / stated.mean()),
        coverage_1_sigma=float(np.mean(np.abs(error) <= stated)),
        coverage_2_sigma=float(np.mean(np.abs(error) <= 2 * stated)),
    )


def _checked(image: Image, std: Image, truth: Image) -> tuple[FloatArray, FloatArray]:
    """Return errors and stated standard deviations, (N,) each."""
    check_image(image)
    check_image(truth, "the truth")
    if not np.isfinite(std).all():
        msg = f"the standard deviation holds {int((~np.isfinite(std)).sum())} pixel(s) that are no number"
        raise NotMeasurableError(msg)
    if not image.shape == std.shape == truth.shape:
        msg = (
            f"image, standard deviation and truth differ in shape: {image.shape}, {std.shape}, {truth.shape}"
        )
        raise NotMeasurableError(msg)
    if std.min() <= 0:
        msg = f"the standard deviation is not positive at {int((std <= 0).sum())} pixel(s)"
        raise NotMeasurableError(msg)
    error = image.astype(np.float64) - truth
    return error.ravel(), std.astype(np.float64).ravel()
