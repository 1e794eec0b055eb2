import numpy as np
import pytest
from scipy import ndimage

from inference.preprocess import normalise
from training.pairing.normalisation import choose_normalisation, sample_flux


def counts(specimen, sigma_px, gain, background, seed):
    rng = np.random.default_rng(seed)
    return rng.poisson(ndimage.gaussian_filter(specimen, sigma_px) * gain + background).astype(np.float32)


@pytest.fixture(scope="module")
def images(scenes):
    """Low and high counts of three specimens, on one grid; low is 2.5 times as bright."""
    specimens = [scenes.specimen(512, seed, 0.3) for seed in (1, 2, 3)]
    return [(counts(s, 3.0, 5000, 180, k), counts(s, 1.0, 2000, 120, k + 9)) for k, s in enumerate(specimens)]


@pytest.fixture(scope="module")
def chosen(images):
    blur_px = np.sqrt(3.0**2 - 1.0**2)
    return choose_normalisation([sample_flux(low, high, 1, blur_px) for low, high in images], 180.0, 120.0)


def test_low_and_high_agree_in_their_light(images, chosen):
    assert chosen.high.scale / chosen.low.scale == pytest.approx(2.5, rel=0.02)


def test_the_brightest_thousandth_of_high_lies_at_255(images, chosen):
    values = np.concatenate([normalise(high, chosen.high.photometry()).ravel() for _, high in images])
    assert np.percentile(values, 99.9) == pytest.approx(255, rel=0.03)


def test_an_error_of_the_background_does_not_tilt_the_factor(images):
    samples = [sample_flux(low + 500, high, 1, np.sqrt(8.0)) for low, high in images]
    wrong = choose_normalisation(samples, 180.0, 120.0)
    assert wrong.high.scale / wrong.low.scale == pytest.approx(2.5, rel=0.02)


def test_debris_in_one_image_does_not_vote(images):
    low, high = images[0][0], images[0][1].copy()
    high[100:150, 200:260] += 60_000
    chosen = choose_normalisation(
        [
            sample_flux(low, high, 1, np.sqrt(8.0)),
            *(sample_flux(a, b, 1, np.sqrt(8.0)) for a, b in images[1:]),
        ],
        180.0,
        120.0,
    )
    assert chosen.high.scale / chosen.low.scale == pytest.approx(2.5, rel=0.05)
