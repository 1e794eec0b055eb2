import numpy as np
import pytest
from scipy import ndimage

from training.pairing.elastic import ElasticSettings, measure_blocks
from training.pairing.global_match import coarse_match
from training.pairing.least_squares import least_squares_blocks, polish
from training.pairing.mosaic import Mosaic
from training.pairing.registration import register
from training.pairing.sampling import sample, spline_coefficients
from training.pairing.tile_view import TileView


def view_of(scene, corner=(0.0, 0.0)):
    mosaic = Mosaic((scene.high(),), np.array([corner]))
    return TileView(0, scene.low(), mosaic, (0.0, 0.0), 2)


def still(images):
    return np.zeros((2, *images.low.shape), np.float32)


@pytest.mark.parametrize("shift", [(0.0, 0.0), (0.4, -0.3)])
def test_what_is_missing_in_the_displacement_is_measured(scenes, shift):
    images = view_of(scenes(512, density=1.5, noise=False), (-shift[0], -shift[1])).low_grid(0.8)
    blocks = least_squares_blocks(images, still(images), 64)
    weight = blocks.information[:2] / blocks.information[:2].sum(axis=(1, 2), keepdims=True)
    # The high image is looked up `shift` too far, so that much less is wanted.
    np.testing.assert_allclose((weight * blocks.shift_yx_px).sum(axis=(1, 2)), np.negative(shift), atol=0.03)


@pytest.mark.parametrize("sigma_low_px", [0.3, 0.5])  # 0.86 would make both images equally sharp
def test_unequal_sharpness_pulls_least_squares_less_than_correlation(scenes, sigma_low_px):
    images = view_of(scenes(512, density=1.5, noise=False)).low_grid(sigma_low_px)
    moved, valid = images.moved(still(images))
    correlated = measure_blocks(images.low * valid, moved * valid, 32)
    fitted = least_squares_blocks(images, still(images), 64)

    def pull_px(shift_yx_px, information):
        (dy, dx), (yy, xx, yx) = shift_yx_px[:, 2:-2, 2:-2], information[:, 2:-2, 2:-2]
        return np.sqrt((yy * dy**2 + xx * dx**2 + 2 * yx * dy * dx).sum() / (0.5 * (yy + xx).sum()))

    by_correlation = pull_px(
        2 * correlated.shifts.shift_yx_px(), correlated.shifts.curvature * correlated.confidence
    )
    assert pull_px(fitted.shift_yx_px, fitted.information) < 0.85 * by_correlation


def test_a_field_without_texture_is_left_alone():
    rng = np.random.default_rng(0)
    low, high = rng.poisson(200, (64, 64)), rng.poisson(150, (128, 128))
    images = TileView(0, low, Mosaic((high,), np.zeros((1, 2))), (0.0, 0.0), 2).low_grid(1.0)
    blocks = least_squares_blocks(images, still(images), 64)
    assert not blocks.textured.any()
    assert np.abs(polish(images, still(images), ElasticSettings())).max() == 0


def test_noise_is_not_followed_where_the_field_is_smooth(scenes):
    scene = scenes(512, density=1.5, light=0.1)
    images = view_of(scene).low_grid(0.8)
    rough = np.random.default_rng(1).normal(0, 1, (2, *images.low.shape))
    rough = ndimage.gaussian_filter(rough, (0, 8, 8))
    rough = (0.15 / rough.std() * rough).astype(np.float32)
    assert np.sqrt(np.mean(polish(images, rough, ElasticSettings()) ** 2)) < 0.05


def test_the_samplings_say_where_the_high_values_come_from(scenes):
    scene = scenes(256, noise=False)
    low, tile = scene.low(), scene.high()
    mosaic = Mosaic((tile,), np.array([[3.0, -2.0]]))
    found = register(low, mosaic, 2, coarse_match(low[None], [mosaic], 2))
    (sampling,) = found.samplings
    assert sampling.number == 0
    values = sample(spline_coefficients(tile, 5), sampling.positions_yx_px, 5)
    inside = sampling.edge_px >= 0
    np.testing.assert_allclose(found.high[sampling.window][inside], values[inside], rtol=1e-5)
