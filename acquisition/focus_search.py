"""One autofocus at the present stage position: the sweep of `acquisition.autofocus` on a real microscope.

Owns which channel, exposure, region of interest and step an autofocus uses, from the experiment's focus
plan. The scan engine focuses with it at every position, a time-lapse once before it starts.
"""

import numpy as np

from acquisition.autofocus import FocusResult, SweepRange, sweep
from acquisition.manifest import ImagingState
from acquisition.microscope import Microscope
from acquisition.plan import Experiment

__all__ = ["FINEST_STEP_OF_DEPTH", "depth_of_field_um", "focus_exposure_ms", "search_focus"]

_IMMERSION_INDEX = {"air": 1.0, "water": 1.33, "glycerol": 1.47, "oil": 1.518}
FINEST_STEP_OF_DEPTH = 0.7
"""Of the depth of field; the log-parabola of the focus score fits steps of this size best."""


def search_focus(
    microscope: Microscope,
    experiment: Experiment,
    state: ImagingState,
    start_um: float,
    half_range_um: float,
    coarse: int = 5,
    exposure_ms: float | None = None,
) -> FocusResult:
    """Search the plane of best focus around a position; the drive is left at the last exposure.

    Parameters
    ----------
    coarse
        Exposures of the first sweep over the range.
    exposure_ms
        Of each; `focus_exposure_ms` by default.

    Raises
    ------
    FocusFailedError
        No plane was found; it carries the curve.
    MicroscopeError
        The drive did not arrive.
    """
    focus = experiment.focus
    channel = experiment.channel(focus.channel)
    light_ms = focus_exposure_ms(experiment, state) if exposure_ms is None else exposure_ms
    low_um, high_um = experiment.states[state].focus_window_um
    where = SweepRange(
        start_um=min(max(start_um, low_um), high_um),
        half_range_um=half_range_um,
        finest_step_um=FINEST_STEP_OF_DEPTH * depth_of_field_um(experiment, state),
        window_um=(low_um, high_um),
        blur_px_per_um=_blur_px_per_um(experiment, state),
        towards_sample=microscope.towards_sample,
        coarse=coarse,
    )
    microscope.select_channel(channel.group, channel.config)
    with microscope.central_roi(focus.roi_px):
        return sweep(microscope.move_focus, lambda: microscope.snap(light_ms), where)


def focus_exposure_ms(experiment: Experiment, state: ImagingState) -> float:
    """Return the exposure of one focus image: a share of the light of the field's own images.

    The score knows what noise adds to it, so a weak exposure finds the same plane as a strong one.
    """
    imaging_ms = sum(channel.exposure_ms[state] for channel in experiment.channels)
    own_ms = experiment.channel(experiment.focus.channel).exposure_ms[state]
    return min(own_ms, imaging_ms / experiment.focus.exposures)


def _blur_px_per_um(experiment: Experiment, state: ImagingState) -> float:
    """Return how fast a point's geometrical radius grows out of focus."""
    settings = experiment.states[state]
    sine = settings.numerical_aperture / _IMMERSION_INDEX.get(settings.immersion, 1.0)
    return sine / float(np.sqrt(1 - min(sine, 0.98) ** 2)) / settings.pixel_um


def depth_of_field_um(experiment: Experiment, state: ImagingState) -> float:
    """Return the depth of field: wave-optical, and what the camera pixel adds (METHOD, last section)."""
    settings = experiment.states[state]
    emission_um = experiment.channel(experiment.focus.channel).emission_nm * 1e-3
    aperture = settings.numerical_aperture
    return emission_um / aperture**2 + settings.pixel_um / aperture
