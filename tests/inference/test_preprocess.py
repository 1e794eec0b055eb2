import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from torch.nn import functional

from inference.preprocess import (
    Photometry,
    normalise,
    prepare,
    restore,
    undo_doubling,
    undo_upsampling,
    upsample,
)

IMAGES = arrays(np.uint16, st.tuples(st.integers(2, 9), st.integers(2, 9)))


@given(IMAGES, st.sampled_from([1, 2, 4]))
def test_upsampling_equals_torch_bilinear_on_pixel_edges(image, factor):
    image = image.astype(np.float32)
    expected = functional.interpolate(
        torch.from_numpy(image)[None, None], scale_factor=factor, mode="bilinear", align_corners=False
    )
    np.testing.assert_allclose(upsample(image, factor), expected[0, 0].numpy(), rtol=1e-5, atol=1e-3)


def test_a_linear_ramp_stays_a_linear_ramp_about_the_pixel_centres():
    ramp = np.tile(np.arange(8, dtype=np.float32), (8, 1))
    fine = upsample(ramp, 2)
    centres = (np.arange(16) + 0.5) / 2 - 0.5
    np.testing.assert_allclose(fine[8, 1:-1], centres[1:-1], atol=1e-6)


@given(IMAGES)
def test_doubling_can_be_undone(image):
    image = image.astype(np.float32)
    np.testing.assert_allclose(undo_doubling(upsample(image, 2)), image, rtol=1e-4, atol=0.1)


@pytest.mark.parametrize("factor", [1, 2, 4])
def test_any_upsampling_can_be_undone(factor):
    image = np.random.default_rng(1).uniform(0, 255, (9, 12)).astype(np.float32)
    np.testing.assert_allclose(undo_upsampling(upsample(image, factor), factor), image, rtol=1e-4, atol=1e-2)


@given(IMAGES, st.floats(0, 1000), st.floats(0.001, 10))
def test_restore_undoes_normalise_above_the_background(image, background, scale):
    photometry = Photometry(background, scale)
    expected = np.maximum(image.astype(np.float64), background)
    np.testing.assert_allclose(
        restore(normalise(image, photometry), photometry), expected, rtol=1e-4, atol=0.05
    )


def test_what_falls_below_the_background_is_zero():
    assert prepare(np.full((4, 4), 90, np.uint16), Photometry(100.0, 1.0), 2).max() == 0.0


def test_flux_gain_scales_only_what_is_above_the_background():
    photometry = Photometry(100.0, 2.0, flux_gain=1.5)
    assert restore(np.array([[20.0]], np.float32), photometry)[0, 0] == 100.0 + 20.0 / 2.0 * 1.5
