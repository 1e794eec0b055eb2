"""Measures the calibration of a microscope with two imaging states, from images of any structured specimen.

Owns the course: low state, one change of objective, high state. Needs nothing but a specimen with structure
over two millimetres. The low state's affine comes from a lattice of overlapping fields; the high state's from
where its images lie in the low ones at the same stage positions, so that it needs no wide lattice of its own
and the stage does not enter. Knows neither MMCore nor an autofocus from within.
"""

import logging
from collections.abc import Iterable
from typing import Any

import numpy as np

from acquisition.affine_fit import (
    LEAST_CORRELATION,
    AffineFit,
    CalibrationFailedError,
    Orientation,
    decompose,
)
from acquisition.affine_registration import Placement, place
from acquisition.calibration import Calibration, CameraRecord, Offset, StateCalibration
from acquisition.calibration_lattice import Lattice, lattice_of, widest_extent_um
from acquisition.calibration_survey import (
    CHANNEL_FIELDS,
    LEAST_FIELDS,
    MORE_STRUCTURE,
    FieldSeen,
    Place,
    Progress,
    Survey,
)
from acquisition.manifest import ImagingState
from acquisition.microscope import Microscope
from acquisition.plan import Experiment

__all__ = ["CalibrationFailedError", "calibrate"]

FloatArray = np.ndarray[Any, np.dtype[np.float64]]

DEFAULT_EXTENT_UM = 2000.0
"""Side of the lattice: over it, a stage that misses by 0.5 um costs 0.02 % and 0.01 degrees at the worst."""
_WANTED_FIELDS = 9
_OFFSET_REACH = 0.25
"""Of a low frame: the largest parcentric offset, along each axis."""
_OUTLYING = 9.0
"""Fields farther from the median than so many median distances are mismatches."""
_CONSISTENT = 0.5
"""Nearer ones never are; in um for foci and centres, in low pixels for images."""

_log = logging.getLogger(__name__)


def calibrate(
    experiment: Experiment,
    microscope: Microscope,
    *,
    centre_xy_um: Place = (0.0, 0.0),
    fields: int = 9,
    extent_um: float = DEFAULT_EXTENT_UM,
    binning: int = 1,
    progress: Progress | None = None,
) -> Calibration:
    """Measure pixel sizes, camera orientation, parfocal, parcentric and chromatic offsets.

    Parameters
    ----------
    experiment
        Its states, channels and focus plan are used; its pixel sizes serve the autofocus only.
    microscope
        In any state; it is left in the high one.
    centre_xy_um
        Middle of the square of stage positions.
    fields
        Of which offsets are the mean, rounded up to a square number.
    extent_um
        Side of the square, made smaller where the stage window asks for it.
    binning
        Of the camera as it stands.
    progress
        Called with (positions done, positions planned).

    Raises
    ------
    CalibrationFailedError
        The images do not give a figure; the message says which, and what to do.
    MicroscopeError
        A device did not do as it was told.
    """
    survey = Survey(experiment, microscope, binning, progress)
    lattice = _lattice(experiment, microscope, survey, centre_xy_um, fields, extent_um)
    places = [lattice.nodes_xy_um[number] for number in lattice.crossings]
    survey.planned(len(lattice.nodes_xy_um) + 2 * len(places))
    low_fields = survey.fields("low", places, {})
    low_channels = _channel_offsets(experiment, low_fields)  # if they are missing, then before the lattice
    low = survey.affine(lattice, low_fields)
    high_fields = survey.fields("high", list(low_fields), low_fields)
    guess = np.linalg.inv(low.matrix_um) @ survey.orientation("high", high_fields)
    placements = _placements(low_fields, high_fields, guess)
    parfocal = [seen.focus_um - low_fields[where].focus_um for where, seen in high_fields.items()]
    centres_um = np.array([low.matrix_um @ found.offset_xy_px for found in placements])  # (fields, 2)
    return Calibration(
        microscope=experiment.microscope.name,
        camera=CameraRecord(
            frame_shape_yx=microscope.frame_shape_yx(),
            binning=binning,
            camera_pixel_um=experiment.microscope.camera_pixel_um,
        ),
        states={
            "low": _low_state(experiment, low),
            "high": _high_state(experiment, low, placements),
        },
        parfocal_um=_offset(parfocal, "parfocal offset"),
        parcentric_um=(_offset(centres_um[:, 0], "parcentric x"), _offset(centres_um[:, 1], "parcentric y")),
        focus_channel=experiment.focus.channel,
        channel_focus_um={
            "low": low_channels,
            "high": _channel_offsets(experiment, high_fields),
        },
    )


def _lattice(
    experiment: Experiment,
    microscope: Microscope,
    survey: Survey,
    centre_xy_um: Place,
    fields: int,
    extent_um: float,
) -> Lattice:
    lines = max(2, int(np.ceil(np.sqrt(fields))))
    field_um = survey.nominal_pixel_um("low") * min(microscope.frame_shape_yx())
    side_um = min(extent_um, widest_extent_um(experiment, centre_xy_um))
    if side_um < 2 * field_um:
        msg = f"the stage may visit a square of {side_um:.0f} um only, and a field has {field_um:.0f} um; "
        raise CalibrationFailedError(msg + "calibrate farther from the edge of stage_window_um")
    return lattice_of(centre_xy_um, side_um, lines, field_um)


