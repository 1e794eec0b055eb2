"""The panel of a scan says what its journal says, line by line."""

import io
import json

import numpy as np
import pytest
from PIL import Image

from acquisition.manifest import ExtraLightRecord, ResumeRecord, ScanFolder
from acquisition.scan_chronicle import ScanChronicle
from acquisition.scan_panel import ScanPanel
from configs.document import WrongInputError

FIELDS = [(region, state, tile) for state, tiles in (("low", 1), ("high", 4)) for region in range(2)
          for tile in range(tiles)]  # fmt: skip


def shown(panel, region, state="low", tile=0):
    name = f"region{region:04d}_{state}_tile{tile:02d}"
    return next(field for field in panel.content()["fields"] if field["key"] == name)


def decoded(png):
    return np.asarray(Image.open(io.BytesIO(png)))


def test_a_scan_that_has_only_begun_shows_its_plan(scan):
    content = ScanPanel(scan.path).content()
    progress = content["progress"]
    assert (progress["planned"], progress["done"], progress["left"], progress["left_s"]) == (10, 0, 10, None)
    assert content["next"] == "region0000_low_tile00"
    assert [(f["region"], f["state"], f["tile"]) for f in content["fields"]] == FIELDS
    assert [f["x_um"] for f in content["fields"][:2]] == [-50.0, 50.0]


def test_after_k_fields_k_are_done(scan):
    panel = ScanPanel(scan.path)
    versions = {panel.version()}
    for k, (region, state, tile) in enumerate(FIELDS, start=1):
        scan.begin(region, state, tile)
        assert panel.content()["next"] == f"region{region:04d}_{state}_tile{tile:02d}"
        scan.line(region, state, tile)
        content = panel.content()
        assert content["progress"]["done"] == k
        assert [field["status"] for field in content["fields"]] == ["done"] * k + ["planned"] * (10 - k)
        versions.add(panel.version())
    assert len(versions) == 11
    assert content["next"] is None


def test_nothing_new_is_the_same_version(scan):
    panel = ScanPanel(scan.path)
    scan.line(0)
    assert panel.version() == panel.version()


def test_a_hole_is_shown_with_its_reason_until_a_later_take_fills_it(scan):
    panel = ScanPanel(scan.path)
    scan.hole(1, "high", 2, reason="the shutter did not open")
    hole = shown(panel, 1, "high", 2)
    assert (hole["status"], hole["reason"]) == ("hole", "the shutter did not open")
    assert panel.content()["progress"]["holes"] == 1
    scan.line(1, "high", 2)
    assert shown(panel, 1, "high", 2)["status"] == "done"
    assert "reason" not in shown(panel, 1, "high", 2)
    assert panel.content()["progress"]["holes"] == 0


def test_a_flagged_field_is_done_and_says_why(scan):
    panel = ScanPanel(scan.path)
    scan.line(0, flags=["2.0% of FITC is saturated (limit 0.2%)"])
    assert shown(panel, 0)["status"] == "flagged"
    assert shown(panel, 0)["flags"] == ["2.0% of FITC is saturated (limit 0.2%)"]
    progress = panel.content()["progress"]
    assert (progress["done"], progress["flagged"]) == (1, 1)


def test_a_field_lies_where_the_stage_was(scan):
    panel = ScanPanel(scan.path)
    scan.line(0)
    scan.field(1, xy_um=(50.25, -0.125))
    assert (shown(panel, 1)["x_um"], shown(panel, 1)["y_um"]) == (50.25, -0.125)
    low, high = (panel.content()["outlines_um"][state] for state in ("low", "high"))
    assert low[2] == pytest.approx((32 * 0.65, 32 * 0.65))
    assert high[2] == pytest.approx((32 * 0.325, 32 * 0.325))


def test_what_a_calibration_moves_is_taken_from_the_fields_that_are_there(scan):
    panel = ScanPanel(scan.path)
    planned = shown(panel, 1, "high", 3)
    first = shown(panel, 0, "high", 0)
    scan.field(0, "high", 0, xy_um=(first["x_um"] - 2.5, first["y_um"] + 1.75))
    moved = shown(panel, 1, "high", 3)
    assert moved["x_um"] == pytest.approx(planned["x_um"] - 2.5, abs=2e-3)
    assert moved["y_um"] == pytest.approx(planned["y_um"] + 1.75, abs=2e-3)


def test_the_time_left_is_what_the_fields_took(scan):
    panel = ScanPanel(scan.path)
    for number in range(4):
        scan.line(number, after_s=10.0 * number)
    progress = panel.content()["progress"]
    assert progress["left"] == 8  # two regions of the four were not planned
    assert progress["left_s"] == pytest.approx(80.0)


def test_a_pause_does_not_count_as_work(scan):
    panel = ScanPanel(scan.path)
    scan.line(0, after_s=0)
    scan.line(1, after_s=10)
    resumed = ResumeRecord().model_copy(update={"time": ScanFolder.open(scan.path).fields()[0].time})
    later = resumed.time.replace(day=2)
    scan.folder.log(resumed.model_copy(update={"time": later}))
    scan.line(0, "high", 0, after_s=24 * 3600 + 30)
    assert panel.content()["progress"]["longest_field_s"] == 30.0


