"""An evaluation: which fields, which images, which figures, and what it refuses."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import ndimage
from typer.testing import CliRunner

from configs.document import WrongInputError
from inference.engine import load_engine
from inference.generator import GeneratorPlan, build_generator
from inference.model_package import read_package
from sharpscope.cli import app
from training.evaluation.cross_use import OtherUse, opened
from training.evaluation.evaluate import evaluate, evaluate_network, images_of
from training.evaluation.field_view import FieldView, measure_image
from training.evaluation.figures import COLUMNS, NotMeasured, figure_of, mean_of
from training.evaluation.metrics import score
from training.evaluation.not_measurable import NotMeasurableError
from training.evaluation.pictures import side_by_side_png
from training.evaluation.report import figures_section, plots_section, uncertainty_section
from training.evaluation.report.profiles import DRAWN, profile_section
from training.evaluation.restorations import METHODS, Restorations
from training.evaluation.second_acquisition import second_of
from training.evaluation.stated_uncertainty import stated_calibration
from training.export import ModelSource, export_package
from training.pairing.pairs import Optics, PairSet
from training.settings import TrainingPlan

OPTICS = Optics(
    low_pixel_size_um=0.65,
    high_pixel_size_um=0.325,
    low_numerical_aperture=0.4,
    high_numerical_aperture=0.75,
    emission_nm={"FITC": 522.0},
)


def texture(side=128, sigma=2.0, seed=0):
    noise = np.random.default_rng(seed).normal(size=(side, side))
    smooth = ndimage.gaussian_filter(noise, sigma)
    return ((smooth - smooth.min()) / np.ptp(smooth) * 100).astype(np.float32)


@pytest.fixture(scope="module")
def evaluated(model_zip, pair_set):
    engine = load_engine(model_zip, "cpu")
    return engine, evaluate(engine, pair_set)


def test_a_linear_change_of_intensity_costs_nothing_but_is_reported():
    truth = texture()
    result = score(0.5 * truth + 10, truth)
    assert result.psnr_db > 100
    assert result.ssim == pytest.approx(1.0)
    assert result.slope == pytest.approx(0.5)
    assert result.offset == pytest.approx(10 / np.percentile(truth, 99.9))


def test_white_noise_of_known_power_gives_the_known_psnr():
    truth = texture(512)
    noise = np.random.default_rng(1).normal(0, 1, truth.shape)
    expected_db = 20 * np.log10(np.percentile(truth, 99.9) / 1.0)
    assert score(truth + noise, truth).psnr_db == pytest.approx(expected_db, abs=0.1)


def test_every_method_is_measured_on_every_test_field(evaluated):
    _, evaluation = evaluated
    assert evaluation.truth == "acquired"
    assert [field.record.split for field in evaluation.fields] == ["test"]
    assert set(evaluation.methods) == set(METHODS) - {"acquired", "second"}
    for method in evaluation.methods:
        assert isinstance(evaluation.mean(method, "psnr_db"), float)
    best, given = (evaluation.mean(m, "psnr_db") for m in ("richardson_lucy_best", "bilinear"))
    assert best > given
    known = {column.name for column in COLUMNS}
    assert all(set(m.figures) <= known for f in evaluation.fields for m in f.measured.values())


def test_the_truth_is_not_compared_with_itself(evaluated):
    _, evaluation = evaluated
    assert evaluation.mean("truth", "psnr_db") == NotMeasured("it is the truth itself")
    assert isinstance(evaluation.mean("truth", "snr"), float | NotMeasured)
    assert isinstance(evaluation.mean("truth", "rsp"), float)


def test_a_noise_free_truth_makes_the_acquired_image_a_row(model_zip, pair_set, evaluated):
    from training.pairing.truth import attach_truth

    engine, evaluation = evaluated
    copy = PairSet(pair_set.path, pair_set.index)
    record = copy.select("test", "FITC")[0]
    high = copy.read(record)[1] / copy.index.normalisation["FITC"].high.scale
    before = (copy.path / "pairs.json").read_text()
    try:
        truth = ndimage.gaussian_filter(high, 0.5)
        attach_truth(copy, record, truth)
        found = evaluate(engine, copy)
    finally:
        (copy.path / "pairs.json").write_text(before)
    assert found.truth == "noise-free"
    assert found.mean("acquired", "ssim") > found.mean("richardson_lucy_best", "ssim")
    assert evaluation.mean("acquired", "ssim") == NotMeasured("there is no such image")


def test_a_field_that_the_model_was_trained_on_is_refused(model_zip, pair_set):
    engine = load_engine(model_zip, "cpu")
    trained = pair_set.select("train", "FITC")[0]
    leaked = [trained.model_copy(update={"split": "test"})]
    copy = PairSet(pair_set.path, pair_set.index.model_copy(update={"pairs": leaked}))
    with pytest.raises(WrongInputError, match=rf"trained on 1 of the 1 test field.*{trained.file}"):
        evaluate(engine, copy)


def test_a_second_acquisition_is_found_by_its_low_file_and_brought_to_the_pair(pair_set):
    record = pair_set.select("test", "FITC")[0]
    high = pair_set.read(record)[1]
    moved = record.model_copy(
        update={"origin_yx_px": (-4, 6), "sources": record.sources | {"high again": "e" * 64}}
    )
    index = pair_set.index
    halved = index.normalisation["FITC"].model_copy(
        update={"high": index.normalisation["FITC"].high.model_copy(update={"scale": 255 / 8000})}
    )
    other = PairSet(
        pair_set.path, index.model_copy(update={"pairs": [moved], "normalisation": {"FITC": halved}})
    )
    found = second_of(record, pair_set, other)
    assert found.window == (slice(0, 188), slice(6, 192))
    np.testing.assert_allclose(found.image, 2 * high[4:, :186], rtol=1e-6)

    elsewhere = moved.model_copy(update={"sources": {"low9.tif": "9" * 64}})
    strange = PairSet(pair_set.path, other.index.model_copy(update={"pairs": [elsewhere]}))
    with pytest.raises(NotMeasurableError, match="no accepted pair of the same low file"):
        second_of(record, pair_set, strange)


def test_a_second_acquisition_is_a_row_of_the_table(model_zip, pair_set):
    engine = load_engine(model_zip, "cpu")
    record = pair_set.select("test", "FITC")[0]
    again = record.model_copy(
        update={"sources": record.sources | {"high again": "e" * 64}, "origin_yx_px": (12, 0)}
    )
    other = PairSet(pair_set.path, pair_set.index.model_copy(update={"pairs": [again]}))
    evaluation = evaluate_network(
        engine, pair_set, [record], Restorations.of(pair_set.index, "FITC"), second=other
    )
    ssim, best = (evaluation.mean(row, "ssim") for row in ("second", "richardson_lucy_best"))
    assert 0 < ssim < best  # it lies 12 px off here
    assert "second acquisition" in figures_section(evaluation).body
    assert "svg" in plots_section(evaluation).body  # its rings are others than the truth's


def test_profiles_run_through_the_same_place_of_every_image(pair_set, model_zip):
    engine = load_engine(model_zip, "cpu")
    evaluation = evaluate(engine, pair_set, search=False)
    field = evaluation.fields[0]
    images = images_of(engine, pair_set, field.record, evaluation.restorations)
    section = profile_section(evaluation, field, images)
    assert "deepest dip" in section.body
    assert section.body.count("<tr>") == 1 + len(DRAWN)
    dark = replace(images, view=replace(images.view, truth=np.zeros_like(images.view.truth)))
    assert "Not measurable" in profile_section(evaluation, field, dark).body


def test_a_field_that_cannot_be_measured_is_not_counted(pair_set, model_zip):
    evaluation = evaluate(load_engine(model_zip, "cpu"), pair_set, search=False)
    known = evaluation.fields[0]
    unknown = {
        row: replace(m, figures=dict.fromkeys(m.figures, NotMeasured("dark")))
        for row, m in known.measured.items()
    }
    both = replace(evaluation, fields=[known, replace(known, measured=unknown)])
    assert "1 of 2" in figures_section(both).body
    assert "1 of 2" not in figures_section(evaluation).body


def test_the_report_says_why_a_field_has_no_second_acquisition(pair_set, model_zip):
    engine = load_engine(model_zip, "cpu")
    records = pair_set.select("test", "FITC")
    nothing_else = Restorations(2, None, "")
    body = figures_section(evaluate_network(engine, pair_set, records, nothing_else, second=pair_set)).body
    assert "Without a second acquisition" in body
    assert "the same high image" in body


def test_the_same_acquisition_is_no_second_one(pair_set):
    record = pair_set.select("test", "FITC")[0]
    with pytest.raises(NotMeasurableError, match="the same high image"):
        second_of(record, pair_set, pair_set)


def test_a_part_of_a_field_keeps_the_fields_threshold():
    truth = texture(256, 3.0)
    noisy = truth + np.random.default_rng(3).normal(0, 12, truth.shape).astype(np.float32)
    field = FieldView.of(texture(256, seed=1), truth, OPTICS, "FITC", noisy)
    part = field.within((slice(8, 248), slice(0, 256)))
    for name, known in field.known.items():
        assert part.known[name].threshold >= known.threshold, name


def test_an_image_that_shows_nothing_has_no_share_of_inventions():
    rng = np.random.default_rng(0)
    points = np.zeros((256, 256), np.float32)
    points[tuple(rng.integers(30, 226, (2, 40)))] = 3000.0
    truth = ndimage.gaussian_filter(points, 1.2)
    field = FieldView.of(truth, truth, OPTICS, "FITC")
    blurred = ndimage.gaussian_filter(points, 12) + rng.normal(0, 1e-3, points.shape)
    figures = measure_image(blurred.astype(np.float32), field).figures
    assert figures["spots_invented"] == NotMeasured("it shows no spots")
    assert figures["spots_missed"] == pytest.approx(1.0)


def test_an_almost_empty_truth_does_not_end_the_evaluation():
    field = FieldView.of(texture(seed=1), -texture() - 1, OPTICS, "FITC")
    assert isinstance(measure_image(texture(seed=2), field).figures["psnr_db"], NotMeasured)
    border = np.zeros((128, 128), np.float32)
    border[:8] = 100.0
    field = FieldView.of(texture(seed=1), border, OPTICS, "FITC")
    assert isinstance(measure_image(texture(seed=2), field).figures["psnr_db"], NotMeasured)


def test_a_low_image_that_is_the_same_everywhere_is_not_deconvolved(evaluated, pair_set):
    engine, evaluation = evaluated
    flat = np.full((64, 64), 7.0, np.float32)
    assert set(evaluation.restorations.images(engine, flat, flat)) == {"enhanced", "bilinear", "bicubic"}


WRONG = {
    "NaN": (np.full((128, 128), np.nan, np.float32), "no number"),
    "all zeros": (np.zeros((128, 128), np.float32), "empty"),
}


@pytest.mark.parametrize(("image", "reason"), WRONG.values(), ids=list(WRONG))
def test_what_cannot_be_measured_says_why_and_gives_no_number(image, reason):
    field = FieldView.of(texture(seed=1), texture(), OPTICS, "FITC")
    measured = measure_image(image, field)
    for name in ("psnr_db", "ssim", "nrmse", "pearson", "rsp", "decorrelation_um", "snr", "frc_um"):
        figure = measured.figures[name]
        assert isinstance(figure, NotMeasured), name
        assert reason in figure.reason
    assert measured.spectrum is None


@pytest.mark.parametrize("image", [image for image, _ in WRONG.values()], ids=list(WRONG))
def test_a_truth_that_holds_nothing_leaves_no_number_that_compares(image):
    field = FieldView.of(texture(seed=1), image, OPTICS, "FITC")
    figures = measure_image(texture(), field).figures
    compared = ("psnr_db", "ssim", "nrmse", "pearson", "spectrum_error_db", "spots_invented", "fwhm_um")
    assert all(isinstance(figures[name], NotMeasured) for name in compared)


def test_of_one_spot_there_is_no_width():
    y, x = np.mgrid[:128, :128]
    spot = (100 * np.exp(-((y - 64.2) ** 2 + (x - 60.7) ** 2) / 3)).astype(np.float32)
    noise = np.random.default_rng(0).normal(1, 0.5, spot.shape).astype(np.float32)
    field = FieldView.of(spot + noise, spot + noise, OPTICS, "FITC")
    figure = measure_image(spot + noise, field).figures["fwhm_um"]
    assert isinstance(figure, NotMeasured)
    assert "one spot" in figure.reason or "1 spot" in figure.reason


def test_without_optics_there_is_no_deconvolution_and_no_unit():
    plain = Optics()
    field = FieldView.of(texture(seed=1), texture(), plain, "FITC")
    figures = measure_image(texture(seed=2), field).figures
    assert isinstance(figures["psnr_db"], float)
    for name in ("frc_um", "decorrelation_um", "fwhm_um", "spots_invented"):
        assert "does not state" in figures[name].reason


def test_what_no_widefield_psf_has_blurred_is_not_deconvolved(pair_set):
    optics = OPTICS.model_copy(update={"modality": "confocal_sted"})
    found = Restorations.of(pair_set.index.model_copy(update={"optics": optics}), "FITC")
    assert found.psf is None
    assert "confocal" in found.why_no_psf


def test_images_are_made_anew_as_they_were_measured(evaluated, pair_set):
    engine, evaluation = evaluated
    field = evaluation.fields[0]
    images = images_of(engine, pair_set, field.record, evaluation.restorations)
    again = measure_image(images.images["enhanced"], images.view)
    assert again.figures == field.measured["enhanced"].figures


def test_a_mean_is_over_what_could_be_measured():
    assert mean_of([1.0, NotMeasured("dark"), 3.0]) == 2.0
    assert mean_of([NotMeasured("dark")]) == NotMeasured("dark")
    assert figure_of(lambda: float("inf")) == NotMeasured("the measurement gave no number")


@pytest.mark.slow
def test_the_command_leaves_report_figures_table_and_card(model_zip, pair_set, tmp_path):
    arguments = ["evaluate", str(model_zip), "--pairs", str(pair_set.path), "-o", str(tmp_path), "--json"]
    arguments += ["--also", f"the same again={pair_set.path}:FITC"]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout.splitlines()[-1])["test_fields"] == 1
    page = (tmp_path / "report.html").read_text()
    assert "ENHANCED, model " in page
    assert 'src="http' not in page
    assert "Line profiles, FITC" in page
    document = json.loads((tmp_path / "figures.json").read_text())
    figures, again = document["figures"]["FITC"], document["other_uses"]["FITC"]["the same again"]
    assert again["enhanced"] == figures["enhanced"]
    table = page[page.index("the same again (1 field(s), acquired truth): network") :]
    assert "best</span>" not in table[: table.index("</section>")]  # uses are no rivals
    assert 0 < figures["enhanced"]["ssim"] < 1
    lines = (tmp_path / "images.csv").read_text().splitlines()
    assert lines[0].startswith("channel,region,file,image,psnr_db")
    assert len(lines) == 1 + len(METHODS) - 2 + 1
    assert "What it may be used for" in (tmp_path / "model_card_FITC.md").read_text()
    refused = CliRunner().invoke(app, arguments)
    assert refused.exit_code == 2
    assert "--overwrite" in refused.output


def test_of_a_model_that_states_its_errors_the_report_says_whether_they_are_right(pair_set, tmp_path):
    torch.manual_seed(0)
    shape = GeneratorPlan(base_width=4, levels=1, shuffle=2, global_residual=True, uncertainty=True)
    plan = TrainingPlan(name="uncertain", channel="FITC", generator=shape)
    generator = build_generator(shape).eval()
    model = export_package(ModelSource(generator, plan, pair_set, {}, {}), tmp_path / "model.zip")
    records = pair_set.select("test", "FITC")
    found = stated_calibration(read_package(model), pair_set, records)
    # An untrained generator gives its input back and states an error of 5 % of the full scale everywhere.
    low, acquired = pair_set.read(records[0])
    made = np.sqrt(np.mean((low - acquired) ** 2))
    assert np.mean(found.predicted) == pytest.approx(0.05 * 255, rel=0.05)
    assert np.sqrt(np.mean(found.observed**2)) == pytest.approx(made, rel=0.05)
    page = uncertainty_section("FITC", found).body
    assert f"differ by {100 * found.ence:.0f} %" in page


def test_a_certain_model_states_no_errors(model_zip, pair_set):
    assert stated_calibration(read_package(model_zip), pair_set, pair_set.select("test", "FITC")) is None


def test_another_use_that_says_nothing_is_named(model_zip, pair_set, tmp_path):
    arguments = ["evaluate", str(model_zip), "--pairs", str(pair_set.path), "-o", str(tmp_path)]
    done = CliRunner().invoke(app, [*arguments, "--also", "DAPI"])
    assert done.exit_code == 2
    assert "LABEL=PAIRS" in done.output


def test_uses_of_one_label_or_of_fields_that_were_trained_on_are_refused(model_zip, pair_set, tmp_path):
    engine = load_engine(model_zip, "cpu")
    use = OtherUse.parsed(f"more={pair_set.path}")
    with pytest.raises(WrongInputError, match="twice"):
        opened(engine, [use, use])
    leaked = [pair_set.select("train", "FITC")[0].model_copy(update={"split": "test"})]
    copy = tmp_path / "leaked"
    copy.mkdir()
    PairSet(copy, pair_set.index.model_copy(update={"pairs": leaked})).save_index()
    with pytest.raises(WrongInputError, match="trained on 1 of the 1"):
        opened(engine, [OtherUse("leaked", copy)])


def test_two_models_of_one_channel_are_refused(model_zip, pair_set, tmp_path):
    done = CliRunner().invoke(
        app, ["evaluate", str(model_zip), str(model_zip), "--pairs", str(pair_set.path), "-o", str(tmp_path)]
    )
    assert done.exit_code == 2
    assert "one model for each channel" in done.output


def test_a_panel_without_contrast_can_be_drawn():
    assert side_by_side_png({"flat": np.zeros((8, 8))}, pixel_size_um=1.0).startswith(b"\x89PNG")
