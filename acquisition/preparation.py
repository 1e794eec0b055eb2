"""Makes an experiment ready for one microscope, before anything moves, or refuses it.

Owns what an experiment leaves open until a microscope is there (pixel sizes, what a calibration knows) and
what may not run unattended. An experiment and a microscope come in, a settled experiment goes out.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from acquisition.calibration import Calibration, check_fresh, read_calibration
from acquisition.configuration import Affine, pixel_size_of
from acquisition.manifest import ImagingState
from acquisition.microscope import Microscope
from acquisition.plan import Experiment
from configs.document import WrongInputError

__all__ = ["SettledExperiment", "check_unattended", "settle"]

_TURRET_REPEATS_UM = 1.0
"""How well a turret brings an objective back to its plane: of a calibrated parfocal offset."""


@dataclass(frozen=True, slots=True)
class SettledExperiment:
    """An experiment, and what is known of its microscope."""

    experiment: Experiment
    """With the pixel size of every state and the calibrated parfocal offset."""
    affines: Mapping[ImagingState, Affine]
    parcentric_um: tuple[float, float] = (0.0, 0.0)
    """Where the high objective's centre lies in the specimen, seen from the low one's."""
    channel_focus_um: Mapping[ImagingState, Mapping[str, float]] | None = None
    """Each channel's best focus minus that of the focus channel."""


def settle(experiment: Experiment, microscope: Microscope) -> SettledExperiment:
    """Return an experiment with all that its microscope and its calibration say.

    Raises
    ------
    WrongInputError
        A preset is not in the `.cfg`, a pixel size is unknown or contradicts it, or the calibration is
        missing or stale.
    """
    microscope.configuration.check_presets(
        [(channel.group, channel.config) for channel in experiment.channels]
    )
    if experiment.focus.method == "hardware" and not microscope.hardware_focus.present:
        msg = "focus.method is hardware, but the microscope's .cfg has no autofocus device; take software"
        raise WrongInputError(msg)
    if experiment.calibration is not None:
        calibration = read_calibration(experiment.calibration)
        check_fresh(calibration, experiment, microscope.frame_shape_yx(), microscope.configuration.binning())
        microscope.check_withdrawal(experiment.focus.start_um + calibration.parfocal_um.mean)
        return _calibrated(experiment, calibration)
    affines = {state: microscope.configuration.pixel_size_affine(state) for state in experiment.states}
    sizes_um = {
        state: settings.pixel_size_um or pixel_size_of(affines[state])
        for state, settings in experiment.states.items()
    }
    return SettledExperiment(_with_pixel_sizes(experiment, sizes_um), affines)


def _calibrated(experiment: Experiment, calibration: Calibration) -> SettledExperiment:
    affines = {state: known.affine for state, known in calibration.states.items()}
    focus = experiment.focus.model_copy(
        update={
            "parfocal_offset_um": calibration.parfocal_um.mean,
            "parfocal_uncertainty_um": max(_TURRET_REPEATS_UM, 3 * calibration.parfocal_um.standard_error),
        }
    )
    x_um, y_um = calibration.parcentric_um
    sizes_um = {state: known.pixel_size_um for state, known in calibration.states.items()}
    return SettledExperiment(
        _with_pixel_sizes(experiment, sizes_um).model_copy(update={"focus": focus}),
        affines,
        (x_um.mean, y_um.mean),
        {
            state: {channel: offset.mean for channel, offset in offsets.items()}
            for state, offsets in calibration.channel_focus_um.items()
        },
    )


def _with_pixel_sizes(experiment: Experiment, pixel_sizes_um: Mapping[ImagingState, float]) -> Experiment:
    states = {
        state: settings.model_copy(update={"pixel_size_um": pixel_sizes_um[state]})
        for state, settings in experiment.states.items()
    }
    return experiment.model_copy(update={"states": states})


def check_unattended(experiment: Experiment) -> None:
    """Raise WrongInputError where the states need different immersions: nobody is there to put oil on."""
    low, high = (experiment.states[state] for state in ("low", "high"))
    if low.immersion != high.immersion:
        msg = (
            f"states: {low.objective} is for {low.immersion}, {high.objective} for {high.immersion}; an "
            "unattended scan cannot change the immersion. Take objectives of the same immersion"
        )
        raise WrongInputError(msg)
