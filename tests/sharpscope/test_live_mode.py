"""Live mode and time-lapses of experiment files, without a worker: the raw frames are what must be there."""

import json
import signal
import subprocess
import sys
import threading
from contextlib import contextmanager

import pytest
import yaml

from acquisition.plan import load_experiment
from acquisition.virtual import from_choice
from configs.document import WrongInputError
from inference.recording import Recording
from sharpscope.live import record_time_lapse, run_live_mode, workers_of

NOWHERE = "tcp://127.0.0.1:9"


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    """Nobody waits for the worker that is not there."""
    monkeypatch.setattr("sharpscope.live.WORKER_PATIENCE_S", 0.0)
    monkeypatch.setattr("acquisition.live.LiveEnhancer.drain", lambda self, *_how, **_more: False)


def small(name, **lapse):
    experiment = load_experiment(name)
    choice = experiment.microscope.model_copy(update={"camera_shape_yx": (96, 96)})
    document = experiment.model_copy(update={"microscope": choice}).model_dump()
    document["time_lapse"].update(lapse)
    return type(experiment).model_validate(document)


def test_the_tirf_experiment_records_at_the_camera_s_pace_without_a_gap(tmp_path):
    experiment = small("virtual_tirf_sim", frames=45)
    report = record_time_lapse(experiment, from_choice(experiment.microscope), NOWHERE, tmp_path / "r")
    assert (report.finish_reason, report.status.frames_in) == ("completed", 45)
    frames = Recording.open(tmp_path / "r").frames.values()
    assert [line.facts.camera_frame for line in frames] == list(range(45))
    elapsed_ms = [line.facts.elapsed_ms for line in frames]
    assert elapsed_ms[-1] - elapsed_ms[0] > 44 * 33.3 - 40


@pytest.mark.slow
def test_the_confocal_experiment_runs_its_time_lapse(tmp_path):
    experiment = small("virtual_confocal_sted", frames=3, interval_s=0)
    report = record_time_lapse(experiment, from_choice(experiment.microscope), NOWHERE, tmp_path / "r")
    assert report.finish_reason == "completed"
    assert len(Recording.open(tmp_path / "r").frames) == 3


def test_positions_and_channels_of_a_time_lapse_stand_with_its_frames(tmp_path):
    places = [{"name": "left", "xy_um": (-60, 0)}, {"name": "right", "xy_um": (60, 0)}]
    experiment = small(
        "virtual_widefield", frames=2, interval_s=0, channel=("FITC", "DAPI"), positions=places
    )
    core = from_choice(experiment.microscope)
    engine = core.mda.engine
    record_time_lapse(experiment, core, NOWHERE, tmp_path / "r")
    facts = [line.facts for line in Recording.open(tmp_path / "r").frames.values()]
    expected = [(place, channel) for place in ("left", "right") for channel in ("FITC", "DAPI")] * 2
    assert [(fact.position_name, fact.channel) for fact in facts] == expected
    assert {fact.position_name: round(fact.stage_x_um) for fact in facts} == {"left": -60, "right": 60}
    assert {fact.exposure_ms for fact in facts} == {800.0, 60.0}
    assert {fact.numerical_aperture for fact in facts} == {0.4}
    assert core.mda.engine is engine  # whoever uses the core next has the engine that was there


def test_live_mode_runs_until_it_is_stopped_and_leaves_stage_and_focus_alone(tmp_path):
    experiment = load_experiment("virtual_tirf_sim")
    core = from_choice(experiment.microscope.model_copy(update={"camera_shape_yx": (96, 96)}))
    core.setXYPosition(5, 6)
    core.setPosition(0.5)
    core.waitForSystem()
    seen = []

    @contextmanager
    def beside(enhancer, controller):
        def look(image, frame):
            seen.append(image.shape)
            if len(seen) == 3:
                threading.Thread(target=controller.do, args=("stop",)).start()

        enhancer.raw.connect(look)
        yield

    status = run_live_mode(experiment, core, NOWHERE, tmp_path / "r", beside=beside)
    assert status.recorded == status.frames_in >= 3
    assert not core.isSequenceRunning()
    assert not core.getShutterOpen()
    assert core.getXYPosition() == pytest.approx((5, 6), abs=0.1)
    assert core.getPosition() == pytest.approx(0.5, abs=0.01)


@pytest.mark.slow  # the end waits for the worker
def test_ctrl_c_is_how_live_mode_ends_at_a_terminal(tmp_path):
    document = load_experiment("virtual_tirf_sim").model_dump(mode="json", exclude={"time_lapse"})
    document["microscope"]["camera_shape_yx"] = [96, 96]
    file = tmp_path / "e.yaml"
    file.write_text(yaml.safe_dump(document))
    command = [sys.executable, "-m", "sharpscope", "live", str(file), "--worker", NOWHERE, "--json"]
    process = subprocess.Popen(
        [*command, "-o", str(tmp_path / "r")], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    journal = tmp_path / "r" / "journal.jsonl"
    tick = threading.Event()
    for _ in range(3000):
        if journal.exists() and journal.read_text().count('"kind":"frame"') > 5:
            break
        assert process.poll() is None, process.stderr.read()
        tick.wait(0.02)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert json.loads(out.splitlines()[-1])["live_frames_in"] > 5
    recording = Recording.open(tmp_path / "r")
    assert [line.facts.camera_frame for line in recording.frames.values()] == list(recording.frames)


def test_a_file_in_the_recording_s_place_is_told(tmp_path):
    experiment = small("virtual_widefield", frames=1)
    file = tmp_path / "r"
    file.write_text("mine")
    with pytest.raises(WrongInputError, match="is a file; give a folder"):
        record_time_lapse(experiment, from_choice(experiment.microscope), NOWHERE, file)


def test_workers_stand_behind_their_channel():
    assert workers_of([NOWHERE, "tcp://127.0.0.1:8"]) == [NOWHERE, "tcp://127.0.0.1:8"]
    given = [f"FITC={NOWHERE}", "DAPI=tcp://127.0.0.1:8", "FITC=tcp://127.0.0.1:7"]
    assert workers_of(given) == {
        "FITC": [NOWHERE, "tcp://127.0.0.1:7"],
        "DAPI": ["tcp://127.0.0.1:8"],
    }
    with pytest.raises(WrongInputError, match="names no channel"):
        workers_of([NOWHERE, f"FITC={NOWHERE}"])
