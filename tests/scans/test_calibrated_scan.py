"""From a calibration to a scan that uses it, by the command line."""

import json
import subprocess
import sys

import pytest

from acquisition.manifest import ScanFolder


def calibrate(scan, *options):
    command = [sys.executable, "-m", "sharpscope", "calibrate", str(scan.file), *options]
    return subprocess.run(command, capture_output=True, text=True, timeout=250)


@pytest.mark.slow
def test_a_calibration_is_written_where_the_experiment_reads_it_and_the_scan_uses_it(make_scan):
    imperfections = {
        "parcentric_offset_um": [6.0, -4.0],
        "parfocal_offset_um": 6.0,
        "camera_rotation_deg": 1.5,
    }
    scan = make_scan(
        microscope={"camera_shape_yx": [256, 256], "imperfections": imperfections},
        calibration="calibration.json",
    )
    assert scan.run("--dry-run").returncode == 2  # it is not there yet
    done = calibrate(scan, "--extent-um", "1200", "--cfg-lines", "--json")
    assert done.returncode == 0, done.stderr
    *lines, figures = done.stdout.splitlines()
    assert [line.split(",")[0] for line in lines] == 2 * [
        "ConfigPixelSize",
        "PixelSize_um",
        "PixelSizeAffine",
    ]
    assert json.loads(figures)["parcentric_um"] == pytest.approx([6.0, -4.0], abs=0.2)
    assert calibrate(scan).returncode == 2  # nothing is written over
    scanned = scan.run("--json")
    assert scanned.returncode == 0, scanned.stderr
    manifest = ScanFolder.open(scan.folder).manifest
    for state in ("low", "high"):
        xx, _, _, yx, _, _ = manifest.objectives[state].pixel_size_affine
        assert yx / xx == pytest.approx(0.0262, abs=0.0005)  # the tangent of 1.5 degrees
    for field in ScanFolder.open(scan.folder).fields():
        if field.state == "high":
            assert max(map(abs, field.quality.registration.shift_xy_um)) < 1.5
