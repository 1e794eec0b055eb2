"""Pausing, stopping and pointing live enhancement elsewhere, while the camera goes on."""

import itertools
import threading
import time

import numpy as np
import pytest
import useq

from acquisition.live import LiveEnhancer, LiveState
from configs.document import WrongInputError
from inference.client import ClientSettings
from inference.recording import Recording

NOWHERE = "tcp://127.0.0.1:9"
QUICK = ClientSettings(ping_interval_s=0.05, silence_limit_s=0.5)


def moving(frames, channels=("FITC",)):
    """Beads look the same for ever, but move with the stage: every frame is another."""
    places = [(3.0 * step, 0, 0) for step in range(frames)]
    return useq.MDASequence(channels=channels, stage_positions=places)


def twice(image):
    return image.astype(np.float32).repeat(2, 0).repeat(2, 1)


def enhanced_once_and_right(recording, frames):
    assert list(recording.frames) == sorted(recording.enhanced) == list(range(frames))
    for number in range(frames):
        np.testing.assert_array_equal(recording.read_enhanced(number), twice(recording.read(number)))
    entries = [line.frame for line in recording.lines if line.kind == "enhanced"]
    assert len(entries) == frames
    return True


def test_what_is_taken_during_a_pause_is_recorded_then_and_enhanced_after(core, start_worker, tmp_path):
    told = []
    with LiveEnhancer(core, start_worker().address, tmp_path / "r") as live:
        assert live.wait_ready(30)
        live.enhanced.connect(lambda image, frame: told.append(frame.number))
        core.run_mda(moving(5), block=True)
        assert live.drain()
        live.pause()
        core.run_mda(moving(30), block=True)
        assert not live.drain()
        status = live.status()
        assert (status.state, status.recorded, status.enhanced) == (LiveState.PAUSED, 35, 5)
        live.resume()
        assert live.drain()
        assert live.status().state is LiveState.RUNNING
    assert told == list(range(35))
    assert enhanced_once_and_right(Recording.open(tmp_path / "r"), 35)


def test_a_recording_closed_at_a_pause_names_what_is_left(core, start_worker, tmp_path):
    reasons = []
    with LiveEnhancer(core, start_worker().address, tmp_path / "r") as live:
        live.failed.connect(lambda frame, reason: reasons.append(reason))
        live.pause()
        core.run_mda(moving(3), block=True)
    assert live.status().state is LiveState.CLOSED
    assert list(Recording.open(tmp_path / "r").unenhanced) == [0, 1, 2]
    assert all("paused" in reason for reason in reasons)


@pytest.mark.slow
def test_a_stopped_enhancer_leaves_the_camera_to_others_and_starts_again(core, start_worker, tmp_path):
    turns = []
    with LiveEnhancer(core, start_worker().address, tmp_path / "r") as live:
        live.turned.connect(turns.append)
        core.snap()
        live.stop()
        core.snap()
        live.start()
        core.snap()
        assert live.drain()
        assert live.status().frames_in == 2
    assert turns == ["stopped", "running", "stopped", "closed"]


def test_what_is_closed_stays_closed(core, tmp_path):
    with LiveEnhancer(core, NOWHERE, tmp_path / "r") as live:
        live.stop()
        with pytest.raises(WrongInputError, match="is stopped and cannot become paused"):
            live.pause()
    with pytest.raises(WrongInputError, match="is closed and cannot become running"):
        live.start()


def test_repointing_in_mid_recording_loses_and_doubles_nothing(
    core, make_gated_engine, run_worker, tmp_path, wait_for
):
    """The old worker has frames in hand each time: those go to the new one; late answers do not count."""
    engines = [make_gated_engine() for _ in range(4)]
    workers = [run_worker(engine) for engine in engines]
    told = []
    with LiveEnhancer(core, workers[0].address, tmp_path / "r", settings=QUICK) as live:
        live.enhanced.connect(lambda image, frame: told.append(frame.number))
        acquisition = core.run_mda(moving(32))
        for before, after in itertools.pairwise(range(4)):
            wait_for(lambda before=before: not engines[before].seen.empty())
            engines[before].permits.release(4)
            wait_for(lambda before=before: live.status().enhanced >= 4 * (before + 1))
            live.repoint(workers[after].address)
            engines[before].open()
        engines[3].open()
        acquisition.join()
        assert live.drain()
        assert (live.status().enhanced, live.status().failed) == (32, 0)
    assert told == list(range(32))
    assert enhanced_once_and_right(Recording.open(tmp_path / "r"), 32)
    assert engines[3].frames >= 10


