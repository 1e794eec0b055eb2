"""What the virtual camera gives against what optics, pixels and photon statistics predict."""

import gc
import subprocess
import sys
import threading
import weakref

import numpy as np
import pytest
from pymmcore_plus.experimental.unicore.core._unicore import AcquisitionThread

from acquisition.virtual import Beads, Sensor, load, stand_of
from acquisition.virtual.designs import WIDEFIELD
from acquisition.virtual.optics import point_spread
from acquisition.virtual.stand import Frame
from configs.document import WrongInputError

OBJECTIVES, CHANNELS = WIDEFIELD.objectives, WIDEFIELD.channels


def pixel_integrated(aperture, emission_nm, pixel_um, pixels=8, samples=16):
    """Integrate the point spread over camera pixels, a bead at the corner of the four middle ones."""
    fine = (np.arange(pixels * samples) + 0.5) / samples - pixels / 2
    radius_um = np.hypot(fine[:, np.newaxis], fine) * pixel_um
    table_um = np.linspace(0, radius_um.max(), 1500)
    spread = np.interp(radius_um, table_um, point_spread(table_um, aperture, emission_nm))
    blocks = spread.reshape(pixels, samples, pixels, samples)
    return blocks.sum(axis=(1, 3)) * (pixel_um / samples) ** 2


@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("channel", CHANNELS)
def test_camera_frames_show_the_pixel_integrated_point_spread(beads_core, expose, objective, channel):
    stand = stand_of(beads_core)
    aperture, pixel_um = OBJECTIVES[objective].numerical_aperture, stand.pixel_size_um(objective)
    spread = pixel_integrated(aperture, CHANNELS[channel].emission_nm, pixel_um)
    fluorophores = 2000.0 * spread + CHANNELS[channel].background_per_um2 * pixel_um**2
    light_per_ms = CHANNELS[channel].electrons_per_ms * aperture**2
    exposure_ms = 12_000 / (fluorophores.max() * light_per_ms)  # 12,000 electrons in the brightest pixel
    frames = [expose(beads_core, objective, channel, exposure_ms=exposure_ms) for _ in range(12)]
    assert beads_core.getXYPosition() == pytest.approx((0, 0), abs=1e-3)
    counts = (np.mean(frames, axis=0) - stand.sensor.offset_counts)[60:68, 60:68]
    expected = stand.sensor.expected_counts(fluorophores * light_per_ms * exposure_ms)
    assert np.abs(counts - expected).max() < 0.05 * expected.max()


@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("defocus_um", [0.0, 3.0, -8.0])
def test_energy_is_conserved_whatever_the_focus(objective, defocus_um):
    lone_bead = Beads(spacing_um=4000.0, weight=60.0)
    stand = stand_of(load("widefield", source=lone_bead, camera_shape_yx=(128, 128)))
    electrons = stand.expected_electrons(Frame(objective, "FITC", (0.0, 0.0), defocus_um), 100.0)
    light = CHANNELS["FITC"].electrons_per_ms * 100 * OBJECTIVES[objective].numerical_aperture ** 2
    background = CHANNELS["FITC"].background_per_um2 * stand.pixel_size_um(objective) ** 2 * electrons.size
    tails = 0.97  # of a diffraction pattern's light, at least, falls on the camera
    assert tails < (electrons.sum() / light - background) / 60.0 < 1.001


def test_signal_is_proportional_to_exposure(cells_core):
    stand = stand_of(cells_core)
    frame = Frame("10X", "FITC", (0.0, 0.0), 0.0)
    np.testing.assert_allclose(
        stand.expected_electrons(frame, 800.0), 4 * stand.expected_electrons(frame, 200.0), rtol=1e-5
    )


def test_fitc_at_the_paper_s_exposure_has_thousands_of_counts_and_a_realistic_noise(cells_core, expose):
    counts = expose(cells_core, "10X", "FITC").astype(float) - 100
    bright = np.percentile(counts, 99)
    electrons = bright * stand_of(cells_core).sensor.electrons_per_count
    assert 2000 < bright < 12000
    assert 20 < np.sqrt(electrons) < 100  # signal to noise in bright filaments


def test_variance_against_mean_gives_the_gain():
    sensor, rng = Sensor((64, 64)), np.random.default_rng(0)
    levels = np.array([200.0, 800.0, 3000.0, 9000.0])
    stacks = [
        np.stack([sensor.expose(np.full((256, 256), level, np.float32), rng) for _ in range(4)])
        for level in levels
    ]
    gain, _ = np.polyfit([s.mean() for s in stacks], [s.var() for s in stacks], 1)
    assert 1 / gain == pytest.approx(sensor.electrons_per_count, rel=0.03)


def test_same_seed_gives_the_same_image_and_two_snaps_differ_by_noise_alone(expose):
    first, second = (load("widefield", seed=3, camera_shape_yx=(96, 96)) for _ in range(2))
    a, b = expose(first), expose(second)
    np.testing.assert_array_equal(a, b)
    difference = (expose(first).astype(float) - a)[a < 60_000]
    electrons = np.clip(a.astype(float) - 100, 0, None) * 0.46 + 1.6**2
    assert difference.std() == pytest.approx(np.sqrt(2 * electrons.mean()) / 0.46, rel=0.1)


