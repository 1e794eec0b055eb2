"""May a scan go on where it was left? After a power loss a stage may call another place zero.

Owns the comparison with what is already on the disk. The microscope is withdrawn, goes to a committed low
field, focuses and looks whether it shows the same again.
"""

from collections.abc import Iterator

import numpy as np

from acquisition.autofocus import FocusFailedError, FocusResult
from acquisition.focus_search import focus_exposure_ms, search_focus
from acquisition.manifest import (
    ExtraLightRecord,
    FieldRecord,
    FocusRecord,
    ResumeRecord,
    ScanFolder,
    ShiftToLow,
)
from acquisition.microscope import Microscope
from acquisition.plan import Experiment
from acquisition.quality import HighInLow, has_structure, shift_to_low
from configs.document import WrongInputError

__all__ = ["check_stage", "journal_interrupted"]

_SAME_PLACE = 0.6
"""Correlation with the same field imaged again; other cells reach 0.5 somewhere."""


def journal_interrupted(folder: ScanFolder, experiment: Experiment) -> None:
    """Enter the light of fields that were begun and not finished: they will be exposed once more."""
    for begun in folder.interrupted():
        images_ms = sum(channel.exposure_ms[begun.state] for channel in experiment.channels)
        focus_ms = experiment.focus.exposures * focus_exposure_ms(experiment, begun.state)
        folder.log(
            ExtraLightRecord(
                region=begun.region,
                state=begun.state,
                tile=begun.tile,
                device="program",
                reason="interrupted while the field was taken; light at most",
                light_ms=images_ms + focus_ms,
            )
        )


def check_stage(
    folder: ScanFolder, experiment: Experiment, microscope: Microscope, geometry: HighInLow
) -> None:
    """Look at the last committed low field again, and enter in the journal how far it has moved.

    Raises
    ------
    WrongInputError
        It is not there: stage or focus drive now count from elsewhere. Nothing was acquired.
    """
    known = next(_with_structure(folder, experiment), None)
    if known is None:
        folder.log(ResumeRecord())
        return
    found = _look(folder, known, experiment, microscope, geometry)
    if found is None or found.correlation < _SAME_PLACE:
        what = "not found" if found is None else f"not found (correlation {found.correlation:.2f})"
        raise WrongInputError(_refusal(known, what))
    if np.hypot(*found.shift_xy_um) > experiment.quality.largest_shift_um:
        dx_um, dy_um = found.shift_xy_um
        raise WrongInputError(_refusal(known, f"shifted by ({dx_um:.1f}, {dy_um:.1f}) um"))
    folder.log(ResumeRecord(compared_with=known.file, shift_xy_um=found.shift_xy_um))


def _plane(known: FieldRecord, found: FocusResult) -> FocusRecord:
    """Return the plane as a line, for the focus map to know what the pause has changed."""
    return FocusRecord(
        region=known.region,
        state="low",
        tile=known.tile,
        succeeded=True,
        focus_um=found.focus_um,
        curve=list(found.curve),
        stage_x_um=known.stage_x_um,
        stage_y_um=known.stage_y_um,
    )


def _refusal(known: FieldRecord, what: str) -> str:
    return (
        f"{known.file} was taken at stage ({known.stage_x_um:.1f}, {known.stage_y_um:.1f}) um, and is {what} "
        "there now: the stage, the focus drive or the sample is not where it was. Bring them back, or start "
        "a new scan"
    )


def _with_structure(folder: ScanFolder, experiment: Experiment) -> Iterator[FieldRecord]:
    """Give the committed low fields that can be recognised, the latest first."""
    channel = experiment.channels.index(experiment.channel(experiment.focus.channel))
    for record in reversed(folder.fields()):
        if record.state == "low" and has_structure(folder.read_field(record)[channel]):
            yield record


def _look(
    folder: ScanFolder,
    known: FieldRecord,
    experiment: Experiment,
    microscope: Microscope,
    geometry: HighInLow,
) -> ShiftToLow | None:
    """Return where the field's content lies now; None where there is none, or no focus."""
    channel = experiment.channel(experiment.focus.channel)
    before = folder.read_field(known)[experiment.channels.index(channel)]
    microscope.change_state("low")
    microscope.move_stage(known.stage_x_um, known.stage_y_um)
    range_um = experiment.focus.search_range_um["low"]
    exposures = 1
    try:
        found = search_focus(microscope, experiment, "low", known.focus_um, range_um)
        exposures += len(found.curve)
        microscope.move_focus(found.focus_um)
        now = microscope.snap(channel.exposure_ms["low"])
    except FocusFailedError as failure:
        exposures += len(failure.curve)
        return None
    finally:
        folder.log(
            ExtraLightRecord(
                region=known.region,
                state="low",
                tile=known.tile,
                device="program",
                reason="looked at again before the scan went on; light at most",
                light_ms=channel.exposure_ms["low"] + exposures * focus_exposure_ms(experiment, "low"),
            )
        )
    folder.log(_plane(known, found))
    alike = HighInLow(geometry.low_affine, geometry.low_affine)
    return shift_to_low(before, now, (0.0, 0.0), alike)
