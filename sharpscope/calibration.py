"""A calibration from an open microscope to a file, and what is said of it."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from acquisition.calibration import Calibration, Offset, cfg_lines, write_calibration
from acquisition.calibration_run import calibrate
from acquisition.focus_search import search_focus
from acquisition.manifest import ImagingState
from acquisition.microscope import Microscope
from acquisition.plan import Experiment
from acquisition.preparation import settle
from acquisition.safety import go_dark, left_safe
from acquisition.stage_micrometer import pixel_size_of_micrometer
from sharpscope.console import print_table, say

if TYPE_CHECKING:
    from pymmcore_plus import CMMCorePlus

__all__ = ["calibrate_to_file", "measure_micrometer"]

_STATES: tuple[ImagingState, ...] = ("low", "high")


def calibrate_to_file(
    experiment: Experiment,
    core: "CMMCorePlus",
    path: Path,
    *,
    centre_xy_um: tuple[float, float],
    extent_um: float,
    fields: int,
    progress: Callable[[int, int], None],
) -> tuple[dict[str, Any], list[str]]:
    """Measure a calibration and write it; the microscope is left dark and withdrawn.

    Returns
    -------
    figures
        Of the JSON line.
    lines
        The pixel sizes as lines of a Micro-Manager configuration.

    Raises
    ------
    CalibrationFailedError
        The images do not give a figure. Nothing was written.
    """
    microscope, plan = _ready(experiment, core)
    with left_safe(microscope):
        calibration = calibrate(
            plan,
            microscope,
            centre_xy_um=centre_xy_um,
            extent_um=extent_um,
            fields=fields,
            binning=microscope.configuration.binning(),
            progress=progress,
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    write_calibration(path, calibration)
    _show(calibration)
    say(f"written to {path}")
    turrets = {state: microscope.configuration.turret_settings(state) for state in _STATES}
    return _figures(calibration), cfg_lines(calibration, turrets)


def measure_micrometer(experiment: Experiment, core: "CMMCorePlus", pitch_um: float) -> dict[str, Any]:
    """Measure both states' pixel sizes on a stage micrometer at the present stage position; writes nothing.

    Raises
    ------
    CalibrationFailedError
        No evenly spaced lines fill the image.
    FocusFailedError
        No plane of best focus was found.
    """
    microscope, plan = _ready(experiment, core)
    channel = plan.channel(plan.focus.channel)
    figures, rows = {}, []
    start_um = plan.focus.start_um
    with left_safe(microscope):
        for state in _STATES:
            microscope.change_state(state)
            start_um += plan.focus.parfocal_offset_um if state == "high" else 0.0
            found = search_focus(microscope, plan, state, start_um, plan.focus.search_range_um[state])
            start_um = found.focus_um
            microscope.move_focus(found.focus_um)
            image = microscope.snap(channel.exposure_ms[state])
            pixel_size_um, rotation_deg = pixel_size_of_micrometer(image, pitch_um)
            figures[f"pixel_size_um_{state}"] = pixel_size_um
            rows.append([state, f"{pixel_size_um:.5f}", f"{rotation_deg:.3f}"])
    print_table("stage micrometer", ["state", "pixel size (um)", "lines turned (deg)"], rows)
    return figures


def _ready(experiment: Experiment, core: "CMMCorePlus") -> tuple[Microscope, Experiment]:
    """Return the microscope, dark, and the experiment as if it had no calibration."""
    microscope = Microscope.for_experiment(core, experiment)
    go_dark(microscope)
    return microscope, settle(experiment.model_copy(update={"calibration": None}), microscope).experiment


def _show(calibration: Calibration) -> None:
    rows = []
    for state, known in calibration.states.items():
        error_um, turned_deg = known.pixel_size_standard_error_um, known.rotation_standard_error_deg
        rows += [
            [f"{state}: pixel size (um)", f"{known.pixel_size_um:.5f}", f"{error_um:.5f}", str(known.fields)],
            [
                f"{state}: camera turned (deg)",
                f"{known.rotation_deg:.3f}",
                f"{turned_deg:.3f}",
                str(known.fields),
            ],
            [f"{state}: camera mirrored", "yes" if known.mirrored else "no", "", ""],
        ]
    rows.append(_row("parfocal offset (um)", calibration.parfocal_um))
    rows += [
        _row(f"parcentric offset {axis} (um)", offset)
        for axis, offset in zip("xy", calibration.parcentric_um, strict=True)
    ]
    for state, offsets in calibration.channel_focus_um.items():
        rows += [
            _row(f"{state}: focus of {channel} (um)", offset)
            for channel, offset in offsets.items()
            if channel != calibration.focus_channel
        ]
    print_table("calibration", ["", "mean", "standard error", "fields"], rows)


def _row(what: str, offset: Offset) -> list[str]:
    return [what, f"{offset.mean:+.3f}", f"{offset.standard_error:.3f}", str(offset.fields)]


def _figures(calibration: Calibration) -> dict[str, Any]:
    x_um, y_um = calibration.parcentric_um
    return {
        **{f"pixel_size_um_{state}": known.pixel_size_um for state, known in calibration.states.items()},
        **{f"rotation_deg_{state}": known.rotation_deg for state, known in calibration.states.items()},
        "mirrored": calibration.states["low"].mirrored,
        "parfocal_um": calibration.parfocal_um.mean,
        "parfocal_standard_error_um": calibration.parfocal_um.standard_error,
        "parcentric_um": [x_um.mean, y_um.mean],
        "parcentric_standard_error_um": [x_um.standard_error, y_um.standard_error],
    }
