"""The resolution of one image follows the cutoff of the lens, is NanoPyx's, and of noise there is none."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from training.evaluation.decorrelation import decorrelation
from training.evaluation.not_measurable import NotMeasurableError

# Resolution in px by NanoPyx 2.1.5, nanopyx.methods.squirrel.calculate_decorr_analysis, by the cutoff per px.
OF_NANOPYX = {0.1: 11.2644, 0.15: 7.6065, 0.2: 5.6798, 0.3: 3.7862}


def microscope(cutoff_per_px, side=256, photons=500, noise=3.0, seed=1):
    """Return random points seen by a perfect lens of a given cutoff, with photon and read noise."""
    random = np.random.RandomState(seed)  # Its stream is frozen, and with it the figures above.
    points, number = np.zeros((side, side)), side**2 // 100
    np.add.at(points, tuple(random.randint(0, side, (2, number))), random.exponential(1.0, number))
    y, x = np.fft.fftfreq(side)[:, np.newaxis], np.fft.rfftfreq(side)
    share = np.clip(np.hypot(y, x) / cutoff_per_px, 0, 1)
    transfer = 2 / np.pi * (np.arccos(share) - share * np.sqrt(1 - share**2))
    light = np.clip(np.fft.irfft2(np.fft.rfft2(points) * transfer, points.shape), 0, None)
    return random.poisson(photons * light / light.max()) + random.normal(100, noise, points.shape)


@pytest.mark.parametrize("cutoff_per_px", OF_NANOPYX)
def test_the_resolution_is_that_which_nanopyx_gave(cutoff_per_px):
    found = decorrelation(microscope(cutoff_per_px))
    assert found.resolution_px == pytest.approx(OF_NANOPYX[cutoff_per_px], rel=0.05)


@pytest.mark.parametrize("photons", [500, 5000])
@pytest.mark.parametrize("cutoff_per_px", OF_NANOPYX)
def test_the_resolution_is_that_which_nanopyx_gives(cutoff_per_px, photons):
    squirrel = pytest.importorskip("nanopyx.methods.squirrel", exc_type=ImportError)
    image = microscope(cutoff_per_px, photons=photons)
    other = squirrel.calculate_decorr_analysis(image)
    assert decorrelation(image).resolution_px == pytest.approx(other, rel=0.05)


@pytest.mark.parametrize("side", [256, 400])
@pytest.mark.parametrize("cutoff_per_px", [0.1, 0.2, 0.3, 0.4])
def test_it_is_a_little_coarser_than_the_cutoff_of_the_lens(cutoff_per_px, side):
    found = decorrelation(microscope(cutoff_per_px, side, photons=5000))
    assert found.resolution_px * cutoff_per_px == pytest.approx(1.14, abs=0.05)


@pytest.mark.parametrize("noise", [0.0, 1.0, 10.0])
@pytest.mark.parametrize("sigma_px", [1.0, 2.0, 3.0])
def test_of_a_gaussian_blur_it_is_about_the_full_width_at_half_maximum(sigma_px, noise):
    rng = np.random.default_rng(0)
    points = np.where(rng.random((256, 256)) < 0.01, rng.exponential(1000.0, (256, 256)), 0.0)
    image = ndimage.gaussian_filter(points, sigma_px) + rng.normal(0, noise, points.shape)
    assert decorrelation(image).resolution_px == pytest.approx(2.355 * sigma_px, rel=0.18)


def test_contrast_falls_with_the_light():
    contrasts = [decorrelation(microscope(0.15, photons=photons)).contrast for photons in (30, 100, 1000)]
    assert contrasts == sorted(contrasts)
    assert contrasts[0] < contrasts[-1] - 0.1


@settings(max_examples=15, deadline=None)
@given(st.floats(0.01, 100), st.floats(-1e3, 1e3), st.booleans(), st.sampled_from([np.float32, np.float64]))
def test_gain_offset_direction_and_precision_do_not_matter(gain, offset, turned, kind):
    image = microscope(0.2, side=96)
    changed = gain * (image.T if turned else image) + offset
    plain = decorrelation(image).resolution_px
    assert decorrelation(changed.astype(kind)).resolution_px == pytest.approx(plain, rel=0.03)


def test_a_pixel_twice_as_fine_doubles_it():
    image = microscope(0.3, photons=5000)
    finer = ndimage.zoom(image, 2, order=5, mode="mirror", grid_mode=False)
    twice = 2 * decorrelation(image).resolution_px
    assert decorrelation(finer).resolution_px == pytest.approx(twice, rel=0.05)


@pytest.mark.parametrize(
    ("image", "reason"),
    [
        (np.full((80, 80), np.nan), "no number"),
        (np.zeros((80, 80)), "all pixels are 0"),
        (np.eye(63), "63 x 63 px"),
        (np.random.default_rng(0).normal(size=(200, 200)), "mostly noise"),
    ],
)
def test_what_cannot_be_measured_says_why(image, reason):
    with pytest.raises(NotMeasurableError, match=reason):
        decorrelation(image)
