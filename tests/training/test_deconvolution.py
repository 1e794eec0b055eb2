import warnings

import numpy as np
import pytest
import tifffile
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage, signal
from skimage.restoration import richardson_lucy as reference_richardson_lucy

from training.evaluation.deconvolution import (
    nonnegative_least_squares,
    richardson_lucy,
    richardson_lucy_tv,
)
from training.evaluation.deconvolution_search import (
    FastPsnr,
    best_richardson_lucy,
    search_richardson_lucy,
)
from training.evaluation.metrics import psnr_db
from training.evaluation.not_measurable import NotMeasurableError
from training.evaluation.point_spread import Blur, born_wolf_psf, effective_psf

METHODS = [richardson_lucy, richardson_lucy_tv, nonnegative_least_squares]
PSF = effective_psf(0.4, 522, 0.325, 2)
MARGIN = 48  # dark: as wide as three PSF radii, so that how the image is extended has no effect
SEEDS = st.integers(0, 2**32 - 1)


def gaussian_psf(sigma_px=1.5, radius_px=6, centre_yx=(0.0, 0.0)):
    y, x = np.mgrid[-radius_px : radius_px + 1, -radius_px : radius_px + 1]
    psf = np.exp(-((y - centre_yx[0]) ** 2 + (x - centre_yx[1]) ** 2) / (2 * sigma_px**2))
    return (psf / psf.sum()).astype(np.float32)


def blurred(specimen, psf):
    return np.maximum(signal.fftconvolve(specimen, psf, "same"), 0).astype(np.float32)


def specimen(seed=0, side=40, margin=MARGIN):
    """Smooth blobs, 0 to 1000, within a dark margin."""
    noise = ndimage.gaussian_filter(np.random.default_rng(seed).random((side, side)), 1.2)
    return np.pad(((noise - noise.min()) / np.ptp(noise)) ** 3 * 1000, margin)


def observed(seed=0, psf=PSF, photons=1.0):
    """A specimen's image with shot noise; what blurring left of it outside by rounding is dark again."""
    image = blurred(specimen(seed), psf)
    image[image < 1e-3] = 0
    noisy = np.random.default_rng(seed).poisson(image * photons) / photons
    return noisy.astype(np.float32)


# The point spread functions


def test_the_airy_pattern_is_half_as_bright_where_0_51_wavelengths_by_na_says():
    psf = born_wolf_psf(0.4, 522, 0.03)
    across = psf[16, 16:] / psf.max()
    half_px = np.interp(-0.5, -across, np.arange(17))
    assert 2 * half_px * 0.03 == pytest.approx(0.514 * 0.522 / 0.4, rel=0.01)


@pytest.mark.parametrize("emission_nm", [630, 532, 450])
def test_the_airy_pattern_is_dark_at_0_61_wavelengths_by_na(emission_nm):
    pixel_um = 0.61 * emission_nm / 1000 / 0.4 / 8  # the first dark ring lies on the eighth pixel
    psf = born_wolf_psf(0.4, emission_nm, pixel_um)
    assert psf[16, 24] < 1e-5 * psf.max()


def test_the_paper_s_psf_is_narrower_than_what_really_blurred_the_upsampled_image():
    paper, really = born_wolf_psf(0.4, 532, 0.325), effective_psf(0.4, 532, 0.325, 2)
    assert paper.sum() == pytest.approx(1)
    assert really.max() < 0.7 * paper.max()


@given(SEEDS, st.integers(9, 20), st.integers(9, 20))
@settings(max_examples=20, deadline=None)
def test_correlating_is_the_adjoint_of_blurring(seed, height, width):
    rng = np.random.default_rng(seed)
    psf = rng.random((5, 9)).astype(np.float32)
    blur = Blur(psf / psf.sum(), (height, width), "cpu")
    a, b = (blur.extend(torch.from_numpy(rng.random((1, height, width), np.float32))) for _ in range(2))
    assert float((blur.apply(a) * b).sum()) == pytest.approx(float((a * blur.adjoint(b)).sum()), rel=1e-5)


