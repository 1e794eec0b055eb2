"""The map from camera pixels to stage micrometres, fitted to how far images lie from one another.

Owns the least squares and what an affine matrix means. Pure; knows no images and no devices. Everywhere the
matrix A means: the image of a field at stage position s shows, at pixel offset p = (x, y) from the centre,
the specimen at s + A p. So what two images share lies -A^-1 (s2 - s1) farther in the second one.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

__all__ = ["AffineFit", "CalibrationFailedError", "Orientation", "PairShift", "decompose", "fit_affine"]

FloatArray = np.ndarray[Any, np.dtype[np.float64]]

LEAST_CORRELATION = 0.4
"""Of two images that show the same specimen; below, the shift is a guess."""
LEAST_PAIRS = 8
_OUTLYING = 3.8
"""Residuals beyond so many medians are mismatches: of errors that are normal along x and y, one in 25 000."""
_CONSISTENT_PX = 0.5
"""Smaller residuals are never mismatches."""
_ROUNDS = 10
_MIRROR = np.diag([-1.0, 1.0])


class CalibrationFailedError(RuntimeError):
    """The images do not give the figure; the message says what was missing and what to do."""


class PairShift(NamedTuple):
    """How far the content of one image lies from where another shows it."""

    first: int
    second: int
    """Numbers of the images, as the stage positions are numbered."""
    xy_px: tuple[float, float]
    correlation: float


class Orientation(NamedTuple):
    """What an affine matrix says of the camera: A = pixel size * rotation * (mirror of x, if mirrored)."""

    pixel_size_um: float
    rotation_deg: float
    """By which the camera's axes are turned from the stage's x axis towards its y axis, -180 to 180."""
    mirrored: bool
    """Whether the camera's x axis is flipped, before it is turned."""


@dataclass(frozen=True, slots=True)
class AffineFit:
    """An affine matrix and how well it is known.

    The standard errors take how far the stage misses at one position as independent of the next, which holds
    for positions a field apart.
    """

    matrix_um: FloatArray
    """(2, 2), (x, y) px to (x, y) um."""
    orientation: Orientation
    pixel_size_standard_error_um: float
    rotation_standard_error_deg: float
    residual_um: float
    """Root mean square distance of the stage positions from where the images say that they are."""
    positions: int
    pairs: int
    """Those used."""


def decompose(matrix_um: FloatArray) -> Orientation:
    """Return pixel size, rotation and mirror of an affine matrix (2, 2)."""
    determinant = float(np.linalg.det(matrix_um))
    turned = matrix_um @ _MIRROR if determinant < 0 else matrix_um
    angle = np.arctan2(turned[1, 0] - turned[0, 1], turned[0, 0] + turned[1, 1])
    return Orientation(abs(determinant) ** 0.5, float(np.rad2deg(angle)), determinant < 0)


def fit_affine(
    stage_xy_um: FloatArray, pairs: Sequence[PairShift], *, least_correlation: float = LEAST_CORRELATION
) -> AffineFit:
    """Fit the affine matrix to the shifts of overlapping images on a wide lattice of stage positions.

    All shifts together say where the images lie relative to one another, in pixels; the stage positions are
    regressed on that. So every position counts over the whole width of the lattice, and a stage that misses
    by half a micrometre costs, over two millimetres, a few parts in ten thousand. Pairs that correlate
    weakly or contradict the others are left out.

    Parameters
    ----------
    stage_xy_um
        (N, 2), as commanded, (x, y).
    pairs
        Shifts of images that overlap; chains and loops of them should span the positions.

    Raises
    ------
    CalibrationFailedError
        Fewer than eight pairs agree, or they span a line only.
    """
    good = [pair for pair in pairs if pair.correlation >= least_correlation]
    good = _agreeing_with_stage(stage_xy_um, good)
    positions_px, good = _positions_px(len(stage_xy_um), good)
    if len(good) < LEAST_PAIRS:
        msg = (
            f"only {len(good)} of {len(pairs)} pairs of neighbouring images show the same specimen, and "
            f"{LEAST_PAIRS} are needed; move to a place with structure all around, or expose longer"
        )
        raise CalibrationFailedError(msg)
    known = np.flatnonzero(np.isfinite(positions_px).all(axis=1))
    return _regress(stage_xy_um[known], positions_px[known], len(good))


