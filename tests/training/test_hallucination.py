"""Spots and filaments that were planted or taken away are counted; noise and blur are not."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from training.evaluation.hallucination import hallucinated_filaments, hallucinated_spots
from training.evaluation.not_measurable import NotMeasurableError

SPACING_PX, HALF_PX, SIDE_PX = 20, 10, 360
FWHM_PX = 4.0


def places_on(side, rng, jitter_px=3.0):
    """Return places (N, 2) about the nodes of a lattice, none within 2 FWHM of another."""
    nodes = np.stack(np.mgrid[1 : side - 1, 1 : side - 1], axis=-1).reshape(-1, 2)
    return rng.permutation((nodes + 0.5) * SPACING_PX + rng.uniform(-jitter_px, jitter_px, (len(nodes), 2)))


def spots_at(places, heights=100.0, fwhm_px=FWHM_PX, side_px=SIDE_PX):
    image = np.zeros((side_px, side_px))
    axis = np.arange(-HALF_PX, HALF_PX + 1)
    for place, height in zip(places, np.broadcast_to(heights, len(places)), strict=True):
        middle = np.rint(place).astype(int)
        away = axis + (middle - place)[:, np.newaxis]
        along_y, along_x = np.exp(-(away**2) / (2 * (fwhm_px / 2.3548) ** 2))
        part = tuple(slice(centre - HALF_PX, centre + HALF_PX + 1) for centre in middle)
        image[part] += height * np.outer(along_y, along_x)
    return image


def filament(start, end, height=100.0, fwhm_px=FWHM_PX, side_px=SIDE_PX):
    start, end = np.array(start, float), np.array(end, float)
    length = np.hypot(*(end - start))
    along = (end - start) / length
    y, x = np.mgrid[:side_px, :side_px]
    at = np.clip((y - start[0]) * along[0] + (x - start[1]) * along[1], 0, length)
    away = np.hypot(y - start[0] - at * along[0], x - start[1] - at * along[1])
    return height * np.exp(-(away**2) / (2 * (fwhm_px / 2.3548) ** 2))


def rays(angles_deg, **shape):
    """Return filaments from 40 to 160 px from the middle of the image: 120 px each."""
    middle = np.array([SIDE_PX / 2 + 0.3, SIDE_PX / 2 - 0.2])
    directions = [np.array([np.sin(a), np.cos(a)]) for a in np.deg2rad(angles_deg)]
    return sum(filament(middle + 40 * d, middle + 160 * d, **shape) for d in directions)


def noisy(image, std, seed):
    return image + 20 + np.random.default_rng(seed).normal(0, std, image.shape)


def web(side_px, fwhm_px, seed):
    """Return curved filaments all over a field, as they cross in a cell."""
    rng = np.random.default_rng(seed)
    turns = rng.normal(0, 0.004, (60, 1)) + rng.normal(0, 0.004, (60, 1000))
    angles = rng.uniform(0, 2 * np.pi, (60, 1)) + np.cumsum(turns, axis=1)
    steps = 0.5 * np.stack([np.sin(angles), np.cos(angles)], axis=-1)
    points = (rng.uniform(0, side_px, (60, 1, 2)) + np.cumsum(steps, axis=1)).reshape(-1, 2)
    light = np.repeat(rng.uniform(50, 200, 60), 1000)
    edges = np.arange(4 * side_px + 1) / 4  # drawn at four times the pixels, and summed
    fine, _, _ = np.histogram2d(*points.T, bins=(edges, edges), weights=light)
    coarse = fine.reshape(side_px, 4, side_px, 4).sum(axis=(1, 3))
    sigma_px = fwhm_px / 2.3548
    return 0.5 * np.sqrt(2 * np.pi) * sigma_px * ndimage.gaussian_filter(coarse, sigma_px)


@pytest.mark.parametrize("fwhm_px", [1.5, 4.0])
@pytest.mark.parametrize("noise", [0.0, 5.0])
@pytest.mark.parametrize(("planted", "removed"), [(0, 0), (1, 0), (0, 1), (25, 12)])
def test_spots_that_were_planted_and_removed_are_counted(planted, removed, noise, fwhm_px):
    places = places_on(18, np.random.default_rng(0))
    kept, extra = places[: -planted or None], places[len(places) - planted :]
    truth = noisy(spots_at(kept, fwhm_px=fwhm_px), noise, 1)
    output = noisy(spots_at([*kept[removed:], *extra], fwhm_px=fwhm_px), noise, 2)
    found = hallucinated_spots(output, truth, fwhm_px)
    assert (found.hallucinated, found.missed) == (planted, removed)
    assert (found.in_output, found.in_truth) == (256 - removed, 256 - planted)
    assert found.hallucinated_rate == planted / (256 - removed)
    assert found.missed_rate == removed / (256 - planted)
    distance = np.hypot(*(found.hallucinated_yx[:, np.newaxis] - extra).transpose(2, 0, 1))
    assert (distance.min(axis=1, initial=np.inf) < 1.5).all()


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 40), st.integers(0, 2**32 - 1), st.floats(0.01, 100), st.floats(-1e3, 1e3))
def test_the_share_of_added_spots_is_found_whatever_the_output_s_gain_and_offset(added, seed, gain, offset):
    places = places_on(10, np.random.default_rng(seed))
    kept = places[: len(places) - added]
    truth = spots_at(kept, side_px=200)  # noise would now and then show one of the added as well
    found = hallucinated_spots(gain * spots_at(places, side_px=200) + offset, truth, FWHM_PX)
    assert found.hallucinated == added
    assert found.hallucinated_rate == pytest.approx(added / len(places))
    assert found.missed == 0


@pytest.mark.parametrize("removed", [0, 1, 3])
@pytest.mark.parametrize("noise", [0.0, 5.0])
def test_filaments_that_were_planted_and_removed_are_measured(removed, noise):
    truth = noisy(rays([0, 60, 110, 170, 200, 251]), noise, 1)
    output = noisy(rays([25, 290, *[0, 60, 110, 170, 200, 251][removed:]]), noise, 2)
    found = hallucinated_filaments(output, truth, FWHM_PX)
    # A ridge leads on from either end for about the width of a point.
    ends = 2.5 * FWHM_PX
    assert found.hallucinated == pytest.approx(2 * 120, abs=2 * ends)
    assert found.missed == pytest.approx(removed * 120, abs=removed * ends)
    assert found.in_truth == pytest.approx(6 * 120, abs=6 * ends)
    assert found.hallucinated_rate == pytest.approx(2 / (8 - removed), abs=0.02)


@pytest.mark.parametrize("angle_deg", [0, 10, 22.5, 33, 45, 80])
@pytest.mark.parametrize("fwhm_px", [1.5, 4.0])
def test_a_filament_is_as_long_at_every_angle(angle_deg, fwhm_px):
    # Made up beyond the end of a true one: ends do not count.
    truth = rays([angle_deg, angle_deg + 120, angle_deg + 240], fwhm_px=fwhm_px)
    along = np.array([np.sin(np.deg2rad(angle_deg)), np.cos(np.deg2rad(angle_deg))])
    middle = np.array([SIDE_PX / 2 + 0.3, SIDE_PX / 2 - 0.2])
    short = truth - rays([angle_deg], fwhm_px=fwhm_px)
    short += filament(middle + 80 * along, middle + 160 * along, fwhm_px=fwhm_px)
    found = [hallucinated_filaments(truth, image, fwhm_px) for image in (short, truth)]
    assert found[1].in_truth - found[0].in_truth == pytest.approx(40, abs=4.5)
    assert found[0].hallucinated == pytest.approx(40 - fwhm_px - 1, abs=5)


@pytest.mark.parametrize("fwhm_px", [1.6, 4.0])
@pytest.mark.parametrize("measure", [hallucinated_spots, hallucinated_filaments])
def test_an_image_is_its_own_truth(measure, fwhm_px):
    image = web(512, fwhm_px, 0) + spots_at(places_on(25, np.random.default_rng(0)), 150, fwhm_px, 512)
    for truth in (image, noisy(image, 10, 0)):
        found = measure(truth, truth, fwhm_px)
        assert (found.hallucinated, found.missed) == (0, 0)
        assert len(found.hallucinated_yx) == len(found.missed_yx) == 0
        assert found.hallucinated_rate == found.missed_rate == 0


@pytest.mark.parametrize("noise", [2.0, 8.0, 25.0])
@pytest.mark.parametrize("fwhm_px", [1.6, 4.0])
def test_the_noise_of_a_second_acquisition_is_no_structure(fwhm_px, noise):
    # Of heights about the threshold too: spots of a log-normal distribution, dim and bright filaments.
    rng = np.random.default_rng(3)
    beads = spots_at(places_on(25, rng), 100 * rng.lognormal(0, 0.7, 529), fwhm_px, 512)
    for clean, measure in ((beads, hallucinated_spots), (web(512, fwhm_px, 4), hallucinated_filaments)):
        first, second = noisy(clean, noise, 5), noisy(clean, noise, 6)
        for output in (second, clean):  # A perfect output has no noise at all.
            found = measure(output, first, fwhm_px)
            assert found.hallucinated_rate < 0.01
            assert found.missed_rate < 0.01


def test_shot_noise_on_bright_structure_is_no_structure():
    rng = np.random.default_rng(0)
    clean = 0.3 * web(512, FWHM_PX, 1) + 5
    first, second = rng.poisson(clean), rng.poisson(clean)
    assert hallucinated_filaments(second, first, FWHM_PX).hallucinated_rate < 0.01
    assert hallucinated_spots(second, first, FWHM_PX).hallucinated <= 1


def test_an_output_smoother_than_its_truth_makes_nothing_up():
    clean = web(512, FWHM_PX, 2)
    truth = noisy(clean, 10, 0)
    found = hallucinated_filaments(ndimage.gaussian_filter(clean, 1.2), truth, FWHM_PX)
    assert found.hallucinated_rate < 0.01
    assert found.missed_rate < 0.02


def test_texture_all_over_the_output_is_made_up_and_does_not_hide_itself():
    rng = np.random.default_rng(0)
    clean = spots_at(places_on(18, rng))
    texture = ndimage.gaussian_filter(rng.normal(0, 1, clean.shape), 1.7)
    found = hallucinated_spots(clean + 25 * texture / texture.std(), noisy(clean, 3, 1), FWHM_PX)
    assert found.hallucinated > 400
    assert found.missed < 10


def test_two_spots_where_the_truth_has_one_are_one_made_up():
    places = places_on(18, np.random.default_rng(0))
    apart = np.array([0.0, 3.0])
    torn = spots_at([*places[5:], *(places[:5] + apart), *(places[:5] - apart)])
    found = hallucinated_spots(torn, spots_at(places), FWHM_PX, radius_px=4.0)
    assert (found.hallucinated, found.missed) == (5, 0)


def test_an_output_without_structure_misses_all_and_makes_nothing_up():
    truth = spots_at(places_on(18, np.random.default_rng(0)))
    found = hallucinated_spots(noisy(np.zeros_like(truth), 0.1, 0), truth, FWHM_PX)
    assert (found.hallucinated, found.hallucinated_rate, found.missed_rate) == (0, 0, 1)
    backwards = hallucinated_spots(truth, noisy(np.zeros_like(truth), 0.1, 0), FWHM_PX)
    assert (backwards.hallucinated_rate, backwards.missed_rate) == (1, 0)


def test_noise_beside_a_truth_without_noise_counts_for_nothing_where_it_was_acquired():
    clean = ndimage.gaussian_filter(spots_at(places_on(18, np.random.default_rng(0))), 4.0)
    output = noisy(clean, 5, 1)
    assert hallucinated_spots(output, clean, FWHM_PX).hallucinated > 100
    with_bright_spots = clean + spots_at(np.array([[60.0, 60 + 40 * i] for i in range(6)]))
    found = hallucinated_spots(
        noisy(with_bright_spots, 5, 1), with_bright_spots, FWHM_PX, acquired=noisy(with_bright_spots, 5, 2)
    )
    assert (found.hallucinated, found.missed, found.in_truth) == (0, 0, 6)


def test_what_lies_in_the_border_does_not_count():
    inner = np.array([[60.0, 60 + 40 * i] for i in range(6)])
    extra = spots_at(np.array([[12.0, 100.0], [100.0, 346.0]]))
    found = hallucinated_spots(spots_at(inner) + extra, spots_at(inner), FWHM_PX)
    assert (found.hallucinated, found.in_output) == (0, 6)


@pytest.mark.parametrize("measure", [hallucinated_spots, hallucinated_filaments])
@pytest.mark.parametrize(
    ("output", "truth", "reason"),
    [
        (np.full((80, 80), np.nan), np.eye(80), "no number"),
        (np.eye(80), np.zeros((80, 80)), "the truth is empty"),
        (np.eye(80), np.eye(81), "one grid"),
        (np.eye(60), np.eye(60), "60 x 60 px"),
        (np.mgrid[:80, :80][0], np.mgrid[:80, :80][0], "output and truth show (no spots|0 px)"),
        (noisy(np.zeros((99, 99)), 1, 0), noisy(np.zeros((99, 99)), 1, 1), "show (no spots|0 px)"),
    ],
)
def test_structure_that_cannot_be_compared_says_why(measure, output, truth, reason):
    with pytest.raises(NotMeasurableError, match=reason):
        measure(output, truth, FWHM_PX)


def test_one_spot_has_no_rate_and_spots_are_no_filaments():
    image = spots_at(np.array([[100.0, 100.0]]))
    with pytest.raises(NotMeasurableError, match="one spot at most"):
        hallucinated_spots(image, image, FWHM_PX)
    beads = spots_at(places_on(18, np.random.default_rng(0), jitter_px=5))
    with pytest.raises(NotMeasurableError, match="px of filaments"):
        hallucinated_filaments(beads, beads, FWHM_PX)
