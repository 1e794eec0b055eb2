import numpy as np
import pytest
import tifffile
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy import ndimage
from scipy.spatial import cKDTree
from skimage.feature import peak_local_max

from inference.preprocess import upsample
from training.pairing.elastic import ElasticSettings
from training.pairing.global_match import coarse_match
from training.pairing.mosaic import Mosaic
from training.pairing.orientation import ALIGNED, Orientation
from training.pairing.orientation_estimate import estimate_orientation, orientation_of_field
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


@pytest.mark.slow
@settings(max_examples=6, deadline=None)
@given(period_px=st.floats(256, 1024), strength=st.floats(0.1, 1.0), seed=st.integers(0, 1000))
@example(period_px=256, strength=1.0, seed=0)
@example(period_px=503, strength=1.0, seed=5)
def test_a_smooth_field_comes_back(scenes, deformation, period_px, strength, seed):
    largest_px = strength * min(8.0, 0.1 * period_px / (2 * np.pi))  # of a wave with a gradient of 0.1
    field = deformation(768, largest_px, period_px, seed)
    scene = scenes(768, density=1.5, field_yx_px=field)
    found = registered(scene.low(), [scene.high()], [[0, 0]])
    error_px = np.hypot(*(total_shift(found) - field))[textured(scene)]
    assert np.sqrt(np.mean(error_px**2)) < 0.08
    assert np.quantile(error_px, 0.95) < 0.15
    assert found.smallest_jacobian > 0.5


@pytest.mark.slow
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


def nuclei_that_stand_alone(image, apart_px=8):
    """Peaks of the nuclei (a few pixels wide) with no other near, (N, 2); found without any registration."""
    s = ndimage.gaussian_filter(image.astype(float), 1.0)
    peaks = peak_local_max(s, min_distance=2, threshold_abs=np.percentile(s, 80), exclude_border=8)
    y, x = peaks.T
    dy = (s[y + 1, x] - s[y - 1, x]) / 2 / (2 * s[y, x] - s[y + 1, x] - s[y - 1, x])
    dx = (s[y, x + 1] - s[y, x - 1]) / 2 / (2 * s[y, x] - s[y, x + 1] - s[y, x - 1])
    centres = peaks + np.stack([dy, dx], axis=1)
    nearest, _ = cKDTree(centres).query(centres, k=2)
    return centres[nearest[:, 1] > apart_px]


def matched(a, b, reach_px=4):
    """Pairs of points that are each other's nearest, (M, 2, 2)."""
    distance = np.hypot(*(a[:, None] - b[None]).transpose(2, 0, 1))
    there, back = distance.argmin(axis=1), distance.argmin(axis=0)
    pairs = [(i, j) for i, j in enumerate(there) if back[j] == i and distance[i, j] < reach_px]
    return np.array([(a[i], b[j]) for i, j in pairs])


def test_two_rounds_of_one_real_field_align(shared_data):
    a, b = (tifffile.imread(shared_data / "registration" / f"dapi_round_{k}.tif") for k in "ab")
    found = registered(a, [b], [[0, 0]], factor=1)
    assert found.ncc_after > found.ncc_before + 0.4
    assert found.residual_px < 0.2
    nuclei = matched(nuclei_that_stand_alone(a), nuclei_that_stand_alone(found.high))
    assert len(nuclei) > 60
    left_px = np.hypot(*(nuclei[:, 0] - nuclei[:, 1]).T)
    assert np.sqrt(np.mean(left_px**2)) < 1.0
    assert np.median(left_px) < 0.5


def test_a_turned_and_scaled_high_image_is_registered_through_its_orientation(scenes):
    scene, turn = scenes(768, density=1.2), np.deg2rad(2.0)
    matrix = 1.04 * np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    centre, back = np.array([383.5, 383.5]), np.linalg.inv(matrix)
    ideal = ndimage.affine_transform(
        scene.ideal_high(), back, centre - back @ (centre + np.array([9, -14])), order=5
    )
    high = np.random.default_rng(0).poisson(np.maximum(ideal + 120, 0)).astype(np.uint16)
    mosaic = Mosaic((high,), np.zeros((1, 2)), Orientation.of(matrix), (383.5, 383.5))
    found = register(scene.low(), mosaic, 2, coarse_match(scene.low()[None], [mosaic], 2))
    np.testing.assert_allclose(found.shift_yx_px, (9, -14), atol=0.1)
    assert rms_px(total_shift(found) - np.array([9, -14])[:, None, None], textured(scene)) < 0.08
    assert found.ncc_after > 0.9


@pytest.mark.parametrize(("scale", "rotation_deg"), [(1.05, 2.0), (0.93, -4.0)])
@pytest.mark.slow
def test_scale_and_rotation_are_found_without_a_calibration(scenes, scale, rotation_deg):
    scene, turn = scenes(512, density=1.5), np.deg2rad(rotation_deg)
    matrix = scale * np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    centre, back = np.array([255.5, 255.5]), np.linalg.inv(matrix)
    ideal = ndimage.affine_transform(scene.ideal_high(), back, centre - back @ centre, order=5)
    high = np.random.default_rng(0).poisson(np.maximum(ideal + 120, 0)).astype(np.uint16)
    found = orientation_of_field(scene.low()[None], [Mosaic((high,), np.zeros((1, 2)))], 2)
    assert found.scale == pytest.approx(scale, abs=1e-3)
    assert found.rotation_deg == pytest.approx(rotation_deg, abs=0.05)


@pytest.mark.slow
def test_fields_that_disagree_about_the_rotation_are_not_believed(scenes):
    low, high = scenes(512, noise=False).low(), scenes(512, noise=False).high()
    turned = ndimage.rotate(high, 4.0, reshape=False, order=3, mode="nearest")
    fields = [(low[None], [Mosaic((image,), np.zeros((1, 2)))]) for image in (high, turned)]
    found = estimate_orientation(fields, 2)
    assert found.orientation == ALIGNED
    assert "disagree" in found.note
