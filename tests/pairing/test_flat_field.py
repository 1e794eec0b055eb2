import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from acquisition.virtual import Frame, Sensor, load, stand_of
from training.pairing.flat_field import KEPT_TILES, FlatField, FlatFieldEstimator

OFFSET = 100.0
SIDE = 64


def illumination(shape_yx=(SIDE, SIDE), vignetting=0.2, tilt=0.0):
    v, u = (((2 * np.arange(n) + 1) / n - 1) for n in shape_yx)
    field = (1 - vignetting * (u**2 + v[:, np.newaxis] ** 2) / 2) * (1 + tilt * u)
    return field / field.mean()


def discs(rng, count, shape_yx=(SIDE, SIDE)):
    """Objects of random brightness anywhere, (Y, X); of many, little of the frame stays empty."""
    y, x = np.mgrid[: shape_yx[0], : shape_yx[1]]
    image = np.zeros(shape_yx)
    for _ in range(count):
        radius, row, column = rng.uniform([3, -4, -4], [6, shape_yx[0] + 4, shape_yx[1] + 4])
        image += rng.uniform(0.5, 1.5) * ((y - row) ** 2 + (x - column) ** 2 < radius**2)
    return image


def tiles_of(field, count=40, seed=0, objects=30, haze=0.3, counts=800.0):
    rng = np.random.default_rng(seed)
    for _ in range(count):
        expected = field * (discs(rng, objects, field.shape) + haze) * counts
        yield np.rint(rng.poisson(expected) + rng.normal(OFFSET, 2, field.shape)).astype(np.uint16)


def estimated(tiles, background=OFFSET):
    estimator = FlatFieldEstimator()
    for tile in tiles:
        estimator.add(tile)
    return estimator.estimate(background)


def error(found, field):
    return float(np.sqrt(np.mean((found.gain(field.shape) / field - 1) ** 2)))


@pytest.fixture(scope="module")
def vignetted():
    return estimated(tiles_of(illumination()))


def test_vignetting_is_found_in_a_specimen_that_fills_the_frame(vignetted):
    assert error(vignetted, illumination()) < 0.02
    assert vignetted.largest_deviation == pytest.approx(0.2, abs=0.05)


def test_the_error_is_about_as_large_as_expected(vignetted):
    assert error(vignetted, illumination()) < 2.5 * vignetted.standard_error
    assert vignetted.standard_error < vignetted.deviation


def test_even_illumination_stays_even():
    flat = illumination(vignetting=0.0)
    found = estimated(tiles_of(flat, seed=1))
    assert error(found, flat) < 0.01


def test_vignetting_is_found_from_the_haze_around_sparse_objects():
    field = illumination((256, 256))
    found = estimated(tiles_of(field, count=20, objects=12, counts=600.0))
    assert error(found, field) < 0.01


def test_a_tilt_of_the_light_is_found_too():
    field = illumination(tilt=0.1)
    assert error(estimated(tiles_of(field)), field) < 0.025


def test_haze_that_is_uneven_by_itself_is_not_taken_for_the_light():
    flat = illumination(vignetting=0.0)
    haze = 0.5 * illumination(vignetting=0.0, tilt=0.3)
    rng = np.random.default_rng(2)
    found = estimated([rng.poisson(1000 * (discs(rng, 30) + haze)) + OFFSET for _ in range(60)])
    assert isinstance(found, str) or error(found, flat) < 0.05


def test_tiles_that_are_all_the_same_even_slide_show_the_light_itself():
    field = illumination()
    rng = np.random.default_rng(3)
    found = estimated([rng.poisson(field * 5000) + OFFSET for _ in range(10)])
    assert error(found, field) < 0.002


