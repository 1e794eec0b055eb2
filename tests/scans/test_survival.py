"""Scans that are killed, interrupted, starved of disk: nothing committed is lost, and all is resumed."""

import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import threading

import pytest

FIELDS = 12
posix = pytest.mark.skipif(os.name != "posix", reason="signals and mounts of POSIX")


def wait_for(process, condition):
    """Wait until something holds, or the process has ended."""
    pause = threading.Event()
    while process.poll() is None and not condition():
        pause.wait(0.005)


def assert_whole(scan, fields=FIELDS):
    """Every field is committed once and is on the disk as the journal says; no hole is left."""
    names = [name for name, _ in scan.files()]
    assert len(names) == len(set(names)) == fields
    for name, digest in scan.files():
        assert hashlib.sha256((scan.folder / name).read_bytes()).hexdigest() == digest
    kinds = [line["kind"] for line in scan.journal()]
    assert "hole" not in kinds


@posix
def test_ctrl_c_seals_the_scan_and_it_goes_on_where_it_was(make_scan):
    scan = make_scan()
    process = scan.start()
    wait_for(process, lambda: len(scan.files()) >= 3)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    before = scan.files()
    assert 3 <= len(before) < FIELDS
    done = scan.run("--resume", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1])["fields_committed"] == FIELDS
    assert scan.files()[: len(before)] == before
    assert_whole(scan)


@posix
@pytest.mark.slow
def test_killed_at_twenty_random_moments_the_scan_is_the_one_that_was_never_killed(make_scan):
    undisturbed, scan = make_scan("undisturbed"), make_scan("killed")
    assert undisturbed.run().returncode == 0
    lengths = []
    moments, kills = random.Random(7), 0
    while kills < 20:
        process = scan.start(*(["--resume"] if (scan.folder / "manifest.json").exists() else []))
        lines = len(scan.journal())
        # Half of the moments lie in what the journal shows, half anywhere in the process's life.
        if kills % 2:
            lines += moments.randint(1, 3)
            wait_for(process, lambda more=lines: len(scan.journal()) >= more)
            threading.Event().wait(moments.uniform(0, 0.05))
        else:
            threading.Event().wait(moments.uniform(0.3, 2.5))
        if process.poll() is not None:  # it was done before; begin anew
            process.communicate()
            assert_whole(scan)
            shutil.rmtree(scan.folder)
            continue
        process.kill()
        process.communicate()
        kills += 1
        lengths.append(len(scan.files()))
    if not (scan.folder / "manifest.json").exists():
        shutil.rmtree(scan.folder, ignore_errors=True)
    last = scan.run(*(["--resume"] if scan.folder.exists() else []))
    assert last.returncode == 0, last.stderr
    assert_whole(scan)
    assert {name for name, _ in scan.files()} == {name for name, _ in undisturbed.files()}
    assert max(lengths) > 0
    begun = [line for line in scan.journal() if line["kind"] == "extra_light"]
    assert any("interrupted" in line["reason"] for line in begun)


@posix
def test_a_full_disk_ends_the_scan_with_every_committed_field_and_more_room_lets_it_go_on(
    make_scan, tmp_path
):
    scan = make_scan(channels=_one_long_channel())
    scan.folder.mkdir()
    size = 200_000
    if (
        os.geteuid()
        or subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(scan.folder)], capture_output=True
        ).returncode
    ):
        pytest.skip("needs the right to mount a small file system")
    try:
        full = subprocess.run(
            [sys.executable, "-c", SCAN_WITHOUT_LOOKING_AT_THE_DISK, str(scan.file), str(scan.folder)],
            capture_output=True,
            text=True,
            timeout=100,
        )
        assert "No space left" in full.stderr
        before = scan.files()
        assert 1 <= len(before) < FIELDS
        for name, digest in before:
            assert hashlib.sha256((scan.folder / name).read_bytes()).hexdigest() == digest
        assert not list(scan.folder.glob(".*partial"))
        subprocess.run(["mount", "-o", "remount,size=50m", str(scan.folder)], check=True)
        assert scan.run("--resume").returncode == 0
        assert scan.files()[: len(before)] == before
        assert_whole(scan)
    finally:
        subprocess.run(["umount", "--lazy", str(scan.folder)], check=True)


SCAN_WITHOUT_LOOKING_AT_THE_DISK = """
import sys
from pathlib import Path
from acquisition.plan import load_experiment
from acquisition.scan import run_scan
from acquisition.virtual import from_choice
experiment = load_experiment(sys.argv[1])
run_scan(experiment, from_choice(experiment.microscope), Path(sys.argv[2]))
"""


def _one_long_channel():
    return [{"name": "FITC", "emission_nm": 522, "exposure_ms": {"low": 800, "high": 400}}]


@posix
@pytest.mark.slow
def test_a_second_scan_into_the_same_folder_is_refused_and_harms_nothing(make_scan):
    scan = make_scan(area={"regions": {"rows": 20, "columns": 20, "spacing_um": 100.0}})
    first = scan.start()
    wait_for(first, lambda: len(scan.files()) >= 1)
    second = scan.run("--resume")
    assert (second.returncode, first.poll()) == (2, None)
    assert "another scan writes to this folder" in second.stderr
    first.send_signal(signal.SIGINT)
    first.communicate(timeout=100)
    assert first.returncode == 130
    assert {line["kind"] for line in scan.journal()} == {"begin", "focus", "field"}


@pytest.mark.slow
def test_a_night_of_500_fields_with_small_failures_ends_complete(make_scan):
    scan = make_scan(
        microscope={"camera_shape_yx": [96, 96], "imperfections": NIGHT},
        area={
            "regions": {"rows": 10, "columns": 25, "spacing_um": 60.0},
            "high_tiles": {"rows": 1, "columns": 1},
        },
    )
    done = scan.run("--json", timeout=1500)
    figures = json.loads(done.stdout.splitlines()[-1])
    assert figures["fields_planned"] == 500
    holes = [line for line in scan.journal() if line["kind"] == "hole"]
    dark = [
        line
        for line in scan.journal()  # a search found nothing, or the map was right and nothing showed
        if line.get("flags") or (line["kind"] == "focus" and not line["succeeded"])
    ]
    retries = [line for line in scan.journal() if line["kind"] == "extra_light"]
    assert min(len(dark), len(retries)) >= 5
    assert figures["fields_committed"] + figures["holes"] == 500
    assert done.returncode == (3 if figures["holes"] or figures["flagged"] else 0), done.stderr
    assert figures["holes"] <= len(holes)
    assert figures["fields_committed"] >= 495


NIGHT = {
    "sample_height_um": 4.0,
    "sample_tilt_um_per_mm": [1.5, -1.0],
    "parfocal_offset_um": 6.0,
    # One in a hundred at random, but always the same: how many exposures there are depends on the clock.
    "snap_fails": sorted(random.Random(1).sample(range(1000), 10)),
    "shutter_sticks": sorted(random.Random(2).sample(range(500), 5)),
}
