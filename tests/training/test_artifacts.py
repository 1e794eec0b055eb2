"""SQUIRREL's figures: those of NanoPyx, and of a blur and an invention that were put in."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from training.evaluation.artifacts import artifact_map
from training.evaluation.not_measurable import NotMeasurableError

# RSE, RSP and the mean of the error map by NanoPyx 2.1.5, nanopyx.methods.squirrel.calculate_error_map.
OF_NANOPYX = {
    "faithful": (2.01760, 0.998091, 1.60987),
    "invented": (8.17269, 0.968175, 3.20922),
    "missing": (5.91372, 0.983467, 2.57946),
    "ghost": (14.06002, 0.902561, 8.25045),
}


def emitters(seed=0, side=128):
    random = np.random.RandomState(seed)  # Its stream is frozen, and with it the figures above.
    field = np.zeros((side, side))
    np.add.at(field, tuple(random.randint(8, side - 8, (2, 120))), random.exponential(1000.0, 120))
    return field


def images(seed=0):
    """Return the low-resolution reference and, by name, images that claim to be sharper."""
    random = np.random.RandomState(seed + 1)
    field = emitters(seed)
    high = ndimage.gaussian_filter(field, 1.2) + random.normal(0, 1, field.shape)
    low = 2.5 * ndimage.gaussian_filter(field, 3.0) + 100 + random.normal(0, 2, field.shape)
    invented, missing = high.copy(), high.copy()
    invented[30:60, 30:60] += high[60:90, 60:90]
    missing[30:60, 30:60] = np.median(high)
    return low, {"faithful": high, "invented": invented, "missing": missing, "ghost": low + 0.5 * low[::-1]}


@pytest.mark.parametrize("name", OF_NANOPYX)
def test_rse_rsp_and_error_are_those_that_nanopyx_gave(name):
    low, sharp = images()
    found = artifact_map(sharp[name], low)
    assert (found.rse, found.rsp, found.error.mean()) == pytest.approx(OF_NANOPYX[name], rel=1e-3)


@pytest.mark.parametrize("name", OF_NANOPYX)
@pytest.mark.parametrize("seed", [0, 5])
def test_rse_rsp_and_error_are_those_that_nanopyx_gives(name, seed):
    squirrel = pytest.importorskip("nanopyx.methods.squirrel", exc_type=ImportError)
    low, sharp = images(seed)
    found = artifact_map(sharp[name], low)
    error, rse, rsp = squirrel.calculate_error_map(low, sharp[name])
    assert (found.rse, found.rsp, found.error.mean()) == pytest.approx((rse, rsp, error.mean()), rel=0.01)


@pytest.mark.parametrize("sigma_px", [0.8, 2.0, 5.0])
def test_the_blur_gain_and_offset_that_were_put_in_come_out(sigma_px):
    sharp = ndimage.gaussian_filter(emitters(), 1.0)
    reference = 2.5 * ndimage.gaussian_filter(sharp, sigma_px) + 40
    found = artifact_map(sharp, reference)
    assert found.sigma_px == pytest.approx(sigma_px, abs=0.01)
    assert (found.gain, found.offset) == pytest.approx((2.5, 40), rel=1e-3)
    assert found.rsp == pytest.approx(1, abs=1e-6)
    assert found.rse < 1e-3 * np.ptp(reference)


def test_an_image_explains_itself_without_a_blur():
    image = ndimage.gaussian_filter(emitters(), 2.0)
    found = artifact_map(image, image)
    assert found.sigma_px < 0.01
    assert found.rse == pytest.approx(0, abs=1e-4)


def test_the_error_lies_where_structure_was_invented_and_where_it_is_missing():
    low, sharp = images()
    assert artifact_map(sharp["faithful"], low).rsp > 0.99
    for name in ("invented", "missing"):
        error = artifact_map(sharp[name], low).error
        assert error[30:60, 30:60].mean() > 5 * error[70:, 70:].mean()


def test_noise_alone_is_the_error_of_a_perfect_image():
    low, _ = images()
    assert artifact_map(ndimage.gaussian_filter(emitters(), 1.2), low).rse == pytest.approx(2.0, rel=0.02)


@pytest.mark.parametrize("factor", [2, 3, 4])
def test_a_reference_on_a_coarser_grid_gives_the_same_figures(factor):
    # Seen by a camera whose pixel i covers fine pixels factor * i to factor * i + factor - 1.
    side = 144
    sharp = ndimage.gaussian_filter(emitters(side=side), 2.0)
    fine = ndimage.gaussian_filter(sharp, 6.0) + 10
    middle = np.arange(side // factor) * factor + (factor - 1) / 2
    coarse = ndimage.map_coordinates(
        fine, np.meshgrid(middle, middle, indexing="ij"), order=5, mode="reflect"
    )
    found = artifact_map(sharp, coarse)
    assert found.error.shape == sharp.shape
    assert found.sigma_px == pytest.approx(6.0, abs=0.05)
    assert found.rsp > 0.9999
    assert found.error.max() < 0.01 * np.ptp(fine)


@settings(max_examples=15, deadline=None)
@given(st.floats(0.01, 100), st.floats(-1e3, 1e3), st.booleans())
def test_scale_offset_and_direction_of_the_sharp_image_do_not_matter(gain, offset, turned):
    low, sharp = images()
    plain = artifact_map(sharp["invented"], low)
    changed = gain * sharp["invented"] + offset
    found = artifact_map(changed.T, low.T) if turned else artifact_map(changed, low)
    assert (found.rse, found.rsp, found.sigma_px) == pytest.approx(
        (plain.rse, plain.rsp, plain.sigma_px), rel=1e-3
    )


def test_a_bright_background_costs_no_precision():
    low, sharp = images()
    plain = artifact_map(sharp["faithful"], low)
    found = artifact_map(sharp["faithful"] + 1e7, low + 1e8)
    assert (found.rse, found.rsp) == pytest.approx((plain.rse, plain.rsp), rel=1e-5)


def test_the_error_is_in_the_units_of_the_reference():
    low, sharp = images()
    plain, scaled = artifact_map(sharp["missing"], low), artifact_map(sharp["missing"], 7 * low + 3)
    assert (scaled.rse, scaled.rsp) == pytest.approx((7 * plain.rse, plain.rsp), rel=1e-5)


@pytest.mark.parametrize(
    ("sharp", "reference", "reason"),
    [
        (np.full((32, 32), np.nan), np.eye(32), "super-resolved image holds 1024"),
        (np.eye(32), np.zeros((32, 32)), "the reference is empty"),
        (np.eye(12), np.eye(12), "12 x 12 px"),
        (np.eye(32), np.eye(20), "whole multiple"),
        (np.eye(32), np.eye(64), "whole multiple"),
        (np.stack([np.eye(32)] * 3), np.eye(32), "plane"),
    ],
)
def test_what_cannot_be_measured_says_why(sharp, reference, reason):
    with pytest.raises(NotMeasurableError, match=reason):
        artifact_map(sharp, reference)


def test_a_negative_of_the_reference_does_not_explain_it():
    image = ndimage.gaussian_filter(emitters(), 3.0)
    with pytest.raises(NotMeasurableError, match="dark where the reference is bright"):
        artifact_map(-image, image)
