"""Each imperfection, measured from images by a method of its own, equals its parameter."""

import numpy as np
import pytest
from skimage.feature import peak_local_max
from skimage.registration import phase_cross_correlation
from skimage.transform import rotate

from acquisition.virtual import Beads, Sensor, load, stand_of
from acquisition.virtual.imperfections import Distortion, StageError, Waviness
from acquisition.virtual.stand import Frame

SIDE = 256
CENTRE = (slice(64, 192), slice(64, 192))


def stand_with(**departures):
    return stand_of(load("widefield", seed=5, camera_shape_yx=(SIDE, SIDE), **departures))


def seen(stand, objective="20X", channel="FITC", xy_um=(0.0, 0.0), focus_um=0.0, **settings):
    return stand.expected_electrons(Frame(objective, channel, xy_um, focus_um, **settings), 400.0)


def shift_yx_um(reference, moved, pixel_um=0.325):
    shift, *_ = phase_cross_correlation(reference, moved, upsample_factor=50)
    return shift * pixel_um


@pytest.fixture(scope="module")
def ideal():
    return stand_with()


def test_backlash_holds_the_stage_back_when_it_comes_from_below():
    stand = stand_with(stage_backlash_um=1.3)
    from_above, from_below = (seen(stand, upwards_xy=way) for way in ((False, False), (True, False)))
    np.testing.assert_allclose(shift_yx_um(from_above, from_below), (0, -1.3), atol=0.03)


def test_the_core_knows_from_where_the_stage_came():
    core = load("widefield", camera_shape_yx=(64, 64), stage_backlash_um=2.0)
    images = []
    for way_um in (-50.0, 50.0):
        for x_um in (way_um, 0.0):
            core.setXYPosition(x_um, 0.0)
            core.waitForSystem()
        core.snapImage()
        images.append(core.getImage().astype(float))
    np.testing.assert_allclose(shift_yx_um(images[1], images[0], 0.65), (0, -2.0), atol=0.2)


def test_camera_rotation_turns_the_image(ideal):
    turned = seen(stand_with(camera_rotation_deg=2.0))
    # The camera's axes turn from x towards y; what it shows turns the other way.
    angles = np.arange(-3, 3.01, 0.25)
    image = seen(ideal)
    likeness = [
        np.corrcoef(rotate(image, angle, preserve_range=True)[CENTRE].ravel(), turned[CENTRE].ravel())[0, 1]
        for angle in angles
    ]
    assert angles[int(np.argmax(likeness))] == pytest.approx(2.0, abs=0.25)
    assert max(likeness) > 0.98


def test_a_mirrored_camera_flips_its_columns(ideal):
    mirrored = seen(stand_with(camera_mirrored=True))
    np.testing.assert_allclose(mirrored, seen(ideal)[:, ::-1], rtol=2e-3, atol=1.0)
    turned = seen(stand_with(camera_mirrored=True, camera_rotation_deg=90.0))
    # Its x axis is flipped, then turned onto the specimen's -y axis, and its y axis onto the -x axis.
    np.testing.assert_allclose(turned, seen(ideal)[::-1, ::-1].T, rtol=2e-3, atol=1.0)


@pytest.mark.parametrize(
    ("objective", "parameter", "pattern"), [("20X", "distortion_px", 0), ("10X", "low_distortion_px", 1)]
)
def test_each_objective_s_distortion_is_measured_from_beads(objective, parameter, pattern):
    spacing_um = {"20X": 8.0, "10X": 16.0}[objective]
    beads = {"source": Beads(spacing_um=spacing_um, weight=500.0), "camera_shape_yx": (SIDE, SIDE)}
    stand = stand_of(load("widefield", seed=5, **beads, **{parameter: 3.0}))
    image = seen(stand, objective)
    found = peak_local_max(image, min_distance=8, threshold_rel=0.3, exclude_border=6)
    assert len(found) > 60
    pixels_apart = spacing_um / stand.pixel_size_um(objective)
    for row, column in found:
        window = image[row - 4 : row + 5, column - 4 : column + 5] - image.min()
        offset = (window * np.mgrid[-4:5, -4:5]).sum(axis=(1, 2)) / window.sum()
        at_px = np.array([row, column]) + offset + 0.5 - SIDE / 2  # from the middle of the frame
        v, u = 2 * at_px / SIDE
        looks_at_px = at_px + np.ravel(Distortion(3.0, 5, objective=pattern).displacement_yx_px(v, u))
        np.testing.assert_allclose(looks_at_px, np.rint(looks_at_px / pixels_apart) * pixels_apart, atol=0.15)
    other = {"20X": "10X", "10X": "20X"}[objective]
    straight = stand_of(load("widefield", seed=5, **beads))
    np.testing.assert_array_equal(seen(stand, other), seen(straight, other))


