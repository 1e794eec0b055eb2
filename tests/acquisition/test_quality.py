"""The judgement at the microscope: what is measured, and what is held against a field."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter

from acquisition.manifest import FieldQuality, ShiftToLow
from acquisition.plan import QualityLimits
from acquisition.quality import HighInLow, complaints, measure, shift_to_low

STRAIGHT = HighInLow(0.65 * np.eye(2), 0.325 * np.eye(2))
RIGHT_ANGLE = np.array([[0.0, -1.0], [1.0, 0.0]])
TURNED = HighInLow(0.65 * RIGHT_ANGLE, 0.325 * RIGHT_ANGLE)


def scene(seed=0, side=768):
    spots = np.random.default_rng(seed).random((side, side)) > 0.997
    return gaussian_filter(spots.astype(float) * 3000, 2.0)


def noisy(image, seed=1):
    return np.random.default_rng(seed).poisson(image * 40 + 100).astype(np.uint16)


def pair(shift_yx_px=(0, 0)):
    """A low field of 192 px and a high one of 192 px whose centre lies `shift` low pixels away."""
    fine = scene()
    low = noisy(fine[192:576, 192:576].reshape(192, 2, 192, 2).mean((1, 3)))
    top, left = (288 + 2 * shift for shift in shift_yx_px)
    return low, noisy(fine[top : top + 192, left : left + 192], seed=2)


@given(dy=st.integers(-30, 30), dx=st.integers(-30, 30))
@settings(max_examples=15, deadline=None)
def test_a_high_field_is_found_where_it_is(dy, dx):
    low, high = pair((dy, dx))
    found = shift_to_low(low, high, (0.0, 0.0), STRAIGHT)
    assert found.shift_xy_um == pytest.approx((0.65 * dx, 0.65 * dy), abs=0.35)
    assert found.correlation > 0.7


def test_what_the_stage_says_is_taken_off():
    low, high = pair((10, -20))
    found = shift_to_low(low, high, (-13.0, 6.5), STRAIGHT)
    assert found.shift_xy_um == pytest.approx((0.0, 0.0), abs=0.35)
    assert found.overlap == pytest.approx(1.0)


def test_a_camera_that_is_turned_says_the_same_of_the_stage():
    low, high = pair((10, -20))
    found = shift_to_low(low, high, (0.0, 0.0), TURNED)
    assert found.shift_xy_um == pytest.approx(tuple(0.65 * RIGHT_ANGLE @ (-20, 10)), abs=0.35)


def test_a_high_field_that_hangs_over_the_edge_says_how_far():
    low, high = pair((0, 60))
    found = shift_to_low(low, high, (0.65 * 60, 0.0), STRAIGHT)
    assert found.overlap == pytest.approx((96 - 12) / 96, abs=0.02)


def test_an_empty_field_has_nothing_to_compare():
    low, _ = pair()
    empty = np.random.default_rng(0).poisson(100.0, (192, 192)).astype(np.uint16)
    assert shift_to_low(low, empty, (0.0, 0.0), STRAIGHT) is None


def test_another_place_does_not_correlate():
    low, _ = pair()
    elsewhere = noisy(scene(seed=9)[:192, :192])
    assert shift_to_low(low, elsewhere, (0.0, 0.0), STRAIGHT).correlation < 0.4


def test_saturation_and_brightness_are_those_of_each_channel():
    dark, bright = np.full((100, 100), 200, np.uint16), np.full((100, 100), 1000, np.uint16)
    bright[:10] = 4095
    quality = measure(np.stack([dark, bright]), 4095, True, None, None)
    assert quality.saturated_fraction == [0.0, pytest.approx(0.1)]
    assert quality.median_counts == [200, 1000]


def test_a_well_that_is_full_below_the_largest_count_is_saturated_too():
    rng = np.random.default_rng(0)
    image = np.minimum(rng.exponential(9000, (1, 200, 200)), 60_000) + rng.normal(100, 3, (1, 200, 200))
    share = measure(image.astype(np.uint16), 65_535, True, None, None).saturated_fraction[0]
    assert share == pytest.approx(np.exp(-60 / 9), rel=0.25)


def test_the_brightest_pixels_of_a_dim_field_are_not_saturated():
    dim = np.random.default_rng(0).poisson(200, (1, 200, 200)).astype(np.uint16)
    assert measure(dim, 65_535, True, None, None).saturated_fraction == [0.0]


GOOD = {"saturated_fraction": [0.0], "median_counts": [100.0], "bright_counts": [900.0]}


@pytest.mark.parametrize(
    ("figures", "named"),
    [
        ({"saturated_fraction": [0.01]}, "1.0% of FITC is saturated"),
        ({"sharpness_ratio": 0.3}, "sharpness is 0.30"),
        ({"structured": False}, "nothing shows"),
        ({"registration": ShiftToLow(shift_xy_um=(30, 0), correlation=0.9, overlap=1)}, "30.0 um"),
        (
            {"registration": ShiftToLow(shift_xy_um=(0, 0), correlation=0.1, overlap=1)},
            "not found in the low",
        ),
        ({"registration": ShiftToLow(shift_xy_um=(0, 0), correlation=0.9, overlap=0.5)}, "only 50% lie"),
    ],
)
def test_what_passes_a_limit_is_named(figures, named):
    (reason,) = complaints(FieldQuality(**(GOOD | figures)), QualityLimits(), ["FITC"])
    assert named in reason


def test_a_good_field_has_nothing_held_against_it():
    fine = ShiftToLow(shift_xy_um=(1.0, 2.0), correlation=0.9, overlap=1.0)
    quality = FieldQuality(**GOOD, sharpness_ratio=0.97, registration=fine)
    assert complaints(quality, QualityLimits(), ["FITC"]) == []
