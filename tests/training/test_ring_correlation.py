"""Two noisy acquisitions of a band-limited field agree to its cutoff, and not beyond."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from training.evaluation.not_measurable import NotMeasurableError
from training.evaluation.ring_correlation import RingCorrelation, resolution_px, ring_correlation, two_sigma


def band_limited(cutoff_per_px, shape_yx, rng):
    """Return a random field that holds every frequency below a cutoff alike, of variance 1."""
    y, x = np.fft.fftfreq(shape_yx[0])[:, np.newaxis], np.fft.rfftfreq(shape_yx[1])
    transform = np.fft.rfft2(rng.normal(size=shape_yx)) * (np.hypot(y, x) <= cutoff_per_px)
    field = np.fft.irfft2(transform, shape_yx)
    return field / field.std()


def two_acquisitions(cutoff_per_px, noise_std, shape_yx=(512, 512), seed=0):
    rng = np.random.default_rng(seed)
    field = band_limited(cutoff_per_px, shape_yx, rng)
    return tuple(100 + 10 * field + rng.normal(0, 10 * noise_std, shape_yx) for _ in range(2))


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("noise_std", [0.1, 0.5, 1.0])
@pytest.mark.parametrize("cutoff_per_px", [0.15, 0.25, 0.35])
def test_the_resolution_of_a_band_limited_field_is_its_cutoff(cutoff_per_px, noise_std, seed):
    curve = ring_correlation(*two_acquisitions(cutoff_per_px, noise_std, seed=seed))
    assert 1 / resolution_px(curve) == pytest.approx(cutoff_per_px, rel=0.05)


def test_so_it_is_of_an_oblong_field_and_by_the_two_sigma_curve():
    curve = ring_correlation(*two_acquisitions(0.2, 0.5, (330, 415)))
    assert 1 / resolution_px(curve) == pytest.approx(0.2, rel=0.05)
    assert 1 / resolution_px(curve, two_sigma(curve)) == pytest.approx(0.2, rel=0.05)


def test_below_the_cutoff_the_correlation_is_signal_over_signal_and_noise():
    # A flat band of radius c holds all of the signal in pi c^2 of the plane.
    curve = ring_correlation(*two_acquisitions(0.25, 1.0))
    signal = 1 / (np.pi * 0.25**2)
    band = (curve.frequency_per_px > 0.05) & (curve.frequency_per_px < 0.23)
    assert curve.correlation[band].mean() == pytest.approx(signal / (signal + 1), abs=0.01)


def test_noise_exceeds_two_sigma_on_few_rings():
    rng = np.random.default_rng(5)
    curve = ring_correlation(rng.normal(size=(512, 512)), rng.normal(size=(512, 512)))
    assert 2 * np.std(curve.correlation / two_sigma(curve)) == pytest.approx(1, abs=0.12)
    assert (curve.correlation > two_sigma(curve)).mean() < 0.06


def test_the_place_between_two_rings_is_found():
    frequency = np.arange(1, 101) / 200
    straight = RingCorrelation(frequency, 1 - 2 * frequency, np.full(100, 1e3))
    assert 1 / resolution_px(straight) == pytest.approx((1 - 1 / 7) / 2, rel=1e-6)
    assert 1 / resolution_px(straight, 0.5) == pytest.approx(0.25, rel=1e-6)


@settings(max_examples=15, deadline=None)
@given(st.floats(0.01, 100), st.floats(-1e3, 1e3))
def test_gain_offset_and_order_do_not_matter(gain, offset):
    first, second = two_acquisitions(0.2, 0.5, (64, 64))
    plain = ring_correlation(first, second).correlation
    assert ring_correlation(second, gain * first + offset).correlation == pytest.approx(plain, abs=1e-6)
    assert np.abs(plain).max() <= 1 + 1e-12


def test_an_image_agrees_with_itself_to_its_pixels_and_a_shift_shows_as_a_loss():
    image, _ = two_acquisitions(0.5, 0.1)
    curve = ring_correlation(image, image)
    assert curve.correlation == pytest.approx(1)
    with pytest.raises(NotMeasurableError, match="down to 2 px"):
        resolution_px(curve)
    assert resolution_px(ring_correlation(image, np.roll(image, 2, axis=1))) > 4


def test_images_that_have_nothing_in_common_say_so():
    rng = np.random.default_rng(1)
    curve = ring_correlation(rng.normal(size=(256, 256)), rng.normal(size=(256, 256)))
    with pytest.raises(NotMeasurableError, match="agree in no detail"):
        resolution_px(curve, 0.5)


@pytest.mark.parametrize(
    ("first", "second", "reason"),
    [
        (np.eye(64), np.full((64, 64), np.inf), "no number"),
        (np.ones((64, 64)), np.eye(64), "all pixels are 1"),
        (np.eye(31), np.eye(31), "31 x 31 px"),
        (np.eye(64), np.eye(65), "one grid"),
    ],
)
def test_what_cannot_be_measured_says_why(first, second, reason):
    with pytest.raises(NotMeasurableError, match=reason):
        ring_correlation(first, second)
