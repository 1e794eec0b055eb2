"""What a user of the virtual microscope may do, may not do, and is told."""

import gc
import subprocess
import sys
import threading

import numpy as np
import pytest
import tifffile

from acquisition.virtual import Beads, Frame, Micrograph, ScatteredBeads, Sensor, load, stand_of
from acquisition.virtual.structured_light import stripes_of_exposure
from configs.document import WrongInputError
from training.pairing.structured_illumination import SimOptics, reconstruct


@pytest.mark.parametrize("bits", [8, 12, 16])
def test_a_sensor_of_fewer_bits_has_the_offset_and_gain_that_it_states(bits):
    sensor = Sensor(
        (64, 64), bits=bits, electrons_per_count=20.0, offset_counts=10.0, read_noise_electrons=5.0
    )
    core = load("widefield", sensor=sensor)
    assert core.getImageBitDepth() == bits
    core.setExposure(100.0)
    core.snapImage()
    lit = core.getImage().astype(float).mean()
    expected = stand_of(core).expected_electrons(Frame("10X", "FITC", (0.0, 0.0), 0.0), 100.0)
    assert lit == pytest.approx(10.0 + sensor.expected_counts(expected).mean(), abs=0.2)


@pytest.mark.parametrize(
    "wrong",
    [{"bits": 10}, {"electrons_per_count": 0.0}, {"hot_pixel_fraction": 2.0}, {"read_noise_electrons": -1}],
)
def test_a_chip_that_cannot_be_is_named(wrong):
    with pytest.raises(WrongInputError, match="sensor"):
        Sensor(**wrong)


def test_presets_and_files_may_set_the_camera_with_strings():
    core = load("widefield", camera_shape_yx=(64, 64))
    core.defineConfig("Camera", "binned", "Camera", "Binning", "2")
    core.setConfig("Camera", "binned")
    core.setProperty("Camera", "BitDepth", "8")
    core.snapImage()
    assert core.getImage().shape == (32, 32)
    assert core.getImage().dtype == np.uint8


