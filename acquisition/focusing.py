"""Brings every field into focus: by search, by the focus map, or by a hardware autofocus.

Owns the decision which of them, the second opinion on a plane that surprises, and the light that it cost.
Knows no sequence and no files; the engine asks it at every stage position.
"""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np

from acquisition.autofocus import Curve, FocusFailedError, FocusResult
from acquisition.focus_map import FocusMap, Place, Prediction
from acquisition.focus_search import (
    FINEST_STEP_OF_DEPTH,
    depth_of_field_um,
    focus_exposure_ms,
    search_focus,
)
from acquisition.hardware_focus import LockLostError
from acquisition.manifest import FocusRecord, ImagingState
from acquisition.microscope import FocusWindowError, Microscope
from acquisition.plan import Experiment

__all__ = ["FieldFocus", "FoundPlane"]

_TRUSTED_OF_DEPTH = 0.1
"""Uncertainty of the map, over the depth of field, below which a field need not be searched: a quarter of the
depth is then two and a half standard deviations away."""
_TRUSTED_IN_A_ROW = 6
"""Fields on the map's word alone, after which one is searched all the same."""
_ERROR_OF_DEPTH, _ERROR_OF_NOISE = 0.03, 3.0
"""Standard deviation of a searched plane, over the depth of field: of one with signal enough
(bench/results/autofocus.md), and what noise adds, to be divided by the score's significance."""
_RANGE_PER_UNCERTAINTY = 3.5
_PRIOR_PER_RANGE = 0.4
"""Standard deviation of what is not known at first, over the half range of the first search."""
_ENOUGH_SIGNIFICANCE = 100.0
"""Of a focus score; more light would only bleach."""
_FAINT = 40.0
"""Significance below which a search in less than full light is made once more in full."""
_LEAST_LIGHT = 0.15
"""Of the full focus exposure."""
_SURPRISE = 4.0
"""Standard deviations from the map's expectation, from which a plane needs a second opinion."""


@dataclass(frozen=True, slots=True)
class FoundPlane:
    """Where a field is in focus, and how that is known."""

    focus_um: float
    method: str
    expected: Prediction
    found: FocusResult | None = None
    """Of a search,"""
    exposure_ms: float = 0.0
    """of each of its last exposures,"""
    error_um: float = 0.0
    """and the standard deviation of what it found, before that was weighed against the map."""

    @property
    def curve(self) -> Curve:
        """The focus curve; empty without a search."""
        return self.found.curve if self.found is not None else ()