def test_another_seed_or_another_place_shows_other_cells(cells_core, expose):
    here = expose(cells_core).astype(float)
    for other in (
        expose(cells_core, xy_um=(5000.0, -3000.0)),
        expose(load("widefield", seed=8, camera_shape_yx=(256, 256))),
    ):
        assert abs(np.corrcoef(here.ravel(), other.ravel())[0, 1]) < 0.4


def test_moving_the_stage_moves_the_image_the_other_way(cells_core):
    stand = stand_of(cells_core)
    here = stand.expected_electrons(Frame("20X", "FITC", (0.0, 0.0), 0.0), 400.0)
    moved = stand.expected_electrons(Frame("20X", "FITC", (3.25, -6.5), 0.0), 400.0)
    np.testing.assert_allclose(moved[20:, :-10], here[:-20, 10:], rtol=2e-3, atol=2)


def test_region_of_interest_is_the_crop_of_the_frame(cells_core):
    stand = stand_of(cells_core)
    full = stand.expected_electrons(Frame("10X", "FITC", (10.0, 20.0), 2.0), 800.0)
    part = stand.expected_electrons(Frame("10X", "FITC", (10.0, 20.0), 2.0, roi=(40, 60, 100, 80)), 800.0)
    # Light from far outside reaches a frame through the tails of the point spread only.
    assert np.abs(part - full[60:140, 40:140]).max() < 0.02 * full.mean()


def test_mmcore_s_region_of_interest_shapes_the_image_and_binning_clears_it():
    core = load("widefield", camera_shape_yx=(128, 128))
    core.setROI(16, 8, 64, 32)
    core.snapImage()
    assert core.getImage().shape == (32, 64)
    core.setProperty("Camera", "Binning", 2)
    assert core.getROI() == [0, 0, 64, 64]
    assert core.getPixelSizeUm() == pytest.approx(1.3)
    assert core.getPixelSizeAffine() == pytest.approx((1.3, 0, 0, 0, 1.3, 0))


def test_pixel_size_follows_the_objective(cells_core):
    for objective, pixel_um in (("20X", 0.325), ("10X", 0.65)):
        cells_core.setConfig("Objective", objective)
        cells_core.waitForSystem()
        assert cells_core.getPixelSizeUm() == pytest.approx(pixel_um)
        assert cells_core.getPixelSizeAffine() == pytest.approx((pixel_um, 0, 0, 0, pixel_um, 0))


@pytest.mark.parametrize("case", ["shutter closed", "filters of two channels"])
def test_no_light_gives_the_offset_alone(expose, case):
    core = load("widefield", camera_shape_yx=(64, 64))
    expose(core)
    if case == "shutter closed":
        core.setAutoShutter(False)
        core.setShutterOpen(False)
    else:
        core.setProperty("Emission", "Label", "Texas Red 624/40")
    core.snapImage()
    assert core.getImage().mean() == pytest.approx(100, abs=1)


def test_finite_sequence_gives_every_frame_with_metadata():
    core = load("widefield", camera_shape_yx=(64, 64))
    core.startSequenceAcquisition(5, 0, True)
    finished = threading.Event()
    while core.isSequenceRunning():
        finished.wait(0.01)
    frames = [core.popNextImageAndMD() for _ in range(core.getRemainingImageCount())]
    assert [image.shape for image, _ in frames] == [(64, 64)] * 5
    assert [int(meta["ImageNumber"]) for _, meta in frames] == [0, 1, 2, 3, 4]


def test_stopping_live_mode_interrupts_an_exposure_in_real_time():
    core = load("widefield", camera_shape_yx=(64, 64), real_time=True)
    core.setExposure(60_000)
    core.startContinuousSequenceAcquisition()
    (thread,) = (t for t in threading.enumerate() if isinstance(t, AcquisitionThread))
    core.stopSequenceAcquisition()
    assert not thread.is_alive()
    assert core.getRemainingImageCount() == 0


def test_a_dropped_core_is_collected(caplog):
    caplog.set_level("CRITICAL", "pymmcore-plus")  # pytest keeps log records, and they the core
    core = load("widefield", camera_shape_yx=(64, 64))
    core.snapImage()
    reference = weakref.ref(core)
    del core
    gc.collect()
    assert reference() is None


@pytest.mark.parametrize("doing", ["nothing", "live mode", "an MDA"])
def test_leaving_the_interpreter_is_quiet(doing):
    script = f"""
import useq
from acquisition.virtual import load
core = load("widefield", camera_shape_yx=(64, 64), real_time=True)
core.setExposure(50)
core.setXYPosition(100, 100); core.setPosition(3)
if {doing!r} == "live mode":
    core.startContinuousSequenceAcquisition()
if {doing!r} == "an MDA":
    core.mda.engine.use_hardware_sequencing = False
    core.run_mda(useq.MDASequence(channels=["FITC"], time_plan={{"interval": 0, "loops": 5}}))
"""
    ended = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False
    )
    assert (ended.returncode, ended.stderr) == (0, "")


@pytest.mark.parametrize(("name", "imperfections"), [("widefield", {"drift": 1}), ("confocal", {})])
def test_what_does_not_exist_is_named(name, imperfections):
    with pytest.raises(WrongInputError, match=next(iter(imperfections), name)):
        load(name, **imperfections)
