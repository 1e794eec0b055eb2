"""Paired scans on the virtual microscope: what lies in the folder, and what happens when things fail."""

import dataclasses
import hashlib
import threading

import numpy as np
import pytest
import tifffile

from acquisition.area import Area, HighTiles
from acquisition.manifest import FocusRecord, ScanFolder
from acquisition.scan import ScanIncompleteError, run_scan
from acquisition.virtual import Sensor, from_choice, load, stand_of
from acquisition.virtual.stand import Frame
from configs.document import WrongInputError

CHANNELS = ["FITC", "DAPI", "Texas Red"]


@dataclasses.dataclass(frozen=True)
class FlakySensor(Sensor):
    """A sensor that fails at certain full-frame exposures, counted from 0."""

    failing: frozenset[int] = frozenset()
    taken: list[None] = dataclasses.field(default_factory=list)

    def expose(self, electrons, rng, **settings):
        if electrons.shape == self.shape_yx:
            self.taken.append(None)
            if len(self.taken) - 1 in self.failing:
                raise RuntimeError("frame lost on its way")
        return super().expose(electrons, rng, **settings)


@pytest.fixture
def microscope(short_experiment):
    """Make a virtual microscope for the short experiment, with another sensor where one is given."""

    def make(sensor=None):
        if sensor is None:
            return from_choice(short_experiment.microscope)
        return load("widefield", sensor=sensor, **short_experiment.microscope.imperfections)

    return make


@pytest.fixture(scope="module")
def scanned(short_experiment, tmp_path_factory):
    """One finished scan, its core, the progress that it reported and its experiment."""
    core, steps = from_choice(short_experiment.microscope), []
    path = tmp_path_factory.mktemp("scan") / "scan"
    summary = run_scan(short_experiment, core, path, progress=lambda done, total: steps.append((done, total)))
    return summary, core, steps, short_experiment


def correlation(image, expected):
    return np.corrcoef(image.ravel().astype(float), expected.ravel())[0, 1]


def test_a_scan_commits_every_field_and_reports_each(scanned):
    summary, _, steps, _ = scanned
    assert summary.complete
    assert steps == [(done, 10) for done in range(1, 11)]
    assert sorted((f.region, f.state, f.tile) for f in summary.folder.fields()) == sorted(
        (region, state, tile)
        for region in range(2)
        for state, tiles in (("low", 1), ("high", 4))
        for tile in range(tiles)
    )


def test_files_are_what_the_journal_says(scanned):
    folder = ScanFolder.open(scanned[0].folder.path)
    for field in folder.fields():
        image = folder.read_field(field)
        assert (image.shape, image.dtype) == ((3, 192, 192), np.uint16)
        assert hashlib.sha256((folder.path / field.file).read_bytes()).hexdigest() == field.sha256


def test_the_manifest_describes_objectives_channels_and_plan(scanned):
    summary, _, _, experiment = scanned
    manifest = ScanFolder.open(summary.folder.path).manifest
    assert manifest.objectives["high"].numerical_aperture == 0.75
    assert manifest.objectives["high"].pixel_size_affine == pytest.approx((0.325, 0, 0, 0, 0.325, 0))
    assert [(c.name, c.emission_nm) for c in manifest.channels] == [
        ("FITC", 522),
        ("DAPI", 447),
        ("Texas Red", 624),
    ]
    assert type(experiment).model_validate(manifest.plan) == experiment


def test_every_field_has_a_focus_curve_that_led_to_the_true_plane(scanned):
    summary, core, _, _ = scanned
    stand = stand_of(core)
    curves = {(r.region, r.state, r.tile): r for r in summary.folder.lines() if isinstance(r, FocusRecord)}
    for field in summary.folder.fields():
        record = curves[field.region, field.state, field.tile]
        objective, quarter_um = {"low": ("10X", 5.1 / 4), "high": ("20X", 1.4 / 4)}[field.state]
        true_um = stand.best_focus_um(objective, (field.stage_x_um, field.stage_y_um))
        assert record.succeeded
        assert 3 <= len(record.curve) <= 18
        assert abs(field.focus_um - true_um) < quarter_um
        assert field.focus_um == pytest.approx(record.focus_um, abs=0.01)


def test_every_frame_shows_its_own_place_state_and_channel(scanned):
    summary, core, _, experiment = scanned
    stand = stand_of(core)
    for field in summary.folder.fields():
        objective = {"low": "10X", "high": "20X"}[field.state]
        for image, channel in zip(summary.folder.read_field(field), CHANNELS, strict=True):
            frame = Frame(objective, channel, (field.stage_x_um, field.stage_y_um), field.focus_um)
            exposure_ms = experiment.channel(channel).exposure_ms[field.state]
            expected = stand.sensor.expected_counts(stand.expected_electrons(frame, exposure_ms)) + 100
            assert correlation(image, expected) > 0.9
            assert image.mean() == pytest.approx(expected.mean(), rel=0.01)


def test_a_field_opens_as_ome_tiff_with_its_pixel_size(scanned):
    summary = scanned[0]
    high = next(field for field in summary.folder.fields() if field.state == "high")
    with tifffile.TiffFile(summary.folder.path / high.file) as tiff:
        assert 'PhysicalSizeX="0.325"' in tiff.ome_metadata
        assert 'Name="Texas Red"' in tiff.ome_metadata


def test_a_lost_exposure_is_tried_again(microscope, short_experiment, tmp_path):
    core = microscope(FlakySensor((192, 192), failing=frozenset({4})))
    assert run_scan(one_region(short_experiment), core, tmp_path / "scan").complete