class FieldFocus:
    """Focuses one field after the other, and learns the sample's shape as it goes.

    Parameters
    ----------
    clock
        Seconds since the epoch.
    """

    def __init__(
        self, microscope: Microscope, experiment: Experiment, clock: Callable[[], float] = time.time
    ) -> None:
        focus = experiment.focus
        self._microscope = microscope
        self._experiment = experiment
        self._clock = clock
        self._began_s = clock()
        self._on_trust = 0
        self.light_ms = 0.0
        """Exposure of the specimen for the last field's focus, whatever came of it."""
        self._exposure_ms = {state: focus_exposure_ms(experiment, state) for state in experiment.states}
        self._locked: ImagingState | None = None
        self.map = FocusMap(
            start_um=focus.start_um,
            start_uncertainty_um=_PRIOR_PER_RANGE * focus.search_range_um["low"],
            parfocal_um=focus.parfocal_offset_um,
            parfocal_uncertainty_um=focus.parfocal_uncertainty_um
            or _PRIOR_PER_RANGE * focus.search_range_um["high"],
        )

    def remember(self, records: Iterable[FocusRecord]) -> None:
        """Learn from the planes that an earlier part of the scan found."""
        for record in records:
            found_um = record.focus_um if record.found_um is None else record.found_um
            if record.method != "searched" or found_um is None:
                continue
            if record.stage_x_um is None or record.stage_y_um is None:
                continue
            self._began_s = min(self._began_s, record.time.timestamp())
            place = Place(
                (record.stage_x_um, record.stage_y_um),
                record.time.timestamp() - self._began_s,
                record.state,
            )
            error_um = record.error_um or _ERROR_OF_DEPTH * self._depth_um(record.state)
            self.map.add(place, found_um, error_um)

    def focus(self, state: ImagingState, xy_um: tuple[float, float], *, thorough: bool = False) -> FoundPlane:
        """Bring a field into focus; the drive is left there.

        Parameters
        ----------
        thorough
            Whether it is searched even where the map is sure: a field that is taken again.

        Raises
        ------
        FocusFailedError
            No plane was found, or none that can be believed; it carries the curve.
        MicroscopeError
            The drive did not arrive.
        """
        self.light_ms = 0.0
        place = Place(xy_um, self._clock() - self._began_s, state)
        expected = self.map.predict(place)
        if self._experiment.focus.method == "hardware":
            return self._held(place, expected)
        if not thorough and self._trusted(state, expected):
            self._on_trust += 1
            self._microscope.move_focus(expected.focus_um)
            return FoundPlane(expected.focus_um, "predicted", expected)
        return self._found(place, expected)

    def _trusted(self, state: ImagingState, expected: Prediction) -> bool:
        if self._experiment.focus.every_field or self._on_trust >= _TRUSTED_IN_A_ROW:
            return False
        return expected.uncertainty_um <= _TRUSTED_OF_DEPTH * self._depth_um(state)

    # ---- by search -----------------------------------------------------------------------------------

    def _found(self, place: Place, expected: Prediction) -> FoundPlane:
        result = self._search(place.state, expected)
        away_um = abs(result.focus_um - expected.focus_um)
        limit_um = self._experiment.focus.largest_correction_um
        if away_um > limit_um:
            reason = (
                f"the plane at {result.focus_um:.1f} um is farther from the expected "
                f"{expected.focus_um:.1f} um than focus.largest_correction_um allows ({limit_um:g} um)"
            )
            raise FocusFailedError(reason, result.curve)
        surprising = away_um > max(_SURPRISE * expected.uncertainty_um, self._depth_um(place.state))
        if surprising:
            self._confirm(place.state, expected, result)
        exposure_ms = self._exposure_ms[place.state]
        self._spare_light(place.state, result)
        self._on_trust = 0
        error_um = self._error_um(place.state, result)
        self.map.add(place, result.focus_um, error_um)
        plane_um = result.focus_um if surprising else _weighed(result.focus_um, error_um, expected)
        self._microscope.move_focus(plane_um)
        return FoundPlane(plane_um, "searched", expected, result, exposure_ms, error_um)

    def _spare_light(self, state: ImagingState, result: FocusResult) -> None:
        """Expose the next search no longer than its score needs, which is as significant as it is exposed."""
        if result.significance > 0:
            full_ms = focus_exposure_ms(self._experiment, state)
            needed_ms = self._exposure_ms[state] * _ENOUGH_SIGNIFICANCE / result.significance
            self._exposure_ms[state] = min(max(needed_ms, _LEAST_LIGHT * full_ms), full_ms)

    def _search(self, state: ImagingState, expected: Prediction) -> FocusResult:
        """Search as far as the map is unsure; farther, in the light that is left, where it finds nothing."""
        step_um = FINEST_STEP_OF_DEPTH * self._depth_um(state)
        widest_um = self._experiment.focus.search_range_um[state]
        half_um = min(_RANGE_PER_UNCERTAINTY * expected.uncertainty_um, widest_um)
        full_ms = focus_exposure_ms(self._experiment, state)
        if half_um < widest_um:
            coarse = 3 if half_um <= step_um else 5
            try:
                result = self._sweep(state, expected.focus_um, max(half_um, coarse // 2 * step_um), coarse)
                if 0 < result.significance < _FAINT and self._exposure_ms[state] < full_ms:
                    self._exposure_ms[state] = full_ms  # the light spared was too much for this field
                    return self._sweep(state, result.focus_um, step_um, 3)
            except FocusFailedError:
                pass  # it may lie farther away
            else:
                return result
        # What the narrow search took is missing now: both together take no more light than the images.
        left_ms = full_ms - self.light_ms / self._experiment.focus.exposures
        self._exposure_ms[state] = max(left_ms, _LEAST_LIGHT * full_ms)
        return self._sweep(state, expected.focus_um, widest_um, 5)

    def _confirm(self, state: ImagingState, expected: Prediction, result: FocusResult) -> None:
        """Search a surprising plane from elsewhere; raises FocusFailedError when it is not found again."""
        reason = (
            f"a plane was found at {result.focus_um:.1f} um, but the focus map expects "
            f"{expected.focus_um:.1f} +- {expected.uncertainty_um:.1f} um, and a second search "
        )
        middle_um = (result.focus_um + expected.focus_um) / 2
        half_um = abs(result.focus_um - expected.focus_um) / 2 + 2 * self._depth_um(state)
        try:
            again = self._sweep(state, middle_um, half_um, 5)
        except FocusFailedError as failure:
            raise FocusFailedError(reason + "found none", result.curve) from failure
        if abs(again.focus_um - result.focus_um) > self._depth_um(state) / 4:
            raise FocusFailedError(reason + f"found {again.focus_um:.1f} um", result.curve)

    def _sweep(self, state: ImagingState, start_um: float, half_um: float, coarse: int) -> FocusResult:
        exposure_ms = self._exposure_ms[state]
        try:
            found = search_focus(
                self._microscope, self._experiment, state, start_um, half_um, coarse, exposure_ms
            )
        except FocusFailedError as failure:
            self.light_ms += len(failure.curve) * exposure_ms
            raise
        self.light_ms += len(found.curve) * exposure_ms
        return found

    # ---- by a device ---------------------------------------------------------------------------------

    def _held(self, place: Place, expected: Prediction) -> FoundPlane:
        """Let the hardware autofocus hold the plane; search it first where it holds none yet."""
        device = self._microscope.hardware_focus
        if self._locked == place.state and device.on:  # a long way of the stage was made withdrawn
            try:
                device.wait()
            except LockLostError:
                self._locked = None
            else:
                return FoundPlane(self._held_um(), "hardware", expected)
        device.release()  # it would drive against the search
        found = self._found(place, expected)
        device.lock()
        held_um = self._held_um()
        if abs(held_um - found.focus_um) > self._depth_um(place.state) / 4:
            device.release()
            reason = (
                f"the hardware autofocus holds {held_um:.2f} um, the plane of best focus is "
                f"{found.focus_um:.2f} um; set the offset of the device, or focus.method: software"
            )
            raise FocusFailedError(reason, found.curve)
        self._locked = place.state
        return found

    def _held_um(self) -> float:
        """Return where the device holds the drive; raises FocusWindowError, released, where it may not."""
        held_um = self._microscope.focus_um()
        try:
            self._microscope.check_window(held_um)
        except FocusWindowError:
            self._microscope.hardware_focus.release()
            raise
        return held_um

    def _depth_um(self, state: ImagingState) -> float:
        return depth_of_field_um(self._experiment, state)

    def _error_um(self, state: ImagingState, result: FocusResult) -> float:
        """Return the standard deviation of a searched plane."""
        noise = _ERROR_OF_NOISE / result.significance if result.significance else 0.0
        return self._depth_um(state) * float(np.hypot(_ERROR_OF_DEPTH, noise))


def _weighed(found_um: float, error_um: float, expected: Prediction) -> float:
    """Return the mean of what was found and what was expected, each as much as it is sure."""
    found, known = error_um**-2, expected.uncertainty_um**-2
    return (found * found_um + known * expected.focus_um) / (found + known)
