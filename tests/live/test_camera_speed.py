"""A TIRF time-lapse at camera speed by hardware-sequenced acquisition, recorded while preview runs."""

import shutil
from contextlib import contextmanager

import numpy as np
import pytest
import useq

from acquisition.live import LiveEnhancer
from acquisition.time_lapse import run_time_lapse
from acquisition.virtual import load
from inference.completion import complete
from inference.recording import Recording

RING = 64


def tirf(frames):
    return useq.MDASequence(channels=["GFP"], time_plan={"interval": 0, "loops": frames})


@contextmanager
def room_for(path):
    """A folder that does not outlive the test: gigabytes."""
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def whole_and_equal_to_the_offline_result(recording, frames):
    """No gap by the camera's numbers, nor by what the frames show: the ring's next place each time.

    Offline, each frame is enhanced by taking the light of the stream's first one off it.
    """
    assert [line.facts.camera_frame for line in recording.frames.values()] == list(range(frames))
    assert sorted(recording.enhanced) == list(range(frames))
    assert all(line.index == recording.frames[number].index for number, line in recording.enhanced.items())
    light = np.float32(next(iter(recording.enhanced.values())).photometry.background)
    ring = []
    for number in range(frames):
        raw = recording.read(number)
        if number < RING:
            ring.append(raw)
        assert np.array_equal(raw, ring[number % RING])
        assert np.array_equal(recording.read_enhanced(number), raw.astype(np.float32) - light)
    assert len({image.tobytes() for image in ring}) == len(ring)
    return True


def record_and_complete(frames, shape_yx, seconds, address, path):
    core = load("tirf_sim", replay=RING, camera_shape_yx=shape_yx)
    core.setExposure(seconds * 1e3)
    looked_at = []
    with LiveEnhancer(core, address, path, delivery="preview") as live:
        assert live.wait_ready(30)
        live.raw.connect(lambda image, frame: looked_at.append(frame.number))
        report = run_time_lapse(core, tirf(frames), live)
    status = report.status
    assert (report.finish_reason, status.frames_in, status.recorded) == ("completed", frames, frames)
    assert (status.missed, status.failed) == (0, 0)
    assert 0 < status.enhanced < frames  # the newest was shown
    assert status.enhanced + status.dropped == frames
    assert looked_at
    added = complete(path, address)
    assert (added.enhanced, added.unenhanced) == (status.dropped, {})
    return Recording.open(path)


@pytest.mark.slow
def test_a_short_time_lapse_at_camera_speed_has_no_gap_and_is_completed(start_levelling_worker, tmp_path):
    address = start_levelling_worker(0.02).address
    recording = record_and_complete(150, (128, 128), 0.01, address, tmp_path / "r")
    assert whole_and_equal_to_the_offline_result(recording, 150)


@pytest.mark.slow
def test_two_thousand_tirf_frames_at_30_a_second_have_no_gap_and_are_completed(
    start_levelling_worker, tmp_path
):
    address = start_levelling_worker(0.04).address
    with room_for(tmp_path / "r") as path:
        recording = record_and_complete(2000, (512, 512), 1 / 30, address, path)
        assert whole_and_equal_to_the_offline_result(recording, 2000)


def test_frames_that_the_camera_numbers_and_nobody_got_are_counted(start_levelling_worker, tmp_path):
    """Somebody pops frames of the hardware sequence before the acquisition engine does."""
    core = load("tirf_sim", replay=4, camera_shape_yx=(64, 64))
    core.setExposure(20)
    stolen = []

    def steal(image, event, meta):
        if event.index["t"] % 10 == 5:
            while not core.getRemainingImageCount():
                pass
            stolen.append(core.popNextImageAndMD())

    with LiveEnhancer(core, "tcp://127.0.0.1:9", tmp_path / "r") as live:
        core.mda.events.frameReady.connect(steal)
        core.run_mda(tirf(30), block=True)
        live.close(patience_s=0)
        assert (live.status().frames_in, live.status().missed) == (30 - len(stolen), len(stolen))
    assert stolen
