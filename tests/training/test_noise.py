"""Noise, background and error of known size go in, and come out."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from skimage.metrics import normalized_root_mse

from training.evaluation.agreement import nrmse, pearson
from training.evaluation.metrics import fit_to_truth
from training.evaluation.noise import background_noise, signal_to_noise
from training.evaluation.not_measurable import NotMeasurableError


def discs(side=256, height=100.0, radius_px=6.0):
    """Return flat discs, 64 px apart, on nothing."""
    y, x = np.mgrid[:side, :side] % 64 - 32.0
    return height * (np.hypot(y, x) <= radius_px)


def noisy(image, std, seed=0, level=20.0):
    return image + np.random.default_rng(seed).normal(level, std, image.shape)


@pytest.mark.parametrize("std", [0.5, 5.0, 20.0])
def test_background_and_noise_come_out(std):
    found = background_noise(noisy(discs(), std))
    assert found.std == pytest.approx(std, rel=0.04)
    assert found.level == pytest.approx(20, abs=0.2 * std)


def test_photon_noise_is_that_of_the_background_not_of_the_structure():
    image = np.random.default_rng(0).poisson(discs(height=1000.0) + 25).astype(np.float64)
    assert background_noise(image).std == pytest.approx(5, rel=0.04)


def test_shading_and_many_cells_are_no_noise():
    y, x = np.mgrid[:256, :256]
    shading = 0.1 * x + 0.05 * y
    crowd = 100.0 * (ndimage.gaussian_filter(np.random.default_rng(3).normal(size=(256, 256)), 15) > 0)
    assert background_noise(noisy(discs() + shading, 3.0)).std == pytest.approx(3, rel=0.1)
    assert background_noise(noisy(crowd, 3.0)).std == pytest.approx(3, rel=0.1)


@pytest.mark.parametrize("snr", [2, 10, 50])
def test_the_ratio_is_height_over_noise(snr):
    assert signal_to_noise(noisy(discs(), 100.0 / snr)) == pytest.approx(snr, rel=0.05, abs=0.2)


def test_noise_alone_has_no_signal():
    assert signal_to_noise(noisy(np.zeros((512, 512)), 7.0)) == pytest.approx(0, abs=0.2)


@pytest.mark.parametrize("lowest", [-2.0, 0.0, 2.0])
def test_a_background_cut_off_at_zero_gives_the_noise_it_had(lowest):
    whole = noisy(discs(), 4.0, level=0.0)
    cut = np.maximum(whole, lowest)
    assert background_noise(cut).std == pytest.approx(4, rel=0.1)
    assert signal_to_noise(cut) == pytest.approx(25, rel=0.1)


@settings(max_examples=20, deadline=None)
@given(st.floats(0.01, 1000), st.floats(-1e3, 1e3), st.booleans())
def test_the_ratio_knows_neither_gain_nor_offset_nor_direction(gain, offset, turned):
    image = noisy(discs(128), 5.0)
    changed = gain * (image.T if turned else image) + offset
    assert signal_to_noise(changed) == pytest.approx(signal_to_noise(image), rel=1e-6)


@pytest.mark.parametrize(
    ("image", "reason"),
    [
        (np.full((80, 80), np.nan), "no number"),
        (np.zeros((80, 80)), "all pixels are 0"),
        (np.eye(47), "47 x 47 px"),
        (discs(), "no noise"),
        (discs() + np.mgrid[:256, :256][0] // 64, "no noise"),
        (np.repeat(np.eye(8), 10, axis=1).repeat(10, axis=0), "no noise"),
    ],
)
def test_noise_that_cannot_be_measured_says_why(image, reason):
    with pytest.raises(NotMeasurableError, match=reason):
        signal_to_noise(image)


def test_nrmse_is_that_of_scikit_image_after_fit_and_crop():
    truth = noisy(discs(), 1.0)
    image = 0.3 * noisy(ndimage.gaussian_filter(truth, 2.0), 4.0, seed=1) - 50
    inside = (slice(16, -16), slice(16, -16))
    expected = normalized_root_mse(truth[inside], fit_to_truth(image, truth)[inside], normalization="min-max")
    assert nrmse(image, truth) == pytest.approx(expected)


def test_nrmse_of_added_noise_is_the_noise_over_the_range():
    # The fit shrinks the image by signal / (signal + noise), and the error with its root.
    truth = discs()
    inside = truth[16:-16, 16:-16]
    image = noisy(truth, 10.0)
    left = np.sqrt(np.var(inside) / (np.var(inside) + 100))
    assert nrmse(image, truth) == pytest.approx(0.1 * left, rel=0.02)


def test_a_linear_change_is_no_disagreement():
    truth = noisy(discs(), 1.0)
    assert nrmse(3 * truth + 5, truth) == pytest.approx(0, abs=1e-9)
    assert pearson(3 * truth + 5, truth) == pytest.approx(1)
    assert pearson(-truth, truth) == pytest.approx(-1)


def test_pearson_is_that_of_numpy_within_the_border():
    truth = noisy(discs(), 1.0)
    image = noisy(truth, 20.0, seed=1)
    expected = np.corrcoef(image[16:-16, 16:-16].ravel(), truth[16:-16, 16:-16].ravel())[0, 1]
    image[:16] = 1e6  # the border does not count
    assert pearson(image.astype(np.float32), truth) == pytest.approx(expected, rel=1e-5)


def framed(inside):
    image = np.zeros((64, 64))
    image[0] = 1.0
    image[16:-16, 16:-16] = inside
    return image


@pytest.mark.parametrize("figure", [nrmse, pearson])
@pytest.mark.parametrize(
    ("image", "truth", "reason"),
    [
        (np.eye(64), np.full((64, 64), np.nan), "the truth holds 4096"),
        (np.zeros((64, 64)), np.eye(64), "the image is empty"),
        (np.eye(32), np.eye(32), "32 x 32 px"),
        (np.eye(64), np.eye(65), "one grid"),
        (framed(3.0), np.eye(64), "the image within its border is empty"),
        (np.eye(64), framed(3.0), "the truth within its border is empty"),
    ],
)
def test_agreement_that_cannot_be_measured_says_why(figure, image, truth, reason):
    with pytest.raises(NotMeasurableError, match=reason):
        figure(image, truth)
