"""Two lines of known distance: peaks, separation and dip come out at every angle."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from training.evaluation.line_profile import (
    LineProfile,
    dip_between,
    line_profile,
    peak_separation_um,
    peaks_of,
)
from training.evaluation.not_measurable import NotMeasurableError

MIDDLE = np.array([40.3, 39.6])


def two_filaments(separation_px, angle_deg=0.0, sigma_px=2.0, side=81, heights=(100.0, 100.0)):
    """Return two straight Gaussian filaments about MIDDLE, and the direction (y, x) across them."""
    across = np.array([np.sin(np.deg2rad(angle_deg)), np.cos(np.deg2rad(angle_deg))])
    y, x = np.mgrid[:side, :side]
    distance = (y - MIDDLE[0]) * across[0] + (x - MIDDLE[1]) * across[1]
    image = sum(
        height * np.exp(-((distance - place * separation_px / 2) ** 2) / (2 * sigma_px**2))
        for height, place in zip(heights, (-1, 1), strict=True)
    )
    return image, across


def across_them(image, across, reach_px=20.0, width_px=1):
    return line_profile(image, tuple(MIDDLE - reach_px * across), tuple(MIDDLE + reach_px * across), width_px)


@pytest.mark.parametrize("width_px", [1, 5])
@pytest.mark.parametrize("angle_deg", [0, 30, 90, 137, 180])
def test_the_distance_of_two_filaments_comes_out(angle_deg, width_px):
    image, across = two_filaments(9.7, angle_deg)
    profile = across_them(image, across, width_px=width_px)
    assert peak_separation_um(profile, 0.1) == pytest.approx(0.97, abs=0.002)
    assert [peak.position_px for peak in peaks_of(profile)] == pytest.approx([20 - 4.85, 20 + 4.85], abs=0.02)
    assert [peak.height for peak in peaks_of(profile)] == pytest.approx([100, 100], rel=0.01)


def test_the_dip_is_that_of_two_gaussians():
    image, across = two_filaments(7.0)
    lowest = 2 * np.exp(-(3.5**2) / 8)
    position = np.linspace(-10, 10, 20001)
    sum_of_both = sum(np.exp(-((position - place) ** 2) / 8) for place in (-3.5, 3.5))
    assert dip_between(across_them(image, across)) == pytest.approx(1 - lowest / sum_of_both.max(), abs=0.005)


def test_the_dip_counts_from_the_background_and_in_parts_of_the_lower_peak():
    image, across = two_filaments(14.0, heights=(100.0, 50.0))
    on_background = across_them(image + 30, across)
    assert dip_between(on_background, background=30.0) == pytest.approx(
        dip_between(across_them(image, across)), abs=1e-6
    )
    assert dip_between(on_background) == pytest.approx((50 - image[40, 30:50].min()) / 80, abs=0.05)


def test_peaks_closer_than_the_sparrow_distance_are_one():
    profile = across_them(*two_filaments(3.8))  # Two Gaussians merge at 2 sigma, 4 px.
    assert len(peaks_of(profile)) == 1
    with pytest.raises(NotMeasurableError, match="has 1 peak"):
        peak_separation_um(profile, 0.1)
    with pytest.raises(NotMeasurableError, match="has 1 peak"):
        dip_between(profile)


def test_a_profile_along_a_row_of_pixels_is_that_row():
    image = np.random.default_rng(0).normal(size=(20, 30))
    profile = line_profile(image, (7, 2), (7, 27))
    assert profile.intensity[::4] == pytest.approx(image[7, 2:28], abs=1e-6)
    assert profile.position_px[::4] == pytest.approx(np.arange(26))


def test_width_averages_parallel_lines_and_so_lowers_noise():
    image = np.random.default_rng(0).normal(size=(40, 60))
    wide = line_profile(image, (20, 2), (20, 57), width_px=9)
    assert wide.intensity[::4] == pytest.approx(image[16:25, 2:58].mean(axis=0), abs=1e-6)


def test_small_bumps_are_no_peaks():
    image, across = two_filaments(12.0, heights=(100.0, 4.0))
    profile = across_them(image, across)
    assert len(peaks_of(profile)) == 1
    assert len(peaks_of(profile, least_prominence=0.01)) == 2


@settings(max_examples=30, deadline=None)
@given(st.floats(0, 360), st.floats(5.0, 14.0), st.floats(0.02, 1.0))
def test_forwards_and_backwards_are_the_same_line(angle_deg, separation_px, pixel_size_um):
    image, across = two_filaments(separation_px, angle_deg)
    forth, back = across_them(image, across), across_them(image, -across)
    assert back.intensity[::-1] == pytest.approx(forth.intensity, abs=1e-6)
    separation_um = peak_separation_um(forth, pixel_size_um)
    assert separation_um == pytest.approx(peak_separation_um(back, pixel_size_um))
    expected_px = 2 * _outer_peak(separation_px / 2)
    assert separation_um == pytest.approx(expected_px * pixel_size_um, rel=0.01)


def _outer_peak(place, sigma_px=2.0):
    position = np.linspace(0, 10, 20001)
    both = sum(np.exp(-((position - side * place) ** 2) / (2 * sigma_px**2)) for side in (-1, 1))
    return position[np.argmax(both)]


@pytest.mark.parametrize(
    ("image", "start", "end", "width_px", "reason"),
    [
        (np.full((20, 20), np.nan), (5, 5), (5, 10), 1, "no number"),
        (np.zeros((20, 20)), (5, 5), (5, 10), 1, "all pixels are 0"),
        (np.eye(20), (5, 5), (5, 5.5), 1, "cannot be followed"),
        (np.eye(20), (5, 5), (5, np.nan), 1, "cannot be followed"),
        (np.eye(20), (5, 5), (5, np.inf), 1, "cannot be followed"),
        (np.eye(20), (5, 5), (5, 10), 0, "cannot be followed"),
        (np.eye(20), (5, 5), (5, 19.5), 1, "leaves the image"),
        (np.eye(20), (1, 5), (1, 10), 5, "leaves the image"),
        (np.stack([np.eye(20)] * 2), (5, 5), (5, 10), 1, "leaves the image"),
    ],
)
def test_a_line_that_cannot_be_followed_says_why(image, start, end, width_px, reason):
    with pytest.raises(NotMeasurableError, match=reason):
        line_profile(image, start, end, width_px)


def test_peaks_below_the_background_have_no_dip():
    profile = LineProfile(np.arange(7.0), np.array([0.0, 2, 1, 3, 1, 1, 0]))
    with pytest.raises(NotMeasurableError, match="above the background of 5"):
        dip_between(profile, background=5.0)
