"""Pairing as a person meets it at the command line."""

import json
import re
import subprocess
import sys

import numpy as np
import pytest
import tifffile
from scipy import ndimage


def pair(folder, *arguments):
    command = [sys.executable, "-m", "sharpscope", "pair", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=200, check=False, cwd=folder)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Three fields of dots, low and high, and a fourth that was never exposed."""
    folder, rng = tmp_path_factory.mktemp("images"), np.random.default_rng(0)
    (folder / "low").mkdir()
    (folder / "high").mkdir()
    for name in "abc":
        dots = (rng.random((256, 256)) < 0.01).astype(np.float32)
        dots[:, 200:] = 0  # a place without objects, for the background
        high = ndimage.gaussian_filter(dots, 1.0) * 20_000
        low = ndimage.gaussian_filter(dots, 2.0).reshape(128, 2, 128, 2).mean(axis=(1, 3)) * 60_000
        tifffile.imwrite(folder / "low" / f"{name}.tif", rng.poisson(low + 200).astype(np.uint16))
        tifffile.imwrite(folder / "high" / f"{name}.tif", rng.poisson(high + 100).astype(np.uint16))
    tifffile.imwrite(folder / "low" / "d.tif", np.zeros((128, 128), np.uint16))
    tifffile.imwrite(folder / "high" / "d.tif", np.zeros((256, 256), np.uint16))
    return folder


@pytest.fixture(scope="module")
def done(folders):
    return pair(folders, "--low", "low", "--high", "high", "-o", "pairs", "--channel", "FITC", "--json")


def test_what_was_left_out_is_named_and_the_exit_code_says_so(done):
    assert done.returncode == 3, done.stderr
    (left_out,) = [line for line in done.stderr.splitlines() if line.startswith("left out: ")]
    assert "region0003_d_FITC" in left_out
    assert "black" in left_out
    assert json.loads(done.stdout.splitlines()[-1])["left_out"] == 1


def test_what_the_set_says_of_light_and_orientation_is_told(done):
    for state, counts in (("low", 200), ("high", 100)):
        told = re.search(rf"FITC, {state}: background ([0-9.]+) counts", done.stderr)
        assert float(told[1]) == pytest.approx(counts, rel=0.1)
    assert "as good as none" in done.stderr


def test_the_contact_sheet_is_named_and_there(done, folders):
    sheet = json.loads(done.stdout.splitlines()[-1])["contact_sheet"]
    assert sheet in done.stderr
    assert (folders / sheet).stat().st_size > 10_000


def test_a_set_that_is_there_is_not_written_over(done, folders):
    before = (folders / "pairs" / "pairs.json").read_bytes()
    again = pair(folders, "--low", "low", "--high", "high", "-o", "pairs")
    assert again.returncode == 2
    assert "--overwrite" in again.stderr
    assert (folders / "pairs" / "pairs.json").read_bytes() == before


@pytest.mark.slow
def test_what_was_paired_without_naming_a_channel_is_trained_on_all_the_same(folders):
    made = pair(folders, "--low", "low", "--high", "high", "-o", "unnamed")
    assert made.returncode == 3, made.stderr
    command = [
        sys.executable,
        "-m",
        "sharpscope",
        "train",
        "widefield_quick",
        "--pairs",
        "unnamed",
        "-o",
        "run",
    ]
    done = subprocess.run(
        [*command, "--minutes", "0.02", "--json"],
        capture_output=True, text=True, timeout=200, check=False, cwd=folders,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "of one channel, 'channel'" in done.stderr
    assert (folders / "run" / "model.zip").exists()