def test_blurring_extends_an_image_by_its_reflection():
    image = np.random.default_rng(0).random((30, 41)).astype(np.float32)
    psf = gaussian_psf(centre_yx=(1.0, -0.5))
    blur = Blur(psf, image.shape, "cpu")
    ours = blur.crop(blur.apply(blur.extend(torch.from_numpy(image)[None])))[0].numpy()
    np.testing.assert_allclose(ours, ndimage.convolve(image, psf, mode="reflect"), atol=1e-5)


# Richardson-Lucy


@pytest.mark.parametrize("iterations", [1, 10, 40])
@pytest.mark.parametrize("psf", [PSF, gaussian_psf(centre_yx=(2.0, -1.0))], ids=["Airy", "off centre"])
def test_richardson_lucy_is_scikit_image_s_where_the_border_is_dark(psf, iterations):
    image = observed(psf=psf)
    expected = reference_richardson_lucy(
        image.astype(np.float64), psf.astype(np.float64), iterations, clip=False, filter_epsilon=1e-6
    )
    ours = richardson_lucy(image, psf, iterations)
    assert np.abs(ours - expected).max() < 1e-5 * image.max()


@given(SEEDS, st.integers(1, 12))
@settings(max_examples=15, deadline=None)
def test_richardson_lucy_keeps_the_total_intensity(seed, iterations):
    image = observed(seed, photons=0.05)
    ours = richardson_lucy(image, PSF, iterations)
    assert ours.sum(dtype=np.float64) == pytest.approx(image.sum(dtype=np.float64), rel=1e-4)


def test_every_iteration_of_richardson_lucy_makes_the_observation_likelier():
    image = observed(photons=0.1)
    likelihoods = []
    for iterations in range(1, 9):
        predicted = np.maximum(blurred(richardson_lucy(image, PSF, iterations), PSF), 1e-3)
        likelihoods.append(np.sum(image * np.log(predicted) - predicted, dtype=np.float64))
    assert np.all(np.diff(likelihoods) > 0)


def test_richardson_lucy_puts_a_point_back_where_the_psf_took_it_from():
    point = np.zeros((61, 61))
    point[30, 25] = 1000
    psf = gaussian_psf(radius_px=8, centre_yx=(2.0, -3.0))
    ours = richardson_lucy(blurred(point, psf), psf, 50)
    assert np.unravel_index(ours.argmax(), ours.shape) == (30, 25)
    assert ours.max() > 4 * blurred(point, psf).max()


