"""A time-lapse of an experiment: prepares the microscope, then records and enhances."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from acquisition.live import LiveEnhancer, TimeLapseReport, run_time_lapse
from acquisition.microscope import Microscope
from acquisition.plan import Experiment
from acquisition.sequences import time_lapse_sequence

if TYPE_CHECKING:
    from pymmcore_plus import CMMCorePlus

__all__ = ["record_time_lapse"]

WORKER_PATIENCE_S = 20.0


def record_time_lapse(
    experiment: Experiment,
    core: "CMMCorePlus",
    worker: str,
    recording: Path,
    *,
    allow_out_of_domain: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> TimeLapseReport:
    """Run an experiment's time-lapse at the present stage position.

    A worker that does not answer is waited for a while and then done without: the raw frames matter more.

    Raises
    ------
    WrongInputError
        The experiment has no time_lapse, or the recording is there already.
    """
    sequence = time_lapse_sequence(experiment)
    plan = experiment.time_lapse
    if plan is not None:
        Microscope(core, experiment.states, experiment.focus.withdraw_um).change_state(plan.state)
    with LiveEnhancer(core, worker, recording, allow_out_of_domain=allow_out_of_domain) as enhancer:
        enhancer.wait_ready(WORKER_PATIENCE_S)
        return run_time_lapse(core, sequence, enhancer, progress)
