"""Spots of known width go in; their widths, and the main peak of a mixture, come out."""

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from training.evaluation.not_measurable import NotMeasurableError
from training.evaluation.spot_widths import bright_spots, spot_widths, width_histogram, window_px_of

SPACING_PX = 31
HALF_PX = 13


def spots_on(side, fwhm_px, rng, height=100.0, share=1.0):
    """Return a lattice of spots, each at its own place between the pixels, and the places (N, 2)."""
    nodes = np.stack(np.mgrid[:side, :side], axis=-1).reshape(-1, 2)
    places = (nodes + 0.5) * SPACING_PX + rng.uniform(-0.5, 0.5, (side**2, 2))
    places = places[: int(share * len(places))]
    image = np.zeros((side * SPACING_PX,) * 2)
    widths = np.broadcast_to(fwhm_px, len(places))
    axis = np.arange(-HALF_PX, HALF_PX + 1)
    for place, width in zip(places, widths, strict=True):
        middle = np.rint(place).astype(int)
        along_y, along_x = np.exp(
            -((axis + (middle - place)[:, np.newaxis]) ** 2) / (2 * (width / 2.3548) ** 2)
        )
        part = tuple(slice(centre - HALF_PX, centre + HALF_PX + 1) for centre in middle)
        image[part] += height * np.outer(along_y, along_x)
    return image, places


def noisy(image, snr, rng, height=100.0, background=20.0):
    return image + background + rng.normal(0, height / snr, image.shape)


@pytest.mark.parametrize(("snr", "bound"), [(20, 0.01), (5, 0.03)])
@pytest.mark.parametrize("fwhm_px", [2.5, 4.0, 9.667])
def test_the_median_of_400_spots_is_the_true_width(fwhm_px, snr, bound):
    rng = np.random.default_rng(round(10 * fwhm_px))
    image = noisy(spots_on(20, fwhm_px, rng)[0], snr, rng)
    window_px = window_px_of(0.03 * fwhm_px, 0.03)
    places = bright_spots(image, window_px, least_height=25.0)
    found = spot_widths(image, places, 0.03, window_px)
    assert len(places) > 330
    assert found.median_um == pytest.approx(0.03 * fwhm_px, rel=bound)


@pytest.mark.parametrize(("snr", "bound"), [(20, 0.01), (5, 0.03)])
def test_the_main_peak_of_a_histogram_is_the_width_of_most_spots(snr, bound):
    rng = np.random.default_rng(snr)
    widths_px = np.where(np.arange(900) % 6 == 0, 7.5, 4.0)  # every sixth is a clump
    image, places = spots_on(30, widths_px, rng)
    found = spot_widths(noisy(image, snr, rng), np.rint(places), 0.03, 19)
    histogram = width_histogram(found.widths_um)
    assert histogram.peak_um == pytest.approx(0.12, rel=bound)
    assert histogram.median_um > histogram.peak_um
    assert histogram.counts.sum() + histogram.outside == found.fitted
    assert len(histogram.edges_um) == len(histogram.counts) + 1


@settings(max_examples=30, deadline=None)
@given(st.floats(0.05, 5.0), st.floats(0.02, 0.2), st.integers(100, 3000), st.integers(0, 2**32 - 1))
def test_the_peak_of_a_normal_distribution_is_its_mean(mean_um, spread, count, seed):
    widths_um = np.random.default_rng(seed).normal(mean_um, spread * mean_um, count)
    histogram = width_histogram(np.append(widths_um, [np.nan, 40 * mean_um]))
    standard_error = spread * mean_um / np.sqrt(count)
    assert histogram.peak_um == pytest.approx(mean_um, abs=7 * standard_error)
    assert histogram.outside >= 1