@pytest.mark.slow
def test_a_worker_that_is_not_there_is_exchanged_for_two_that_are(core, start_worker, tmp_path):
    with LiveEnhancer(core, NOWHERE, tmp_path / "r") as live:
        core.run_mda(moving(30), block=True)
        assert live.status().enhanced == 0
        live.repoint([start_worker().address, start_worker().address])
        assert live.drain()
        with pytest.raises(WrongInputError, match="loopback"):
            live.repoint("tcp://10.0.0.1:5555")
        with pytest.raises(WrongInputError, match="share their workers"):
            live.repoint({"FITC": NOWHERE})
    assert enhanced_once_and_right(Recording.open(tmp_path / "r"), 30)


def test_each_channel_has_its_model_and_a_dead_one_holds_up_no_other(
    core, make_engine, run_worker, tmp_path, wait_for
):
    engine = make_engine()
    engine.name, engine.model_hash = "fitc", "cd" * 32
    workers = {"FITC": run_worker(engine).address, "DAPI": NOWHERE}
    failed = []
    with LiveEnhancer(core, workers, tmp_path / "r") as live:
        live.failed.connect(lambda frame, reason: failed.append((frame.facts.channel, reason)))
        core.run_mda(moving(30, ("DAPI", "FITC", "Rhodamine")), block=True)
        wait_for(lambda: live.status().enhanced == 30)
        wait_for(lambda: len(failed) == 30)
        assert (live.status().waiting, live.status().worker) == (30, "connecting")
        other = run_worker(make_engine())
        live.repoint({"DAPI": other.address})
        assert live.drain()
        assert live.status().worker == "ready"
    recording = Recording.open(tmp_path / "r")
    models = {recording.frames[n].facts.channel: line.model_name for n, line in recording.enhanced.items()}
    assert models == {"DAPI": "nearest", "FITC": "fitc"}
    assert (len(recording.frames), len(recording.enhanced)) == (90, 60)
    assert set(failed) == {("Rhodamine", "no worker is named for the channel 'Rhodamine'")}
    assert {line.session for line in recording.enhanced.values()} == {recording.header.session}


@pytest.mark.slow
def test_one_address_serves_every_channel_of_its_own_connection(core, make_engine, run_worker, tmp_path):
    worker = run_worker(make_engine()).address
    with LiveEnhancer(core, {"FITC": worker, "DAPI": worker}, tmp_path / "r") as live:
        core.run_mda(moving(10, ("DAPI", "FITC")), block=True)
        assert live.drain()
        live.repoint(run_worker(make_engine()).address)  # for all channels
        core.run_mda(moving(10, ("DAPI", "FITC")), block=True)
        assert live.drain()
    assert enhanced_once_and_right(Recording.open(tmp_path / "r"), 40)


def test_a_listener_that_sleeps_costs_the_camera_no_frame(core, start_worker, tmp_path):
    """It is not let go before the camera is through: were it waited for, this would never end."""
    through = threading.Event()
    shown = []

    def sleepy(image, frame):
        shown.append(frame.number)
        through.wait(30)

    with LiveEnhancer(core, start_worker().address, tmp_path / "r") as live:
        for signal in (live.raw, live.enhanced):
            signal.connect(sleepy)
        live.recorded.connect(lambda frame: through.wait(30))
        core.run_mda(useq.MDASequence(channels=["FITC"], time_plan={"interval": 0, "loops": 100}), block=True)
        status = live.status()
        assert (status.frames_in, status.missed) == (100, 0)
        through.set()
        assert live.drain()
        assert live.status().enhanced == 100


