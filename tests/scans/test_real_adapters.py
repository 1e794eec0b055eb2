"""Scans on Micro-Manager's own C++ DemoCamera: one experiment file, two `.cfg`; watchdog and `safe`."""

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import yaml

import configs
from acquisition.manifest import ScanFolder
from acquisition.micro_manager import adapter_folder, load_cfg
from acquisition.plan import load_experiment
from acquisition.scan import run_scan

EXPERIMENT = {
    "microscope": {"cfg": "demo.cfg"},
    "states": {
        state: {
            "presets": {"Objective": preset},
            "objective": preset,
            "magnification": magnification,
            "numerical_aperture": aperture,
            "focus_window_um": [-220, 60],
        }
        for state, preset, magnification, aperture in (("low", "10X", 10, 0.4), ("high", "20X", 20, 0.75))
    },
    "channels": [{"name": "FITC", "emission_nm": 522, "exposure_ms": {"low": 20, "high": 10}}],
    "focus": {"channel": "FITC", "start_um": 3, "withdraw_um": -200, "towards_sample": 1},
    "area": {"positions": [[0, 0], [300, 0]], "high_tiles": {"rows": 1, "columns": 1}},
}
"""With no pixel size: the `.cfg` says it. With the sense of the drive: one of the two does not say it."""


@pytest.fixture
def experiment_file(tmp_path):
    """Write the experiment for a copy of a configuration, so that each test has a microscope of its own."""

    def write(cfg):
        shipped = Path(adapter_folder() if cfg.startswith("MM") else configs.find(cfg).parent) / cfg
        own = tmp_path / cfg
        own.write_bytes(shipped.read_bytes())
        path = tmp_path / "experiment.yaml"
        path.write_text(yaml.safe_dump({**EXPERIMENT, "microscope": {"cfg": str(own)}}))
        return path

    return write


@pytest.mark.parametrize(
    ("cfg", "pixel_sizes_um"), [("demo.cfg", (0.65, 0.325)), ("MMConfig_demo.cfg", (1.0, 0.5))]
)
def test_one_experiment_file_runs_on_either_configuration(cfg, pixel_sizes_um, experiment_file, tmp_path):
    experiment = load_experiment(experiment_file(cfg))
    core = load_cfg(experiment.microscope.cfg)
    core.setProperty(core.getCameraDevice(), "Mode", "Fluorescent Beads")  # the one that answers to focus
    summary = run_scan(experiment, core, tmp_path / "scan")
    assert summary.committed_fields == summary.planned_fields == 4
    manifest = ScanFolder.open(tmp_path / "scan").manifest
    assert tuple(manifest.objectives[s].pixel_size_um for s in ("low", "high")) == pixel_sizes_um
    for field in summary.folder.fields():
        assert abs(field.focus_um) < 0.5  # these beads are sharpest at 0 with every objective


def test_patterns_that_do_not_answer_to_focus_become_holes_with_that_reason(experiment_file, tmp_path):
    result = subprocess.run(
        [sys.executable, "-m", "sharpscope", "scan", str(experiment_file("MMConfig_demo.cfg")), "-o",
         str(tmp_path / "scan"), "--json"],
        capture_output=True, text=True, timeout=200,
    )  # fmt: skip
    assert result.returncode == 3
    assert json.loads(result.stdout.splitlines()[-1])["holes"] == 4
    assert "autofocus failed" in result.stderr
    assert (tmp_path / "scan" / "focus.png").stat().st_size > 10_000


def test_safe_closes_the_shutters_and_withdraws(experiment_file):
    result = subprocess.run(
        [sys.executable, "-m", "sharpscope", "safe", str(experiment_file("MMConfig_demo.cfg")), "--json"],
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert (result.returncode, json.loads(result.stdout)) == (0, {"safe": True})


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
@pytest.mark.parametrize("killed", [True, False])
def test_a_watchdog_makes_safe_what_a_killed_scan_left_and_only_that(killed, experiment_file, tmp_path):
    folder = tmp_path / "scan"
    process = subprocess.Popen(
        [sys.executable, "-m", "sharpscope", "scan", str(experiment_file("demo.cfg")), "-o", str(folder)],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    wait_until(lambda: (folder / "journal.jsonl").exists() or process.poll() is not None)
    if killed:
        process.send_signal(signal.SIGKILL)
    process.wait(timeout=100)
    report = folder / "watchdog.json"
    if killed:
        wait_until(report.exists)
        assert json.loads(report.read_text()) | {"time": ""} == {"time": "", "safe": True, "problems": []}
    else:
        assert process.returncode == 3
        assert not report.exists()


def wait_until(condition):
    pause, left = threading.Event(), 60.0
    while not condition():
        pause.wait(0.01)
        left -= 0.01
        assert left > 0, "waited in vain"
