"""A time-lapse of an experiment: prepares the microscope, then records and enhances."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from acquisition.focus_search import search_focus
from acquisition.live import LiveEnhancer
from acquisition.manifest import ImagingState
from acquisition.microscope import Microscope
from acquisition.plan import Experiment
from acquisition.preparation import settle
from acquisition.safety import go_dark, left_safe
from acquisition.sequences import state_of, time_lapse_sequence
from acquisition.time_lapse import TimeLapseReport, run_time_lapse
from configs.document import WrongInputError
from inference.worker_list import checked_workers

if TYPE_CHECKING:
    from pymmcore_plus import CMMCorePlus

__all__ = ["record_time_lapse"]

WORKER_PATIENCE_S = 20.0


def record_time_lapse(
    experiment: Experiment,
    core: "CMMCorePlus",
    worker: str | Sequence[str],
    recording: Path,
    *,
    stage_xy_um: tuple[float, float] | None = None,
    allow_out_of_domain: bool = False,
    progress: Callable[[int, int], None] | None = None,
    keys: Path | None = None,
) -> TimeLapseReport:
    """Turn to the time-lapse's imaging state, focus, and run it; leave the microscope dark and withdrawn.

    A worker that does not answer is waited for a while and then done without: the raw frames matter more.

    Parameters
    ----------
    stage_xy_um
        Where; None stays at the present stage position.
    keys
        The client's key folder, for workers beyond this machine.

    Raises
    ------
    WrongInputError
        The experiment has no time_lapse, an address or the keys cannot be used, or the recording is there.
    FocusFailedError
        No plane of best focus was found. Nothing was recorded.
    """
    sequence = time_lapse_sequence(experiment)
    if recording.exists() and any(recording.iterdir()):
        msg = f"{recording} is not empty; give another folder for the recording"
        raise WrongInputError(msg)
    checked_workers(worker, keys)  # a wrong one is told before the microscope moves
    microscope = Microscope.for_experiment(core, experiment)
    go_dark(microscope)
    settled = settle(experiment, microscope).experiment
    with left_safe(microscope):
        _prepare(settled, microscope, state_of(sequence), stage_xy_um)
        with LiveEnhancer(
            core, worker, recording, allow_out_of_domain=allow_out_of_domain, keys=keys
        ) as enhancer:
            enhancer.wait_ready(WORKER_PATIENCE_S)
            return run_time_lapse(core, sequence, enhancer, progress)


def _prepare(
    experiment: Experiment,
    microscope: Microscope,
    state: ImagingState,
    stage_xy_um: tuple[float, float] | None,
) -> None:
    microscope.change_state(state)
    if stage_xy_um is not None:
        microscope.move_stage(*stage_xy_um)
    focus = experiment.focus
    start_um = focus.start_um + (focus.parfocal_offset_um if state == "high" else 0.0)
    found = search_focus(microscope, experiment, state, start_um, focus.search_range_um[state])
    microscope.move_focus(found.focus_um)
