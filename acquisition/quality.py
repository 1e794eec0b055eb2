"""Judges a field at once, while the microscope could still take it again.

Owns what is measured of a field (saturation, brightness, sharpness, where a high field lies in the low one)
and what the limits hold against it. Pure: images and limits come in, figures and reasons go out. The
registration here is quick and knows whole pixels only; the one that training relies on is its own.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from skimage.feature import match_template

from acquisition.focus_score import gradient_energy
from acquisition.manifest import FieldQuality, ShiftToLow
from acquisition.plan import QualityLimits

__all__ = ["HighInLow", "complaints", "has_structure", "measure", "middle", "shift_to_low"]

CountImage = np.ndarray[Any, np.dtype[np.uint16]]
FloatImage = np.ndarray[Any, np.dtype[np.float32]]

_STRUCTURE_SIGNIFICANCE = 8.0
"""Gradient energy over its noise, below which a field has nothing to be compared by."""
_SMOOTHING_PX = 1.0
_REACH_PX = 64
"""How far from where it should be, in low pixels."""
_PILED_UP = 0.995
"""Of the brightest count; a full well spreads by its read noise only."""
_SOUGHT = 0.6
"""Part of a high field's sides that is sought in the low one, so that it may lie elsewhere."""


def measure(
    image: CountImage,
    largest_count: int,
    structured: bool,
    sharpness_ratio: float | None,
    registration: ShiftToLow | None,
) -> FieldQuality:
    """Return the figures of a field, (C, Y, X) counts.

    A full pixel need not hold the largest count: its well may be full before. So pixels count as saturated
    that are piled up at the brightest count of the upper half of the range.
    """
    flat = image.reshape(len(image), -1)
    full = np.maximum(_PILED_UP * flat.max(axis=1), largest_count / 2)  # (C,)
    return FieldQuality(
        saturated_fraction=[float(share) for share in (flat >= full[:, np.newaxis]).mean(axis=1)],
        median_counts=[float(count) for count in np.median(flat, axis=1)],
        bright_counts=[float(count) for count in np.quantile(flat, 0.999, axis=1)],
        structured=structured,
        sharpness_ratio=sharpness_ratio,
        registration=registration,
    )


def complaints(quality: FieldQuality, limits: QualityLimits, channels: list[str]) -> list[str]:
    """Return what the limits hold against a field, in words; empty where it is good."""
    found = [
        f"{share:.1%} of {channel} is saturated (limit {limits.saturated_fraction:.1%})"
        for channel, share in zip(channels, quality.saturated_fraction, strict=True)
        if share > limits.saturated_fraction
    ]
    if not quality.structured:
        found.append("nothing shows in the focus channel: no light, or an empty field")
    ratio = quality.sharpness_ratio
    if ratio is not None and ratio < limits.least_sharpness:
        found.append(f"sharpness is {ratio:.2f} of the focus curve's best (limit {limits.least_sharpness:g})")
    if quality.registration is not None:
        found += _misplaced(quality.registration, limits)
    return found


def _misplaced(registration: ShiftToLow, limits: QualityLimits) -> list[str]:
    if registration.correlation < limits.least_correlation:
        return [
            f"not found in the low field (correlation {registration.correlation:.2f}, limit "
            f"{limits.least_correlation:g})"
        ]
    away_um = float(np.hypot(*registration.shift_xy_um))
    if away_um > limits.largest_shift_um:
        return [f"lies {away_um:.1f} um from where the stage says (limit {limits.largest_shift_um:g} um)"]
    if registration.overlap < limits.least_overlap:
        return [f"only {registration.overlap:.0%} lie in the low field (limit {limits.least_overlap:.0%})"]
    return []


@dataclass(frozen=True, slots=True)
class HighInLow:
    """How the pixels of the two imaging states lie to each other and to the stage."""

    low_affine: FloatImage
    high_affine: FloatImage
    """(2, 2): from image pixels (x, y) to stage um."""
    parcentric_um: tuple[float, float] = (0.0, 0.0)
    """Where the high objective's centre lies in the specimen, seen from the low one's, where known."""

    @property
    def factor(self) -> int:
        """High pixels along one low pixel."""
        ratio = np.sqrt(abs(np.linalg.det(self.low_affine) / np.linalg.det(self.high_affine)))
        return max(round(float(ratio)), 1)


def shift_to_low(
    low: CountImage, high: CountImage, high_minus_low_xy_um: tuple[float, float], geometry: HighInLow
) -> ShiftToLow | None:
    """Return where a high field lies in a low one, to a low pixel; None where there is nothing to compare.

    The middle of the high image is binned to low pixels and sought in the low one by normalised
    cross-correlation (Lewis 1995).

    Parameters
    ----------
    low, high
        (Y, X) counts of the same channel.
    high_minus_low_xy_um
        Stage position of the high field minus that of the low one.
    """
    factor = geometry.factor
    height, width = (side // factor * factor for side in high.shape)
    tile = high[:height, :width].reshape(height // factor, factor, width // factor, factor).mean((1, 3))
    sought = tile[tuple(middle(side, int(_SOUGHT * side)) for side in tile.shape)]
    larger = any(of_tile > of_low for of_tile, of_low in zip(tile.shape, low.shape, strict=True))
    if larger or not has_structure(sought):
        return None
    apart_um = np.array(high_minus_low_xy_um) + geometry.parcentric_um
    centre_xy = np.linalg.solve(geometry.low_affine, apart_um)  # from the low one's
    corner_xy = centre_xy + (np.array(low.shape[::-1]) - sought.shape[::-1]) / 2
    rows, columns = (
        _around(corner, part, side)
        for corner, part, side in zip(corner_xy[::-1], sought.shape, low.shape, strict=True)
    )
    scores = match_template(low[rows, columns].astype(np.float32), sought.astype(np.float32))
    found_y, found_x = np.unravel_index(int(np.argmax(scores)), scores.shape)
    found_xy = np.array([columns.start + found_x, rows.start + found_y])
    shift_xy_um = geometry.low_affine @ (found_xy - corner_xy)
    return ShiftToLow(
        shift_xy_um=(float(shift_xy_um[0]), float(shift_xy_um[1])),
        correlation=float(scores[found_y, found_x]),
        overlap=_overlap(centre_xy + found_xy - corner_xy, tile.shape, low.shape),
    )


def has_structure(image: CountImage | FloatImage) -> bool:
    """Say whether there is something in an image, (Y, X), to be compared by."""
    sharpness = gradient_energy(image, _SMOOTHING_PX)
    return sharpness.value > _STRUCTURE_SIGNIFICANCE * sharpness.noise


def middle(length: int, part: int) -> slice:
    """Return the stretch in the middle of a side, no longer than the side."""
    part = min(part, length)
    return slice((length - part) // 2, (length - part) // 2 + part)


def _around(corner: float, part: int, side: int) -> slice:
    """Return the stretch of a low field's side where a part that should begin at `corner` is sought."""
    start = int(np.clip(round(corner) - _REACH_PX, 0, side - part))
    stop = int(np.clip(round(corner) + part + _REACH_PX, start + part, side))
    return slice(start, stop)


def _overlap(centre_xy: FloatImage, tile: tuple[int, ...], low: tuple[int, ...]) -> float:
    """Return the fraction of a tile that lies inside the low field; its centre is given from that one's."""
    shares = []
    for centre, length, limit in zip(centre_xy, tile[::-1], low[::-1], strict=True):
        inside = min(centre + length / 2, limit / 2) - max(centre - length / 2, -limit / 2)
        shares.append(max(float(inside), 0.0) / length)
    return float(np.prod(shares))
