import numpy as np
import pytest
from scipy import ndimage
from skimage.restoration import richardson_lucy as reference_richardson_lucy

from inference.engine import load_engine
from training.evaluation.deconvolution import best_richardson_lucy, effective_psf, richardson_lucy
from training.evaluation.evaluate import METHODS, evaluate
from training.evaluation.metrics import score
from training.evaluation.pictures import side_by_side_png
from training.evaluation.report import detail_panels, evaluation_sections, write_report


def texture(side=128, sigma=2.0, seed=0):
    noise = np.random.default_rng(seed).normal(size=(side, side))
    smooth = ndimage.gaussian_filter(noise, sigma)
    return ((smooth - smooth.min()) / np.ptp(smooth) * 100).astype(np.float32)


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


def test_the_effective_psf_is_normalised_and_wider_than_the_airy_disc():
    psf = effective_psf(0.4, 522, 0.325, 2)
    assert psf.sum() == pytest.approx(1.0)
    profile = psf[16] / psf[16].max()
    above = np.flatnonzero(profile >= 0.5)
    fwhm_um = 0.325 * (above[-1] - above[0] + 1)
    assert 0.51 * 0.522 / 0.4 < fwhm_um < 1.8 * 0.51 * 0.522 / 0.4


def test_richardson_lucy_agrees_with_scikit_image_away_from_the_border():
    psf = effective_psf(0.4, 522, 0.325, 2)
    image = ndimage.convolve(texture(160), psf, mode="reflect").astype(np.float32)
    *_, ours = richardson_lucy(image, psf, 5)
    start = np.pad(image, psf.shape[0], mode="symmetric")
    expected = reference_richardson_lucy(start / 200, psf, num_iter=5, clip=False) * 200
    inside = expected[33:-33, 33:-33][40:-40, 40:-40]
    np.testing.assert_allclose(ours[40:-40, 40:-40], inside, rtol=0.03)


def test_the_best_iteration_scores_no_lower_than_its_neighbours_and_beats_the_input():
    psf = effective_psf(0.4, 522, 0.325, 2)
    truth = texture(160, sigma=1.2)
    image = ndimage.convolve(truth, psf, mode="reflect") + np.random.default_rng(0).normal(
        0, 0.5, truth.shape
    )
    best = best_richardson_lucy(image.astype(np.float32), truth, psf, 20)
    assert 1 <= best.iterations <= 20
    assert score(best.image, truth).psnr_db > score(image, truth).psnr_db


def test_evaluation_scores_every_method_on_every_test_field(model_zip, pair_set):
    evaluation = evaluate(load_engine(model_zip, "cpu"), pair_set)
    assert evaluation.truth == "acquired"
    assert [field.record.split for field in evaluation.fields] == ["test"]
    for method in METHODS:
        assert np.isfinite(evaluation.mean(method, "psnr_db"))
    assert evaluation.mean("richardson_lucy", "psnr_db") > evaluation.mean("bilinear", "psnr_db")


def test_the_report_is_one_file_with_its_pictures_inside_and_the_hash_on_them(model_zip, pair_set, tmp_path):
    evaluation = evaluate(load_engine(model_zip, "cpu"), pair_set)
    write_report(tmp_path / "report.html", "A <title>", evaluation_sections(evaluation))
    page = (tmp_path / "report.html").read_text()
    assert "A &lt;title&gt;" in page
    assert "data:image/png;base64," in page
    assert 'src="http' not in page
    labels = detail_panels(evaluation.fields[0], evaluation.model_hash)
    assert f"ENHANCED, model {evaluation.model_hash[:8]}" in labels


def test_a_panel_without_contrast_can_be_drawn():
    assert side_by_side_png({"flat": np.zeros((8, 8))}, pixel_size_um=1.0).startswith(b"\x89PNG")