@pytest.mark.slow
def test_the_virtual_stand_s_vignetting_is_found_in_cells():
    sensor = Sensor((128, 128), pixel_um=26.0)  # the stand's field of view on fewer pixels
    core = load("widefield", seed=7, sensor=sensor, vignetting=0.2)
    stand = stand_of(core)
    estimator = FlatFieldEstimator()
    rng = np.random.default_rng(0)
    for k in range(30):
        place = (331.0 * (k % 6), 317.0 * (k // 6))
        frame = Frame("10X", "Texas Red", place, stand.best_focus_um("10X", place, channel="Texas Red"))
        estimator.add(sensor.expose(stand.expected_electrons(frame, 100.0), rng))
    found = estimator.estimate(sensor.offset_counts)
    assert error(found, illumination((128, 128))) < 0.02


@pytest.mark.parametrize("shape_yx", [(32, 32), (100, 131), (65, 40)])
def test_tiles_of_any_shape_give_a_field_on_their_own_grid(shape_yx):
    field = illumination(shape_yx, vignetting=0.3)
    rng = np.random.default_rng(4)
    found = estimated([rng.poisson(field * 20_000) for _ in range(8)], background=0.0)
    gain = found.gain(shape_yx)
    assert gain.shape == shape_yx
    assert gain.dtype == np.float32
    np.testing.assert_allclose(gain, field, rtol=0.03)


@given(
    coefficients=st.lists(st.floats(-0.1, 0.1), min_size=14, max_size=14),
    shape_yx=st.tuples(st.integers(2, 70), st.integers(2, 70)),
)
@settings(max_examples=30, deadline=None)
def test_a_gain_is_positive_and_its_mean_is_one(coefficients, shape_yx):
    gain = FlatField(tuple(coefficients), tiles=8, standard_error=0.01).gain(shape_yx)
    assert gain.min() > 0
    assert gain.mean() == pytest.approx(1, abs=1e-5)


@given(brightness=st.floats(0.1, 50), background=st.floats(0, 1000))
@settings(max_examples=4, deadline=None)
def test_the_field_does_not_depend_on_brightness_and_offset(brightness, background):
    rng = np.random.default_rng(5)
    tiles = [illumination((32, 32)) * rng.gamma(4, size=(32, 32)) for _ in range(20)]
    found = estimated([tile * brightness + background for tile in tiles], background)
    expected = estimated(tiles, 0.0)
    np.testing.assert_allclose(found.gain((32, 32)), expected.gain((32, 32)), rtol=1e-3)


def test_mirrored_tiles_give_a_mirrored_field():
    tiles = list(tiles_of(illumination(tilt=0.2), count=20))
    found, mirrored = estimated(tiles), estimated([tile[:, ::-1] for tile in tiles])
    np.testing.assert_allclose(mirrored.gain((SIDE, SIDE)), found.gain((SIDE, SIDE))[:, ::-1], rtol=0.01)


def test_memory_does_not_grow_with_the_tiles():
    rng = np.random.default_rng(6)
    tile = 1000 * rng.gamma(4, size=(32, 32))
    found = estimated((np.roll(tile, rng.integers(0, 32, 2), axis=(0, 1)) for _ in range(1000)), 0.0)
    assert KEPT_TILES / 2 <= found.tiles <= KEPT_TILES


def test_a_flat_field_deviates_by_nothing():
    flat = FlatField((0.0,) * 14, tiles=8, standard_error=0.01)
    assert flat.deviation == pytest.approx(0, abs=1e-6)
    assert flat.largest_deviation == pytest.approx(0, abs=1e-6)


def test_a_few_tiles_cannot_tell():
    assert "too few" in estimated(tiles_of(illumination(), count=5))


def test_no_tiles_cannot_tell():
    assert "0 tiles" in FlatFieldEstimator().estimate(OFFSET)


def test_tiles_without_light_cannot_tell():
    assert "nothing above" in estimated([np.full((SIDE, SIDE), 90, np.uint16)] * 10)


def test_ten_tiles_of_a_specimen_with_large_gaps_cannot_tell():
    assert "uncertain by" in estimated(tiles_of(illumination(), count=10, haze=0.0))


def test_a_tile_smaller_than_the_bins_is_refused():
    with pytest.raises(ValueError, match=r"at least 32 x 32 px; got \(31, 64\)"):
        FlatFieldEstimator().add(np.zeros((31, 64)))
