import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from training.pairing.correlation import (
    block_shifts,
    fit_gaussian_peak,
    masked_correlation,
    normalised_correlation,
    small_shift,
)


def texture(side_px=160, seed=0):
    noise = np.random.default_rng(seed).normal(size=(side_px, side_px))
    return ndimage.gaussian_filter(noise, 2.0).astype(np.float32)


def faded(image):
    window = np.hanning(image.shape[0])
    return ((image - image.mean()) * np.outer(window, window)).astype(np.float32)


def test_gaussian_peak_is_found_between_pixels():
    y, x = np.mgrid[-3:4, -3:4]
    surface = 5 + 2 * np.exp(-((y - 0.31) ** 2 / 8 + (x + 0.42) ** 2 / 4))
    (dy, dx), height = fit_gaussian_peak(surface)
    np.testing.assert_allclose((dy, dx, height), (0.31, -0.42, 7.0), atol=1e-3)


@settings(max_examples=20, deadline=None)
@given(st.floats(-6, 6), st.floats(-6, 6))
def test_shift_put_in_comes_out_within_a_twentieth_pixel(dy, dx):
    image = texture()
    moved = ndimage.shift(image, (dy, dx), order=5, mode="wrap")
    found, correlation = small_shift(faded(image), faded(moved), 10)
    np.testing.assert_allclose(found, (dy, dx), atol=0.05)
    assert correlation > 0.9


def test_masked_correlation_finds_a_small_overlap():
    scene = texture(200, seed=3)
    a, b = scene[:120, :120], scene[50:150, 65:165]
    surface = masked_correlation(a, np.ones_like(a), b, np.ones_like(b))
    row, column = np.unravel_index(surface.argmax(), surface.shape)
    assert (row - (a.shape[0] - 1), column - (a.shape[1] - 1)) == (-50, -65)
    assert surface.max() > 0.99


def test_masked_correlation_of_constant_images_is_zero():
    flat = np.full((30, 30), 7, np.float32)
    assert np.abs(masked_correlation(flat, np.ones_like(flat), flat, np.ones_like(flat))).max() < 1e-3


def test_correlation_ignores_gain_and_offset():
    image = texture()
    assert normalised_correlation(image, 3 * image + 100) > 0.9999
    assert normalised_correlation(image, np.full_like(image, 4)) == 0


def test_a_ridge_tells_its_shift_across_and_nothing_along():
    x = np.arange(32) - 16
    window = np.outer(np.hanning(32), np.hanning(32)).astype(np.float32)
    ridge = [np.exp(-((x - dx) ** 2) / 8)[None, :] * window for dx in (0.0, 0.4)]
    found = block_shifts(ridge[0][None, None], ridge[1][None, None], 4)
    dy, dx = found.shift_yx_px()[:, 0, 0]
    yy, xx, _ = found.curvature[:, 0, 0]
    assert abs(dx - 0.4) < 0.05
    assert abs(dy) < 0.05
    assert xx > 5 * yy
