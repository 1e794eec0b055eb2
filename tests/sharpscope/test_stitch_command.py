"""`sharpscope stitch` as a person meets it."""

import json
from itertools import product

import numpy as np
import pytest
from scipy import ndimage
from typer.testing import CliRunner

from acquisition.manifest import ChannelRecord, Manifest, ObjectiveRecord, ScanFolder
from sharpscope.cli import app

SIDE, STEP = 96, 80


def run(*arguments):
    return CliRunner().invoke(app, ["stitch", *map(str, arguments)])


def scan_folder(path, empty=(), regions=1):
    """A scan of 2 x 3 high fields of noise-like texture in each region; some may show nothing."""
    lens = ObjectiveRecord(
        name="20X", magnification=20, numerical_aperture=0.75, immersion="air", pixel_size_um=0.325,
        pixel_size_affine=(0.325, 0, 0, 0, 0.325, 0),
    )  # fmt: skip
    scan = ScanFolder.create(
        path,
        Manifest(
            run_id="run-1", microscope="synthetic", camera_pixel_um=6.5, objectives={"high": lens},
            channels=[ChannelRecord(name="FITC", emission_nm=522, exposure_ms={"high": 50})],
            plan={}, software={},
        ),
    )  # fmt: skip
    rng = np.random.default_rng(0)
    texture = ndimage.gaussian_filter(rng.normal(size=(300, 400)), 1.5)
    whole = (1000 + 200 * texture / texture.std()).astype(np.uint16)
    for region, (number, (row, column)) in product(range(regions), enumerate(np.ndindex(2, 3))):
        y, x = STEP * row + rng.integers(0, 5), STEP * column + rng.integers(0, 5)
        tile = whole[y : y + SIDE, x : x + SIDE]
        if number in empty:
            tile = rng.poisson(100, tile.shape).astype(np.uint16)
        stage_xy_um = (0.325 * STEP * column + 150 * region, 0.325 * STEP * row)
        scan.commit_field(
            tile[np.newaxis], region=region, state="high", tile=number, stage_xy_um=stage_xy_um, focus_um=0.0
        )
    return path


def test_a_scan_becomes_one_image_and_the_figures_are_told(tmp_path):
    scan, out = scan_folder(tmp_path / "scan"), tmp_path / "area.ome.zarr"
    done = run(scan, "--state", "high", "-o", out, "--json")
    assert done.exit_code == 0, done.stderr
    figures = json.loads(done.stdout.splitlines()[-1])
    assert figures["tiles"] == 6
    assert figures["links"] == figures["overlaps"] == 7
    assert figures["tiles_by_stage_alone"] == []
    assert figures["bytes_on_disk"] == sum(p.stat().st_size for p in out.rglob("*") if p.is_file())
    assert "6 tiles, 7 of 7 overlaps hold, 0 tiles on the stage's word" in done.stderr
    assert "MB in" in done.stderr


def test_regions_that_lie_apart_by_plan_are_said_in_one_line_and_are_no_fault(tmp_path):
    scan, out = scan_folder(tmp_path / "scan", regions=3), tmp_path / "area.ome.zarr"
    done = run(scan, "-o", out, "--json")
    assert done.exit_code == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1])["groups"] == 3
    assert "3 groups of tiles do not overlap" in done.stderr
    assert "hold together" not in done.stderr


def test_tiles_that_lie_by_the_stage_alone_are_listed_and_the_exit_code_is_3(tmp_path):
    scan, out = scan_folder(tmp_path / "scan", empty=(4,)), tmp_path / "area.ome.zarr"
    done = run(scan, "-o", out, "--json")
    assert done.exit_code == 3, done.stderr
    name = "region0000_high_tile04.ome.tif"
    assert json.loads(done.stdout.splitlines()[-1])["tiles_by_stage_alone"] == [name]
    assert f"{name} is placed by the stage alone" in done.stderr
    assert (out / "zarr.json").is_file()


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["SCAN", "-o", "area.tif"], ".ome.zarr"),
        (["SCAN", "-o", "area.ome.zarr", "--state", "low"], "no low objective"),
        (["nowhere", "-o", "area.ome.zarr"], "nowhere"),
        (["SCAN", "-o", "taken.ome.zarr", "--overwrite"], "taken.ome.zarr"),
    ],
)
def test_wrong_use_exits_2_and_names_what_is_wrong(tmp_path, arguments, named):
    scan = scan_folder(tmp_path / "scan")
    (tmp_path / "taken.ome.zarr").mkdir()
    (tmp_path / "taken.ome.zarr" / "notes.txt").write_text("mine")
    places = {"SCAN": scan, "nowhere": tmp_path / "nowhere"}
    done = run(*[places.get(a, tmp_path / a if "area" in a or "taken" in a else a) for a in arguments])
    assert done.exit_code == 2
    assert named in done.stderr
    assert not (tmp_path / "area.ome.zarr").exists()
