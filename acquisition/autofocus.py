"""Finds the plane of best focus from exposures alone.

Owns the search. Knows no microscope: `move` and `snap` are handed in, a plane comes out with the curve that
it was read from, or an error that says why there is none. The focus score is `acquisition.focus_score`'s.

The search goes from coarse to fine in depth and in detail at once. Far from focus only coarse structure is
left, so a wide step is judged by an image smoothed by about the blur that half a step makes; every exposure
is kept, and judged again at each finer detail. So a sweep of 60 um needs a dozen exposures, and none is
wasted.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from acquisition.focus_score import Sharpness, gradient_energy

__all__ = ["FocusFailedError", "FocusResult", "SweepRange", "sweep"]

Image = np.ndarray[Any, np.dtype[Any]]
Curve = tuple[tuple[float, float], ...]
Score = Callable[[Image, float], Sharpness]

_FINER = 4.2
"""By which a step may shrink at once: the vertex of a curve is known to a quarter of its step."""
_MOST_WIDENINGS = 3
_SMOOTHED_BY = 0.35
"""Standard deviation of the smoothing over the blur's radius half a step from focus."""
_FINEST_SMOOTHING_PX = 0.7
_LEAST_SIGNIFICANCE = 5.0
"""Best score over the standard deviation that noise alone gives it; below, nothing is there."""
_LEAST_CONTRAST = 1.15
"""Best score over the median one; below, all exposures are equally far out of focus."""
_FIT_WITHIN = 1.6
"""Steps from the best score."""
_FIT_ABOVE = 0.25
"""Part of the peak score above which the inverse score is nearly a parabola."""


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
    smoothing_px: float = _FINEST_SMOOTHING_PX
    """Detail at which the curve's scores were judged."""
    best_energy: float = 0.0
    """Of the sharpest exposure, in counts squared (`acquisition.focus_score.Sharpness`)."""
    significance: float = 0.0
    """Best score over the standard deviation that noise alone gives it; 0 where that is not known."""


@dataclass(frozen=True, slots=True)
class SweepRange:
    """Where to look, and how closely."""

    start_um: float
    half_range_um: float
    finest_step_um: float
    """Steps shrink until they are not larger; about 0.7 depths of field suits the fit."""
    window_um: tuple[float, float]
    """No exposure is made outside, however the search widens."""
    blur_px_per_um: float = 1.0
    """Radius of a point's blur in camera pixels, for each um out of focus."""
    towards_sample: int = 1
    """1 where larger positions are nearer to the sample, else -1: a sweep comes from the far side."""
    coarse: int = 5
    """Exposures of the first sweep, evenly spread over the range; an odd number from 3 on."""

    def smoothing_px(self, step_um: float) -> float:
        """Return how much an image is smoothed before a step of this size is judged by it."""
        return max(_FINEST_SMOOTHING_PX, _SMOOTHED_BY * self.blur_px_per_um * step_um / 2)


class _Exposures:
    """What was taken where, and how sharp it is at any detail."""

    def __init__(
        self, move: Callable[[float], None], snap: Callable[[], Image], where: SweepRange, score: Score
    ) -> None:
        self._move, self._snap, self._where, self._score = move, snap, where, score
        self._images: dict[float, Image] = {}
        self._known: dict[tuple[float, float], Sharpness] = {}

    def take(self, position_um: float) -> None:
        """Expose there, or at the window's edge, unless that was done already."""
        position_um = float(np.clip(position_um, *self._where.window_um))
        if not any(abs(position_um - known) < 1e-3 for known in self._images):
            self._move(position_um)
            self._images[position_um] = self._snap()

    def sharpness(self, step_um: float) -> dict[float, Sharpness]:
        """Return how sharp each exposure is for a step of this size, in the order of exposure."""
        smoothing = self._where.smoothing_px(step_um)
        for position, image in self._images.items():
            if (position, smoothing) not in self._known:
                self._known[position, smoothing] = self._score(image, smoothing)
        return {position: self._known[position, smoothing] for position in self._images}

    def curve(self, step_um: float) -> dict[float, float]:
        """Return the scores by position."""
        return {position: sharp.value for position, sharp in self.sharpness(step_um).items()}


