"""What a dry run says, which areas a plan may have, and what it refuses."""

import json

import numpy as np
import pytest
import useq
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

import configs
from acquisition.area import Area, Outline, StageWindow, with_files_read
from acquisition.estimate import check_disk, estimate_scan
from acquisition.plan import load_experiment
from acquisition.position_list import read_positions
from acquisition.scan import plan_scan, run_scan
from acquisition.sequences import paired_scan_sequences, write_sequences
from acquisition.virtual import from_choice
from configs.document import WrongInputError
from sharpscope.cli import app

FRAME_YX = (512, 512)


def estimate_of(experiment):
    return estimate_scan(experiment, paired_scan_sequences(experiment, FRAME_YX), FRAME_YX)


def test_the_estimate_is_what_the_scan_then_takes(short_experiment, tmp_path):
    core = from_choice(short_experiment.microscope)
    estimate, _ = plan_scan(short_experiment, core)
    exposures = []
    core.mda.events.frameReady.connect(lambda image, event: exposures.append(event.exposure))
    summary = run_scan(short_experiment, core, tmp_path / "scan")
    assert sum(estimate.fields.values()) == summary.planned_fields
    assert estimate.imaging_light_s == pytest.approx(sum(exposures) * 1e-3)
    on_disk = sum(file.stat().st_size for file in (tmp_path / "scan").glob("*.tif"))
    assert on_disk <= estimate.disk_bytes < 1.3 * on_disk + 1e6
    places = [(field.stage_x_um, field.stage_y_um) for field in summary.folder.fields()]
    assert min(x for x, _ in places) == pytest.approx(estimate.stage_x_um[0], abs=0.1)
    assert max(y for _, y in places) == pytest.approx(estimate.stage_y_um[1], abs=0.1)


def test_focus_takes_at_most_the_light_of_imaging():
    estimate = estimate_of(load_experiment("virtual_widefield"))
    assert 0 < estimate.focus_light_s <= estimate.imaging_light_s


