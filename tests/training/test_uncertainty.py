"""Errors of known size go in; coverage, curve and calibration error come out."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from training.evaluation.not_measurable import NotMeasurableError
from training.evaluation.uncertainty import calibration, coverage, expected_coverage

SHAPE = (2, 300, 300)


def stated_and_made(times, seed=0, shape=SHAPE):
    """Return output, its stated standard deviation and truth; errors are so many times what is stated."""
    rng = np.random.default_rng(seed)
    truth = rng.uniform(0, 255, shape)
    std = np.exp(rng.normal(1, 0.7, shape))
    return truth + times * std * rng.normal(0, 1, shape), std, truth


@pytest.mark.parametrize("times", [0.5, 1.0, 2.0])
def test_coverage_is_that_of_a_normal_distribution(times):
    output, std, truth = stated_and_made(times)
    found = calibration(output, std, truth)
    for sigmas, share in ((1, found.coverage_1_sigma), (2, found.coverage_2_sigma)):
        assert share == pytest.approx(expected_coverage(sigmas / times), abs=0.005)
        assert share == coverage(output, std, truth, sigmas)


def test_expected_coverage_is_the_rule_of_68_and_95():
    assert expected_coverage(1) == pytest.approx(0.6827, abs=1e-4)
    assert expected_coverage(2) == pytest.approx(0.9545, abs=1e-4)


@pytest.mark.parametrize(("times", "ence"), [(1.0, 0.0), (2.0, 1.0), (0.5, 0.5)])
def test_the_error_of_a_calibration_is_by_how_much_errors_miss_what_is_stated(times, ence):
    found = calibration(*stated_and_made(times))
    assert found.ence == pytest.approx(ence, abs=0.02)
    assert found.observed / found.predicted == pytest.approx(times, rel=0.05)
    assert (np.diff(found.predicted) > 0).all()


def test_the_error_of_a_perfect_calibration_is_that_of_counting():
    found = [calibration(*stated_and_made(1.0, seed, (100, 100))).ence for seed in range(30)]
    assert np.mean(found) == pytest.approx(0.56 * np.sqrt(15 / 100**2), rel=0.1)


def test_one_deviation_for_all_is_right_on_the_whole_and_tells_nothing():
    rng = np.random.default_rng(0)
    truth = rng.uniform(0, 255, SHAPE)
    right = calibration(truth + rng.normal(0, 3, SHAPE), np.full(SHAPE, 3.0), truth)
    assert right.dispersion == pytest.approx(0, abs=1e-9)
    assert right.ence < 0.02
    assert calibration(*stated_and_made(1.0)).dispersion == pytest.approx(np.sqrt(np.expm1(0.49)), rel=0.05)


def test_a_model_that_is_sure_where_it_errs_has_a_curve_that_falls():
    rng = np.random.default_rng(0)
    truth, std = rng.uniform(0, 255, SHAPE), np.exp(rng.normal(0, 0.5, SHAPE))
    found = calibration(truth + rng.normal(0, 1, SHAPE) / std, std, truth)
    assert (np.diff(found.observed) < 0).all()
    assert found.ence > 0.5


@settings(max_examples=25, deadline=None)
@given(st.floats(1e-3, 1e3), st.floats(-1e3, 1e3), st.integers(0, 1000))
def test_calibration_knows_no_unit(gain, offset, seed):
    output, std, truth = stated_and_made(1.5, seed, (60, 60))
    found = calibration(output, std, truth)
    changed = calibration(gain * output + offset, gain * std, gain * truth + offset)
    assert changed.ence == pytest.approx(found.ence, rel=1e-6)
    assert changed.predicted == pytest.approx(gain * found.predicted)


def test_an_image_of_single_precision_is_measured_as_one_of_double():
    arrays = stated_and_made(1.0, shape=(64, 64))
    single = calibration(*(each.astype(np.float32) for each in arrays))
    assert single.ence == pytest.approx(calibration(*arrays).ence, rel=1e-3)


IMAGE = np.arange(10000.0).reshape(100, 100)


@pytest.mark.parametrize(
    ("output", "std", "truth", "reason"),
    [
        (IMAGE * np.nan, IMAGE + 1, IMAGE, "no number"),
        (IMAGE, IMAGE + 1, IMAGE * np.nan, "the truth holds"),
        (IMAGE, np.full((100, 100), np.inf), IMAGE, "standard deviation holds"),
        (IMAGE, IMAGE, IMAGE, "not positive at 1 pixel"),
        (IMAGE, IMAGE[:50] + 1, IMAGE, "differ in shape"),
        (np.zeros((100, 100)), IMAGE + 1, IMAGE, "all pixels are 0"),
        (IMAGE[:10], IMAGE[:10] + 1, IMAGE[:10], "1000 pixels are too few"),
    ],
)
def test_uncertainty_that_cannot_be_measured_says_why(output, std, truth, reason):
    with pytest.raises(NotMeasurableError, match=reason):
        calibration(output, std, truth)
