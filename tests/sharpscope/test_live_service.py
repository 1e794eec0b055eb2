"""`sharpscope serve` as a process, with a real model, beside real microscopes."""

import json
import queue
import signal
import socket
import subprocess
import sys
import urllib.request
from contextlib import contextmanager

import numpy as np
import psutil
import pytest
import useq
from pymmcore_plus import CMMCorePlus

import sharpscope
from acquisition.plan import load_experiment
from acquisition.virtual import load
from inference.client import WorkerClient
from inference.recording import Recording
from sharpscope.live import record_time_lapse

SEED_PLACE = (0.0, 0.0)


@pytest.fixture
def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextmanager
def serving(model, *options):
    command = [
        sys.executable,
        "-m",
        "sharpscope",
        "serve",
        str(model),
        "--bind",
        "tcp://127.0.0.1:*",
        "--json",
        *options,
    ]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        yield json.loads(process.stdout.readline())["address"], process
    finally:
        process.kill()
        process.communicate()


@pytest.mark.slow
def test_fifty_frames_of_the_unmodified_demo_camera_are_recorded_and_enhanced_in_order(model_zip, tmp_path):
    core = CMMCorePlus()
    core.loadSystemConfiguration()
    core.setProperty("Camera", "Mode", "Fluorescent Beads")
    taken = []
    core.mda.events.frameReady.connect(lambda image, event, meta: taken.append(image.copy()))
    moving = useq.MDASequence(channels=["FITC"], stage_positions=[(3.0 * n, 0, 0) for n in range(50)])
    with serving(model_zip) as (address, _):
        with sharpscope.LiveEnhancer(core, address, tmp_path / "r", allow_out_of_domain=True) as live:
            assert live.wait_ready(60)
            core.run_mda(moving, block=True)
            assert live.drain()
            status = live.status()
    assert (status.frames_in, status.recorded, status.enhanced) == (50, 50, 50)
    assert (status.dropped, status.failed, status.waiting) == (0, 0, 0)
    recording = Recording.open(tmp_path / "r")
    assert sorted(recording.frames) == sorted(recording.enhanced) == list(range(50))
    engine = sharpscope.load_model(model_zip).engine
    photometry = None
    for number in (0, 1, 49):
        np.testing.assert_array_equal(recording.read(number), taken[number])
        expected = engine.enhance(taken[number], allow_out_of_domain=True, photometry=photometry)
        photometry = photometry or expected.photometry
        difference = np.abs(recording.read_enhanced(number) - expected.image).max()
        assert difference < 1e-4 * expected.image.std()


@pytest.mark.slow
def test_a_time_lapse_of_the_virtual_microscope_is_focused_and_recorded(model_zip, tmp_path):
    experiment = load_experiment("virtual_widefield")
    short = experiment.time_lapse.model_copy(update={"frames": 4})
    experiment = experiment.model_copy(update={"time_lapse": short})
    core = load("widefield", seed=7, camera_shape_yx=(256, 256), sample_height_um=6.0)
    with serving(model_zip) as (address, _):
        report = record_time_lapse(
            experiment, core, address, tmp_path / "r", stage_xy_um=SEED_PLACE, allow_out_of_domain=True
        )
    assert report.complete
    assert report.unenhanced == ()
    frames = Recording.open(tmp_path / "r").frames
    assert [frames[n].facts.focus_um for n in range(4)] == pytest.approx([6.0] * 4, abs=5.1 / 4)
    assert core.getPosition() == pytest.approx(-200.0)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows cannot send SIGTERM to be handled")
def test_serve_ends_cleanly_when_told_to(model_zip):
    with serving(model_zip) as (_, process):
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0


@pytest.mark.skipif(sys.platform == "win32", reason="Windows cannot send SIGTERM to be handled")
@pytest.mark.slow
def test_serve_alone_ends_cleanly_when_told_to(model_zip):
    with serving(model_zip, "--no-supervisor") as (_, process):
        assert psutil.Process(process.pid).children() == []
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0


@pytest.mark.slow
def test_a_killed_worker_of_serve_comes_back_on_its_address_with_its_model(model_zip, free_port):
    """The metrics go on meanwhile; every line of the log is JSON and names the worker where there is one."""
    outcomes = queue.SimpleQueue()
    frame = np.full((64, 64), 500, np.uint16)
    with serving(model_zip, "--metrics", str(free_port), "--json-logs") as (address, process):
        with WorkerClient(address, outcomes.put) as client:
            client.submit(frame, allow_out_of_domain=True)
            first = outcomes.get(timeout=60)
            psutil.Process(process.pid).children()[0].kill()
            client.submit(frame, allow_out_of_domain=True)
            second = outcomes.get(timeout=60)
        assert first.model_hash == second.model_hash
        np.testing.assert_array_equal(first.image, second.image)
        pages = f"http://127.0.0.1:{free_port}"
        metrics = urllib.request.urlopen(f"{pages}/metrics").read().decode()
        assert "sharpscope_worker_restarts_total 1.0" in metrics
        assert first.model_hash in metrics
        assert urllib.request.urlopen(f"{pages}/readyz").read() == b"ready\n"
        process.terminate()
        lines = [json.loads(line) for line in process.communicate()[1].splitlines()]
    assert all({"time", "level", "logger", "message"} <= line.keys() for line in lines)
    assert any("SIGKILL" in line["message"] and line["level"] == "error" for line in lines)
    assert len({line.get("worker") for line in lines} - {None}) == 2
