"""The three stands as a user of pymmcore-plus meets them, and their physics as a camera shows it."""

import json
import threading

import numpy as np
import pytest
import useq
from scipy.optimize import brentq, curve_fit

from acquisition.virtual import Beads, Frame, Sensor, load, stand_of
from acquisition.virtual.designs import CONFOCAL_STED, TIRF_SIM, WIDEFIELD
from acquisition.virtual.optics import point_spread
from acquisition.virtual.scanning import Scanner
from inference.preprocess import upsample
from training.evaluation.metrics import score

STANDS = {"widefield": WIDEFIELD, "confocal_sted": CONFOCAL_STED, "tirf_sim": TIRF_SIM}


@pytest.fixture(scope="module", params=STANDS)
def core(request):
    return load(request.param, camera_shape_yx=(96, 128))


def bring(core, state, channel):
    core.setConfig("Objective", state.objective)
    if "Modality" in core.getAvailableConfigGroups():
        core.setConfig("Modality", state.modality)
    core.setConfig("Channel", channel)
    core.waitForSystem()


def fitted_width_um(image, pixel_um):
    """Full width at half maximum of the spot in the middle, by a 2D Gaussian."""
    middle = image.shape[0] // 2
    half = 8
    window = image[middle - half : middle + half, middle - half : middle + half].astype(float)
    y, x = np.mgrid[-half:half, -half:half] * pixel_um + pixel_um / 2

    def spot(places, height, y0, x0, sigma, base):
        return (
            height * np.exp(-((places[0] - y0) ** 2 + (places[1] - x0) ** 2) / (2 * sigma**2)) + base
        ).ravel()

    brightest = window.max()
    fitted, _ = curve_fit(spot, (y, x), window.ravel() / brightest, [1, 0, 0, 2 * pixel_um, 0])
    return 2.3548 * abs(fitted[3])


def pixel_integrated(spread, pixel_um, pixels=32, samples=8):
    """Integrate a point spread function over camera pixels, a bead at the corner of the four middle ones."""
    fine_um = ((np.arange(pixels * samples) + 0.5) / samples - pixels / 2) * pixel_um
    radius_um = np.hypot(fine_um[:, np.newaxis], fine_um)
    table_um = np.linspace(0, radius_um.max(), 800)
    values = np.interp(radius_um, table_um, spread(table_um))
    return values.reshape(pixels, samples, pixels, samples).mean(axis=(1, 3))


def bead_image(name, state_of, channel, **departures):
    """The noise-free image of one bead in the middle of the frame."""
    core = load(
        name,
        source=Beads(spacing_um=500.0, weight=1000.0),
        sensor=Sensor((64, 64), pixel_um=STANDS[name].sensor.pixel_um),
        **departures,
    )
    stand = stand_of(core)
    state = state_of(stand.design)
    frame = Frame(state.objective, channel, (0.0, 0.0), 0.0, modality=state.modality)
    image = stand.expected_electrons(frame, 100.0)
    return image - image.min(), stand.pixel_size_um(state.objective)


def test_every_stand_has_groups_for_objective_and_channel_and_a_pixel_size(core):
    design = stand_of(core).design
    groups = core.getAvailableConfigGroups()
    assert {"Objective", "Channel"} <= set(groups)
    for state in (design.low, design.high):
        for channel in design.channels:
            bring(core, state, channel)
            core.snapImage()
            assert core.getImage().shape == (96, 128)
            size_um = design.sensor.pixel_um / design.objectives[state.objective].magnification
            assert core.getPixelSizeUm() == pytest.approx(size_um)


def test_modality_is_a_preset_like_on_real_hardware():
    core = load("confocal_sted", camera_shape_yx=(128, 128))
    assert core.getAvailableConfigs("Modality") == ("Confocal", "STED")
    images = {}
    for modality in ("Confocal", "STED"):
        core.setConfig("Modality", modality)
        core.setExposure(20_000)
        core.snapImage()
        images[modality] = core.getImage().astype(float)
    fine = {name: np.abs(np.diff(image)).mean() / image.mean() for name, image in images.items()}
    assert fine["STED"] > 1.5 * fine["Confocal"]


def test_the_state_of_the_core_serialises(core):
    assert "Camera" in json.dumps(core.state())


def test_the_sequence_buffer_is_small(core):
    assert core.getCircularBufferMemoryFootprint() <= 128