@given(width_um=st.floats(400, 4000), height_um=st.floats(400, 4000), spacing_um=st.floats(100, 390))
@settings(max_examples=40, deadline=None)
def test_a_rectangle_is_filled_and_not_left(width_um, height_um, spacing_um):
    outline = Outline(
        corners_um=[(0, 0), (width_um, 0), (width_um, height_um), (0, height_um)], spacing_um=spacing_um
    )
    places = np.array(outline.positions_um())
    assert len(places) == (width_um // spacing_um) * (height_um // spacing_um)
    assert places.min() >= spacing_um / 2 - 1e-6
    assert np.all(places.max(axis=0) <= np.array([width_um, height_um]) - spacing_um / 2 + 1e-6)


def test_a_triangle_holds_half_of_its_rectangle():
    triangle = Outline(corners_um=[(0, 0), (4000, 0), (0, 4000)], spacing_um=100)
    assert len(triangle.positions_um()) == pytest.approx(800, abs=45)


def test_an_outline_without_room_is_named():
    with pytest.raises(ValueError, match="no region fits"):
        Outline(corners_um=[(0, 0), (1000, 0), (50, 50), (0, 1000)], spacing_um=900)


VERSION_1 = {
    "POSITIONS": [
        {"LABEL": "a", "DEFAULT_XY_STAGE": "XY", "DEVICES": [
            {"DEVICE": "Z", "AXES": 1, "X": 5.0, "Y": 0, "Z": 0},
            {"DEVICE": "XY", "AXES": 2, "X": 10.0, "Y": -20.0, "Z": 0},
        ]},
        {"LABEL": "b", "DEFAULT_XY_STAGE": "XY", "DEVICES": [
            {"DEVICE": "XY", "AXES": 2, "X": 300.5, "Y": 40.0, "Z": 0}]},
    ]
}  # fmt: skip


def _entry(x_um, y_um):
    device = {
        "Device": {"type": "STRING", "scalar": "XY"},
        "Position_um": {"type": "DOUBLE", "array": [x_um, y_um]},
    }
    return {
        "DefaultXYStage": {"type": "STRING", "scalar": "XY"},
        "DevicePositions": {"type": "PROPERTY_MAP", "array": [device]},
        "Label": {"type": "STRING", "scalar": "Pos"},
    }


VERSION_2 = {
    "encoding": "UTF-8",
    "format": "Micro-Manager Property Map",
    "major_version": 2,
    "map": {"StagePositions": {"type": "PROPERTY_MAP", "array": [_entry(10.0, -20.0), _entry(300.5, 40.0)]}},
}


@pytest.mark.parametrize("content", [VERSION_1, VERSION_2], ids=["1.4", "2"])
def test_position_lists_of_micro_manager_are_read(content, tmp_path):
    path = tmp_path / "places.pos"
    path.write_text(json.dumps(content))
    assert read_positions(path) == [(10.0, -20.0), (300.5, 40.0)]


def test_an_experiment_may_name_a_position_list_beside_it(tmp_path):
    (tmp_path / "places.pos").write_text(json.dumps(VERSION_2))
    content = yaml.safe_load(configs.find("virtual_widefield").read_text())
    content["area"] = {"positions_file": "places.pos"}
    path = tmp_path / "experiment.yaml"
    path.write_text(yaml.safe_dump(content))
    experiment = load_experiment(path)
    assert experiment.area == Area(positions=[(10.0, -20.0), (300.5, 40.0)])


def test_wells_of_a_plate_are_regions():
    wells = {"plate": "96-well", "a1_center_xy": (1000.0, -500.0), "selected_wells": ((0, 0, 1), (0, 2, 0))}
    area = Area.model_validate({"wells": wells})
    assert area.centres_um() == [(1000.0, -500.0), (19000.0, -500.0), (1000.0, -9500.0)]


def test_what_a_scan_runs_can_be_written_as_useq_and_read_as_an_area(tmp_path):
    experiment = load_experiment("virtual_widefield")
    paths = write_sequences(paired_scan_sequences(experiment, FRAME_YX), tmp_path)
    assert [path.name for path in paths] == ["000_low.yaml", "001_high.yaml"]
    sequence = useq.MDASequence.from_file(paths[0])
    assert isinstance(sequence.autofocus_plan, useq.AxesBasedAF)
    read = with_files_read(Area(sequence_file=paths[0].name), tmp_path)
    assert read == Area(positions=experiment.area.centres_um())


def test_a_grid_of_somebody_s_sequence_becomes_regions(tmp_path):
    grid = useq.GridRowsColumns(rows=2, columns=2, fov_width=100, fov_height=50)
    sequence = useq.MDASequence(stage_positions=[(1000, 2000, 0)], grid_plan=grid, channels=["FITC", "DAPI"])
    (tmp_path / "grid.yaml").write_text(sequence.yaml())
    read = with_files_read(Area(sequence_file="grid.yaml"), tmp_path)
    assert sorted(read.positions) == [(950, 1975), (950, 2025), (1050, 1975), (1050, 2025)]


@pytest.mark.parametrize("content", ["stage_positions: 7", "channels: [FITC]", "] no yaml ["])
def test_what_is_no_sequence_with_places_is_named(content, tmp_path):
    (tmp_path / "plan.yaml").write_text(content)
    with pytest.raises(WrongInputError, match=r"plan\.yaml"):
        with_files_read(Area(sequence_file="plan.yaml"), tmp_path)


@pytest.mark.parametrize("content", ["no json", "{}", '{"POSITIONS": []}', '{"map": {}}'])
def test_what_is_no_position_list_is_named(content, tmp_path):
    path = tmp_path / "places.pos"
    path.write_text(content)
    with pytest.raises(WrongInputError, match=r"places\.pos"):
        read_positions(path)


def test_a_plan_that_leaves_the_stage_s_travel_is_refused_and_names_the_limit():
    experiment = load_experiment("virtual_widefield").model_copy(
        update={"stage_window_um": StageWindow(x_um=(-400, 400), y_um=(-400, 400))}
    )
    with pytest.raises(WrongInputError, match=r"stage_window_um\.x_um"):
        paired_scan_sequences(experiment, FRAME_YX)


def test_a_disk_without_room_is_refused_before_anything_is_written(tmp_path, monkeypatch):
    estimate = estimate_of(load_experiment("virtual_widefield"))
    check_disk(estimate, tmp_path / "not" / "there")
    full = type("Usage", (), {"free": 100_000_000})()
    monkeypatch.setattr("acquisition.estimate.shutil.disk_usage", lambda _: full)
    with pytest.raises(WrongInputError, match="GB free"):
        check_disk(estimate, tmp_path / "not" / "there")


def test_a_dry_run_prints_its_figures_and_writes_nothing(tmp_path):
    result = CliRunner().invoke(
        app, ["scan", "virtual_widefield", "-o", str(tmp_path / "scan"), "--dry-run", "--json"]
    )
    assert result.exit_code == 0
    figures = json.loads(result.stdout.splitlines()[-1])
    assert (figures["regions"], figures["fields_low"], figures["fields_high"]) == (8, 8, 32)
    assert figures["disk_gb"] > 0.05
    assert not (tmp_path / "scan").exists()


def test_a_scan_without_a_folder_is_refused():
    assert CliRunner().invoke(app, ["scan", "virtual_widefield"]).exit_code == 2