def test_two_points_at_rayleigh_s_distance_are_set_apart():
    pixel_um = 0.1
    distance_px = round(0.61 * 0.522 / 0.4 / pixel_um)
    points = np.zeros((81, 81))
    points[40, [40 - distance_px // 2, 40 - distance_px // 2 + distance_px]] = 1000
    psf = born_wolf_psf(0.4, 522, pixel_um)
    image = blurred(points, psf)
    valley = [
        across[36:45].min() / across.max() for across in (image[40], richardson_lucy(image, psf, 50)[40])
    ]
    assert valley[0] > 0.7
    assert valley[1] < 0.3


def test_an_undisturbed_border_deconvolves_as_well_as_the_middle():
    rng = np.random.default_rng(0)
    wide = ndimage.gaussian_filter(rng.random((240, 240)), 1.5)
    wide = ((wide - wide.min()) / np.ptp(wide)) ** 2 * 1000
    image, truth = blurred(wide, PSF)[50:-50, 50:-50], wide[50:-50, 50:-50]
    error = np.abs(richardson_lucy(image, PSF, 20) - truth)
    assert error[4:16].mean() < 1.3 * error[50:-50, 50:-50].mean()


# Damping


def test_a_damped_iteration_is_white_s_formula():
    image, psf, percent = observed(photons=0.1), gaussian_psf(), 30.0
    flat = Blur(psf, image.shape, "cpu").extend(torch.from_numpy(image)[None]).mean().item()  # the start
    logarithm = np.where(image > 0, image * np.log(np.maximum(image, 1e-30) / flat), 0)
    u = np.minimum(2 / ((percent / 100) ** 2 * image.max()) * (logarithm - image + flat), 1)
    ratio = 1 + u**9 * (10 - 9 * u) * (image / flat - 1)
    expected = flat * ndimage.correlate(ratio, psf.astype(np.float64), mode="reflect")
    ours = richardson_lucy(image, psf, 1, damping_percent=percent)
    np.testing.assert_allclose(ours, expected, atol=1e-5 * image.max())
    assert np.abs(ours - richardson_lucy(image, psf, 1)).max() > 0.01 * image.max()


def test_damping_that_vanishes_is_none():
    image = observed(photons=0.1)
    ours = richardson_lucy(image, PSF, 10, damping_percent=1e-3)
    np.testing.assert_allclose(ours, richardson_lucy(image, PSF, 10), atol=1e-3 * image.max())


def test_damping_beyond_every_deviation_changes_nothing_any_more():
    image = observed(photons=0.1)
    once, often = (richardson_lucy(image, PSF, n, damping_percent=1e4) for n in (1, 20))
    np.testing.assert_allclose(often, once, atol=1e-4 * image.max())


def test_damping_keeps_noise_down_where_the_specimen_is_even():
    even = np.full((96, 96), 100.0)
    even[40:44, 40:44] = 2000
    image = np.random.default_rng(0).poisson(blurred(even, gaussian_psf())).astype(np.float32)
    plain, damped = (richardson_lucy(image, gaussian_psf(), 40, damping_percent=p) for p in (0.0, 10.0))
    assert damped[60:-8, 60:-8].std() < 0.5 * plain[60:-8, 60:-8].std()
    assert damped[42, 42] == pytest.approx(plain[42, 42], rel=0.2)


# Total variation


def test_total_variation_of_none_is_plain_richardson_lucy():
    image = observed(photons=0.1)
    ours = richardson_lucy_tv(image, PSF, 10, regularisation=0.0)
    np.testing.assert_array_equal(ours, richardson_lucy(image, PSF, 10))


def test_more_regularisation_leaves_less_total_variation():
    image = observed(photons=0.1)
    variations = [
        np.hypot(*np.gradient(richardson_lucy_tv(image, PSF, 40, regularisation=weight))).sum()
        for weight in (0.0, 0.002, 0.02, 0.1)
    ]
    assert np.all(np.diff(variations) < 0)
    assert variations[-1] < 0.8 * variations[0]


def test_a_regularised_step_is_dey_s_formula():
    image, psf, weight = observed(photons=0.1) + np.float32(50), gaussian_psf(), 0.05
    first = richardson_lucy_tv(image, psf, 1, regularisation=weight)  # a flat start has no variation
    np.testing.assert_allclose(first, richardson_lucy(image, psf, 1), rtol=1e-5)
    plain = richardson_lucy(image, psf, 2)
    down, right = np.diff(first, axis=0, append=first[-1:]), np.diff(first, axis=1, append=first[:, -1:])
    length = np.sqrt(down**2 + right**2 + (1e-6 * image.max()) ** 2)
    down, right = down / length, right / length
    divergence = down - np.roll(down, 1, 0) + right - np.roll(right, 1, 1)
    inside = (slice(50, -50), slice(50, -50))
    ours = richardson_lucy_tv(image, psf, 2, regularisation=weight)
    np.testing.assert_allclose(ours[inside], (plain / (1 - weight * divergence))[inside], rtol=1e-3)


# Non-negative least squares


def test_the_residual_of_nonnegative_least_squares_never_rises():
    image = observed(photons=1)
    residuals = [
        np.linalg.norm(signal.fftconvolve(nonnegative_least_squares(image, PSF, n), PSF, "same") - image)
        for n in (1, 2, 3, 5, 8, 13, 21, 34, 55)
    ]
    assert np.all(np.diff(residuals) < 0)
    assert residuals[-1] < np.linalg.norm(blurred(image, PSF) - image) / 2


@pytest.mark.parametrize("step", [0.5, 1.0, 1.9])
def test_one_landweber_step_is_its_formula(step):
    image = observed(photons=0.1)
    pull = ndimage.correlate(image - ndimage.convolve(image, PSF, mode="reflect"), PSF, mode="reflect")
    ours = nonnegative_least_squares(image, PSF, 1, step=step)
    np.testing.assert_allclose(ours, np.maximum(image + step * pull, 0), atol=1e-5 * image.max())


def test_nonnegative_least_squares_finds_the_minimum_of_a_small_problem():
    psf = gaussian_psf(0.7, 2)
    truth = np.zeros((24, 24))
    truth[8:16, 8:16] = np.random.default_rng(0).random((8, 8)) * 100
    ours = nonnegative_least_squares(blurred(truth, psf), psf, 3000, step=1.9)
    np.testing.assert_allclose(ours, truth, atol=0.1)


# All of them


@pytest.mark.parametrize("method", METHODS)
@given(SEEDS, st.integers(1, 8), st.integers(-7, 13))
@settings(max_examples=10, deadline=None)
def test_estimates_are_never_negative_and_follow_the_image_s_unit(method, seed, iterations, power):
    # By powers of two, which round nothing: total variation has a kink where the estimate is even, and there
    # another rounding may lead another way.
    rng, unit = np.random.default_rng(seed), np.float32(2.0**power)
    image = rng.normal(1, 1, (21, 34)).astype(
        np.float32
    )  # below zero, too, as after a background is taken off
    ours = method(image, gaussian_psf(), iterations)
    assert ours.min() >= 0
    np.testing.assert_allclose(method(image * unit, gaussian_psf(), iterations) / unit, ours, rtol=1e-5)


@pytest.mark.parametrize("method", METHODS)
def test_a_psf_of_one_pixel_gives_the_image_back(method):
    image = np.random.default_rng(0).random((20, 31)).astype(np.float32)
    ours = method(image, np.ones((1, 1), np.float32), 1)
    np.testing.assert_allclose(ours, image, atol=1e-5)


@pytest.mark.parametrize("method", METHODS)
def test_a_batch_is_deconvolved_image_by_image(method):
    batch = np.stack([observed(0), observed(1) * 50, observed(2)])
    ours = method(batch, PSF, 5)
    assert ours.dtype == np.float32
    for image, estimate in zip(batch, ours, strict=True):
        np.testing.assert_allclose(estimate, method(image, PSF, 5), atol=1e-5 * image.max())


@pytest.mark.parametrize("method", METHODS)
def test_the_image_is_left_as_it_was(method):
    image = observed() - np.float32(3)
    image.flags.writeable = False
    before = image.copy()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        method(image, PSF, 2)
    np.testing.assert_array_equal(image, before)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    ("image", "reason"),
    [
        (np.full((40, 40), np.nan, np.float32), "1600 pixel"),
        (np.zeros((40, 40), np.float32), "all pixels are 0"),
        (-observed(), "holds no light"),
        (np.stack([observed(), np.zeros_like(observed())]), "image 1 of the batch"),
    ],
    ids=["NaN", "zero", "negative", "one of a batch"],
)
def test_an_image_without_light_is_refused(method, image, reason):
    with pytest.raises(NotMeasurableError, match=reason):
        method(image, PSF)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    ("psf", "reason"),
    [
        (np.full((4, 5), 1 / 20), "odd sides"),
        (np.full((1, 3, 3), 1 / 9), "odd sides"),
        (np.array([[-0.1, 1.2, -0.1]]), "-0.1"),
        (np.array([[0.2, np.nan, 0.2]]), "nan"),
        (np.full((3, 3), 1.0), "sums to 9"),
    ],
    ids=["even", "three axes", "negative", "NaN", "sum"],
)
def test_a_psf_that_cannot_be_is_refused(method, psf, reason):
    with pytest.raises(ValueError, match=f"the PSF .*{reason}"):
        method(observed(), psf.astype(np.float32))