@pytest.mark.parametrize("binning", [2, 4])
def test_binning_sums_the_pixels_and_their_dark_current(binning):
    sensor = Sensor((64, 64), hot_pixel_fraction=0.05, full_well_electrons=1e6)
    core = load("widefield", sensor=sensor)
    core.setExposure(100.0)
    core.snapImage()
    single = core.getImage().astype(float) - 100
    core.setProperty("Camera", "Binning", binning)
    core.snapImage()
    summed = single.reshape(64 // binning, binning, 64 // binning, binning).sum(axis=(1, 3))
    assert np.corrcoef(core.getImage().ravel(), summed.ravel())[0, 1] > 0.99
    assert core.getImage().mean() - 100 == pytest.approx(summed.mean(), rel=0.01)


def test_each_fluorophore_is_lit_where_it_stands():
    # The stripes' own intensity at each bead, against what the whole way through grid and optics gives.
    source = ScatteredBeads(seed=2, per_um2=0.1, weight=100.0)
    stand = stand_of(load("tirf_sim", source=source, camera_shape_yx=(128, 128)))
    for number in (0, 4, 8):
        frame = Frame("100X", "GFP", (0.0, 0.0), 0.0, modality="SIM", stripes_number=number)
        seen = stand.expected_electrons(frame, 100.0)

        class Lit:
            plane_depths_um, moves = (0.0,), False

            def clouds(self, stain, low, high, time_s):
                stripes = stripes_of_exposure(number, 1.35, 488.0, 0.8)  # noqa: B023 - used at once
                for cloud in source.clouds(stain, low, high, time_s):
                    lit = cloud.weight * stripes.at(cloud.y_um, cloud.x_um)
                    yield type(cloud)(cloud.x_um, cloud.y_um, cloud.z_um, lit)

            def dissolved(self, stain, x_um, y_um):
                return None

        direct = stand_of(load("tirf_sim", source=Lit(), camera_shape_yx=(128, 128)))
        uniform = direct.expected_electrons(Frame("100X", "GFP", (0.0, 0.0), 0.0, modality="TIRF"), 100.0)
        np.testing.assert_allclose(seen, uniform, atol=1e-3 * uniform.max())


def test_all_the_light_of_a_point_arrives():
    lone = Beads(spacing_um=4000.0, weight=60.0)
    for objective in ("10X", "20X"):
        stand = stand_of(load("widefield", source=lone, camera_shape_yx=(512, 512)))
        frame = Frame(objective, "FITC", (0.0, 0.0), 0.0)
        aperture = {"10X": 0.4, "20X": 0.75}[objective]
        background = 0.06 * stand.pixel_size_um(objective) ** 2
        electrons = stand.expected_electrons(frame, 100.0).astype(float)
        assert (electrons / (900 * aperture**2) - background).sum() == pytest.approx(60, rel=1e-3)


def test_a_micrograph_fits_every_stand(micrographs):
    picture = tifffile.imread(micrographs / "cells" / "bpae_actin.tif")
    stand = stand_of(
        load("tirf_sim", specimen=Micrograph(picture, pixel_size_um=0.1), camera_shape_yx=(128, 128))
    )

    def seen(modality, number=0):
        frame = Frame("100X", "GFP", (0.0, 0.0), 0.0, modality=modality, stripes_number=number)
        return stand.expected_electrons(frame, 20.0)

    uniform = seen("TIRF")
    for first in (0, 3, 6):  # three phases add up to uniform light
        three = sum(seen("SIM", first + phase) for phase in range(3))
        np.testing.assert_allclose(three, 3 * uniform, atol=0.002 * uniform.max())


@pytest.mark.parametrize(
    "forbidden",
    [
        lambda core: core.snapImage(),
        lambda core: core.startContinuousSequenceAcquisition(),
        lambda core: core.startSequenceAcquisition(3, 0, True),
        lambda core: core.setROI(0, 0, 16, 16),
        lambda core: core.setProperty("Camera", "Binning", 2),
        lambda core: core.setProperty("Camera", "BitDepth", 8),
    ],
)
def test_what_a_camera_refuses_in_mid_sequence_is_refused(forbidden):
    core = load("widefield", camera_shape_yx=(32, 32))
    core.startContinuousSequenceAcquisition()
    with pytest.raises(RuntimeError, match="while a sequence is running"):
        forbidden(core)
    core.stopSequenceAcquisition()
    core.snapImage()


def test_a_failed_snap_leaves_no_older_image():
    core = load("widefield", camera_shape_yx=(32, 32), snap_fails=(1,))
    core.snapImage()
    with pytest.raises(RuntimeError, match="exposure failed"):
        core.snapImage()
    with pytest.raises(RuntimeError):
        core.getImage()


def test_a_wheel_between_its_labels_lets_no_light_through():
    core = load("tirf_sim", camera_shape_yx=(32, 32))
    for wheel in ("Dose", "Modality"):
        core.setState(wheel, 9)
        core.snapImage()
        assert core.getImage().mean() == pytest.approx(100, abs=1)
        core.setState(wheel, 0)


@pytest.mark.parametrize(
    ("departures", "named"),
    [
        ({"snap_fail": 0.1}, "snap_fails"),
        ({"sample_height_um": np.nan}, "sample_height_um"),
        ({"lateral_chromatic_um": {"Bogus": (1, 1)}}, "Bogus"),
        ({"bleaching_per_s": 2.0}, "bleaching_per_s"),
        ({"seed": -1}, "seed"),
    ],
)
def test_a_wrong_wish_is_named(departures, named):
    with pytest.raises(WrongInputError, match=named):
        load("widefield", **departures)


@pytest.mark.parametrize("exposure_ms", [-5.0, np.nan, np.inf])
def test_an_exposure_that_is_no_time_is_refused(exposure_ms):
    core = load("widefield", camera_shape_yx=(32, 32))
    with pytest.raises(ValueError, match="exposure"):
        core.setExposure(exposure_ms)
    core.snapImage()


def test_frames_carry_the_stand_s_time_and_truth_can_be_asked_for_it():
    core = load("tirf_sim", camera_shape_yx=(64, 64))
    core.setExposure(500.0)
    core.startSequenceAcquisition(3, 0, True)
    pause = threading.Event()
    while core.isSequenceRunning():
        pause.wait(0.005)
    times = [float(core.popNextImageAndMD()[1]["StandTime_s"]) for _ in range(3)]
    assert times == pytest.approx([0.5, 1.0, 1.5])
    stand = stand_of(core)
    early, late = (stand.high_image_on_low_grid("GFP", (0.0, 0.0), 0.0, 20.0, time_s=t) for t in (0.0, 60.0))
    assert np.corrcoef(early.ravel(), late.ravel())[0, 1] < 0.9


@pytest.mark.parametrize("frames", ["uniform", "dark"])
def test_what_has_no_stripes_is_not_reconstructed(frames):
    core = load("tirf_sim", camera_shape_yx=(128, 128))
    images = []
    for _ in range(9):
        core.snapImage()
        images.append(core.getImage().astype(float) - 100)
    stack = np.stack(images) if frames == "uniform" else np.zeros((9, 128, 128))
    with pytest.raises(WrongInputError, match=r"stripes of depth|no light"):
        reconstruct(stack, SimOptics(0.065, 1.49, 525.0))


def test_leaving_the_interpreter_while_a_thread_snaps_is_quiet():
    script = """
import threading
from acquisition.virtual import load
core = load("widefield", camera_shape_yx=(64, 64))
def look():
    for x in range(6):
        core.setXYPosition(500.0 * x, 0.0); core.waitForDevice("XY"); core.snapImage()
threading.Thread(target=look).start()
"""
    ended = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=120, check=False
    )
    assert (ended.returncode, ended.stderr) == (0, "")


def test_dropped_cores_leave_no_threads(caplog):
    caplog.set_level("CRITICAL", "pymmcore-plus")  # pytest keeps log records, and they the cores
    before = threading.active_count()
    for _ in range(20):
        core = load("widefield", camera_shape_yx=(16, 16))
        core.snapImage()
    del core
    gc.collect()
    patience, pause = 200, threading.Event()
    while threading.active_count() > before + 4 and patience:
        patience -= 1
        pause.wait(0.02)  # threads end when they wake
    assert threading.active_count() <= before + 4
