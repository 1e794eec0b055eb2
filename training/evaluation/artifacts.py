"""SQUIRREL: whether a super-resolved image, blurred, explains the low-resolution image of the same field.

Culley et al., Nature Methods 15, 263-266 (2018). The sharp image is blurred and scaled to look like the
reference as nearly as it can; what is left over is missing or invented structure. Detail finer than the blur
is not seen, be it right or wrong.

Owns the resolution-scaling function, its fit and the two figures that follow. Pure functions of arrays; both
images must be registered, and nothing here moves them.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import fft, optimize

from inference.artifact_score import gaussian_of_cosines
from training.evaluation.not_measurable import NotMeasurableError, check_image, check_side

__all__ = ["ArtifactMap", "artifact_map"]

Image = np.ndarray[Any, np.dtype[Any]]
FloatArray = np.ndarray[Any, np.dtype[np.float64]]

LEAST_SIDE_PX = 16
NARROWEST_PX = 0.25
"""The least blur tried beside none at all: the sampled Gaussian is a single pixel there."""
WIDEST_OF_SIDE = 1 / 8
"""Of the shorter side, the widest blur tried."""
BLURS = 24
"""Tried for a start, evenly in the logarithm; the search goes on beside the best of them."""
SIGMA_TOLERANCE_PX = 1e-4


@dataclass(frozen=True, slots=True)
class ArtifactMap:
    """Where and by how much a super-resolved image fails to explain its reference."""

    error: FloatArray
    """(Y, X) on the super-resolved grid, not negative, in the reference's units."""
    rse: float
    """Resolution-scaled error: root mean square of `error`."""
    rsp: float
    """Resolution-scaled Pearson coefficient, above 0 and at most 1."""
    sigma_px: float
    """Of the Gaussian that was found, px of the super-resolved grid; 0 where no blur is best."""
    gain: float
    """alpha of the paper: reference units for one unit of the super-resolved image."""
    offset: float
    """beta of the paper, in the reference's units."""


def artifact_map(super_resolved: Image, reference: Image) -> ArtifactMap:
    """Return SQUIRREL's error map, RSE and RSP.

    Of all Gaussians G, gains alpha and offsets beta it takes those for which alpha * (G convolved with the
    image) + beta is nearest to the reference, by least squares (Culley 2018, Online Methods). RSE is the root
    mean square of the difference, RSP is Pearson's correlation. Beyond its edges an image is its own mirror
    image.

    A reference on a coarser grid is interpolated to the finer one by its cosine series. Both fields have the
    same corners: a pixel of the reference lies in the middle of its block of m by m. (NanoPyx 2.1.5 lays the
    centres of the first pixels on each other instead, (m - 1) / 2 fine px away.)

    Parameters
    ----------
    super_resolved
        (m Y, m X), m a whole number; 1 where both are on the same grid. 16 px or more to a side.
    reference
        (Y, X), the low-resolution image.

    Raises
    ------
    NotMeasurableError
        Of images that are constant, too small, hold NaN or whose shapes do not fit, and where no blur makes
        them alike: the one is dark where the other is bright.
    """
    factor = _factor(super_resolved, reference)
    sharp = np.asarray(fft.dctn(super_resolved.astype(np.float64), norm="ortho", overwrite_x=True))
    target = _upsampled(reference, factor)
    # The first coefficient is the mean, which the offset sees to.
    mean_of_sharp, mean_of_target = sharp.flat[0], target.flat[0]
    sharp.flat[0] = target.flat[0] = 0.0
    sigma_px, rsp = _best_blur(sharp, target)
    if rsp <= 0:
        msg = "no blur makes the image like its reference: it is dark where the reference is bright"
        raise NotMeasurableError(msg)
    along_y, along_x = gaussian_of_cosines(sharp.shape, sigma_px)
    blurred = sharp * along_y[:, np.newaxis] * along_x
    gain = float(np.vdot(blurred, target) / np.vdot(blurred, blurred))
    offset = (mean_of_target - gain * mean_of_sharp) / np.sqrt(sharp.size)
    error = np.abs(fft.idctn(gain * blurred - target, norm="ortho", overwrite_x=True))
    return ArtifactMap(
        error=error,
        rse=float(np.sqrt(np.mean(error**2))),
        rsp=min(rsp, 1.0),
        sigma_px=sigma_px,
        gain=gain,
        offset=float(offset),
    )


def _factor(super_resolved: Image, reference: Image) -> int:
    """Return how many pixels of the fine grid a pixel of the reference is wide."""
    check_image(super_resolved, "the super-resolved image")
    check_image(reference, "the reference")
    check_side(super_resolved, LEAST_SIDE_PX, "the super-resolved image")
    check_side(reference, 2, "the reference")
    factor = int(super_resolved.shape[0] // reference.shape[0])
    if super_resolved.shape != tuple(factor * side for side in reference.shape):
        msg = (
            f"the super-resolved image is {super_resolved.shape} and the reference {reference.shape}; "
            "the first must be a whole multiple of the second"
        )
        raise NotMeasurableError(msg)
    return factor


def _upsampled(reference: Image, factor: int) -> FloatArray:
    """Return the cosine transform (m Y, m X) of a reference (Y, X) on a grid m times finer."""
    coarse = np.asarray(fft.dctn(reference.astype(np.float64), norm="ortho", overwrite_x=True))
    if factor == 1:
        return coarse
    fine = np.zeros(tuple(factor * side for side in coarse.shape))
    fine[: coarse.shape[0], : coarse.shape[1]] = factor * coarse
    return fine


def _best_blur(sharp: FloatArray, target: FloatArray) -> tuple[float, float]:
    """Return the sigma of highest correlation, px, and that correlation, of cosine series without means.

    The squared error under the best gain and offset is the target's variance times 1 - r**2, so the highest
    r is sought. By Parseval's theorem it needs sums over cosines alone: no image is blurred on the way.
    """
    product, square = sharp * target, sharp**2
    spread = np.sqrt(np.vdot(target, target))

    def correlation(sigma_px: float) -> float:
        along_y, along_x = gaussian_of_cosines(sharp.shape, sigma_px)
        power = along_y**2 @ square @ along_x**2
        return float(along_y @ product @ along_x / (spread * np.sqrt(power))) if power > 0 else 0.0

    widest_px = max(min(sharp.shape) * WIDEST_OF_SIDE, 2 * NARROWEST_PX)
    sigmas_px = np.concatenate([[0.0], np.geomspace(NARROWEST_PX, widest_px, BLURS)])
    found = [correlation(sigma_px) for sigma_px in sigmas_px]
    best = int(np.argmax(found))
    beside = sigmas_px[max(best - 1, 0)], sigmas_px[min(best + 1, BLURS)]
    refined = optimize.minimize_scalar(
        lambda sigma_px: -correlation(sigma_px),
        bounds=beside,
        method="bounded",
        options={"xatol": SIGMA_TOLERANCE_PX},
    )
    if -refined.fun > found[best]:
        return float(refined.x), float(-refined.fun)
    return float(sigmas_px[best]), found[best]