def test_a_slow_eye_sees_the_newest_raw_frame_of_each_channel(core, tmp_path, wait_for):
    gate, entered = threading.Event(), threading.Event()
    shown, order, loops = [], [], {"interval": 0, "loops": 20}

    def look(image, frame):
        order.append(("seen", frame.number))
        shown.append((frame.facts.channel, frame.number, image))
        entered.set()
        gate.wait(30)

    with LiveEnhancer(core, NOWHERE, tmp_path / "r") as live:
        live.raw.connect(look)
        live.recorded.connect(lambda frame: order.append(("on disk", frame.number)))
        core.snap()
        assert entered.wait(30)
        core.run_mda(useq.MDASequence(channels=["DAPI", "FITC"], time_plan=loops), block=True)
        wait_for(lambda: live.status().recorded == 41)
        gate.set()
        wait_for(lambda: {number for _, number, _ in shown} >= {39, 40})
        live.close(patience_s=0)
    assert len(shown) <= 5  # of 41; the last may have come in after the gate was opened
    assert {channel: number for channel, number, _ in shown} == {"DAPI": 39, "FITC": 40}
    for _, number, _ in shown:
        assert order.index(("on disk", number)) < order.index(("seen", number))
    np.testing.assert_array_equal(shown[2][2], Recording.open(tmp_path / "r").read(shown[2][1]))


@pytest.mark.slow
def test_the_camera_s_rate_is_that_of_its_frames(core, tmp_path, wait_for):
    core.setExposure(20)
    with LiveEnhancer(core, NOWHERE, tmp_path / "r") as live:
        assert live.status().camera_fps is None
        core.startContinuousSequenceAcquisition()
        wait_for(lambda: live.status().frames_in >= 40)
        assert 10 < live.status().camera_fps < 60
        core.stopSequenceAcquisition()
        wait_for(lambda: live.status().camera_fps == 0)
        live.close(patience_s=0)


def test_an_error_does_not_wait_for_a_worker_that_is_behind(core, start_worker, tmp_path):
    worker = start_worker("tcp://127.0.0.1:*", 1.0)
    live = LiveEnhancer(core, worker.address, tmp_path / "r")
    assert live.wait_ready(30)
    began_s = time.monotonic()

    def interrupted():
        with live:
            core.run_mda(moving(12), block=True)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert time.monotonic() - began_s < 8  # a second for each frame, or what is left of the first
    recording = Recording.open(tmp_path / "r")
    assert len(recording.frames) == 12  # every frame that was taken
    assert recording.lines[-1].kind == "end"


def test_ctrl_c_during_the_wait_at_the_end_still_seals_the_recording(core, start_worker, tmp_path):
    worker = start_worker("tcp://127.0.0.1:*", 1.0)

    def interrupted(_waiting):
        raise KeyboardInterrupt

    live = LiveEnhancer(core, worker.address, tmp_path / "r")
    assert live.wait_ready(30)
    core.run_mda(moving(6), block=True)
    usual = live.drain
    live.drain = lambda patience_s: usual(patience_s, interrupted)
    with pytest.raises(KeyboardInterrupt):
        live.close()
    assert live.status().state is LiveState.CLOSED
    assert Recording.open(tmp_path / "r").lines[-1].kind == "end"


def test_the_end_waits_once_for_a_worker_that_is_not_there(core):
    with LiveEnhancer(core, NOWHERE) as live:
        core.snap()
        assert not live.drain(0.2)
        began_s = time.monotonic()
    assert time.monotonic() - began_s < 5  # the usual patience is twice that


def test_a_dead_worker_of_one_channel_leaves_the_others_their_time(core, start_worker, tmp_path):
    routes = {"FITC": start_worker("tcp://127.0.0.1:*", 0.2).address, "DAPI": NOWHERE}
    with LiveEnhancer(core, routes, tmp_path / "r", settings=QUICK) as live:
        core.run_mda(moving(8), block=True)
        live.drain(0.5)
        assert live.status().enhanced == 8


def test_absent_workers_of_several_channels_are_waited_for_together(core):
    with LiveEnhancer(core, dict.fromkeys(("FITC", "DAPI", "Cy5"), NOWHERE)) as live:
        began_s = time.monotonic()
        assert not live.wait_ready(0.3)
        assert time.monotonic() - began_s < 0.8
        live.close(patience_s=0)
