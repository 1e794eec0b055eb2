"""The truth that the stand tells, against images taken of it."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.registration import phase_cross_correlation

from acquisition.virtual import Imperfections, load, stand_of
from acquisition.virtual.imperfections import Distortion, StageError
from acquisition.virtual.stand import Frame


def test_truth_is_the_mean_of_high_frames_on_an_ideal_stand(cells_core, expose):
    # 32.5 um are 100 high pixels: this tile's pixels lie on the truth's.
    frames = np.mean([expose(cells_core, "20X", xy_um=(32.5, -32.5)) for _ in range(40)], axis=0) - 100
    # The demo stage steps by 0.015 um, so it stands a little beside where it was sent.
    low_xy_um = np.subtract(cells_core.getXYPosition(), (32.5, -32.5))
    truth = stand_of(cells_core).high_image_on_low_grid("FITC", tuple(low_xy_um), 0.0, 400.0)
    assert truth.shape == (512, 512)
    part = truth[128 - 100 : 384 - 100, 128 + 100 : 384 + 100]
    noise = np.sqrt(part * 0.46 / 40) / 0.46
    assert np.abs(frames - part).mean() < 1.1 * noise.mean()
    assert np.polyfit(part.ravel(), frames.ravel(), 1)[0] == pytest.approx(1, abs=0.005)


def test_truth_lies_on_the_low_image(cells_core):
    stand = stand_of(cells_core)
    low = stand.expected_electrons(Frame("10X", "FITC", (0.0, 0.0), 0.0), 800.0)
    truth = stand.high_image_on_low_grid("FITC", (0.0, 0.0), 0.0, 400.0)
    binned = truth.reshape(256, 2, 256, 2).sum(axis=(1, 3))
    shift, *_ = phase_cross_correlation(low, binned, upsample_factor=50)
    np.testing.assert_allclose(shift, 0, atol=0.03)


def test_truth_keeps_to_the_low_geometry_whatever_the_high_objective_does():
    ideal = stand_of(load("widefield", seed=5, camera_shape_yx=(128, 128)))
    real = stand_of(
        load(
            "widefield",
            seed=5,
            camera_shape_yx=(128, 128),
            parfocal_offset_um=5.0,
            parcentric_offset_um=(3.0, -2.0),
            distortion_px=2.0,
            vignetting=0.3,
        )
    )
    a = ideal.high_image_on_low_grid("FITC", (50.0, 0.0), 0.0, 400.0)
    b = real.high_image_on_low_grid("FITC", (50.0, 0.0), 5.0, 400.0)
    np.testing.assert_allclose(a, b, rtol=1e-5)


def test_parcentric_offset_is_measured_from_images():
    core = load("widefield", seed=5, camera_shape_yx=(256, 256), parcentric_offset_um=(2.6, -1.3))
    stand = stand_of(core)
    high = stand.expected_electrons(Frame("20X", "FITC", (0.0, 0.0), 0.0), 400.0)
    truth = stand.high_image_on_low_grid("FITC", (0.0, 0.0), 0.0, 400.0)[128:384, 128:384]
    shift, *_ = phase_cross_correlation(truth, high, upsample_factor=20)
    np.testing.assert_allclose(shift * 0.325, (-1.3, 2.6), atol=0.04)  # (y, x)


def test_best_focus_follows_tilt_height_and_parfocal_offset():
    core = load(sample_height_um=4.0, sample_tilt_um_per_mm=(2.0, -1.0), parfocal_offset_um=6.0)
    stand = stand_of(core)
    assert stand.best_focus_um("10X", (1000.0, 500.0)) == pytest.approx(4.0 + 2.0 - 0.5)
    assert stand.best_focus_um("20X", (1000.0, 500.0)) == pytest.approx(4.0 + 2.0 - 0.5 + 6.0)


@pytest.mark.parametrize("objective", ["10X", "20X"])
def test_the_image_is_sharpest_at_the_true_plane_of_best_focus(objective):
    core = load("widefield", seed=7, camera_shape_yx=(128, 128), sample_height_um=3.0, parfocal_offset_um=2.0)
    stand = stand_of(core)
    true_um = stand.best_focus_um(objective, (0.0, 0.0))
    step_um = {"10X": 1.5, "20X": 0.5}[objective]
    sharpness = [
        stand.expected_electrons(Frame(objective, "FITC", (0.0, 0.0), true_um + k * step_um), 100.0).var()
        for k in (-2, -1, 0, 1, 2)
    ]
    assert int(np.argmax(sharpness)) == 2


@given(largest_px=st.floats(0.1, 3), seed=st.integers(0, 10_000))
@settings(max_examples=25, deadline=None)
def test_distortion_is_smooth_none_at_the_centre_and_as_large_as_it_says(largest_px, seed):
    v, u = np.meshgrid(*[np.linspace(-1, 1, 101)] * 2, indexing="ij")
    dy, dx = Distortion(largest_px, seed).displacement_yx_px(v, u)
    size = np.hypot(dy, dx)
    assert size.max() == pytest.approx(largest_px, rel=0.02)
    assert size[50, 50] == pytest.approx(0, abs=1e-9)
    assert max(np.abs(np.diff(dy)).max(), np.abs(np.diff(dx)).max()) < 0.2 * largest_px


@given(seed=st.integers(0, 10_000))
@settings(max_examples=20, deadline=None)
def test_stage_error_is_a_fixed_smooth_function_of_the_place_with_the_stated_size(seed):
    error = StageError(0.5, seed)
    places = np.random.default_rng(0).uniform(-20_000, 20_000, (1500, 2))
    errors = np.array([error.at((x, y)) for x, y in places])
    assert np.sqrt((errors**2).mean()) == pytest.approx(0.5, rel=0.15)
    assert error.at((12.0, 7.0)) == StageError(0.5, seed).at((12.0, 7.0))
    assert np.hypot(*np.subtract(error.at((12.0, 7.0)), error.at((12.1, 7.0)))) < 0.02


def test_imperfections_are_zero_by_default():
    for name, value in Imperfections().model_dump().items():
        assert not np.any(value), name