def _placements(
    low_fields: dict[Place, FieldSeen], high_fields: dict[Place, FieldSeen], guess: FloatArray
) -> list[Placement]:
    """Lay the high images onto the low ones of the same places; those that do not fit are left out."""
    found = []
    for where, seen in high_fields.items():
        coarse = low_fields[where].image
        placement = place(coarse, seen.image, guess, int(_OFFSET_REACH * min(coarse.shape)))
        if placement.correlation >= LEAST_CORRELATION:
            found.append(placement)
    offsets = np.array([placement.offset_xy_px for placement in found]).reshape(-1, 2)
    found = [one for one, agrees in zip(found, _agreeing(offsets), strict=True) if agrees]
    if len(found) < LEAST_FIELDS:
        msg = f"only {len(found)} of {len(high_fields)} high images were found in the low ones, and "
        raise CalibrationFailedError(
            f"{msg}{LEAST_FIELDS} are needed; {MORE_STRUCTURE}, or centre the objectives"
        )
    return found


def _low_state(experiment: Experiment, fit: AffineFit) -> StateCalibration:
    errors = (fit.pixel_size_standard_error_um, fit.rotation_standard_error_deg)
    return _state(experiment, "low", fit.matrix_um, fit.orientation, errors, fit.positions)


def _high_state(experiment: Experiment, low: AffineFit, placements: list[Placement]) -> StateCalibration:
    """Chain the low state's affine and the mean of the placements; the errors of both add up."""
    matrix = low.matrix_um @ np.mean([placement.matrix for placement in placements], axis=0)
    orientation = decompose(matrix)
    each = [decompose(low.matrix_um @ placement.matrix) for placement in placements]
    root = len(each) ** 0.5
    scales = [one.pixel_size_um / orientation.pixel_size_um for one in each]
    turns = [(one.rotation_deg - orientation.rotation_deg + 180) % 360 - 180 for one in each]
    low_error = low.pixel_size_standard_error_um / low.orientation.pixel_size_um
    errors = (
        orientation.pixel_size_um * float(np.hypot(low_error, np.std(scales, ddof=1) / root)),
        float(np.hypot(low.rotation_standard_error_deg, np.std(turns, ddof=1) / root)),
    )
    return _state(experiment, "high", matrix, orientation, errors, len(placements))


def _state(
    experiment: Experiment,
    state: ImagingState,
    matrix_um: FloatArray,
    orientation: Orientation,
    errors: tuple[float, float],
    fields: int,
) -> StateCalibration:
    (xx, xy), (yx, yy) = matrix_um.tolist()
    settings = experiment.states[state]
    return StateCalibration(
        objective=settings.objective,
        magnification=settings.magnification,
        pixel_size_um=orientation.pixel_size_um,
        pixel_size_standard_error_um=errors[0],
        affine=(xx, xy, 0.0, yx, yy, 0.0),
        rotation_deg=orientation.rotation_deg,
        rotation_standard_error_deg=errors[1],
        mirrored=orientation.mirrored,
        fields=fields,
    )


def _channel_offsets(experiment: Experiment, seen: dict[Place, FieldSeen]) -> dict[str, Offset]:
    """Return each channel's focus against the focus channel's."""
    offsets = {}
    for channel in experiment.channels:
        if channel.name == experiment.focus.channel:
            offsets[channel.name] = Offset(mean=0.0, standard_error=0.0, fields=len(seen))
            continue
        foci = [field.channel_focus_um.get(channel.name) for field in seen.values()]
        known = [focus for focus in foci if focus is not None]
        offsets[channel.name] = _offset(known, f"focus of channel '{channel.name}'", CHANNEL_FIELDS)
    return offsets


def _offset(values: Iterable[float], what: str, wanted: int = _WANTED_FIELDS) -> Offset:
    """Return the mean over the fields that agree; raises CalibrationFailedError for fewer than three."""
    measured = np.array(list(values), dtype=np.float64)
    measured = measured[_agreeing(measured)]
    if len(measured) < LEAST_FIELDS:
        msg = f"{what}: only {len(measured)} fields give it, and {LEAST_FIELDS} are needed; "
        raise CalibrationFailedError(msg + MORE_STRUCTURE)
    if len(measured) < wanted:
        _log.warning("%s is the mean of %d fields only, not of %d", what, len(measured), wanted)
    error = float(measured.std(ddof=1)) / len(measured) ** 0.5
    return Offset(mean=float(measured.mean()), standard_error=error, fields=len(measured))


def _agreeing(values: FloatArray) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Say which values, (N,) or (N, 2), lie no farther from the median than robust statistics allow."""
    if len(values) == 0:
        return np.zeros(0, dtype=np.bool_)
    away = np.abs(values - np.median(values, axis=0)).reshape(len(values), -1).max(axis=1)
    return np.asarray(away <= max(_OUTLYING * float(np.median(away)), _CONSISTENT))
