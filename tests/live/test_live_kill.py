"""SIGKILL in mid-recording at camera speed: what the camera handed over, and what is there afterwards."""

import random
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from inference.recording import recover

CAMERA = Path(__file__).with_name("camera_process.py")
RING = 16
MOST_SHORT = 2


def killed_after(path, frames, pause_s, worker):
    """Return the number of the last frame that the camera handed over before the kill."""
    command = [sys.executable, str(CAMERA), str(path), worker]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    for line in process.stdout:
        if line.strip() == str(frames):
            break
    threading.Event().wait(pause_s)  # anywhere between two frames
    process.kill()
    rest = process.stdout.read().split()
    process.wait()
    process.stdout.close()
    return int(rest[-1]) if rest else frames


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(5))
def test_a_kill_at_30_frames_a_second_costs_at_most_two_frames_and_spoils_none(
    start_levelling_worker, tmp_path, seed
):
    """While preview runs, and its images are written too."""
    worker = start_levelling_worker(0.02).address
    chance = random.Random(seed)
    last = killed_after(tmp_path / "r", chance.randint(5, 120), chance.uniform(0, 1 / 30), worker)
    recording = recover(tmp_path / "r")
    assert list(recording.frames) == list(range(len(recording.frames)))
    short = last + 1 - len(recording.frames)
    assert short <= MOST_SHORT
    assert [line.facts.camera_frame for line in recording.frames.values()] == list(recording.frames)
    ring = [recording.read(number) for number in range(min(RING, len(recording.frames)))]
    assert len({image.tobytes() for image in ring}) == len(ring)
    for number in recording.frames:
        np.testing.assert_array_equal(recording.read(number), ring[number % RING])
    assert recording.enhanced
    light = np.float32(next(iter(recording.enhanced.values())).photometry.background)
    for number in recording.enhanced:
        expected = ring[number % RING].astype(np.float32) - light
        np.testing.assert_array_equal(recording.read_enhanced(number), expected)