def test_input_output_and_truth_are_measured_at_the_same_places():
    # Paper: 290 nm in, 110 nm out, 120 nm in the truth.
    rng = np.random.default_rng(0)
    images = {
        name: noisy(spots_on(14, nm / 30, np.random.default_rng(1))[0], 20, rng)
        for name, nm in {"input": 290, "output": 110, "truth": 120}.items()
    }
    places = bright_spots(images["truth"], 19)
    found = {name: spot_widths(image, places, 0.03, 19) for name, image in images.items()}
    medians = [1e3 * found[name].median_um for name in ("input", "output", "truth")]
    assert medians == pytest.approx([290, 110, 120], rel=0.01)
    assert {len(each.widths_um) for each in found.values()} == {len(places)}


def test_the_window_is_the_paper_s_at_its_pixel_and_odd_at_every_other():
    assert window_px_of(0.290, 0.030) == 19
    assert window_px_of(0.8, 0.325) == 7
    assert window_px_of(2.6, 0.325) == 17


def test_spots_wider_than_points_crowded_ones_and_faint_ones_are_left_out():
    rng = np.random.default_rng(2)
    image, places = spots_on(6, np.where(np.arange(36) == 0, 16.0, 4.0), rng)
    image += np.roll(
        spots_on(6, 4.0, np.random.default_rng(2), share=0.2)[0], 7, axis=1
    )  # 7 have a neighbour
    image[places[:, 0].max().astype(int) - 12 :] *= 0.05
    chosen = bright_spots(noisy(image, 50, rng), 19)
    assert len(chosen) == 36 - 7 - 6


def test_a_truth_without_noise_has_bright_spots_too():
    image, places = spots_on(5, 4.0, np.random.default_rng(0))
    chosen = bright_spots(image, 19)
    assert sorted(map(tuple, chosen)) == sorted(map(tuple, np.rint(places)))


def test_pixels_of_any_size_change_the_unit_alone():
    rng = np.random.default_rng(3)
    image, places = spots_on(5, 4.0, rng)
    one, other = (spot_widths(image, np.rint(places), size, 19) for size in (1.0, 0.325))
    assert other.widths_um == pytest.approx(0.325 * one.widths_um)


def test_two_thousand_spots_take_seconds():
    rng = np.random.default_rng(4)
    image, places = spots_on(20, 4.0, rng)
    image = noisy(image, 10, rng)
    start = time.process_time()
    spot_widths(image, np.tile(np.rint(places), (5, 1)), 0.03, 19)
    assert time.process_time() - start < 6


@pytest.mark.parametrize(
    ("truth", "reason"),
    [
        (np.full((80, 80), np.nan), "no number"),
        (np.zeros((80, 80)), "all pixels are 0"),
        (np.eye(40), "40 x 40 px"),
        (np.random.default_rng(0).normal(size=(200, 200)), "no spots"),
        (np.mgrid[:80, :80][0].astype(float), "no spots"),
    ],
)
def test_a_truth_without_spots_says_so(truth, reason):
    with pytest.raises(NotMeasurableError, match=reason):
        bright_spots(truth, 19)


def test_one_spot_has_no_median_and_a_few_have_no_distribution():
    image, places = spots_on(5, 4.0, np.random.default_rng(0))
    with pytest.raises(NotMeasurableError, match="one spot stand"):
        spot_widths(image, np.rint(places[:1]), 0.03, 19)
    with pytest.raises(NotMeasurableError, match="no spots"):
        spot_widths(image, np.zeros((0, 2)), 0.03, 19)
    with pytest.raises(NotMeasurableError, match="one spot"):
        width_histogram(np.array([0.1, np.nan]))
    with pytest.raises(NotMeasurableError, match="19 spots"):
        width_histogram(np.arange(1, 20))
    with pytest.raises(NotMeasurableError, match="all alike"):
        width_histogram(np.full(100, 0.12))


def test_spots_that_an_image_lacks_have_no_width_there():
    rng = np.random.default_rng(0)
    _, places = spots_on(8, 4.0, rng)
    lacking = noisy(spots_on(8, 4.0, rng, share=0.4)[0], 30, rng)
    with pytest.raises(NotMeasurableError, match="of 64 spots"):
        spot_widths(lacking, np.rint(places), 0.03, 19)
    with pytest.raises(NotMeasurableError, match="no number"):
        spot_widths(lacking * np.nan, np.rint(places), 0.03, 19)