@pytest.mark.parametrize(
    ("wrong", "name"),
    [
        (lambda: richardson_lucy(observed(), PSF, 0), "iterations"),
        (lambda: richardson_lucy(observed(), PSF, damping_percent=-1), "damping_percent"),
        (lambda: richardson_lucy_tv(observed(), PSF, regularisation=0.25), "regularisation"),
        (lambda: nonnegative_least_squares(observed(), PSF, step=2.0), "step"),
        (lambda: richardson_lucy(observed()[0], PSF), "shape"),
        (lambda: search_richardson_lucy([], PSF), "0 image"),
    ],
)
def test_a_wrong_parameter_is_named(wrong, name):
    with pytest.raises(ValueError, match=name):
        wrong()


# The search


@given(SEEDS, st.floats(0.01, 100), st.floats(-50, 50), st.floats(0.5, 50))
@settings(max_examples=30, deadline=None)
def test_the_fast_psnr_is_the_project_s(seed, slope, offset, noise):
    rng = np.random.default_rng(seed)
    truth = (ndimage.gaussian_filter(rng.random((64, 80)), 1.5) * 255).astype(np.float32)
    image = (slope * (truth + rng.normal(0, noise, truth.shape)) + offset).astype(np.float32)
    ours = float(FastPsnr(truth, "cpu")(torch.from_numpy(image)))
    assert ours == pytest.approx(psnr_db(image, truth), abs=1e-3)


