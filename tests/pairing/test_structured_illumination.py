"""The reconstruction of nine striped exposures, on known stripes and on a real microscope's."""

import numpy as np
import pytest
import tifffile
from scipy.optimize import curve_fit
from skimage.feature import peak_local_max

from acquisition.virtual import ScatteredBeads, Stand, load, stand_of
from acquisition.virtual.structured_light import stripes_of_exposure
from configs.document import WrongInputError
from training.pairing.structured_illumination import SimOptics, estimate_stripes, reconstruct

OPTICS = SimOptics(pixel_size_um=0.065, numerical_aperture=1.49, emission_nm=525.0)


def nine_frames(core) -> np.ndarray:
    core.setConfig("Modality", "SIM")
    core.setExposure(50)
    core.setProperty("Pattern", "State", 0)
    frames = []
    for number in range(9):
        core.setProperty("Pattern", "State", number)
        core.snapImage()
        frames.append(core.getImage().astype(float))
    return np.stack(frames) - 100


@pytest.fixture(scope="module")
def beads() -> tuple[np.ndarray, Stand]:
    source = ScatteredBeads(seed=3, per_um2=0.12, weight=40.0)
    core = load("tirf_sim", seed=1, source=source, camera_shape_yx=(256, 256))
    return nine_frames(core), stand_of(core)


def width_um(image, place, pixel_um, half=6):
    y, x = place
    window = image[y - half : y + half + 1, x - half : x + half + 1]
    yy, xx = np.mgrid[-half : half + 1, -half : half + 1] * pixel_um

    def spot(places, height, y0, x0, sigma, base):
        return (
            height * np.exp(-((places[0] - y0) ** 2 + (places[1] - x0) ** 2) / (2 * sigma**2)) + base
        ).ravel()

    fitted, _ = curve_fit(spot, (yy, xx), window.ravel(), [window.max(), 0, 0, 0.06, 0])
    return 2.3548 * abs(fitted[3])


def isolated(mean):
    return peak_local_max(mean, min_distance=12, exclude_border=16, threshold_rel=0.2)


def brightest_near(image, place):
    y, x = 2 * np.asarray(place) + 1
    window = image[y - 3 : y + 4, x - 3 : x + 4]
    return np.array(np.unravel_index(np.argmax(window), window.shape)) + np.array([y - 3, x - 3])


def test_stripes_are_found_in_the_data(beads):
    frames, _ = beads
    for orientation, found in enumerate(estimate_stripes(frames, OPTICS)):
        true = stripes_of_exposure(3 * orientation, 1.35, 488.0, 0.8)
        np.testing.assert_allclose(found.frequency_yx_per_um[::-1], true.frequency_xy_per_um, atol=0.004)
        assert found.depth == pytest.approx(0.8, abs=0.05)
        # The virtual frame's corner lies 128 pixels from the specimen's origin.
        moved = true.phase + 2 * np.pi * np.dot(true.frequency_xy_per_um, [-128 * 0.065] * 2)
        assert np.cos(found.phase - moved) > 0.99


def test_beads_become_at_most_0_6_as_wide_with_small_side_lobes(beads):
    frames, _ = beads
    mean, sharp = frames.mean(axis=0), reconstruct(frames, OPTICS)
    places = isolated(mean)
    assert len(places) > 10
    before = [width_um(mean, place, 0.065) for place in places]
    after = [width_um(sharp, brightest_near(sharp, place), 0.0325) for place in places]
    assert np.median(after) <= 0.6 * np.median(before)
    radius = np.hypot(*np.mgrid[-14:15, -14:15]) * 0.0325
    ring = (radius > 0.14) & (radius < 0.4)
    lobes = []
    for place in places:
        y, x = brightest_near(sharp, place)
        window = sharp[y - 14 : y + 15, x - 14 : x + 15]
        lobes.append(np.abs(window[ring]).max() / window.max())
    assert np.median(lobes) <= 0.10


def test_the_reconstruction_agrees_with_the_known_truth_and_lies_on_it(beads):
    frames, stand = beads
    sharp = reconstruct(frames, OPTICS)
    truth = stand.high_image_on_low_grid("GFP", (0.0, 0.0), 0.0, 50.0)  # at the frames' own pixels
    binned = sharp.reshape(256, 2, 256, 2).mean(axis=(1, 3))
    inside = (slice(20, -20), slice(20, -20))
    assert np.corrcoef(binned[inside].ravel(), truth[inside].ravel())[0, 1] > 0.97
    assert sharp.mean() == pytest.approx(frames.mean(), rel=1e-3)


def test_a_real_microscope_s_stripes_have_their_stated_period(micrographs):
    frames = tifffile.imread(micrographs / "sim" / "microtubules_sim_raw_9frames.tif").astype(float)
    frames -= np.percentile(frames, 1)
    optics = SimOptics(pixel_size_um=0.0626, numerical_aperture=1.35, emission_nm=525.0)
    stripes = estimate_stripes(frames, optics)
    assert [stripe.period_um for stripe in stripes] == pytest.approx([0.1805] * 3, rel=0.01)
    angles = np.sort([np.arctan2(*stripe.frequency_yx_per_um) % np.pi for stripe in stripes])
    np.testing.assert_allclose(np.diff(angles), np.pi / 3, atol=0.05)
    sharp = reconstruct(frames, optics, stripes=stripes)
    power = np.abs(np.fft.fft2(sharp - sharp.mean())) ** 2
    frequency = np.hypot(np.fft.fftfreq(512, 0.0313)[:, np.newaxis], np.fft.fftfreq(512, 0.0313))
    beyond = (frequency > 1.1 * optics.cutoff_per_um) & (frequency < 1.6 * optics.cutoff_per_um)
    nowhere = frequency > 2.2 * optics.cutoff_per_um
    assert power[beyond].mean() > 100 * power[nowhere].mean()


@pytest.mark.parametrize("frames", [np.zeros((8, 32, 32)), np.zeros((32, 32)), np.full((9, 32, 32), np.nan)])
def test_wrong_frames_are_named(frames):
    with pytest.raises(WrongInputError, match=r"9 frames|NaN"):
        reconstruct(frames, OPTICS)