def _agreeing_with_stage(stage_xy_um: FloatArray, pairs: list[PairShift]) -> list[PairShift]:
    """Leave out pairs that one matrix does not bring together with the stage's moves.

    Iteratively reweighted, so that mismatches do not decide what a mismatch is.
    """
    if len(pairs) < LEAST_PAIRS:
        return pairs
    shifts = np.array([pair.xy_px for pair in pairs])  # (P, 2)
    moves = np.array([stage_xy_um[pair.second] - stage_xy_um[pair.first] for pair in pairs])
    weights, residuals = np.ones(len(pairs)), np.zeros(len(pairs))
    solution = np.zeros((2, 2))
    for _ in range(_ROUNDS):
        root = np.sqrt(weights)[:, np.newaxis]
        solution, *_ = np.linalg.lstsq(shifts * root, moves * root, rcond=None)
        residuals = np.hypot(*(moves - shifts @ solution).T)
        weights = 1 / (1 + (residuals / max(float(np.median(residuals)), 1e-9)) ** 2)
    pixel_um = float(np.linalg.norm(solution, 2))
    within = residuals <= max(_OUTLYING * float(np.median(residuals)), _CONSISTENT_PX * pixel_um)
    return [pair for pair, agrees in zip(pairs, within, strict=True) if agrees]


def _positions_px(images: int, pairs: list[PairShift]) -> tuple[FloatArray, list[PairShift]]:
    """Return where one point of the specimen lies in each image, (N, 2) px, by all pairs that agree.

    NaN where no chain of pairs leads to the largest group of images.
    """
    positions = np.full((images, 2), np.nan)
    while pairs:
        pairs = _largest_group(images, pairs)
        members = sorted({number for pair in pairs for number in pair[:2]})
        index = {number: place for place, number in enumerate(members)}
        design = np.zeros((len(pairs), len(members)))
        for row, pair in zip(design, pairs, strict=True):
            row[index[pair.second]], row[index[pair.first]] = 1, -1
        shifts = np.array([pair.xy_px for pair in pairs])  # (P, 2)
        found, *_ = np.linalg.lstsq(design, shifts, rcond=None)
        residuals = np.hypot(*(shifts - design @ found).T)
        worst = int(np.argmax(residuals))
        if residuals[worst] <= max(_OUTLYING * float(np.median(residuals)), _CONSISTENT_PX):
            positions[members] = found
            return positions, pairs
        del pairs[worst]
    return positions, pairs


def _largest_group(images: int, pairs: list[PairShift]) -> list[PairShift]:
    """Return the pairs among the largest group of images that pairs connect."""
    group = list(range(images))
    for pair in pairs:
        old, new = group[pair.second], group[pair.first]
        group = [new if one == old else one for one in group]
    largest = max(set(group), key=group.count)
    return [pair for pair in pairs if group[pair.first] == largest]


def _regress(stage_xy_um: FloatArray, positions_px: FloatArray, pairs: int) -> AffineFit:
    """Solve s = c - A p for A: the error is the stage's."""
    count = len(stage_xy_um)
    design = np.column_stack([positions_px - positions_px.mean(axis=0), np.ones(count)])  # (N, 3)
    spread = np.linalg.svd(design[:, :2], compute_uv=False)
    if count < 4 or spread[1] < 0.1 * spread[0]:
        msg = (
            f"the {count} positions whose images fit together lie on one line; move to a place with "
            "structure all around"
        )
        raise CalibrationFailedError(msg)
    solution, *_ = np.linalg.lstsq(design, stage_xy_um, rcond=None)
    matrix = -solution[:2].T
    residuals = stage_xy_um - design @ solution
    variance = float(np.sum(residuals**2)) / (2 * count - 6)
    covariance = variance * np.linalg.inv(design.T @ design)[:2, :2]  # of either row of the matrix
    orientation = decompose(matrix)
    inverse = np.linalg.inv(matrix)
    quarter_turn = np.array([[0.0, -1.0], [1.0, 0.0]])
    by_scale = 0.5 * orientation.pixel_size_um * inverse.T  # d(pixel size) / d(matrix)
    by_angle = 0.5 * quarter_turn @ inverse.T  # d(rotation) / d(matrix), to first order
    errors = [
        float(np.sqrt(np.einsum("ij,jk,ik->", slope, covariance, slope))) for slope in (by_scale, by_angle)
    ]
    return AffineFit(
        matrix_um=matrix,
        orientation=orientation,
        pixel_size_standard_error_um=errors[0],
        rotation_standard_error_deg=float(np.rad2deg(errors[1])),
        residual_um=float(np.sqrt(np.mean(np.sum(residuals**2, axis=1)))),
        positions=count,
        pairs=pairs,
    )