def sweep(
    move: Callable[[float], None],
    snap: Callable[[], Image],
    where: SweepRange,
    score: Score = gradient_energy,
) -> FocusResult:
    """Search the plane of best focus: coarsely, wider where the best lies at the edge, then ever finer.

    The plane is the vertex of a parabola through the inverse roots of the scores around the best one, so it
    lies between the steps. The focus drive is left at the last exposure; the caller moves it to the plane.

    Raises
    ------
    FocusFailedError
        The scores are no larger than noise gives, hardly change, or the best lies at the edge of the window.
    """
    exposures = _Exposures(move, snap, where, score)
    step_um = 2 * where.half_range_um / (where.coarse - 1)
    for multiple in range(-(where.coarse // 2), where.coarse // 2 + 1):
        exposures.take(where.start_um + where.towards_sample * multiple * step_um)
    _widen(exposures, step_um)
    _check(exposures, step_um)
    for finer_um in _steps(step_um, where.finest_step_um):
        centre_um = _vertex(exposures.curve(step_um), step_um)
        step_um = finer_um
        for multiple in (0, -1, 1):
            exposures.take(centre_um + multiple * step_um)
        _widen(exposures, step_um)
    _check(exposures, step_um)
    curve = exposures.curve(step_um)
    best = max(exposures.sharpness(step_um).values(), key=lambda sharp: sharp.value)
    return FocusResult(
        _vertex(curve, step_um),
        tuple(curve.items()),
        where.smoothing_px(step_um),
        best.energy,
        best.value / best.noise if best.noise else 0.0,
    )


def _steps(step_um: float, finest_um: float) -> list[float]:
    """Return the steps that lead from a step to the finest, each as much finer as the one before."""
    if step_um <= finest_um:
        return []
    stages = int(np.ceil(np.log(step_um / finest_um) / np.log(_FINER)))
    return [step_um * (finest_um / step_um) ** ((stage + 1) / stages) for stage in range(stages)]


def _widen(exposures: _Exposures, step_um: float) -> None:
    """Go on beyond the edge for as long as the best lies there."""
    for _ in range(_MOST_WIDENINGS):
        curve = exposures.curve(step_um)
        edge = _edge(curve)
        if edge == 0:
            return
        exposures.take(max(curve, key=curve.__getitem__) + edge * step_um)


def _edge(curve: dict[float, float]) -> int:
    """Return -1 or 1 where the best score lies at the curve's lower or upper end, else 0."""
    best = max(curve, key=curve.__getitem__)
    return int(best == max(curve)) - int(best == min(curve))


def _check(exposures: _Exposures, step_um: float) -> None:
    """Raise where the curve says nothing, at the detail that belongs to a step.

    Asked twice: of the coarse sweep, and of the finest. Light from beyond the edge of the field, which comes
    in as it blurs, can raise a coarse score far from focus; fine detail it has none.
    """
    sharpness = exposures.sharpness(step_um)
    curve = exposures.curve(step_um)
    scores = np.array(list(curve.values()))
    best = max(curve, key=curve.__getitem__)
    between = f"between {min(curve):.1f} and {max(curve):.1f} um"
    if not np.isfinite(scores).all() or scores.max() < _LEAST_SIGNIFICANCE * sharpness[best].noise:
        reason = (
            f"no structure above the noise {between} (best score {scores.max():.3g}, noise "
            f"{sharpness[best].noise:.3g}): nothing there, or far out of focus"
        )
        raise FocusFailedError(reason, tuple(curve.items()))
    if scores.max() < _LEAST_CONTRAST * np.median(scores):
        reason = (
            f"the score hardly changes {between} (best {scores.max():.3g}, median {np.median(scores):.3g}): "
            "nothing there, or far out of focus"
        )
        raise FocusFailedError(reason, tuple(curve.items()))
    _check_inside(curve)


def _check_inside(curve: dict[float, float]) -> None:
    if _edge(curve) != 0:
        best = max(curve, key=curve.__getitem__)
        reason = (
            f"the best score lies at the edge of the search, {best:.1f} um; widen the range or the window"
        )
        raise FocusFailedError(reason, tuple(curve.items()))


def _vertex(curve: dict[float, float], step_um: float) -> float:
    """Return the vertex of a parabola through the inverse roots of the scores around the best one.

    Of a Gaussian peak the logarithm is a parabola, of a Lorentzian the inverse; the score of a real field
    lies between, and so does the inverse root.
    """
    positions = sorted(curve)
    best = max(curve, key=curve.__getitem__)
    index = positions.index(best)
    lower, upper = positions[max(index - 1, 0)], positions[min(index + 1, len(positions) - 1)]
    reach_um = _FIT_WITHIN * step_um
    chosen = [p for p in positions if abs(p - best) <= reach_um and curve[p] >= _FIT_ABOVE * curve[best]]
    if len(chosen) < 3 or not min(chosen) < best < max(chosen):
        chosen = [lower, best, upper]
    offsets = np.array(chosen) - best
    scores = np.maximum([curve[p] / curve[best] for p in chosen], 1e-3)
    curvature, slope, _ = np.polyfit(offsets, scores**-0.5, 2, w=scores)
    if curvature <= 0:
        return best
    return best + float(np.clip(-slope / (2 * curvature), lower - best, upper - best))
