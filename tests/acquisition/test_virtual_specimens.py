"""What lies on the virtual stage: fixed by its seed, without borders or repeats, and alive where it is."""

import numpy as np
import pytest
import tifffile

from acquisition.virtual import (
    Beads,
    ClathrinPits,
    EndothelialCells,
    HistoneNuclei,
    Micrograph,
    ScatteredBeads,
    load,
    stand_of,
)
from acquisition.virtual.specimen import DrawnSpecimen
from acquisition.virtual.stand import Frame
from configs.document import WrongInputError

SOURCES = {
    "cells": (lambda seed: EndothelialCells(seed), "microtubules", 0.1625),
    "nuclei": (lambda seed: HistoneNuclei(seed), "histone", 0.015),
    "pits": (lambda seed: ClathrinPits(seed), "clathrin", 0.0325),
    "scattered beads": (lambda seed: ScatteredBeads(seed, per_um2=0.05), "any", 0.1625),
}


@pytest.fixture(params=SOURCES)
def made(request):
    """How a specimen is made from a seed, and its stain."""
    source, stain, pitch_um = SOURCES[request.param]
    return lambda seed: DrawnSpecimen(source(seed), pitch_um), stain


def test_a_rectangle_is_the_same_however_it_is_cut(made):
    make, stain = made
    whole = make(3).density(stain, (-70, -40), (300, 200), 5.0)
    parts = make(3)
    lower = parts.density(stain, (80, -40), (150, 200), 5.0)
    upper = parts.density(stain, (-70, -40), (150, 200), 5.0)
    np.testing.assert_allclose(np.concatenate([upper, lower], axis=1), whole, atol=1e-5 * whole.max())


def test_the_seed_decides(made):
    make, stain = made
    a, b, other = (make(seed).density(stain, (0, 0), (400, 400), 0.0) for seed in (1, 1, 2))
    np.testing.assert_array_equal(a, b)
    assert abs(np.corrcoef(a.sum(axis=0).ravel(), other.sum(axis=0).ravel())[0, 1]) < 0.4


def test_far_away_it_does_not_repeat(made):
    make, stain = made
    specimen = make(1)
    here = specimen.density(stain, (0, 0), (400, 400), 0.0).sum(axis=0).ravel()
    for place in ((0, 40_000), (-60_000, 0), (25_600, 25_600)):
        there = specimen.density(stain, place, (400, 400), 0.0).sum(axis=0).ravel()
        assert abs(np.corrcoef(here, there)[0, 1]) < 0.4


def test_a_point_s_light_is_drawn_in_full_and_in_its_place():
    specimen = DrawnSpecimen(
        Beads(spacing_um=1000.0, weight=7.0, depth_um=0.4, plane_depths_um=(-1.0, 1.0)), 0.1
    )
    drawn = specimen.density("any", (-20, -20), (40, 40), 0.0)
    assert drawn.sum() == pytest.approx(7.0)
    np.testing.assert_allclose(drawn.sum(axis=(1, 2)), [7 * 0.3, 7 * 0.7], rtol=1e-5)
    centre = (drawn.sum(axis=0) * np.mgrid[-20:20, -20:20]).sum(axis=(1, 2)) / 7 + 0.5
    np.testing.assert_allclose(centre, 0, atol=1e-4)


def test_pits_appear_move_and_vanish():
    pits = DrawnSpecimen(ClathrinPits(4), 0.0325)

    def seen(time_s):
        return pits.density("clathrin", (0, 0), (600, 600), time_s)[0]

    def likeness(a, b):
        return np.corrcoef(a.ravel(), b.ravel())[0, 1]

    start = seen(0.0)
    assert start.sum() > 0
    assert 0.2 < likeness(start, seen(2.0)) < 0.9999  # moved a little
    assert likeness(start, seen(400.0)) < 0.1  # others
    np.testing.assert_array_equal(start, seen(0.0))
    alive = [seen(t).sum() for t in np.arange(0, 600, 60.0)]
    assert max(alive) < 2 * min(alive)  # as many appear as vanish


def test_pits_gather_into_plaques():
    pits = ClathrinPits(4)
    (tile,) = [pits._born(0, 0, 0)]  # noqa: SLF001 - how far pits drift is nowhere else to be read
    drift = np.hypot(tile.gather_x_um, tile.gather_y_um)
    assert 0.03 < np.mean(drift > 0.05) < 0.4
    assert drift.max() < 1.5


@pytest.mark.parametrize("image", ["cells/bpae_actin.tif", "cells/golgi_zstack.tif"])
def test_a_real_micrograph_is_seen_where_it_lies(micrographs, image):
    picture = tifffile.imread(micrographs / image)
    specimen = Micrograph(picture, pixel_size_um=0.4, plane_step_um=0.4)
    stand = stand_of(load("widefield", specimen=specimen, camera_shape_yx=(128, 128)))
    electrons = stand.expected_electrons(Frame("20X", "FITC", (0.0, 0.0), 0.0), 400.0)
    plane = picture if picture.ndim == 2 else picture.mean(axis=0)
    height, width = plane.shape
    at_frame = (np.arange(128) + 0.5 - 64) * 0.325 / 0.4
    rows, columns = (
        np.rint(at_frame + (side - 1) / 2).astype(int).clip(0, side - 1) for side in (height, width)
    )
    assert np.corrcoef(electrons.ravel(), plane[np.ix_(rows, columns)].ravel())[0, 1] > 0.8


@pytest.mark.parametrize(
    ("image", "pixel_size_um", "named"),
    [
        (np.zeros((2, 3, 4, 5)), 0.1, "shape"),
        (np.ones((50, 50)), 0.1, "same everywhere"),
        (np.full((50, 50), np.nan), 0.1, "NaN"),
        (np.eye(50), 0.0, "positive"),
    ],
)
def test_what_is_no_micrograph_is_named(image, pixel_size_um, named):
    with pytest.raises(WrongInputError, match=named):
        Micrograph(image, pixel_size_um)
