"""Finds the plane of best focus from exposures alone.

Owns the focus score and the search. Knows no microscope: `move` and `snap` are handed in, a plane comes out
with the curve that it was read from, or an error that says why there is none.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.ndimage import gaussian_filter

__all__ = ["FocusFailedError", "FocusResult", "SweepRange", "gradient_energy", "sweep"]

Curve = tuple[tuple[float, float], ...]

_LEAST_CONTRAST = 1.1
"""A curve whose best score is not that many times its median says nothing: the field is empty."""
_MOST_WIDENINGS = 3
_FIT_ABOVE = 0.25
"""Part of the peak score above which the curve's logarithm is nearly a parabola."""


class FocusFailedError(RuntimeError):
    """No plane of best focus was found; the message says why, `curve` holds what was measured."""

    def __init__(self, reason: str, curve: Curve) -> None:
        self.reason = reason
        self.curve = curve
        super().__init__(f"autofocus failed: {reason}")


@dataclass(frozen=True, slots=True)
class FocusResult:
    """A plane of best focus."""

    focus_um: float
    curve: Curve
    """Pairs of focus drive position (um) and score, in the order of exposure."""


@dataclass(frozen=True, slots=True)
class SweepRange:
    """Where to look, and how closely."""

    start_um: float
    half_range_um: float
    finest_step_um: float
    """Steps shrink until they are not larger; about 0.7 depths of field suits the fit."""
    window_um: tuple[float, float]
    """No exposure is made outside, however the search widens."""


def gradient_energy(image: np.ndarray[Any, np.dtype[Any]]) -> float:
    """Return a focus score: mean squared difference over two pixels (Brenner), over the squared mean.

    Smoothed by one pixel first, so that shot noise does not drown what little structure is left far out of
    focus. Dividing by the mean makes it independent of exposure and bleaching.

    Parameters
    ----------
    image
        (Y, X) counts.
    """
    smooth = gaussian_filter(image.astype(np.float32), 1.0, mode="nearest", truncate=3)
    along_y, along_x = smooth[2:] - smooth[:-2], smooth[:, 2:] - smooth[:, :-2]
    energy = float(np.mean(along_y**2) + np.mean(along_x**2))
    return energy / max(float(smooth.mean()), 1e-6) ** 2


def sweep(
    move: Callable[[float], None],
    snap: Callable[[], np.ndarray[Any, np.dtype[Any]]],
    where: SweepRange,
    score: Callable[[np.ndarray[Any, np.dtype[Any]]], float] = gradient_energy,
) -> FocusResult:
    """Search the plane of best focus: coarsely, wider where the best lies at the edge, then ever finer.

    The plane is the vertex of a parabola through the logarithm of the scores around the best one, so it
    lies between the steps. The focus drive is left at the last exposure; the caller moves it to the plane.

    Raises
    ------
    FocusFailedError
        The score hardly changes, or the best focus lies at the edge of the window.
    """
    curve: dict[float, float] = {}

    def measure(position_um: float) -> None:
        position_um = float(np.clip(position_um, *where.window_um))
        if not any(abs(position_um - known) < 1e-3 for known in curve):
            move(position_um)
            curve[position_um] = score(snap())

    coarse = np.linspace(-where.half_range_um, where.half_range_um, _coarse_count(where))
    for offset in coarse:
        measure(where.start_um + offset)
    step = float(coarse[1] - coarse[0])
    _widen(curve, measure, step)
    while step > where.finest_step_um:
        step /= 3
        best, towards = _best_and_side(curve)
        for multiple in (-1, 1, 2):
            measure(best + towards * multiple * step)
    _check(curve)
    return FocusResult(_vertex(curve), tuple(curve.items()))


def _coarse_count(where: SweepRange) -> int:
    """Return 5 or 7 exposures, more where the range is long against the depth of field."""
    return 7 if where.half_range_um > 12 * where.finest_step_um else 5


def _widen(curve: dict[float, float], measure: Callable[[float], None], step: float) -> None:
    for _ in range(_MOST_WIDENINGS):
        edge = _edge(curve)
        if edge == 0:
            return
        best = max(curve, key=curve.__getitem__)
        for multiple in (1, 2):
            measure(best + edge * multiple * step)


def _edge(curve: dict[float, float]) -> int:
    """Return -1 or 1 where the best score lies at the curve's lower or upper end, else 0."""
    best = max(curve, key=curve.__getitem__)
    return int(best == max(curve)) - int(best == min(curve))


def _best_and_side(curve: dict[float, float]) -> tuple[float, int]:
    """Return the best position, and on which side of it (-1 or 1) the better neighbour lies."""
    positions = sorted(curve)
    best = max(curve, key=curve.__getitem__)
    index = positions.index(best)
    below = curve[positions[index - 1]] if index > 0 else -np.inf
    above = curve[positions[index + 1]] if index < len(positions) - 1 else -np.inf
    return best, 1 if above >= below else -1


def _check(curve: dict[float, float]) -> None:
    scores = np.array(list(curve.values()))
    taken = tuple(curve.items())
    if not np.isfinite(scores).all() or scores.max() < _LEAST_CONTRAST * np.median(scores):
        reason = (
            f"the score hardly changes between {min(curve):.1f} and {max(curve):.1f} um "
            f"(best {scores.max():.3g}, median {np.median(scores):.3g}): nothing there, or far out of focus"
        )
        raise FocusFailedError(reason, taken)
    if _edge(curve) != 0:
        best = max(curve, key=curve.__getitem__)
        reason = (
            f"the best score lies at the edge of the search, {best:.1f} um; widen the range or the window"
        )
        raise FocusFailedError(reason, taken)


def _vertex(curve: dict[float, float]) -> float:
    """Return the vertex of a parabola through the logarithm of the scores around the best one."""
    best = max(curve, key=curve.__getitem__)
    near = sorted(curve, key=lambda position: abs(position - best))
    chosen = [p for p in near if curve[p] >= _FIT_ABOVE * curve[best]]
    if len(chosen) < 3:
        positions = sorted(curve)
        index = positions.index(best)
        chosen = positions[index - 1 : index + 2]
    offsets = np.array(chosen) - best
    curvature, slope, _ = np.polyfit(offsets, np.log([curve[p] for p in chosen]), 2)
    lower, upper = min(offsets[offsets < 0], default=0.0), max(offsets[offsets > 0], default=0.0)
    if curvature >= 0:
        return best
    return best + float(np.clip(-slope / (2 * curvature), lower, upper))