def test_an_image_of_one_value_scores_as_in_the_project():
    truth = specimen().astype(np.float32)
    ours = float(FastPsnr(truth, "cpu")(torch.full(truth.shape, 3.0)))
    assert ours == pytest.approx(psnr_db(np.full_like(truth, 3.0), truth), abs=1e-3)


def test_the_best_iteration_is_the_one_that_the_project_s_psnr_names():
    truth, image = specimen(), observed(photons=0.5)
    scores = [psnr_db(richardson_lucy(image, PSF, n), truth) for n in range(1, 31)]
    best = best_richardson_lucy(image, truth, PSF, 30)
    assert best.iterations == int(np.argmax(scores)) + 1
    assert psnr_db(best.image, truth) == pytest.approx(max(scores), abs=1e-3)


def test_the_search_returns_the_highest_mean_of_its_grid():
    pairs = [(observed(seed, photons=0.02), specimen(seed).astype(np.float32)) for seed in (0, 1)]
    grid = {
        (n, percent): np.mean(
            [
                psnr_db(richardson_lucy(image, PSF, n, damping_percent=percent), truth)
                for image, truth in pairs
            ]
        )
        for n in range(1, 13)
        for percent in (0.0, 3.0, 10.0)
    }
    found = search_richardson_lucy(iter(pairs), PSF, 12, (0.0, 3.0, 10.0))
    assert (found.iterations, found.damping_percent) == max(grid, key=grid.get)
    assert found.mean_psnr_db == pytest.approx(max(grid.values()), abs=1e-3)


def test_noisier_images_want_fewer_iterations():
    truth = specimen().astype(np.float32)
    quiet, noisy = (
        search_richardson_lucy([(observed(photons=photons), truth)], PSF, 60, (0.0,))
        for photons in (1.0, 0.01)
    )
    assert noisy.iterations < quiet.iterations