@pytest.mark.parametrize(("bits", "dtype"), [(8, np.uint8), (12, np.uint16), (16, np.uint16)])
def test_bit_depths_divide_the_same_range(core, bits, dtype):
    core.setConfig("Channel", next(iter(stand_of(core).design.channels)))
    core.setExposure(100.0)
    core.setProperty("Camera", "BitDepth", bits)
    try:
        core.snapImage()
        image = core.getImage()
        assert image.dtype == dtype
        assert image.max() < 2**bits
        assert core.getImageBitDepth() == bits
        core.setProperty("Camera", "BitDepth", 16)
        core.snapImage()
        assert image.mean() == pytest.approx(core.getImage().mean() / 2 ** (16 - bits), abs=0.6)
    finally:
        core.setProperty("Camera", "BitDepth", 16)


def test_a_region_of_interest_and_binning_shape_the_frames(core):
    bring(core, stand_of(core).design.low, next(iter(stand_of(core).design.channels)))
    core.setROI(16, 8, 64, 32)
    try:
        core.snapImage()
        assert core.getImage().shape == (32, 64)
        core.setProperty("Camera", "Binning", "2")
        assert core.getROI() == [0, 0, 64, 48]
        core.snapImage()
        assert core.getImage().shape == (48, 64)
    finally:
        core.setProperty("Camera", "Binning", "1")
        core.clearROI()


def test_an_mda_gives_its_frames_in_order(core):
    frames = []
    core.mda.events.frameReady.connect(lambda image, event: frames.append((event.index["t"], image.shape)))
    channel = next(iter(stand_of(core).design.channels))
    core.run_mda(useq.MDASequence(channels=[channel], time_plan={"interval": 0, "loops": 4})).join()
    core.mda.events.frameReady.disconnect()
    assert frames == [(t, (96, 128)) for t in range(4)]


def test_sequences_carry_metadata_and_continuous_ones_go_on(core):
    core.setExposure(1.0)
    core.startSequenceAcquisition(3, 0, True)
    pause = threading.Event()
    while core.isSequenceRunning():
        pause.wait(0.005)
    numbers = [core.popNextImageAndMD()[1]["ImageNumber"] for _ in range(core.getRemainingImageCount())]
    assert [int(number) for number in numbers] == [0, 1, 2]
    core.startContinuousSequenceAcquisition()
    while core.getRemainingImageCount() < 5:
        pause.wait(0.005)
    core.stopSequenceAcquisition()
    assert core.getRemainingImageCount() >= 5


def test_two_threads_may_poll_while_it_runs(core):
    core.startContinuousSequenceAcquisition()
    seen, done = [], threading.Event()

    def poll():
        while not done.is_set():
            if core.getRemainingImageCount():
                seen.append(core.getLastImage().shape)
            core.getPosition(), core.getXYPosition(), core.getState("Objective")

    threads = [threading.Thread(target=poll) for _ in range(2)]
    for thread in threads:
        thread.start()
    pause = threading.Event()
    while len(seen) < 200:
        pause.wait(0.005)
    done.set()
    for thread in threads:
        thread.join()
    core.stopSequenceAcquisition()
    assert set(seen) == {(96, 128)}


def test_sim_gives_its_nine_exposures_as_nine_frames():
    core = load("tirf_sim", camera_shape_yx=(128, 128))
    core.setConfig("Modality", "SIM")
    core.setExposure(50.0)
    core.startSequenceAcquisition(9, 0, True)
    pause = threading.Event()
    while core.isSequenceRunning():
        pause.wait(0.005)
    frames = np.stack([core.popNextImage() for _ in range(core.getRemainingImageCount())]).astype(float)
    assert len(frames) == 9
    for three in frames.reshape(3, 3, 128, 128):  # three phases add up to uniform light
        assert np.corrcoef(three.sum(axis=0).ravel(), frames.sum(axis=0).ravel())[0, 1] > 0.98
    assert np.corrcoef(frames[0].ravel(), frames[1].ravel())[0, 1] < 0.95


@pytest.mark.parametrize(
    ("dose", "times"), [("as one of nine", 1), ("as three of nine", 3), ("as nine of nine", 9)]
)
def test_a_tirf_exposure_has_the_dose_that_is_set(dose, times):
    core = load("tirf_sim", camera_shape_yx=(128, 128), source=Beads(spacing_um=2.0, weight=20.0))
    core.setExposure(20.0)
    light = []
    for modality, setting in (("SIM", "as one of nine"), ("TIRF", dose)):
        core.setConfig("Modality", modality)
        core.setConfig("Dose", setting)
        images = []
        for number in range(9 if modality == "SIM" else 1):
            core.setProperty("Pattern", "State", number)
            core.snapImage()
            images.append(core.getImage().astype(float).sum() - 100 * 128**2)
        light.append(np.mean(images))
    assert light[1] == pytest.approx(times * light[0], rel=0.03)


