"""The focus map: where the plane of best focus is to be expected, and how surely, from those found so far.

Owns the model of a sample on a stage: a tilted plane with slow hills, a drift in time, and the parfocal
offset of the high objective. It is a Gaussian process (Rasmussen & Williams, Gaussian Processes for Machine
Learning, 2006, chapter 2) over place, time and imaging state, so that both objectives share what is known of
the sample. How rough the sample and how strong the drift really are is learned from how well earlier planes
were predicted before they were found. Knows no microscope.
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from acquisition.manifest import ImagingState

__all__ = ["FocusMap", "Place", "Prediction"]

FloatArray = np.ndarray[Any, np.dtype[np.float64]]

_TILT_UM_PER_MM = 4.0
"""Prior standard deviations: of the sample's slope along each axis,"""
_HILL_UM = 2.0
"""of its hills,"""
_HILL_MM = 1.0
"""their length,"""
_DRIFT_UM = 1.5
"""of a drift that keeps its direction,"""
_DRIFT_MIN = 20.0
"""for how long it does (nobody knows it after a night),"""
_WANDERING_UM_PER_SQRT_MIN = 0.1
"""and of one that has none."""
_KEPT = 160
"""Planes that are remembered: the latest."""
_LEARNING = 12
"""Predictions that the roughness is judged by."""
_SMOOTHEST, _ROUGHEST = 0.25, 6.0


@dataclass(frozen=True, slots=True)
class Place:
    """Where, when and with which objective."""

    xy_um: tuple[float, float]
    time_s: float
    state: ImagingState


@dataclass(frozen=True, slots=True)
class Prediction:
    """Where the plane is to be expected."""

    focus_um: float
    uncertainty_um: float
    """Standard deviation."""


@dataclass
class FocusMap:
    """What is known of the planes of best focus."""

    start_um: float
    """Of the low objective, before anything is known."""
    start_uncertainty_um: float
    parfocal_um: float
    """The high objective's plane minus the low one's, before anything is known,"""
    parfocal_uncertainty_um: float
    _places: list[Place] = field(default_factory=list)
    _planes_um: list[float] = field(default_factory=list)
    _errors_um: list[float] = field(default_factory=list)
    _surprises: list[float] = field(default_factory=list)

    @property
    def known(self) -> int:
        """How many planes the map rests on."""
        return len(self._planes_um)

    def add(self, place: Place, focus_um: float, error_um: float) -> None:
        """Take note of a plane that was found, to within a standard deviation of `error_um`."""
        before = self._predict(place, scale=1.0)
        if self.known >= 2:  # the first planes tell where the sample is, not how rough it is
            spread = np.hypot(before.uncertainty_um, error_um)
            self._surprises = [*self._surprises, (focus_um - before.focus_um) / spread][-_LEARNING:]
        self._places = [*self._places, place][-_KEPT:]
        self._planes_um = [*self._planes_um, focus_um][-_KEPT:]
        self._errors_um = [*self._errors_um, error_um][-_KEPT:]

    def predict(self, place: Place) -> Prediction:
        """Return where the plane is to be expected at a place."""
        return self._predict(place, self.roughness)

    @property
    def roughness(self) -> float:
        """How much rougher than the prior the sample is, by how far off earlier predictions were."""
        if len(self._surprises) < 4:
            return 1.0
        rms = float(np.sqrt(np.mean(np.square(self._surprises))))
        margin = 1 + 2 / np.sqrt(2 * len(self._surprises))  # of an rms of so few: on the safe side
        return float(np.clip(rms * margin, _SMOOTHEST, _ROUGHEST))

    def _predict(self, place: Place, scale: float) -> Prediction:
        mean_um = self._prior_mean(place)
        variance = float(self._covariance([place], [place], scale)[0, 0])
        if not self._places:
            return Prediction(mean_um, float(np.sqrt(variance)))
        across = self._covariance([place], self._places, scale)[0]  # (N,)
        among = self._covariance(self._places, self._places, scale) + np.diag(np.square(self._errors_um))
        found = np.array(self._planes_um) - [self._prior_mean(known) for known in self._places]
        solved = np.linalg.solve(among, np.stack([found, across], axis=1))  # (N, 2)
        left = max(variance - float(across @ solved[:, 1]), 0.0)
        return Prediction(mean_um + float(across @ solved[:, 0]), float(np.sqrt(left)))

    def _prior_mean(self, place: Place) -> float:
        return self.start_um + (self.parfocal_um if place.state == "high" else 0.0)

    def _covariance(self, one: list[Place], other: list[Place], scale: float) -> FloatArray:
        """Return how the planes at two lists of places vary together, (N, M) um^2."""
        (xy, time_min, high), (xy2, time2_min, high2) = _columns(one), _columns(other)
        apart = np.hypot(*(xy[:, np.newaxis] - xy2[np.newaxis]).T).T  # (N, M) mm
        later = np.abs(time_min[:, np.newaxis] - time2_min[np.newaxis])  # (N, M) min
        common = np.minimum(time_min[:, np.newaxis], time2_min[np.newaxis])
        sample = (
            _TILT_UM_PER_MM**2 * xy @ xy2.T
            + _HILL_UM**2 * _matern(apart / _HILL_MM)
            + _DRIFT_UM**2 * _matern(later / _DRIFT_MIN)
            + _WANDERING_UM_PER_SQRT_MIN**2 * common
        )
        offsets = self.start_uncertainty_um**2 + self.parfocal_uncertainty_um**2 * np.outer(high, high2)
        return np.asarray(scale**2 * sample + offsets)


def _matern(distance: FloatArray) -> FloatArray:
    """Return the Matern 3/2 correlation: of any length, with slopes that change smoothly."""
    scaled = np.sqrt(3) * distance
    return np.asarray((1 + scaled) * np.exp(-scaled))


def _columns(places: list[Place]) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return positions (N, 2) in mm, times (N,) in min and whether the objective is the high one (N,)."""
    return (
        np.array([place.xy_um for place in places]) * 1e-3,
        np.array([place.time_s for place in places]) / 60,
        np.array([float(place.state == "high") for place in places]),
    )
