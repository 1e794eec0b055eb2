"""A time-lapse of an experiment, or live mode at its microscope: prepares it, then records and enhances."""

import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

from acquisition.focus_keeping import FocusKeepingEngine
from acquisition.focus_search import search_focus
from acquisition.live import LiveEnhancer, LiveStatus
from acquisition.live_controller import LiveController
from acquisition.microscope import Microscope
from acquisition.plan import Experiment, TimeLapse
from acquisition.preparation import settle
from acquisition.safety import go_dark, left_safe
from acquisition.sequences import time_lapse_sequence
from acquisition.time_lapse import TimeLapseReport
from acquisition.worker_routes import WorkerChoice, checked_routes
from configs.document import WrongInputError
from sharpscope.console import say

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pymmcore_plus import CMMCorePlus

__all__ = ["Beside", "nothing_beside", "record_time_lapse", "run_live_mode", "workers_of"]

WORKER_PATIENCE_S = 20.0
MOMENT_S = 0.5
"""In which a worker that is there has answered."""
TICK_S = 0.2

Beside = Callable[[LiveEnhancer, LiveController], AbstractContextManager[object]]
"""Makes what runs beside the camera from its beginning to its end, such as a viewer."""


def nothing_beside(_enhancer: LiveEnhancer, _controller: LiveController) -> AbstractContextManager[object]:
    """Run nothing."""
    return nullcontext()


def workers_of(given: Sequence[str]) -> WorkerChoice:
    """Return what `--worker` says: addresses, or each behind the channel that it is for.

    Raises
    ------
    WrongInputError
        When some have a channel and some have none.
    """
    by_channel: dict[str, list[str]] = {}
    for entry in given:
        channel, found, address = entry.rpartition("=")
        by_channel.setdefault(channel if found else "", []).append(address)
    if set(by_channel) == {""}:
        return by_channel[""]
    if "" in by_channel:
        msg = f"--worker {by_channel[''][0]} names no channel while others do; write CHANNEL=ADDRESS for all"
        raise WrongInputError(msg)
    return by_channel


def record_time_lapse(
    experiment: Experiment,
    core: "CMMCorePlus",
    worker: WorkerChoice,
    recording: Path,
    *,
    stage_xy_um: tuple[float, float] | None = None,
    allow_out_of_domain: bool = False,
    preview: bool = False,
    progress: Callable[[int, int], None] | None = None,
    keys: Path | None = None,
    beside: Beside = nothing_beside,
) -> TimeLapseReport:
    """Turn to the time-lapse's imaging state, focus, and run it; leave the microscope dark and withdrawn.

    A worker that does not answer is waited for a while and then done without: the raw frames matter more.

    Parameters
    ----------
    stage_xy_um
        Where; None stays at the present stage position. A time-lapse with positions visits these.
    preview
        Enhance the newest frame, so that a person sees what is there now; the others have no enhanced image
        (`inference.completion` makes them). Else every frame, in order.
    keys
        The client's key folder, for workers beyond this machine.
    beside
        What runs beside the camera.

    Raises
    ------
    WrongInputError
        The experiment has no time_lapse, an address or the keys cannot be used, or the recording is there.
    FocusFailedError
        No plane of best focus was found. Nothing was recorded.
    """
    sequence, lapse = time_lapse_sequence(experiment), experiment.time_lapse
    assert lapse is not None  # or there was no sequence
    _check_free(recording)
    checked_routes(worker, keys)  # a wrong one is told before the microscope moves
    microscope = Microscope.for_experiment(core, experiment)
    go_dark(microscope)
    settled = settle(experiment, microscope).experiment
    with left_safe(microscope):
        _prepare(settled, microscope, lapse, stage_xy_um)
        with (
            _engine(settled, core, microscope, lapse),
            LiveEnhancer(
                core,
                worker,
                recording,
                "preview" if preview else "record",
                allow_out_of_domain=allow_out_of_domain,
                keys=keys,
                numerical_aperture=settled.states[lapse.state].numerical_aperture,
            ) as enhancer,
        ):
            controller = LiveController(core, enhancer)
            controller.prepare()
            with beside(enhancer, controller):
                _wait_for_worker(enhancer, controller)
                return controller.time_lapse(sequence, progress, _tell_waiting)


