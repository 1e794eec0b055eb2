"""Spots of known width, number and distance go in, and come out."""

import time

import numpy as np
import pytest

from training.evaluation.spots import fit_spots, isolated_spots, peaks_between, split_spots

SPACING_PX = 27


def gaussian(shape_yx, places_yx, fwhm_px, height=100.0):
    sigma_px = fwhm_px / 2.3548
    y, x = np.mgrid[: shape_yx[0], : shape_yx[1]]
    image = np.zeros(shape_yx)
    for place_y, place_x in places_yx:
        top, left = max(int(place_y) - 26, 0), max(int(place_x) - 26, 0)
        part = (slice(top, int(place_y) + 27), slice(left, int(place_x) + 27))
        image[part] += height * np.exp(
            -((y[part] - place_y) ** 2 + (x[part] - place_x) ** 2) / (2 * sigma_px**2)
        )
    return image


def lattice(side, rng):
    nodes = np.stack(np.mgrid[:side, :side], axis=-1).reshape(-1, 2)
    return (nodes + 0.5) * SPACING_PX + rng.uniform(-1, 1, (side**2, 2))


def noisy(image, snr, rng, background=20.0, height=100.0):
    return image + background + rng.normal(0, height / snr, image.shape)


@pytest.mark.parametrize(("snr", "bound"), [(20, 0.01), (5, 0.03)])
@pytest.mark.parametrize("fwhm_px", [4.0, 9.7])
def test_the_median_width_of_400_noisy_spots_is_the_true_one(fwhm_px, snr, bound):
    rng = np.random.default_rng(int(fwhm_px) + snr)
    places = lattice(20, rng)
    image = noisy(gaussian((20 * SPACING_PX,) * 2, places, fwhm_px), snr, rng)
    widths = fit_spots(image, np.rint(places))
    assert np.isfinite(widths).mean() > 0.97
    assert np.nanmedian(widths) == pytest.approx(fwhm_px, rel=bound)


def test_an_oblong_spot_has_the_geometric_mean_of_its_widths():
    y, x = np.mgrid[:41, :41] - 20.2
    image = np.exp(-(y**2) / (2 * 2.0**2) - x**2 / (2 * 3.0**2))
    assert fit_spots(image, np.array([[20, 20]])) == pytest.approx(2.3548 * np.sqrt(6), rel=1e-3)


def test_there_is_no_width_where_there_is_no_spot_or_no_window():
    flat = np.random.default_rng(0).normal(0, 1, (60, 60))
    flat[30:, :] -= 100  # an edge
    assert np.isnan(fit_spots(flat, np.array([[29, 30], [2, 30]]))).all()
    assert fit_spots(flat, np.zeros((0, 2))).shape == (0,)


def test_thousands_of_spots_take_seconds():
    rng = np.random.default_rng(3)
    places = lattice(20, rng)
    image = noisy(gaussian((20 * SPACING_PX,) * 2, places, 5.0), 10, rng)
    start = time.process_time()
    fit_spots(image, np.tile(np.rint(places), (5, 1)))
    assert time.process_time() - start < 10


def test_spots_that_stand_alone_are_found_and_close_ones_are_not():
    rng = np.random.default_rng(1)
    alone, close = np.array([[30.3, 40.1], [90.7, 100.2]]), np.array([[40.0, 120.0], [46.5, 120.0]])
    at_edge = np.array([[5.0, 70.0]])
    image = gaussian((140, 150), np.concatenate([alone, close, at_edge]), 4.0) + rng.normal(0, 1, (140, 150))
    found = isolated_spots(image, least_height=40)
    assert sorted(map(tuple, found)) == [(30, 40), (91, 100)]


def test_a_dim_neighbour_spoils_a_window():
    image = gaussian((60, 60), [(30, 26)], 4.0) + gaussian((60, 60), [(30, 34)], 4.0, height=20.0)
    assert len(isolated_spots(image, least_height=40)) == 0


@pytest.mark.parametrize("angle_deg", [0, 33, 90])
@pytest.mark.parametrize(
    ("distance_over_fwhm", "apart"), [(1.5, True), (1.1, True), (0.8, False), (0.5, False)]
)
def test_two_peaks_are_told_apart_above_the_sparrow_distance(distance_over_fwhm, apart, angle_deg):
    # Two Gaussians merge at 2 sigma, 0.85 of the FWHM; a dip of a tenth is there at 1.0.
    angle = np.deg2rad(angle_deg)
    half = 0.5 * distance_over_fwhm * 4.0 * np.array([np.sin(angle), np.cos(angle)])
    middle = np.array([30.2, 30.4])
    image = gaussian((60, 60), [middle - half, middle + half], 4.0)
    assert peaks_between(image, middle - half, middle + half).tolist() == [apart]


def test_a_single_peak_or_one_beside_noise_is_not_two():
    rng = np.random.default_rng(2)
    image = gaussian((60, 60), [(30, 27)], 4.0) + rng.normal(0, 3, (60, 60))
    assert not peaks_between(image, np.array([[30, 27]]), np.array([[30, 33]]))[0]
    assert not peaks_between(image, np.array([[30, 24]]), np.array([[30, 30]]))[0]


def test_a_torn_spot_is_split_and_a_noisy_whole_one_is_not():
    rng = np.random.default_rng(4)
    places = np.array([[30.0, 30.0], [30.0, 80.0]])
    image = gaussian((60, 110), [(30, 30), (30, 77), (30, 82.5)], 4.0) + rng.normal(0, 2, (60, 110))
    assert split_spots(image, places, 10.0).tolist() == [False, True]