@pytest.mark.parametrize("place_um", [(0.0, 0.0), (310.0, -120.0), (-850.0, 400.0)])
def test_stage_error_is_measured_from_images(ideal, place_um):
    missed = StageError(0.8, 5).at(place_um)
    shift = shift_yx_um(seen(ideal, xy_um=place_um), seen(stand_with(stage_error_um=0.8), xy_um=place_um))
    np.testing.assert_allclose(shift, missed[::-1], atol=0.03)


def test_tilt_is_measured_from_the_sharpest_planes_of_images():
    stand = stand_of(
        load(
            "widefield",
            source=Beads(spacing_um=40.0),
            camera_shape_yx=(64, 64),
            sample_tilt_um_per_mm=(4.0, -3.0),
        )
    )

    def sharpest_um(xy_um):
        planes_um = np.arange(-6.0, 6.01, 0.25)
        peaks = [seen(stand, xy_um=xy_um, focus_um=plane).max() for plane in planes_um]
        return planes_um[int(np.argmax(peaks))]

    assert sharpest_um((1000.0, 0.0)) - sharpest_um((0.0, 0.0)) == pytest.approx(4.0, abs=0.25)
    assert sharpest_um((0.0, 1000.0)) - sharpest_um((0.0, 0.0)) == pytest.approx(-3.0, abs=0.25)


def test_lateral_chromatic_shift_is_that_of_its_filter(ideal):
    stand = stand_with(lateral_chromatic_um={"Texas Red": (0.9, -0.4)})
    np.testing.assert_allclose(
        shift_yx_um(seen(ideal, channel="Texas Red"), seen(stand, channel="Texas Red")),
        (-0.4, 0.9),
        atol=0.03,
    )
    np.testing.assert_array_equal(seen(ideal), seen(stand))


def test_axial_chromatic_shift_moves_the_sharpest_plane():
    stand = stand_with(axial_chromatic_um={"Texas Red": 1.5})
    planes_um = np.arange(-1.0, 4.01, 0.5)
    sharpness = [seen(stand, channel="Texas Red", focus_um=plane).var() for plane in planes_um]
    assert planes_um[int(np.argmax(sharpness))] == pytest.approx(1.5, abs=0.5)
    assert stand.best_focus_um("20X", (0, 0), channel="Texas Red") == 1.5


def test_drift_moves_image_and_focus(ideal):
    stand = stand_with(drift_um_per_min=(1.2, -0.6, 0.5))
    late = seen(stand, focus_um=1.0, time_s=120.0)
    np.testing.assert_allclose(shift_yx_um(seen(ideal), late), (1.2, -2.4), atol=0.03)
    assert stand.best_focus_um("20X", (0, 0), time_s=120.0) == pytest.approx(1.0)


def test_the_sample_plane_waves_as_much_as_it_says():
    waviness = Waviness(2.0, seed=5)
    places = np.random.default_rng(0).uniform(-30_000, 30_000, (2000, 2))
    heights = np.array([waviness.at(tuple(place)) for place in places])
    assert np.sqrt((heights**2).mean()) == pytest.approx(2.0, rel=0.15)
    assert abs(waviness.at((0.0, 0.0)) - waviness.at((10.0, 0.0))) < 0.2
    stand = stand_with(sample_waviness_um=2.0)
    assert stand.best_focus_um("10X", (800.0, -300.0)) == pytest.approx(waviness.at((800.0, -300.0)))


