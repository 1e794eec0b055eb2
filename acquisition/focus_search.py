"""One autofocus at the present stage position: the sweep of `acquisition.autofocus` on a real microscope.

Owns which channel, exposure, region of interest and step an autofocus uses, from the experiment's focus
plan. The scan engine focuses with it at every position, a time-lapse once before it starts.
"""

from acquisition.autofocus import FocusResult, SweepRange, sweep
from acquisition.manifest import ImagingState
from acquisition.microscope import Microscope
from acquisition.plan import Experiment

__all__ = ["search_focus"]

_FINEST_STEP_OF_DEPTH = 0.7
"""Of the depth of field; the log-parabola of the focus score fits steps of this size best."""


def search_focus(
    microscope: Microscope, experiment: Experiment, state: ImagingState, start_um: float, half_range_um: float
) -> FocusResult:
    """Search the plane of best focus around a position; the drive is left at the last exposure.

    Raises
    ------
    FocusFailedError
        No plane was found; it carries the curve.
    MicroscopeError
        The drive did not arrive.
    """
    focus = experiment.focus
    channel = experiment.channel(focus.channel)
    exposure_ms = channel.exposure_ms[state]
    low_um, high_um = experiment.states[state].focus_window_um
    where = SweepRange(
        start_um=min(max(start_um, low_um), high_um),
        half_range_um=half_range_um,
        finest_step_um=_FINEST_STEP_OF_DEPTH * _depth_of_field_um(experiment, state),
        window_um=(low_um, high_um),
    )
    microscope.select_channel(channel.group, channel.config)
    with microscope.central_roi(focus.roi_px):
        return sweep(microscope.move_focus, lambda: microscope.snap(exposure_ms), where)


def _depth_of_field_um(experiment: Experiment, state: ImagingState) -> float:
    """Return the wave-optical depth and what the camera pixel adds (METHOD, last section)."""
    settings = experiment.states[state]
    emission_um = experiment.channel(experiment.focus.channel).emission_nm * 1e-3
    aperture = settings.numerical_aperture
    return emission_um / aperture**2 + settings.pixel_size_um / aperture
