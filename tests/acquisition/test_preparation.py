"""What a microscope and a calibration add to an experiment, and what the scan makes of it."""

from datetime import UTC, datetime, timedelta

import pytest

from acquisition.area import Area, HighTiles
from acquisition.calibration import Calibration, CameraRecord, Offset, StateCalibration, write_calibration
from acquisition.microscope import Microscope
from acquisition.plan import load_experiment
from acquisition.preparation import settle
from acquisition.scan import plan_scan, run_scan
from acquisition.virtual import from_choice
from configs.document import WrongInputError

TEXAS_RED_UM = -0.4


def offset(mean):
    return Offset(mean=mean, standard_error=0.02, fields=9)


def state(objective, magnification, pixel_um, rotation):
    return StateCalibration(
        objective=objective,
        magnification=magnification,
        pixel_size_um=pixel_um,
        pixel_size_standard_error_um=1e-4,
        affine=(pixel_um, -rotation * pixel_um, 0, rotation * pixel_um, pixel_um, 0),
        rotation_deg=0.1,
        rotation_standard_error_deg=0.001,
        mirrored=False,
        fields=9,
    )


@pytest.fixture
def calibration(short_experiment):
    channels = {"FITC": offset(0.0), "DAPI": offset(0.0), "Texas Red": offset(TEXAS_RED_UM)}
    return Calibration(
        microscope="virtual widefield",
        camera=CameraRecord(frame_shape_yx=(192, 192), binning=1, camera_pixel_um=6.5),
        states={
            "low": state(short_experiment.states["low"].objective, 10, 0.6501, 0.002),
            "high": state(short_experiment.states["high"].objective, 20, 0.3251, 0.002),
        },
        parfocal_um=offset(5.9),
        parcentric_um=(offset(2.5), offset(-1.8)),
        focus_channel="FITC",
        channel_focus_um={"low": channels, "high": channels},
    )


@pytest.fixture
def calibrated(short_experiment, calibration, tmp_path):
    write_calibration(tmp_path / "calibration.json", calibration)
    area = Area(positions=[(0.0, 0.0)], high_tiles=HighTiles(rows=1, columns=1))
    return short_experiment.model_copy(update={"calibration": tmp_path / "calibration.json", "area": area})


def test_the_high_fields_are_moved_to_show_what_the_low_ones_show(calibrated):
    _, (low, high) = plan_scan(calibrated, from_choice(calibrated.microscope))
    assert (low.stage_positions[0].x, low.stage_positions[0].y) == (0.0, 0.0)
    assert (high.stage_positions[0].x, high.stage_positions[0].y) == pytest.approx((-2.5, 1.8))


def test_pixel_sizes_and_offsets_are_the_calibrated_ones(calibrated):
    core = from_choice(calibrated.microscope)
    settled = settle(calibrated, Microscope.for_experiment(core, calibrated))
    assert settled.experiment.states["low"].pixel_size_um == 0.6501
    assert settled.experiment.focus.parfocal_offset_um == 5.9
    assert settled.affines["high"][1] == pytest.approx(-0.002 * 0.3251)


def test_a_calibrated_scan_finds_the_high_plane_in_few_exposures_and_follows_each_channel(
    calibrated, tmp_path
):
    core = from_choice(calibrated.microscope)
    taken = []
    core.mda.events.frameReady.connect(
        lambda _image, event: taken.append((event.channel.config, core.getPosition()))
    )
    summary = run_scan(calibrated, core, tmp_path / "scan")
    assert summary.folder.manifest.objectives["high"].pixel_size_um == 0.3251
    planes = {field.state: field.focus_um for field in summary.folder.fields()}
    for channel, position_um in taken[3:]:
        shift_um = TEXAS_RED_UM if channel == "Texas Red" else 0.0
        assert position_um == pytest.approx(planes["high"] + shift_um, abs=0.01)
    _, high = [line for line in summary.folder.lines() if line.kind == "focus"]
    assert high.expected_um == pytest.approx(high.focus_um, abs=0.5)
    # Parcentric: the high field lies in the middle of the low one, to within the stage's own error.
    (tile,) = [field for field in summary.folder.fields() if field.state == "high"]
    assert max(map(abs, tile.quality.registration.shift_xy_um)) < 1.5


def test_a_calibration_that_is_not_there_is_named(calibrated, tmp_path):
    experiment = calibrated.model_copy(update={"calibration": tmp_path / "nosuch.json"})
    with pytest.raises(WrongInputError, match=r"nosuch\.json.*sharpscope calibrate"):
        plan_scan(experiment, from_choice(experiment.microscope))


def test_a_stale_calibration_is_refused(calibrated, calibration):
    old = calibration.model_copy(update={"created": datetime.now(UTC) - timedelta(days=200)})
    write_calibration(calibrated.calibration, old)
    with pytest.raises(WrongInputError, match="200 days old"):
        plan_scan(calibrated, from_choice(calibrated.microscope))


def test_an_experiment_file_names_its_calibration_beside_itself(tmp_path):
    import configs

    text = configs.find("virtual_widefield").read_text() + "\ncalibration: mine.json\n"
    (tmp_path / "experiment.yaml").write_text(text)
    assert load_experiment(tmp_path / "experiment.yaml").calibration == tmp_path / "mine.json"