def test_vignetting_and_background_gradient_are_what_an_empty_field_shows():
    empty = Beads(spacing_um=1e6, weight=0.0)
    stand = stand_of(
        load(
            "widefield",
            source=empty,
            camera_shape_yx=(SIDE, SIDE),
            vignetting=0.3,
            background_gradient=(0.2, -0.1),
        )
    )
    image = seen(stand, xy_um=(300.0, 300.0)) / seen(stand, xy_um=(300.0, 300.0))[SIDE // 2, SIDE // 2]
    left, right = image[SIDE // 2, 0], image[SIDE // 2, -1]
    assert (right + left) / 2 == pytest.approx(1 - 0.3 / 2, rel=0.01)
    assert (right - left) / (right + left) == pytest.approx(0.2, rel=0.02)
    top, bottom = image[0, SIDE // 2], image[-1, SIDE // 2]
    assert (bottom - top) / (bottom + top) == pytest.approx(-0.1, rel=0.02)


def test_bleaching_follows_the_dose_where_the_light_fell():
    core = load("widefield", camera_shape_yx=(64, 64), bleaching_per_s=0.1)
    core.setExposure(1000.0)
    stand = stand_of(core)
    background = 0.06 * 0.65**2 * 9 * 1000 * 0.16
    before = stand.expected_electrons(Frame("10X", "FITC", (0.0, 0.0), 0.0, modality="Widefield"), 1000.0)
    for _ in range(5):
        core.snapImage()
    frame = Frame("10X", "FITC", (0.0, 0.0), 0.0, modality="Widefield")
    after = stand.expected_electrons(frame, 1000.0)
    left = (after - background).sum() / (before - background).sum()
    assert left == pytest.approx(0.9**5, rel=0.01)
    elsewhere = Frame("10X", "FITC", (200.0, 0.0), 0.0)
    fresh = stand_of(load("widefield", camera_shape_yx=(64, 64)))
    np.testing.assert_allclose(
        stand.expected_electrons(elsewhere, 100.0), fresh.expected_electrons(elsewhere, 100.0), rtol=1e-5
    )
    assert np.array_equal(
        stand.expected_electrons(Frame("10X", "DAPI", (0.0, 0.0), 0.0), 100.0),
        fresh.expected_electrons(Frame("10X", "DAPI", (0.0, 0.0), 0.0), 100.0),
    )


def test_gain_spread_and_hot_pixels_are_the_chip_s_own():
    sensor = Sensor((SIDE, SIDE), gain_spread=0.02, hot_pixel_fraction=0.002, read_noise_electrons=0.0)
    light, rng = np.full((SIDE, SIDE), 5000.0, np.float32), np.random.default_rng(0)
    mean = np.mean([sensor.expose(light, rng) for _ in range(60)], axis=0) - 100
    assert (mean / mean.mean()).std() == pytest.approx(0.02, rel=0.1)
    dark = sensor.expose(np.zeros_like(light), rng, exposure_ms=500.0).astype(float) - 100
    assert np.mean(dark > 50) == pytest.approx(0.002, rel=0.5)
    part = sensor.expose(np.zeros((10, 20), np.float32), rng, exposure_ms=500.0, roi=(30, 40, 20, 10))
    np.testing.assert_array_equal(part > 150, dark[40:50, 30:50] > 50)


@pytest.mark.parametrize("level", [0.5, 5.0, 16.0, 30.0, 400.0, 20_000.0])
def test_shot_noise_has_the_first_three_moments_of_poisson_s_distribution(level):
    sensor = Sensor((512, 512), electrons_per_count=1.0, offset_counts=100.0, read_noise_electrons=1.0)
    rng = np.random.default_rng(1)
    counts = sensor.expose(np.full((512, 512), level, np.float32), rng).astype(float) - 100
    variance = level + 1.0 + 1 / 12  # shot noise, read noise, rounding
    many = counts.size
    assert counts.mean() == pytest.approx(level, abs=4 * np.sqrt(variance / many))
    assert counts.var() == pytest.approx(variance, rel=0.02)
    skewness = ((counts - counts.mean()) ** 3).mean() / counts.std() ** 3
    assert skewness == pytest.approx(level / variance**1.5, abs=0.05)


def test_a_full_well_and_the_converter_saturate():
    rng = np.random.default_rng(0)
    bright = np.full((8, 8), 1e6, np.float32)
    assert Sensor((8, 8)).expose(bright, rng).max() == round(30_000 / 0.46 + 100)
    assert Sensor((8, 8), bits=12).expose(bright, rng).max() == 4095


def test_all_parameters_zero_is_an_ideal_microscope():
    core = load("widefield", camera_shape_yx=(128, 128), sensor=Sensor((128, 128), read_noise_electrons=0.0))
    stand = stand_of(core)
    core.setExposure(800.0)
    snaps = []
    for _ in range(2):
        core.snapImage()
        snaps.append(core.getImage().astype(float) - 100)
    expected = stand.expected_electrons(Frame("10X", "FITC", (0.0, 0.0), 0.0), 800.0) / 0.46
    unsaturated = expected < 50_000
    difference = (snaps[0] - snaps[1])[unsaturated] / np.sqrt(2 * expected[unsaturated] / 0.46)
    assert difference.mean() == pytest.approx(0, abs=0.03)
    assert difference.std() == pytest.approx(1, abs=0.02)
