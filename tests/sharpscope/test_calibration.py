"""The front door's part of a calibration: a stage micrometer, and what is done when a camera hangs."""

import subprocess
import sys

import numpy as np
import pytest
import yaml

import configs
from acquisition.plan import load_experiment
from acquisition.virtual import Micrograph, load
from sharpscope.calibration import measure_micrometer

PITCH_UM = 10.0


def test_a_stage_micrometer_gives_both_pixel_sizes():
    x_um = (np.arange(1600) - 799.5) * 0.25
    lines = np.broadcast_to((np.mod(x_um, PITCH_UM) < 2.0).astype(np.float32), (1600, 1600))
    core = load("widefield", specimen=Micrograph(lines, 0.25), parfocal_offset_um=4.0, sample_height_um=2.0)
    figures = measure_micrometer(load_experiment("virtual_widefield"), core, PITCH_UM)
    assert figures["pixel_size_um_low"] == pytest.approx(0.65, rel=1e-3)
    assert figures["pixel_size_um_high"] == pytest.approx(0.325, rel=1e-3)
    assert core.getPosition() == pytest.approx(-200.0)


def test_a_camera_that_hangs_ends_the_command(tmp_path):
    # It once printed its error and then waited for the camera for ever.
    content = yaml.safe_load(configs.find("virtual_widefield").read_text())
    content["microscope"] |= {"camera_shape_yx": [64, 64], "imperfections": {"camera_hangs": [3, 4]}}
    content["motion"] = {"camera_s": 1.0}
    file = tmp_path / "experiment.yaml"
    file.write_text(yaml.safe_dump(content))
    result = subprocess.run(
        [sys.executable, "-m", "sharpscope", "calibrate", str(file), "-o", str(tmp_path / "c.json")],
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert result.returncode == 1
    assert "gave no image within" in result.stderr
    assert not (tmp_path / "c.json").exists()