def test_an_exposure_lost_twice_is_a_hole_and_shifts_no_later_frame(microscope, short_experiment, tmp_path):
    # Full frames 0 to 2 are the low field; 3 to 5 the first high tile, whose second channel fails twice.
    core = microscope(FlakySensor((192, 192), failing=frozenset({4, 5})))
    summary = run_scan(one_region(short_experiment), core, tmp_path / "scan")
    (hole,) = summary.holes
    assert (hole.region, hole.state, hole.tile) == (0, "high", 0)
    assert "DAPI" in hole.reason
    assert "frame lost" in hole.reason
    assert not summary.complete
    stand = stand_of(core)
    committed = [field for field in summary.folder.fields() if field.state == "high"]
    assert [field.tile for field in committed] == [1, 2, 3]
    for field in committed:
        for image, channel in zip(summary.folder.read_field(field), CHANNELS, strict=True):
            frame = Frame("20X", channel, (field.stage_x_um, field.stage_y_um), field.focus_um)
            assert correlation(image, stand.expected_electrons(frame, 100.0)) > 0.9


def test_resume_fills_the_holes_and_takes_nothing_twice(microscope, short_experiment, tmp_path):
    experiment = one_region(short_experiment)
    first = run_scan(
        experiment, microscope(FlakySensor((192, 192), failing=frozenset({4, 5}))), tmp_path / "scan"
    )
    before = {field.file: field.sha256 for field in first.folder.fields()}
    second = run_scan(experiment, microscope(), tmp_path / "scan", resume=True)
    assert second.complete
    after = [(field.file, field.sha256) for field in second.folder.fields()]
    assert len(after) == len(before) + 1
    assert before.items() <= dict(after).items()


def test_a_focus_that_is_not_found_is_a_hole_with_its_curve(microscope, short_experiment, tmp_path):
    experiment = one_region(short_experiment)
    states = {
        **experiment.states,
        "high": experiment.states["high"].model_copy(update={"focus_window_um": (-220.0, 2.0)}),
    }
    # The true plane of the high objective lies at about 10 um, outside the window now.
    experiment = experiment.model_copy(update={"states": states})
    summary = run_scan(experiment, microscope(), tmp_path / "scan")
    assert [(hole.state, hole.tile) for hole in summary.holes] == [("high", tile) for tile in range(4)]
    failed = [line for line in summary.folder.lines() if isinstance(line, FocusRecord) and not line.succeeded]
    assert len(failed) == 4
    assert all(position <= 2.0 for record in failed for position, _ in record.curve)
    assert "edge" in failed[0].reason


def test_a_cancelled_scan_says_so_and_keeps_what_is_committed(microscope, short_experiment, tmp_path):
    core = microscope()

    def cancel(done, _total):
        if done == 3:
            core.mda.cancel()

    with pytest.raises(ScanIncompleteError, match="--resume"):
        run_scan(short_experiment, core, tmp_path / "scan", progress=cancel)
    assert len(ScanFolder.open(tmp_path / "scan").fields()) == 3


def test_a_disk_that_refuses_ends_the_scan_and_names_no_field(microscope, short_experiment, tmp_path):
    def take_the_folder_away(done, _total):
        if done == 1:
            (tmp_path / "scan").rename(tmp_path / "moved")

    with pytest.raises(OSError, match="scan"):
        run_scan(short_experiment, microscope(), tmp_path / "scan", progress=take_the_folder_away)
    assert len(ScanFolder.open(tmp_path / "moved").fields()) == 1


def test_the_engine_that_was_there_comes_back(microscope, short_experiment, tmp_path):
    core = microscope()
    before = core.mda.engine
    run_scan(low_only(short_experiment), core, tmp_path / "scan")
    assert core.mda.engine is before
    assert not any(thread.name.startswith("scan") for thread in threading.enumerate())


def test_a_folder_with_a_scan_is_not_written_over(scanned):
    summary, core, _, experiment = scanned
    before = (summary.folder.path / "journal.jsonl").read_bytes()
    with pytest.raises(WrongInputError, match="already holds a scan"):
        run_scan(experiment, core, summary.folder.path)
    assert (summary.folder.path / "journal.jsonl").read_bytes() == before


def test_a_scan_is_resumed_with_the_same_experiment_only(scanned):
    summary, core, _, experiment = scanned
    other = experiment.model_copy(update={"objective_change": "per_region"})
    with pytest.raises(WrongInputError, match="another experiment"):
        run_scan(other, core, summary.folder.path, resume=True)


def test_an_experiment_that_does_not_fit_writes_nothing(microscope, short_experiment, tmp_path):
    channels = [
        short_experiment.channels[0].model_copy(update={"preset": "Cy5"}),
        *short_experiment.channels[1:],
    ]
    with pytest.raises(WrongInputError, match="Cy5"):
        run_scan(short_experiment.model_copy(update={"channels": channels}), microscope(), tmp_path / "scan")
    assert not (tmp_path / "scan").exists()


def one_region(experiment):
    return experiment.model_copy(update={"area": Area(positions=[(0.0, 0.0)])})


def low_only(experiment):
    """Make a scan as short as it can be: one low field and one high tile, in FITC alone."""
    area = Area(positions=[(0.0, 0.0)], high_tiles=HighTiles(rows=1, columns=1))
    return experiment.model_copy(update={"area": area, "channels": experiment.channels[:1]})
