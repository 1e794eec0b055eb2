"""Where a report draws its line."""

import numpy as np
import pytest

from training.evaluation.line_profile import line_profile, peak_separation_um
from training.evaluation.not_measurable import NotMeasurableError
from training.evaluation.telling_line import telling_line


def lines_at(*columns, heights, side=64):
    """Upright lines of a Gaussian section, on a background of 10."""
    x = np.arange(side)
    section = sum(h * np.exp(-((x - c) ** 2) / 2) for c, h in zip(columns, heights, strict=True))
    return np.tile(10 + section, (side, 1)).astype(np.float32)


def test_the_line_crosses_the_pair_with_the_deepest_dip_at_right_angles():
    truth = lines_at(10, 16, 40, 46, heights=(50, 50, 90, 80))
    (y, start), (same_y, end) = telling_line(truth)
    assert y == same_y
    assert start < 40
    assert end > 46
    assert start > 16
    assert peak_separation_um(line_profile(truth, (y, start), (y, end)), 1.0) == pytest.approx(6, abs=0.05)


def test_a_turned_image_has_the_turned_line():
    truth = lines_at(20, 27, heights=(50, 60))
    (y, start), (_, end) = telling_line(truth)
    assert telling_line(truth.T) == ((start, y), (end, y))


def test_brighter_structures_that_stand_apart_are_passed_over():
    truth = lines_at(8, 30, 50, 55, heights=(500, 500, 200, 200))
    (_, start), (_, end) = telling_line(truth)
    assert 30 < start < 50
    assert 55 < end < 64


def test_a_brighter_neighbour_is_not_on_the_line():
    truth = lines_at(20, 26, 32, heights=(90, 90, 300))
    (y, start), (_, end) = telling_line(truth)
    assert start < 20
    assert 26 < end < 30
    assert peak_separation_um(line_profile(truth, (y, start), (y, end)), 1.0) == pytest.approx(6, abs=0.1)


@pytest.mark.parametrize(
    "truth",
    [np.full((32, 32), 5.0), lines_at(20, heights=(50,)), np.full((32, 32), np.nan)],
    ids=["constant", "one line", "NaN"],
)
def test_without_a_pair_there_is_no_line(truth):
    with pytest.raises(NotMeasurableError):
        telling_line(truth)
