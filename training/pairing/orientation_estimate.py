"""Scale and rotation between two folders of images that come without a calibration.

Owns the estimate, once for a whole set, from a handful of its fields. A coarse search turns and scales the
high image until the global match is best; the elastic registration of that guess then shows what is missing,
as the linear part of its field. Knows no files.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice, product

import numpy as np

from training.pairing.global_match import coarse_match
from training.pairing.mosaic import Mosaic, grid
from training.pairing.orientation import ALIGNED, Orientation
from training.pairing.registration import register
from training.pairing.sampling import FloatArray, Image

__all__ = ["OrientationEstimate", "estimate_orientation", "orientation_of_field"]

SCALES = tuple(np.linspace(0.9, 1.1, 9))
ROTATIONS_DEG = tuple(np.linspace(-6.0, 6.0, 9))
"""Steps at which structure of a few bins stays within itself at the border of `SEARCH_SIDE_PX`."""
SEARCH_SIDE_PX = 128
ENOUGH_FIELDS = 3
"""That tell; no more are asked."""
ROUNDS = 2
LEAST_GAIN = 0.02
"""In correlation: an orientation must explain the images better than none by more than chance does."""
FINEST_SCALE, FINEST_ROTATION_DEG = 0.001, 0.05
"""Below both the elastic registration takes it up as well."""
LARGEST_SPREAD = 0.01
"""Of the scale (and of the rotation, in radians) over the fields; more is no property of a microscope."""


@dataclass(frozen=True, slots=True)
class OrientationEstimate:
    """What a few fields say together."""

    orientation: Orientation
    note: str
    """How it was found, in words for a person."""


def estimate_orientation(fields: Iterable[tuple[Image, list[Mosaic]]], factor: int) -> OrientationEstimate:
    """Estimate scale and rotation from several fields.

    Parameters
    ----------
    fields
        For each field (C, Y, X) low counts and one mosaic for each channel; as many are taken as it needs.

    Returns
    -------
    OrientationEstimate
        `ALIGNED` where the fields say nothing, disagree, or need no more.
    """
    told_by = (orientation_of_field(lows, mosaics, factor) for lows, mosaics in fields)
    found = _agreeing(list(islice((one for one in told_by if one is not None), ENOUGH_FIELDS)))
    if not found:
        return OrientationEstimate(ALIGNED, "scale and rotation: no field tells, taken as 1 and 0 degrees")
    scales = np.array([one.scale for one in found])
    turns_deg = np.array([one.rotation_deg for one in found])
    spread = max(np.ptp(scales), np.deg2rad(np.ptp(turns_deg)))
    if spread > LARGEST_SPREAD:
        told = f"{scales.min():.3f} to {scales.max():.3f}, {turns_deg.min():.2f} to {turns_deg.max():.2f}"
        note = f"scale and rotation: the fields disagree ({told} degrees), none assumed"
        return OrientationEstimate(ALIGNED, note)
    scale, turn_deg = float(np.median(scales)), float(np.median(turns_deg))
    fields_told = f"{len(found)} field{'s' if len(found) > 1 else ''}"
    told = f"scale {scale:.4f}, rotation {turn_deg:.3f} degrees, estimated from {fields_told}"
    if abs(scale - 1) < FINEST_SCALE and abs(turn_deg) < FINEST_ROTATION_DEG:
        return OrientationEstimate(ALIGNED, f"{told}: as good as none")
    return OrientationEstimate(_similarity(scale, turn_deg), told)


def _agreeing(found: list[Orientation]) -> list[Orientation]:
    """Leave out one field that stands against two which agree; else return all."""
    matrices = np.array([one.matrix_yx for one in found])  # (N, 2, 2)
    for k in range(len(found)) if len(found) > 2 else ():
        others = [m for j, m in enumerate(matrices) if j != k]
        if (
            np.ptp(others, axis=0).max()
            <= LARGEST_SPREAD
            < np.abs(matrices[k] - np.mean(others, axis=0)).max()
        ):
            return [one for j, one in enumerate(found) if j != k]
    return found


def orientation_of_field(lows: Image, mosaics: list[Mosaic], factor: int) -> Orientation | None:
    """Return scale and rotation by one field, None where it has nothing to match.

    Parameters
    ----------
    lows
        (C, Y, X) counts.
    mosaics
        One for each channel; their own orientation is not used.
    """
    guess = _searched(lows, mosaics, factor)
    if guess is None:
        return None
    for _ in range(ROUNDS):
        missing = _missing(lows, mosaics, factor, guess)
        if missing is None:
            return None
        guess = _nearest_similarity(np.array(guess.matrix_yx) + missing)
    return guess


def _missing(lows: Image, mosaics: list[Mosaic], factor: int, guess: Orientation) -> Image | None:
    """Return what the elastic registration of a guess adds to its matrix, (2, 2)."""
    turned = [Mosaic(m.tiles, m.corners_yx_px, guess, _pivot(lows, factor)) for m in mosaics]
    coarse = coarse_match(lows, turned, factor)
    if not coarse.found:
        return None
    strongest = int(np.argmax([float(low.std()) for low in lows]))
    registration = register(lows[strongest], turned[strongest], factor, coarse)
    if registration.residual_px is None:
        return None
    return _linear_part(registration.displacement_yx_px, factor)


def _searched(lows: Image, mosaics: list[Mosaic], factor: int) -> Orientation | None:
    """Return the orientation of the coarse grid whose global match is best."""
    pivot = _pivot(lows, factor)

    def score(candidate: Orientation) -> float:
        turned = [Mosaic(m.tiles, m.corners_yx_px, candidate, pivot) for m in mosaics]
        match = coarse_match(lows, turned, factor, SEARCH_SIDE_PX)
        return match.correlation if match.found else 0.0

    plain = score(ALIGNED)
    candidates = [_similarity(scale, turn) for scale, turn in product(SCALES, ROTATIONS_DEG)]
    scores = [score(candidate) for candidate in candidates]
    best = int(np.argmax(scores))
    if max(scores[best], plain) == 0:
        return None
    return candidates[best] if scores[best] > plain + LEAST_GAIN else ALIGNED


def _pivot(lows: Image, factor: int) -> tuple[float, float]:
    height, width = lows.shape[-2:]
    return (factor * height - 1) / 2, (factor * width - 1) / 2


def _similarity(scale: float, rotation_deg: float) -> Orientation:
    turn = np.deg2rad(rotation_deg)
    cosine, sine = float(scale * np.cos(turn)), float(scale * np.sin(turn))
    return Orientation(((cosine, -sine), (sine, cosine)))


def _linear_part(displacement_yx_px: FloatArray, factor: int) -> Image:
    """Return the 2 x 2 matrix that fits a field on the low grid best, per pixel of the upsampled grid."""
    places = grid(displacement_yx_px.shape[1:]).reshape(2, -1).astype(np.float64) * factor
    places -= places.mean(axis=1, keepdims=True)
    moves = displacement_yx_px.reshape(2, -1).astype(np.float64)
    return np.asarray(moves @ places.T @ np.linalg.inv(places @ places.T))


def _nearest_similarity(matrix_yx: Image) -> Orientation:
    (a, b), (c, d) = np.asarray(matrix_yx).tolist()
    cosine, sine = (a + d) / 2, (c - b) / 2
    return Orientation(((cosine, -sine), (sine, cosine)))
