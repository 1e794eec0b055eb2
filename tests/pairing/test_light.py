import numpy as np
import pytest

from inference.preprocess import upsample
from training.pairing.flat_field import FlatField
from training.pairing.light import NO_LIGHT, ChannelLight, StateLight, _Survey

SHAPE = (96, 128)


@pytest.fixture
def uneven():
    field = FlatField(tuple(np.linspace(-0.06, 0.06, 14)), tiles=30, standard_error=0.01)
    assert field.largest_deviation > 0.2
    return field


@pytest.fixture
def specimen():
    return np.random.default_rng(0).gamma(2.0, 200.0, SHAPE).astype(np.float32)


def test_a_shaded_frame_comes_out_as_even_light_would_have_given_it(uneven, specimen):
    shaded = specimen * uneven.gain(SHAPE) + 100
    flat = StateLight(100.0, uneven).flattened(shaded)
    np.testing.assert_allclose(flat, specimen + 100, rtol=1e-4)


def test_the_high_image_gets_the_light_of_the_low_one(uneven, specimen):
    light = ChannelLight(StateLight(150.0, uneven), StateLight(100.0))
    lit = light.under_low(specimen + 100, (SHAPE[0] // 2, SHAPE[1] // 2), 2)
    gain = upsample(uneven.gain((SHAPE[0] // 2, SHAPE[1] // 2)), 2)
    np.testing.assert_allclose(lit, specimen * gain + 100, rtol=1e-4)


def test_bad_pixels_are_replaced_by_their_neighbours_and_the_rest_is_untouched(specimen):
    hot = np.zeros(SHAPE, dtype=bool)
    hot[10, 20] = True
    frame = specimen.astype(np.uint16)
    broken = frame.copy()
    broken[10, 20] = 60_000
    mended = StateLight(hot=hot).mended(broken)
    assert mended[10, 20] < 5_000
    np.testing.assert_array_equal(mended[~hot], frame[~hot])


def test_where_nothing_is_known_nothing_is_changed(specimen):
    assert NO_LIGHT.high.flattened(specimen) is specimen
    assert NO_LIGHT.under_low(specimen, SHAPE, 1) is specimen


def test_frames_too_small_for_a_flat_field_are_no_end_of_the_set():
    survey = _Survey()
    for _ in range(12):
        survey.add(np.random.default_rng(0).poisson(200, (24, 24)).astype(np.uint16))
    light = survey.light(None, flat_field=True)
    assert light.flat_field is None
    assert "too small" in light.even_because
