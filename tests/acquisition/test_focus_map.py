"""The focus map: what it expects, how sure it is, and whether it is right to be."""

import numpy as np
import pytest

from acquisition.area import serpentine
from acquisition.focus_map import FocusMap, Place
from acquisition.virtual.imperfections import Waviness

PARFOCAL_UM = 6.0


def new_map():
    return FocusMap(0.0, 10.0, 0.0, 10.0)


def filled(plane, nodes, state="low"):
    known = new_map()
    for number, xy in enumerate(nodes):
        known.add(Place(xy, 3.0 * number, state), plane(xy), 0.05)
    return known


def tilted(xy):
    return 4.0 + 1.5e-3 * xy[0] - 1.0e-3 * xy[1]


def test_before_anything_is_known_it_expects_the_start_and_says_how_unsure_it_is():
    expected = new_map().predict(Place((0.0, 0.0), 0.0, "low"))
    assert expected.focus_um == 0.0
    assert expected.uncertainty_um == pytest.approx(np.sqrt(10.0**2 + 2.0**2 + 1.5**2))


def test_a_tilted_plane_is_continued_beyond_what_was_visited():
    known = filled(tilted, serpentine(3, 3, (300, 300), (0.0, 0.0)))
    ahead = known.predict(Place((600.0, 300.0), 30.0, "low"))
    assert ahead.focus_um == pytest.approx(tilted((600.0, 300.0)), abs=0.15)
    assert ahead.uncertainty_um < 0.5


def test_far_away_it_is_unsure_again():
    known = filled(tilted, serpentine(3, 3, (300, 300), (0.0, 0.0)))
    near, far = (known.predict(Place((x_um, 0.0), 30.0, "low")).uncertainty_um for x_um in (100.0, 5000.0))
    assert near < 0.3
    assert far > 1.5


def test_one_field_with_the_other_objective_tells_its_offset_everywhere():
    nodes = serpentine(3, 3, (300, 300), (0.0, 0.0))
    known = filled(tilted, nodes)
    known.add(Place(nodes[0], 60.0, "high"), tilted(nodes[0]) + PARFOCAL_UM, 0.05)
    expected = known.predict(Place((0.0, 0.0), 61.0, "high"))
    assert expected.focus_um == pytest.approx(PARFOCAL_UM + 4.0, abs=0.2)
    assert expected.uncertainty_um < 0.3


def test_a_steady_drift_is_followed():
    known = new_map()
    for minute in range(20):
        known.add(Place((0.0, 0.0), 60.0 * minute, "low"), 0.3 * minute, 0.05)
    assert known.predict(Place((0.0, 0.0), 60.0 * 20, "low")).focus_um == pytest.approx(6.0, abs=0.2)


def test_a_warm_up_is_not_taken_to_go_on_all_night():
    known = new_map()
    for minute in range(0, 60, 3):
        known.add(Place((0.0, 0.0), 60.0 * minute, "low"), 8.0 * (1 - np.exp(-minute / 20)), 0.05)
    expected = known.predict(Place((0.0, 0.0), 3600.0 * 11, "low"))
    assert abs(expected.focus_um - 8.0) < 2.5 * expected.uncertainty_um
    assert abs(expected.focus_um - 8.0) < 6.0


def test_after_a_night_without_a_look_it_is_unsure():
    known = filled(tilted, serpentine(2, 2, (300, 300), (0.0, 0.0)))
    assert known.predict(Place((0.0, 0.0), 8 * 3600.0, "low")).uncertainty_um > 2.0


def test_a_rough_sample_makes_it_cautious_and_a_flat_one_bold():
    nodes = serpentine(5, 5, (300, 300), (0.0, 0.0))
    rough, flat = filled(Waviness(3.0, 7).at, nodes), filled(tilted, nodes)
    assert rough.roughness > 1.0
    assert flat.roughness < 0.5
    place = Place((150.0, 150.0), 90.0, "low")
    assert rough.predict(place).uncertainty_um > 2 * flat.predict(place).uncertainty_um


@pytest.mark.parametrize("amplitude_um", [0.0, 0.5, 1.0, 2.0])
@pytest.mark.parametrize("seed", range(4))
def test_it_is_as_often_right_as_it_says(amplitude_um, seed):
    waviness, rng = Waviness(amplitude_um, seed), np.random.default_rng(seed)
    known, off = new_map(), []
    for number, xy in enumerate(serpentine(8, 8, (300, 300), (0.0, 0.0))):
        place, plane = Place(xy, 3.0 * number, "low"), tilted(xy) + waviness.at(xy)
        if number > 16:
            expected = known.predict(place)
            off.append((plane - expected.focus_um) / expected.uncertainty_um)
        known.add(place, plane + rng.normal(0, 0.05), 0.1)
    assert np.mean(np.abs(off) < 2.5) > 0.9
