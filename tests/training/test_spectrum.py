"""White noise is flat, a grating is a line, a blur is its transfer function; an offset leaves no trace."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from training.evaluation.not_measurable import NotMeasurableError
from training.evaluation.spectrum import (
    high_frequency_error_db,
    power_spectrum,
    ring_frequencies,
    ring_sums,
    spectrum_ratio,
)


def noise(shape_yx=(128, 128), seed=0, std=1.0):
    return np.random.default_rng(seed).normal(0, std, shape_yx)


@pytest.mark.parametrize("shape_yx", [(256, 256), (200, 311)])
def test_white_noise_has_its_variance_on_every_ring(shape_yx):
    spectrum = power_spectrum(noise(shape_yx, std=3.0) + 50)
    assert spectrum.power[10:].mean() == pytest.approx(9.0, rel=0.02)
    assert np.abs(np.log(spectrum.power[20:] / 9.0)).max() < 0.5


@pytest.mark.parametrize("angle_deg", [0, 30, 90])
def test_a_grating_is_a_line_at_its_frequency(angle_deg):
    y, x = np.mgrid[:200, :200]
    angle = np.deg2rad(angle_deg)
    image = np.cos(2 * np.pi * 0.12 * (y * np.sin(angle) + x * np.cos(angle)))
    spectrum = power_spectrum(image)
    assert spectrum.frequency_per_px[np.argmax(spectrum.power)] == pytest.approx(0.12, abs=0.5 / 200)
    assert spectrum.frequency_per_um(0.5)[-1] == pytest.approx(1.0)


def test_the_rings_hold_every_frequency_to_nyquist_once():
    shape_yx = (9, 12)
    full = np.hypot(*np.meshgrid(np.fft.fftfreq(9), np.fft.fftfreq(12), indexing="ij"))
    _, pixels = ring_sums(np.ones((9, 7)), shape_yx)
    radii = ring_frequencies(shape_yx)
    inside = (full >= 0.5 / 9) & (full < radii[-1] + 0.5 / 9)
    assert pixels.sum() == inside.sum()
    assert radii.tolist() == pytest.approx([1 / 9, 2 / 9, 3 / 9, 4 / 9])


def test_the_ratio_of_a_blurred_image_is_the_squared_transfer_function():
    truth = noise((256, 256), 1)
    ratio = spectrum_ratio(ndimage.gaussian_filter(truth, 1.2, mode="wrap"), truth)
    expected = np.exp(-((2 * np.pi * 1.2 * ratio.frequency_per_px) ** 2))
    seen = slice(5, 75)  # 0.3 cycles per px, where a hundredth is left
    assert ratio.power[seen] == pytest.approx(expected[seen], rel=0.05)


def test_half_the_power_is_an_error_of_three_decibels_as_is_twice():
    truth = noise()
    for gain in (np.sqrt(0.5), np.sqrt(2.0)):
        assert high_frequency_error_db(gain * truth + 7, truth) == pytest.approx(3.01, abs=0.01)


def test_a_blur_and_added_noise_are_both_errors_and_the_truth_has_none():
    truth = ndimage.gaussian_filter(noise(), 1.0)
    assert high_frequency_error_db(truth, truth) == 0
    assert high_frequency_error_db(ndimage.gaussian_filter(truth, 1.0), truth) > 5
    assert high_frequency_error_db(truth + noise(seed=1), truth) > 5


def test_only_the_band_counts():
    truth = noise()
    blurred = ndimage.gaussian_filter(truth, 1.5, mode="wrap")
    assert high_frequency_error_db(blurred, truth, 0.0, 0.03) < 0.5
    assert high_frequency_error_db(blurred, truth, 0.3, 0.4) > 20


@settings(max_examples=20, deadline=None)
@given(st.floats(-1e4, 1e4), st.floats(0.01, 100), st.booleans())
def test_an_offset_leaves_no_trace_a_gain_its_square_and_a_flip_none(offset, gain, flip):
    image = noise((40, 40))
    changed = gain * (image.T if flip else image) + offset
    expected = gain**2 * power_spectrum(image).power
    assert power_spectrum(changed).power == pytest.approx(expected, rel=1e-6)


def test_single_precision_gives_the_same_spectrum():
    image = noise() + 10
    single = power_spectrum(image.astype(np.float32)).power
    assert single == pytest.approx(power_spectrum(image).power, rel=1e-4)


@pytest.mark.parametrize(
    ("image", "truth", "reason"),
    [
        (noise(), np.full((128, 128), np.nan), "no number"),
        (np.zeros((128, 128)), noise(), "all pixels are 0"),
        (noise((15, 40)), noise((15, 40)), "15 x 40 px"),
        (noise((40, 40)), noise((40, 41)), "one grid"),
        (noise((3, 40, 40)), noise((3, 40, 40)), "plane"),
    ],
)
def test_what_cannot_be_measured_says_why(image, truth, reason):
    with pytest.raises(NotMeasurableError, match=reason):
        spectrum_ratio(image, truth)
    with pytest.raises(NotMeasurableError, match=reason):
        high_frequency_error_db(image, truth)


def test_a_band_without_rings_or_a_truth_without_power_says_so():
    with pytest.raises(NotMeasurableError, match=r"no frequency lies between 0\.51"):
        high_frequency_error_db(noise(), noise(), 0.51, 0.6)
    y, x = np.mgrid[:128, :128] - 64.0
    smooth = np.exp(-(y**2 + x**2) / (2 * 4.0**2))  # exp(-51) of its power is left at 0.4 cycles per px
    with pytest.raises(NotMeasurableError, match="the truth holds nothing at"):
        high_frequency_error_db(noise(), smooth, 0.4, 0.5)
    with pytest.raises(NotMeasurableError, match="the image holds nothing at"):
        high_frequency_error_db(smooth, noise(), 0.4, 0.5)
    with pytest.raises(NotMeasurableError, match="the truth holds nothing at"):
        spectrum_ratio(noise(), smooth)
