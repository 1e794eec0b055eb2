"""The focus search on known curves, and on the virtual microscope against its true plane."""

from contextlib import suppress

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from acquisition.autofocus import FocusFailedError, SweepRange, sweep
from acquisition.focus_score import SCORES, Sharpness, gradient_energy
from acquisition.micro_manager import load_cfg
from acquisition.virtual import Frame, load, stand_of
from acquisition.virtual.designs import WIDEFIELD
from acquisition.virtual.optics import depth_of_field_um

WINDOW_UM = (-100.0, 100.0)


class Drive:
    """A focus drive over a curve: the 'image' is the drive's position, which `score` turns into a score."""

    def __init__(self, plane_um, depth_um=1.5, floor=0.01, noise=0.001):
        self.plane_um, self.depth_um, self.floor, self.noise = plane_um, depth_um, floor, noise
        self.visited = []

    def move(self, position_um):
        self.visited.append(position_um)

    def snap(self):
        return np.array(self.visited[-1])

    def score(self, position_um, smoothing_px=0.0):
        """A Lorentzian, wider where the image is smoothed more."""
        width_um = self.depth_um + 0.4 * smoothing_px
        value = self.floor + 1 / (1 + ((position_um - self.plane_um) / width_um) ** 2)
        return Sharpness(float(value), noise=self.noise)

    def search(self, start_um=0.0, half_range_um=20.0, window_um=WINDOW_UM):
        where = SweepRange(start_um, half_range_um, 0.7 * self.depth_um, window_um)
        return sweep(self.move, self.snap, where, self.score)


@given(plane_um=st.floats(-18, 18), depth_um=st.floats(1.0, 6.0))
@settings(max_examples=60, deadline=None)
def test_plane_is_found_between_the_steps(plane_um, depth_um):
    drive = Drive(plane_um, depth_um)
    assert drive.search().focus_um == pytest.approx(plane_um, abs=depth_um / 8)
    assert len(drive.visited) <= 20


@given(plane_um=st.floats(22, 40), side=st.sampled_from([-1, 1]))
@settings(max_examples=30, deadline=None)
def test_search_widens_where_the_best_lies_at_its_edge(plane_um, side):
    assert Drive(side * plane_um).search().focus_um == pytest.approx(side * plane_um, abs=0.3)


@given(plane_um=st.floats(-80, 80), start_um=st.floats(-30, 30), edge_um=st.floats(5, 60))
@settings(max_examples=60, deadline=None)
def test_no_exposure_is_made_outside_the_window(plane_um, start_um, edge_um):
    assume(abs(start_um) < edge_um)
    drive = Drive(plane_um)
    with suppress(FocusFailedError):
        drive.search(start_um, window_um=(-edge_um, edge_um))
    assert -edge_um <= min(drive.visited) <= max(drive.visited) <= edge_um


def test_plane_beyond_the_window_fails_with_the_reason_and_the_curve():
    drive = Drive(30.0)
    with pytest.raises(FocusFailedError, match="edge of the search") as failure:
        drive.search(window_um=(-25.0, 25.0))
    assert [position for position, _ in failure.value.curve] == drive.visited


def test_a_score_that_noise_alone_explains_fails_with_the_reason():
    with pytest.raises(FocusFailedError, match="above the noise"):
        Drive(0.0, noise=0.5).search()


def test_a_flat_curve_fails_with_the_reason():
    with pytest.raises(FocusFailedError, match="hardly changes"):
        Drive(0.0, floor=100.0).search()


def test_curve_keeps_the_order_of_exposure():
    drive = Drive(3.0)
    curve = drive.search().curve
    assert [position for position, _ in curve] == drive.visited
    finest_px = SweepRange(0.0, 20.0, 0.7 * drive.depth_um, WINDOW_UM).smoothing_px(0.7 * drive.depth_um)
    expected = [drive.score(position, finest_px).value for position in drive.visited]
    assert [score for _, score in curve] == pytest.approx(expected, rel=1e-6)


@given(factor=st.floats(0.5, 4))
@settings(max_examples=15, deadline=None)
@pytest.mark.parametrize("score", SCORES.values(), ids=SCORES)
def test_score_does_not_depend_on_exposure(score, factor):
    image = np.random.default_rng(0).uniform(500, 4000, (64, 64))
    assert score(image * factor, 1.0).value == pytest.approx(score(image, 1.0).value, rel=1e-4)


