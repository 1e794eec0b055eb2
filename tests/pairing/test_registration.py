import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from inference.preprocess import upsample
from training.pairing.elastic import ElasticSettings
from training.pairing.global_match import coarse_match
from training.pairing.mosaic import Mosaic
from training.pairing.registration import register


def registered(low, tiles, corners, factor=2, **settings):
    mosaic = Mosaic(tuple(tiles), np.array(corners, dtype=float))
    coarse = coarse_match(low[None], [mosaic], factor)
    assert coarse.found
    return register(low, mosaic, factor, coarse, ElasticSettings(**settings) if settings else None)


def total_shift(registration, factor=2):
    """Where the mosaic shows what the upsampled low image shows, (2, fY, fX)."""
    shift = np.array(registration.shift_yx_px)[:, None, None]
    return upsample(registration.displacement_yx_px, factor) + shift


def textured(scene):
    """Pixels on the specimen, away from the border where content leaves the frame."""
    blurred = ndimage.gaussian_filter(scene.specimen, 2.0)
    mask = blurred > np.quantile(blurred, 0.6)
    mask[:24] = mask[-24:] = mask[:, :24] = mask[:, -24:] = False
    return mask


def rms_px(error, mask):
    return float(np.sqrt((error**2).sum(axis=0)[mask].mean()))


def test_identity_in_identity_out(scenes):
    scene = scenes(512, noise=False)
    found = registered(scene.low(), [scene.high()], [[0, 0]])
    assert rms_px(total_shift(found), textured(scene)) < 0.05
    inner = np.s_[24:-24, 24:-24]
    loss = found.high[inner] - scene.high()[inner]
    assert np.sqrt(np.mean(loss**2)) < 0.05 * scene.high()[inner].std()


@settings(max_examples=5, deadline=None)
@given(dy=st.floats(-30, 30), dx=st.floats(-30, 30))
def test_a_global_shift_comes_out_within_a_twentieth_pixel(scenes, dy, dx):
    scene = scenes(512)
    moved = ndimage.shift(scene.high().astype(np.float32), (dy, dx), order=5, mode="nearest")
    found = registered(scene.low(), [moved], [[0, 0]])
    error = total_shift(found) - np.array([dy, dx])[:, None, None]
    inner = np.s_[:, 64:-64, 64:-64]
    np.testing.assert_allclose(np.median(error[inner], axis=(1, 2)), 0, atol=0.05)


def test_a_shift_of_the_stage_is_corrected_over_any_distance(scenes):
    scene = scenes(512)
    found = registered(scene.low(), [scene.high()], [[90, -70]])  # the stage erred by so much
    np.testing.assert_allclose(found.shift_yx_px, (90, -70), atol=0.1)
    assert found.ncc_after > found.ncc_before + 0.3


@pytest.mark.parametrize(("largest_px", "period_px"), [(3.0, 256), (6.0, 400)])
def test_a_smooth_field_comes_back(scenes, deformation, largest_px, period_px):
    field = deformation(768, largest_px, period_px, seed=3)
    scene = scenes(768, density=1.5, field_yx_px=field)
    found = registered(scene.low(), [scene.high()], [[0, 0]])
    assert rms_px(total_shift(found) - field, textured(scene)) < 0.12
    assert found.residual_px < 0.1
    assert found.smallest_jacobian > 0.5


def test_without_the_elastic_step_it_is_worse(scenes, deformation):
    field = deformation(768, 4.0, 300, seed=3)
    scene = scenes(768, density=1.5, field_yx_px=field)
    elastic = registered(scene.low(), [scene.high()], [[0, 0]])
    rigid = registered(scene.low(), [scene.high()], [[0, 0]], iterations=0)
    assert rigid.residual_px > 5 * elastic.residual_px
    assert rigid.ncc_after < elastic.ncc_after - 0.05


def test_a_distortion_that_jumps_at_the_seam_is_followed_on_both_sides(scenes, deformation):
    scene = scenes(512, density=1.5)
    y, x = np.mgrid[:512, :512].astype(np.float32)
    halves = []
    for start, stop, sign in ((0, 280, 1), (232, 512, -1)):
        shift = sign * 2.0 * np.sin(np.pi * (x - start) / (stop - start))
        image = ndimage.map_coordinates(scene.high().astype(np.float32), [y - shift, x], order=5)
        halves.append(image[:, start:stop])
    found = registered(scene.low(), halves, [[0, 0], [0, 232]])
    assert found.residual_px < 0.1
    ideal = scene.ideal_high()[24:-24, 24:-24]
    difference = found.high[24:-24, 24:-24] - found.high[24:-24, 24:-24].mean() - (ideal - ideal.mean())
    assert difference.std() < 0.15 * ideal.std()


def test_an_empty_field_is_not_moved():
    rng = np.random.default_rng(0)
    low, high = rng.poisson(200, (128, 128)), rng.poisson(150, (256, 256))
    mosaic = Mosaic((high,), np.zeros((1, 2)))
    found = register(low, mosaic, 2, coarse_match(low[None], [mosaic], 2))
    assert np.abs(found.displacement_yx_px).max() == 0
    assert found.specimen_fraction == 0
    assert found.residual_px is None


def test_two_rounds_of_one_real_field_align(shared_data):
    a, b = (tifffile.imread(shared_data / "registration" / f"dapi_round_{k}.tif") for k in "ab")
    found = registered(a, [b], [[0, 0]], factor=1)
    assert found.ncc_after > found.ncc_before + 0.4
    assert found.residual_px < 0.2