def test_a_focus_curve_comes_by_position_with_its_plane_and_what_was_expected(scan):
    panel = ScanPanel(scan.path)
    scan.focus(0)
    assert panel.content()["latest_focus"] == "region0000_low_tile00"
    focus = shown(panel, 0)["focus"]
    assert (focus["positions_um"], focus["scores"]) == ([1.0, 3.0, 5.0], [0.1, 0.4, 0.2])
    assert (focus["plane_um"], focus["expected_um"], focus["uncertainty_um"]) == (3.0, 2.5, 0.5)


def test_a_field_that_only_the_map_focused_leaves_the_last_curve_shown(scan):
    panel = ScanPanel(scan.path)
    scan.focus(0)
    scan.focus(1, method="predicted", curve=[])
    assert panel.content()["latest_focus"] == "region0000_low_tile00"
    scan.focus(0, "high", 0, succeeded=False, focus_um=None, reason="no peak", stage_x_um=None)
    assert panel.content()["latest_focus"] == "region0000_high_tile00"
    assert shown(panel, 0, "high", 0)["focus"]["reason"] == "no peak"


def test_a_picture_shows_the_field_small(scan):
    image = np.full((1, 640, 640), 200, np.uint16)
    image[0, 480:560, 80:160] = 4000
    scan.field(0, image=image)
    panel = ScanPanel(scan.path)
    (name,) = shown(panel, 0)["pictures"]
    small = decoded(panel.picture(f"{name}_small"))
    assert small.shape == (160, 160)
    assert small[130, 30] == 255
    assert small[30, 130] == 0
    assert decoded(panel.picture(f"{name}_large")).shape == (640, 640)  # binned by whole factors only


@pytest.mark.parametrize(
    "name", ["", "nothing", "../manifest.json", "region0000_low_tile00_take1_channel1_small"]
)
def test_a_picture_that_is_not_in_the_content_is_refused(scan, name):
    scan.field(0)
    with pytest.raises(KeyError):
        ScanPanel(scan.path).picture(name)


def test_a_journal_that_points_out_of_its_folder_shows_nothing_of_there(scan):
    scan.field(0)
    (scan.path.parent / "other.ome.tif").write_bytes(
        (scan.path / "region0000_low_tile00.ome.tif").read_bytes()
    )
    scan.line(1, file="../other.ome.tif")
    with pytest.raises(KeyError, match="outside"):
        ScanPanel(scan.path).picture("region0001_low_tile00_take1_channel0_small")


def test_a_torn_last_line_is_not_there_yet(scan):
    panel = ScanPanel(scan.path)
    scan.line(0)
    with (scan.path / "journal.jsonl").open("a") as stream:
        stream.write('{"kind":"field","region":1,"sta')
    content = panel.content()
    assert (content["progress"]["done"], content["progress"]["unreadable_lines"]) == (1, 0)


def test_a_damaged_line_is_counted_and_the_rest_shown(scan):
    scan.line(0)
    with (scan.path / "journal.jsonl").open("a") as stream:
        stream.write('nonsense\n{"kind":"of another version"}\n')
    scan.line(1)
    progress = ScanPanel(scan.path).content()["progress"]
    assert (progress["done"], progress["unreadable_lines"]) == (2, 2)


def test_the_plan_of_another_version_leaves_the_fields(scan):
    manifest = json.loads((scan.path / "manifest.json").read_text())
    manifest["plan"]["no such key"] = 1
    (scan.path / "manifest.json").write_text(json.dumps(manifest))
    scan.line(0)
    progress = ScanPanel(scan.path).content()["progress"]
    assert (progress["planned"], progress["done"]) == (None, 1)
    assert "no such key" in progress["plan_unknown_because"]


def test_a_folder_that_is_no_scan_is_refused_in_one_line(tmp_path):
    with pytest.raises(WrongInputError, match="is not a scan folder") as refusal:
        ScanPanel(tmp_path)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("seed", range(8))
def test_the_account_agrees_with_the_folders_whatever_happened(scan, seed):
    random = np.random.default_rng(seed)
    for step in range(60):
        region, state, tile = FIELDS[random.integers(10)]
        what = random.choice(["begin", "field", "hole", "no better", "interrupted"])
        if what == "begin":
            scan.begin(region, state, tile)
        elif what == "field":
            scan.line(region, state, tile, after_s=float(step), take=int(random.integers(1, 3)))
        elif what == "hole":
            scan.hole(region, state, tile)
        else:
            device = {"no better": "field", "interrupted": "program"}[str(what)]
            scan.folder.log(ExtraLightRecord(region=region, state=state, tile=tile, device=device, reason="",
                                             light_ms=1))  # fmt: skip
    chronicle = ScanChronicle()
    for record in scan.folder.lines():
        chronicle.enter(record)
    assert list(chronicle.fields.values()) == scan.folder.fields()
    assert list(chronicle.holes.values()) == scan.folder.holes()