@pytest.mark.parametrize("score", SCORES.values(), ids=SCORES)
def test_every_score_is_largest_in_focus_on_well_lit_cells(score):
    stand = stand_of(load("widefield", seed=7, camera_shape_yx=(256, 256)))
    planes_um = (-8.0, -4.0, 0.0, 4.0, 8.0)
    values = [
        score(stand.expected_electrons(Frame("10X", "FITC", (0.0, 0.0), plane), 800.0), 1.0).value
        for plane in planes_um
    ]
    assert planes_um[int(np.argmax(values))] == 0.0


@pytest.mark.parametrize("level", [10.0, 1000.0])
@pytest.mark.parametrize("smoothing_px", [0.7, 5.0])
def test_gradient_energy_of_noise_alone_is_zero_within_the_noise_that_it_states(level, smoothing_px):
    rng = np.random.default_rng(0)
    scores = [gradient_energy(rng.poisson(level, (128, 128)), smoothing_px) for _ in range(150)]
    values = np.array([score.value for score in scores])
    assert abs(values.mean()) < 4 * values.std() / np.sqrt(values.size)
    assert values.std() == pytest.approx(np.mean([score.noise for score in scores]), rel=0.5)


def test_a_faint_image_has_the_gradient_energy_of_a_bright_one():
    rng, stand = np.random.default_rng(0), stand_of(load("widefield", seed=7, camera_shape_yx=(256, 256)))
    light = stand.expected_electrons(Frame("10X", "FITC", (0.0, 0.0), 0.0), 800.0)
    faint = np.mean([gradient_energy(rng.poisson(light / 40), 1.0).value for _ in range(20)])
    assert faint == pytest.approx(gradient_energy(light, 1.0).value, rel=0.05)


@pytest.mark.parametrize("objective", WIDEFIELD.objectives)
@pytest.mark.parametrize("away_um", [-20.0, 20.0])
@pytest.mark.parametrize("place_um", [(0.0, 0.0), (700.0, -400.0)])
def test_autofocus_lands_within_a_quarter_of_the_depth_of_field(objective, away_um, place_um):
    core = load(
        "widefield",
        camera_shape_yx=(256, 256),
        sample_height_um=7.0,
        sample_tilt_um_per_mm=(3.0, 2.0),
        parfocal_offset_um=4.0,
    )
    core.setConfig("Objective", objective)
    core.setConfig("Channel", "FITC")
    core.setXYPosition(*place_um)
    core.setExposure({"10X": 100, "20X": 50}[objective])
    optics = WIDEFIELD.objectives[objective]
    depth_um = depth_of_field_um(optics.numerical_aperture, optics.magnification)
    true_um = stand_of(core).best_focus_um(objective, place_um)

    def snap():
        core.snapImage()
        return core.getImage()

    pixel_um = 6.5 / optics.magnification
    blur_px_per_um = optics.numerical_aperture / np.sqrt(1 - optics.numerical_aperture**2) / pixel_um
    where = SweepRange(true_um + away_um, 25.0, 0.7 * depth_um, WINDOW_UM, blur_px_per_um)
    result = sweep(core.setPosition, snap, where)
    assert abs(result.focus_um - true_um) < depth_um / 4
    assert len(result.curve) <= 14


def test_an_empty_place_is_not_focused_on():
    core = load("widefield", camera_shape_yx=(128, 128))
    core.setAutoShutter(False)
    core.setShutterOpen(False)

    def snap():
        core.snapImage()
        return core.getImage()

    with pytest.raises(FocusFailedError, match="nothing there"):
        sweep(core.setPosition, snap, SweepRange(0.0, 20.0, 1.0, WINDOW_UM))


@pytest.mark.parametrize("away_um", [-10.0, -4.0, 7.0, 10.0])
def test_the_demo_camera_s_beads_are_focused_though_they_sharpen_again_far_away(away_um):
    core = load_cfg("demo.cfg")
    core.setProperty("DemoCam", "Mode", "Fluorescent Beads")
    core.setExposure(20)

    def move(focus_um):
        core.setPosition(focus_um)
        core.waitForSystem()

    def snap():
        core.snapImage()
        return core.getImage()

    found = sweep(move, snap, SweepRange(away_um, 10.0, 0.7, (-60.0, 60.0), blur_px_per_um=0.67))
    assert found.focus_um == pytest.approx(0.0, abs=0.05)
    assert len(found.curve) <= 12


@pytest.mark.parametrize("towards_sample", [1, -1])
def test_a_sweep_comes_from_the_far_side(towards_sample):
    drive = Drive(0.0)
    where = SweepRange(0.0, 20.0, 1.0, WINDOW_UM, towards_sample=towards_sample)
    sweep(drive.move, drive.snap, where, drive.score)
    assert drive.visited[:5] == [towards_sample * position for position in (-20.0, -10.0, 0.0, 10.0, 20.0)]
