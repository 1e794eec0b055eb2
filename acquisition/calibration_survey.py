"""What a calibration asks of a microscope: fields in focus, the camera's orientation, a lattice of images.

Owns the moves, foci and exposures, and in which order they come. What the figures mean is
`acquisition.calibration_run`'s matter. Knows neither MMCore nor an autofocus from within.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from acquisition.affine_fit import (
    LEAST_CORRELATION,
    AffineFit,
    CalibrationFailedError,
    PairShift,
    fit_affine,
)
from acquisition.autofocus import FocusFailedError
from acquisition.calibration_lattice import APPROACH_UM, Lattice
from acquisition.focus_search import search_focus
from acquisition.image_shift import find_shift, structure
from acquisition.manifest import ImagingState
from acquisition.microscope import Microscope
from acquisition.plan import Experiment

__all__ = ["FieldSeen", "Place", "Progress", "Survey"]

Image = np.ndarray[Any, np.dtype[Any]]
FloatArray = np.ndarray[Any, np.dtype[np.float64]]
Place = tuple[float, float]
Progress = Callable[[int, int], None]

LEAST_FIELDS = 3
CHANNEL_FIELDS = 3
"""In which the other channels are focused too."""
MORE_STRUCTURE = "move to a place with structure all around, or expose longer"
_SMALL_MOVE = 0.2
"""Of a field: what tells the camera's orientation."""
_LEAST_MOVED = 0.3
"""Of what the nominal pixel size says; below, it is the camera's own pattern, which stands still."""
_ORIENTATION_MISFIT = 0.1
"""Of the small move."""
_REACH = 0.05
"""Of a move: how far from where the small moves say a neighbour is looked for."""
_LEAST_REACH_PX = 6

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class FieldSeen:
    """A field in focus."""

    focus_um: float
    image: Image
    channel_focus_um: dict[str, float]
    """Of the other channels, minus `focus_um`."""


