"""`sharpscope clip`: a range of a recording as a file."""

import inspect
import json
import subprocess
import sys

import numpy as np
import pytest
import tifffile

from configs.document import WrongInputError
from inference.recording import FrameFacts, Recorder
from sharpscope.clip_command import clip, frame_range


def run(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "sharpscope", "clip", *map(str, arguments)], capture_output=True, text=True
    )


@pytest.fixture
def recording(tmp_path):
    with Recorder.create(tmp_path / "r") as recorder:
        for number in range(6):
            recorder.put(np.full((20, 30), 100 + number, np.uint16), FrameFacts(channel="FITC"))
    return tmp_path / "r"


@pytest.mark.parametrize(
    ("given", "expected"),
    [(None, (None, None)), ("3", (3, 3)), ("2:5", (2, 5)), (":5", (None, 5)), ("2:", (2, None))],
)
def test_a_range_of_frames_is_read(given, expected):
    assert frame_range(given) == expected


@pytest.mark.parametrize("given", ["", ":", "a:b", "-3", "1:2:3"])
def test_what_is_no_range_is_refused(given):
    with pytest.raises(WrongInputError, match="is no range; give FIRST:LAST"):
        frame_range(given)


def test_a_stack_of_a_range_has_the_recordings_counts(recording, tmp_path):
    output = tmp_path / "clip.ome.tiff"
    result = run(recording, "-o", output, "--frames", "2:4", "--show", "raw", "--json")
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout) == {
        "frames": 3, "series": "FITC", "first": 2, "last": 4, "first_number": 2, "last_number": 4,
    }  # fmt: skip
    np.testing.assert_array_equal(tifffile.imread(output)[:, 0, 0], [102, 103, 104])
    again = run(recording, "-o", output, "--frames", "2:4", "--show", "raw")
    assert (again.returncode, "--overwrite" in again.stderr) == (2, True)


def test_of_the_second_channel_indices_and_frame_numbers_are_told_apart(tmp_path):
    with Recorder.create(tmp_path / "r") as recorder:
        for number in range(8):
            recorder.put(
                np.full((20, 30), 100 + number, np.uint16), FrameFacts(channel=["FITC", "DAPI"][number % 2])
            )
    result = run(
        tmp_path / "r", "-o", tmp_path / "c.tiff", "--frames", "1:2", "--series", "DAPI", "--show", "raw"
    )

    assert "indices 1 to 2 in the series, frame 3 to frame 5" in " ".join(result.stderr.split())


def test_the_help_says_within_which_bounds_a_movie_plays_as_recorded():
    from inference.viewer.export import FASTEST_FPS, SLOWEST_FPS

    told = inspect.signature(clip).parameters["fps"].annotation.__metadata__[0].help

    assert f"as recorded, within {SLOWEST_FPS:g} to {FASTEST_FPS:g}" in told


def test_a_recording_without_enhanced_images_makes_no_black_movie(recording, tmp_path):
    result = run(recording, "-o", tmp_path / "clip.mp4")
    assert (result.returncode, "--show raw" in result.stderr) == (2, True)
    assert not (tmp_path / "clip.mp4").exists()
