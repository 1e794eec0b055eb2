"""Depth of field: a beam of known Rayleigh range, and the axial intensity of a lens, come out."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from training.evaluation.depth_of_field import (
    QUARTER_WAVE,
    depth_of_field,
    peak_intensities,
    sharpnesses,
    theoretical_depth_um,
)
from training.evaluation.not_measurable import NotMeasurableError

RAYLEIGH_UM = 2.0
FOCUS_UM = 0.37
SIDE_PX = 120


def planes(step_um, reach_um=6.0):
    return np.arange(-reach_um, reach_um + step_um / 2, step_um)


def beads_through_focus(z_um, noise=0.0, sigma_px=2.0, light=5000.0):
    """Return a stack of nine points that spread as a Gaussian beam does, and their places."""
    rng = np.random.default_rng(0)
    nodes = np.stack(np.mgrid[:3, :3], axis=-1).reshape(-1, 2)
    places = (nodes + 0.5) * SIDE_PX / 3 + rng.uniform(-0.5, 0.5, (9, 2))
    axis = np.arange(SIDE_PX)
    stack = np.full((z_um.size, SIDE_PX, SIDE_PX), 30.0)
    for plane, z in zip(stack, z_um, strict=True):
        variance = sigma_px**2 * (1 + ((z - FOCUS_UM) / RAYLEIGH_UM) ** 2)
        along = np.exp(-((axis - places[:, :, np.newaxis]) ** 2) / (2 * variance))  # (9, 2, SIDE)
        plane += light / (2 * np.pi * variance) * np.einsum("ny,nx->yx", along[:, 0], along[:, 1])
    return stack + rng.normal(0, 1, stack.shape) * noise, places


@pytest.mark.parametrize("step_um", [0.3, 1.0, 1.3])
def test_the_peak_of_a_gaussian_beam_is_two_rayleigh_ranges_deep(step_um):
    z_um = planes(step_um)
    stack, places = beads_through_focus(z_um)
    found = depth_of_field(peak_intensities(stack, places), z_um)
    assert found.depth_um == pytest.approx(2 * RAYLEIGH_UM, rel=0.02)
    assert found.focus_um == pytest.approx(FOCUS_UM, abs=0.05)
    assert found.nearest_um == pytest.approx(FOCUS_UM - RAYLEIGH_UM, abs=0.05)


def test_the_variance_of_a_gaussian_beam_is_as_deep_as_its_peak():
    # Nine points in so small a field: a part of their variance is lost to the mean.
    z_um = planes(0.5)
    stack, _ = beads_through_focus(z_um)
    assert depth_of_field(sharpnesses(stack), z_um).depth_um == pytest.approx(2 * RAYLEIGH_UM, rel=0.1)


@pytest.mark.parametrize("measure", ["peaks", "sharpness"])
def test_noise_hardly_moves_the_depth(measure):
    z_um = planes(0.5)
    stack, places = beads_through_focus(z_um, noise=20.0)
    clean, _ = beads_through_focus(z_um)
    one, other = (
        peak_intensities(each, places) if measure == "peaks" else sharpnesses(each) for each in (stack, clean)
    )
    assert depth_of_field(one, z_um).depth_um == pytest.approx(depth_of_field(other, z_um).depth_um, rel=0.1)


@pytest.mark.parametrize(("aperture", "magnification", "expected_um"), [(0.4, 10, 5.1), (0.75, 20, 1.4)])
def test_theory_gives_the_paper_s_depths(aperture, magnification, expected_um):
    assert theoretical_depth_um(aperture, magnification) == pytest.approx(expected_um, abs=0.05)


def test_the_quarter_wave_depth_of_a_lens_is_the_first_term_of_theory():
    # Paraxial: (sin(u/4) / (u/4))**2 on the axis, u = 2 pi NA**2 z / (wavelength n) (Born & Wolf, 8.8).
    aperture, wavelength_um = 0.4, 0.522
    z_um = planes(0.3)
    axial = np.sinc(aperture**2 * z_um / (2 * wavelength_um)) ** 2
    expected_um = wavelength_um / aperture**2
    assert depth_of_field(axial, z_um, QUARTER_WAVE).depth_um == pytest.approx(expected_um, rel=1e-3)
    assert depth_of_field(axial, z_um).depth_um == pytest.approx(1.772 * expected_um, rel=1e-3)
    assert theoretical_depth_um(aperture, 1e9, wavelength_um) == pytest.approx(expected_um)


@settings(max_examples=50, deadline=None)
@given(st.floats(-2, 2), st.floats(1.0, 3.0), st.floats(0.1, 1000), st.integers(0, 2**32 - 1))
def test_focus_and_depth_of_a_bell_do_not_depend_on_the_order_of_planes(focus_um, sigma_um, height, seed):
    z_um = np.random.default_rng(seed).permutation(planes(0.5, 8.0))
    found = depth_of_field(height * np.exp(-((z_um - focus_um) ** 2) / (2 * sigma_um**2)), z_um)
    assert found.focus_um == pytest.approx(focus_um, abs=0.02)
    assert found.depth_um == pytest.approx(2.3548 * sigma_um, rel=0.01)
    assert (np.diff(found.z_um) > 0).all()


def test_a_second_peak_beyond_the_first_fall_does_not_count():
    z_um = planes(0.25)
    curve = np.exp(-(z_um**2) / 2) + 0.7 * np.exp(-((z_um - 5) ** 2) / 2)
    assert depth_of_field(curve, z_um).depth_um == pytest.approx(2.3548, rel=0.01)


@pytest.mark.parametrize(
    ("values", "z_um", "reason"),
    [
        (np.ones(4), np.arange(4), "4 planes"),
        (np.ones(6), np.arange(5), "6 planes at 5"),
        (np.ones(6), np.arange(6), "the same at every focus"),
        (np.zeros(6), np.arange(6), "shows nothing"),
        ([1, 2, np.nan, 2, 1], np.arange(5), "no number"),
        ([1, 2, 3, 2, 1], [0, 1, 1, 2, 3], "same focus"),
        (np.arange(6), np.arange(6), "sharpest at its end"),
        ([1, 3, 4, 3.5, 3], np.arange(5), "above the focus"),
        ([3, 3.5, 4, 3, 1], np.arange(5), "below the focus"),
    ],
)
def test_a_curve_without_a_depth_says_why(values, z_um, reason):
    with pytest.raises(NotMeasurableError, match=reason):
        depth_of_field(np.asarray(values, dtype=float), np.asarray(z_um, dtype=float))


@pytest.mark.parametrize(
    ("stack", "places", "reason"),
    [
        (np.full((5, 20, 20), np.nan), [[5, 5]], "no number"),
        (np.zeros((5, 20, 20)), [[5, 5]], "all pixels are 0"),
        (np.eye(20), [[5, 5]], "expected planes"),
        (np.stack([np.eye(20)] * 5), np.zeros((0, 2)), "no spots"),
        (np.stack([np.eye(20)] * 5), [[5, 20]], "outside"),
    ],
)
def test_a_stack_that_cannot_be_measured_says_why(stack, places, reason):
    with pytest.raises(NotMeasurableError, match=reason):
        peak_intensities(stack, np.asarray(places))
    if "spots" not in reason and "outside" not in reason:
        with pytest.raises(NotMeasurableError, match=reason):
            sharpnesses(stack)