class Survey:
    """What a calibration asks of a microscope.

    Parameters
    ----------
    binning
        Of the camera as it stands.
    progress
        Called with (positions done, positions planned).
    """

    def __init__(
        self, experiment: Experiment, microscope: Microscope, binning: int, progress: Progress | None
    ) -> None:
        self._experiment = experiment
        self._microscope = microscope
        self._binning = binning
        self._progress = progress
        self._done = 0
        self._planned = 0

    def nominal_pixel_um(self, state: ImagingState) -> float:
        """Return what the magnification says, which is good enough to choose steps by."""
        camera_pixel_um = self._experiment.microscope.camera_pixel_um
        return camera_pixel_um * self._binning / self._experiment.states[state].magnification

    def planned(self, positions: int) -> None:
        """Say how many positions there will be."""
        self._planned = positions

    def fields(
        self, state: ImagingState, places: list[Place], known: dict[Place, FieldSeen]
    ) -> dict[Place, FieldSeen]:
        """Focus and expose at places; those without a focus are left out.

        Parameters
        ----------
        known
            The low state's fields, for the high state to begin from.
        """
        plan = self._experiment.focus
        seen: dict[Place, FieldSeen] = {}
        self._microscope.change_state(state)
        for where in places:
            start_um = self._start_um(where, seen, known)
            half_range_um = (plan.track_range_um if seen else plan.search_range_um)[state]
            try:
                channels = self._channels_wanted(seen)
                seen[where] = self._field(state, where, start_um, half_range_um, channels)
            except FocusFailedError as error:
                _log.warning("calibration, %s state at (%.0f, %.0f) um: %s", state, *where, error)
            self._advance()
        if len(seen) < LEAST_FIELDS:
            msg = f"only {len(seen)} of {len(places)} fields came into focus in state '{state}', and "
            raise CalibrationFailedError(f"{msg}{LEAST_FIELDS} are needed; {MORE_STRUCTURE}")
        return seen

    def _start_um(self, where: Place, seen: dict[Place, FieldSeen], known: dict[Place, FieldSeen]) -> float:
        """Return where a search begins: at the last field's focus, or as far from the low one as so far."""
        plan = self._experiment.focus
        if not known:
            return [field.focus_um for field in seen.values()][-1] if seen else plan.start_um
        offsets = [field.focus_um - known[at].focus_um for at, field in seen.items()]
        offset_um = float(np.median(offsets)) if offsets else plan.parfocal_offset_um
        return known[where].focus_um + offset_um

    def _channels_wanted(self, seen: dict[Place, FieldSeen]) -> list[str]:
        """Return the channels whose focus too few fields have told yet."""
        names = [channel.name for channel in self._experiment.channels]
        names.remove(self._experiment.focus.channel)
        told = [name for field in seen.values() for name in field.channel_focus_um]
        return [name for name in names if told.count(name) < CHANNEL_FIELDS]

    def _field(
        self, state: ImagingState, where: Place, start_um: float, half_range_um: float, channels: list[str]
    ) -> FieldSeen:
        self._approach(where)
        found = search_focus(self._microscope, self._experiment, state, start_um, half_range_um)
        image = self._exposed(state, found.focus_um)
        foci = {}
        for name in channels:
            try:
                foci[name] = self._channel_focus(state, name, found.focus_um) - found.focus_um
            except FocusFailedError as error:
                _log.warning("calibration, %s state, channel %s: %s", state, name, error)
        return FieldSeen(found.focus_um, image, foci)

    def _channel_focus(self, state: ImagingState, channel: str, start_um: float) -> float:
        plan = self._experiment.focus
        by_it = self._experiment.model_copy(update={"focus": plan.model_copy(update={"channel": channel})})
        # Wide, for the score of a coarse stain at low aperture hardly changes over the range of tracking.
        return search_focus(self._microscope, by_it, state, start_um, plan.search_range_um[state]).focus_um

    def affine(self, lattice: Lattice, seen: dict[Place, FieldSeen]) -> AffineFit:
        """Fit the low state's affine to the lattice, at foci that follow the fields' tilt."""
        coarse = np.linalg.inv(self.orientation("low", seen))
        plane = _plane(seen)
        images = []
        for where in lattice.nodes_xy_um:
            if where in seen:
                images.append(structure(seen[where].image))
            else:
                self._approach(where)
                images.append(structure(self._exposed("low", float(plane @ (1, *where)))))
            self._advance()
        nodes = np.array(lattice.nodes_xy_um)
        pairs = []
        for first, second in lattice.neighbours:
            x_px, y_px = -coarse @ (nodes[second] - nodes[first])
            reach_px = _LEAST_REACH_PX + round(_REACH * float(np.hypot(x_px, y_px)))
            shift = find_shift(images[first], images[second], expected_xy_px=(x_px, y_px), reach_px=reach_px)
            pairs.append(PairShift(first, second, shift.xy_px, shift.correlation))
        return fit_affine(nodes, pairs)

    def orientation(self, state: ImagingState, seen: dict[Place, FieldSeen]) -> FloatArray:
        """Return the affine matrix within a few percent, by small moves at the first place that allows it."""
        for where, field in seen.items():
            matrix = self._orientation_at(state, where, field)
            if matrix is not None:
                return matrix
        msg = f"small moves of the stage do not shift the images of state '{state}' as a camera's would; "
        raise CalibrationFailedError(msg + MORE_STRUCTURE)

    def _orientation_at(self, state: ImagingState, where: Place, field: FieldSeen) -> FloatArray | None:
        shape = self._microscope.frame_shape_yx()
        pixel_um = self.nominal_pixel_um(state)
        step_um = _SMALL_MOVE * min(shape) * pixel_um
        before = structure(field.image)
        moves = step_um * np.array([(1, 0), (-1, 0), (0, 1), (0, -1)])
        shifts = []
        for x_um, y_um in moves:
            self._approach((where[0] + x_um, where[1] + y_um))
            shift = find_shift(
                before,
                structure(self._exposed(state, field.focus_um)),
                reach_px=min(shape) // 2,
                beyond_px=_LEAST_MOVED * step_um / pixel_um,
            )
            if shift.correlation < LEAST_CORRELATION:
                return None
            shifts.append(shift.xy_px)
        solution, *_ = np.linalg.lstsq(np.array(shifts), moves, rcond=None)
        misfit_um = np.hypot(*(moves - np.array(shifts) @ solution).T)
        return -solution.T if misfit_um.max() < _ORIENTATION_MISFIT * step_um else None

    def _approach(self, where: Place) -> None:
        self._microscope.move_stage(where[0] - APPROACH_UM, where[1] - APPROACH_UM)
        self._microscope.move_stage(*where)

    def _exposed(self, state: ImagingState, focus_um: float) -> Image:
        channel = self._experiment.channel(self._experiment.focus.channel)
        low_um, high_um = self._experiment.states[state].focus_window_um
        self._microscope.select_channel(channel.group, channel.config)
        self._microscope.move_focus(min(max(focus_um, low_um), high_um))
        return self._microscope.snap(channel.exposure_ms[state])

    def _advance(self) -> None:
        self._done += 1
        if self._progress is not None:
            self._progress(self._done, self._planned)


def _plane(seen: dict[Place, FieldSeen]) -> FloatArray:
    """Return (height, rise along x, rise along y) of the foci, by least squares; level where too few."""
    foci = np.array([field.focus_um for field in seen.values()])
    if len(foci) < 4:
        return np.array([foci.mean(), 0.0, 0.0])
    design = np.column_stack([np.ones(len(foci)), np.array(list(seen))])  # (fields, 3)
    return np.asarray(np.linalg.lstsq(design, foci, rcond=None)[0])