def run_live_mode(
    experiment: Experiment,
    core: "CMMCorePlus",
    worker: WorkerChoice,
    recording: Path | None = None,
    *,
    allow_out_of_domain: bool = False,
    progress: Callable[[LiveStatus], None] = lambda _status: None,
    keys: Path | None = None,
    beside: Beside = nothing_beside,
) -> LiveStatus:
    """Run the camera until somebody stops it or Ctrl-C; objective, stage and focus stay in the user's hands.

    Channel and exposure are those of the focus channel. Previews are enhanced: the newest frame wins. With a
    recording every raw frame is kept all the same.

    Parameters
    ----------
    progress
        Called some times a second.
    beside
        What runs beside the camera.

    Raises
    ------
    WrongInputError
        An address or the keys cannot be used, or the recording is there.
    """
    if recording is not None:
        _check_free(recording)
    checked_routes(worker, keys)
    microscope = Microscope.for_experiment(core, experiment)
    go_dark(microscope)
    channel = settle(experiment, microscope).experiment.channel(experiment.focus.channel)
    microscope.select_channel(channel.group, channel.config)
    core.setExposure(channel.exposure_ms["low"])
    try:
        with LiveEnhancer(
            core, worker, recording, "preview", allow_out_of_domain=allow_out_of_domain, keys=keys
        ) as enhancer:
            controller = LiveController(core, enhancer)
            with beside(enhancer, controller):
                _run_until_stopped(controller, lambda: progress(enhancer.status()))
        return enhancer.status()
    finally:
        go_dark(microscope)


def _wait_for_worker(enhancer: LiveEnhancer, controller: LiveController) -> None:
    """Give the worker a while to answer, unless somebody stops the time-lapse before it begins."""
    if enhancer.wait_ready(min(MOMENT_S, WORKER_PATIENCE_S)) or WORKER_PATIENCE_S <= MOMENT_S:
        return
    reason = enhancer.status().worker_reason
    say(f"waiting up to {WORKER_PATIENCE_S:.0f} s for the worker, then without it ({reason})")
    until_s = time.monotonic() + WORKER_PATIENCE_S - MOMENT_S
    while time.monotonic() < until_s and not controller.wait_stopped(0):
        if enhancer.wait_ready(TICK_S):
            return


def _tell_waiting(frames: int) -> None:
    say(f"the camera has done; waiting for {frames} frames; Ctrl-C leaves them to 'sharpscope complete'")


def _run_until_stopped(controller: LiveController, tick: Callable[[], None]) -> None:
    try:
        controller.live_mode()
        while not controller.wait_stopped(TICK_S):
            tick()
    except KeyboardInterrupt:  # how live mode ends at a terminal
        pass
    finally:
        controller.stop()


def _check_free(recording: Path) -> None:
    if recording.exists() and not recording.is_dir():
        msg = f"{recording} is a file; give a folder for the recording with -o"
        raise WrongInputError(msg)
    if recording.exists() and any(recording.iterdir()):
        msg = f"{recording} is not empty; give another folder for the recording"
        raise WrongInputError(msg)


def _prepare(
    experiment: Experiment,
    microscope: Microscope,
    lapse: TimeLapse,
    stage_xy_um: tuple[float, float] | None,
) -> None:
    """Turn to the imaging state, go to the (first) place and focus there."""
    microscope.change_state(lapse.state)
    place_um = lapse.positions[0].xy_um if lapse.positions else stage_xy_um
    if place_um is not None:
        microscope.move_stage(*place_um)
    focus = experiment.focus
    start_um = focus.start_um + (focus.parfocal_offset_um if lapse.state == "high" else 0.0)
    found = search_focus(microscope, experiment, lapse.state, start_um, focus.search_range_um[lapse.state])
    microscope.move_focus(found.focus_um)


@contextmanager
def _engine(
    experiment: Experiment, core: "CMMCorePlus", microscope: Microscope, lapse: TimeLapse
) -> "Iterator[None]":
    """Have the core's acquisitions run by the engine that keeps focus, where that is asked for."""
    before = core.mda.engine
    if not lapse.focused or before is None:
        yield
        return
    core.register_mda_engine(FocusKeepingEngine(core, microscope, experiment))
    try:
        yield
    finally:
        core.register_mda_engine(before)