@pytest.mark.parametrize(
    ("image", "truth", "reason"),
    [
        (observed(), np.zeros((136, 136)), "the truth is empty"),
        (observed(), -specimen(), "nothing bright"),
        (observed(), specimen()[:100], "one grid"),
        (observed()[60:80, 60:80], specimen()[60:80, 60:80], "33 px or more"),
    ],
    ids=["empty", "dark", "another shape", "small"],
)
def test_a_truth_that_cannot_be_scored_against_is_refused(image, truth, reason):
    with pytest.raises(NotMeasurableError, match=reason):
        best_richardson_lucy(image, truth.astype(np.float32), PSF)
    with pytest.raises(NotMeasurableError, match=reason):
        search_richardson_lucy([(image, truth.astype(np.float32))], PSF)


# Real micrographs

BEADS_YX = [(82, 75), (73, 29), (111, 44), (36, 125)]
BEAD_RADIUS_PX = 13


def bead_psf(plane):
    """The mean of four beads in the plane where they are brightest, each shifted onto its centre of mass."""
    light = np.maximum(plane - np.median(plane), 0)
    window = tuple(slice(-BEAD_RADIUS_PX, BEAD_RADIUS_PX + 1) for _ in "yx")
    psf = np.zeros((2 * BEAD_RADIUS_PX + 1,) * 2)
    for bead_yx in BEADS_YX:
        cut = tuple(slice(c + w.start, c + w.stop) for c, w in zip(bead_yx, window, strict=True))
        bead = light[cut]
        off_centre = np.array(ndimage.center_of_mass(bead)) - BEAD_RADIUS_PX
        centred = ndimage.shift(light, -off_centre, order=1)[cut]
        psf += centred / centred.sum()
    return (psf / psf.sum()).astype(np.float32)


def modulation(image):
    """Of the two lines that lie close together: (peak - valley) / (peak + valley), the mean over the rows."""
    across = image.mean(axis=0)
    peak, valley = min(across[66:76].max(), across[79:90].max()), across[70:86].min()
    return (peak - valley) / (peak + valley)


@pytest.fixture(scope="module")
def line_target(micrographs):
    """The line target in focus without its background of one count, and the PSF of the beads in focus."""
    beads = tifffile.imread(micrographs / "beads" / "beads_confocal_zstack.tif").astype(np.float32)
    lines = tifffile.imread(micrographs / "beads" / "line_target_confocal_zstack.tif").astype(np.float32)
    in_focus = lines[lines.std(axis=(1, 2)).argmax()]
    return in_focus - lines.min(), bead_psf(beads[beads.max(axis=(1, 2)).argmax()])


@pytest.mark.parametrize("method", METHODS)
def test_real_lines_stand_apart_after_deconvolution_with_real_beads(line_target, method):
    image, psf = line_target
    estimate = method(image, psf, 10)
    assert modulation(image) < 0.15
    assert modulation(estimate) > 0.25
    assert estimate.sum() == pytest.approx(image.sum(), rel=0.01)


@pytest.mark.parametrize("method", METHODS)
def test_a_real_estimate_blurred_again_explains_the_image_to_within_its_noise(line_target, method):
    image, psf = line_target
    left, blurred_once_more = (
        np.sqrt(np.mean((ndimage.convolve(shown, psf, mode="reflect") - image) ** 2))
        for shown in (method(image, psf, 30), image)
    )
    # Neighbours down a line show the same light, so that their differences are the noise.
    noise = np.diff(image, axis=0).std() / np.sqrt(2)
    assert left == pytest.approx(noise, rel=0.02)
    assert blurred_once_more > 1.1 * left


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
@pytest.mark.parametrize("method", METHODS)
def test_a_gpu_finds_what_the_cpu_finds(method):
    image = observed()
    ours = method(image, PSF, 5, device="cuda")
    np.testing.assert_allclose(ours, method(image, PSF, 5), atol=1e-4 * image.max())