@pytest.mark.parametrize("modality", ["low", "high"])
def test_the_default_stand_has_the_paper_s_confocal_and_sted_widths(modality):
    expected_um = {"low": 0.290, "high": 0.120}[modality]
    image, pixel_um = bead_image("confocal_sted", lambda design: getattr(design, modality), "Crimson")
    assert fitted_width_um(image, pixel_um) == pytest.approx(expected_um, rel=0.05)


@pytest.mark.parametrize("modality", ["low", "high"])
def test_an_ideal_scanning_stand_is_as_sharp_as_theory(modality):
    saturation = CONFOCAL_STED.modalities["STED"].saturation if modality == "high" else 0.0
    scanner = Scanner(1.4, 1.518, 633.0, 645.0, saturation=saturation)
    image, pixel_um = bead_image(
        "confocal_sted",
        lambda design: getattr(design, modality),
        "Crimson",
        excitation_underfill=0.0,
        spherical_aberration_waves=0.0,
    )
    theory = pixel_integrated(scanner.spread, pixel_um)
    assert fitted_width_um(image, pixel_um) == pytest.approx(fitted_width_um(theory, pixel_um), rel=0.05)


def test_a_tirf_bead_is_as_wide_as_its_optics_and_pixel_make_it():
    image, pixel_um = bead_image("tirf_sim", lambda design: design.low, "GFP")
    theory = pixel_integrated(lambda radius_um: point_spread(radius_um, 1.49, 525.0, 0.0, 1.518), pixel_um)
    assert fitted_width_um(image, pixel_um) == pytest.approx(fitted_width_um(theory, pixel_um), rel=0.02)


@pytest.mark.parametrize(("objective", "aperture"), [("10X", 0.4), ("20X", 0.75)])
@pytest.mark.parametrize(("channel", "emission_nm"), [("DAPI", 447.0), ("FITC", 522.0), ("Texas Red", 624.0)])
def test_depth_of_field_is_the_quarter_wave_range(objective, aperture, channel, emission_nm):
    # On the axis the intensity is 8 / pi^2 of that in focus where the edge of the pupil is a quarter wave
    # late: over a range of wavelength / (2 (1 - cos alpha)), which is wavelength / NA^2 where NA is small.
    def axial(z_um):
        return point_spread(np.zeros(1), aperture, emission_nm, z_um)[0]

    half_um = brentq(lambda z: axial(z) / axial(0.0) - 8 / np.pi**2, 0.05, 5.0)
    expected_um = emission_nm * 1e-3 / (2 * (1 - np.sqrt(1 - aperture**2)))
    assert 2 * half_um == pytest.approx(expected_um, rel=0.05)
    blur = WIDEFIELD.blur(objective, channel, "Widefield", underfill=0.0, spherical_waves=0.0)
    assert blur.transfer(np.array([0.5]), half_um)[0] < blur.transfer(np.array([0.5]), 0.0)[0]


@pytest.mark.parametrize("name", STANDS)
def test_variance_against_mean_over_exposures_gives_the_gain(name):
    core = load(name, camera_shape_yx=(64, 64), source=Beads(spacing_um=0.7, weight=3.0))
    design = STANDS[name]
    means, variances = [], []
    for exposure_ms in np.array([40.0, 160.0, 400.0, 800.0]) * (0.3 if name == "tirf_sim" else 1):
        core.setExposure(exposure_ms)
        stack = []
        for _ in range(120):
            core.snapImage()
            stack.append(core.getImage().astype(float))
        means.append(np.mean(stack))
        variances.append(np.var(stack, axis=0, ddof=1).mean())
    slope, _ = np.polyfit(means, variances, 1)
    assert 1 / slope == pytest.approx(design.sensor.electrons_per_count, rel=0.03)


@pytest.mark.parametrize("channel", WIDEFIELD.channels)
def test_default_cells_agree_between_input_and_truth_as_the_paper_s_do(channel):
    exposure_ms = {"DAPI": (60, 50), "FITC": (800, 400), "Texas Red": (350, 150)}[channel]
    agreement = []
    for seed in (7, 8):
        stand = stand_of(load("widefield", seed=seed))
        frame = Frame("10X", channel, (100.0, 55.0), 0.0)
        electrons = stand.expected_electrons(frame, exposure_ms[0])
        low = stand.sensor.expose(electrons, np.random.default_rng(seed)).astype(np.float32) - 100
        truth = stand.high_image_on_low_grid(channel, (100.0, 55.0), 0.0, exposure_ms[1])
        agreement.append(score(upsample(np.maximum(low, 0), 2), truth).ssim)
    assert 0.85 <= np.mean(agreement) <= 0.94
