"""The fusion of a focus stack: known answers, and a virtual thick specimen whose truth is known."""

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as st_numpy
from scipy import ndimage

from acquisition.virtual.optics import WideField
from acquisition.virtual.rendering import Renderer, View
from acquisition.virtual.specimen import DrawnSpecimen, PointCloud
from configs.document import WrongInputError
from training.pairing.extended_depth import extended_depth_of_field

PLANES, STEP_UM = 34, 0.3
BACKGROUND, READ_NOISE = 20.0, 2.0


class ThickFilaments:
    """Slanted filaments through 9 um of depth: a point source of the virtual microscope."""

    plane_depths_um = tuple(np.round(np.arange(-4.5, 4.6, 0.5), 3))
    moves = False

    def __init__(self, seed: int, number: int = 50, side_um: float = 90.0) -> None:
        rng = np.random.default_rng(seed)
        parts = []
        for _ in range(number):
            along = np.arange(0, rng.uniform(20, 80), 0.1)
            angle = rng.uniform(0, 2 * np.pi) + np.cumsum(rng.normal(0, 0.01, along.size))
            x, y = (
                rng.uniform(-side_um / 2, side_um / 2) + 0.1 * np.cumsum(turn(angle))
                for turn in (np.cos, np.sin)
            )
            z = np.clip(rng.uniform(-4, 4) + rng.uniform(-0.04, 0.04) * along, -4.4, 4.4)
            parts.append((x, y, z, np.full(along.size, rng.uniform(0.5, 1.5))))
        self.cloud = PointCloud(*(np.concatenate(column) for column in zip(*parts, strict=True)))

    def clouds(self, stain, low_xy_um, high_xy_um, time_s):
        yield self.cloud

    def dissolved(self, stain, x_um, y_um):
        return None


def filaments(side_px=192, pixel_um=0.325):
    """A wide-field stack at 20x/0.75 as METHOD's 34 planes, and the same specimen without defocus."""
    renderer = Renderer(DrawnSpecimen(ThickFilaments(seed=1), 0.1625))
    places = (np.arange(side_px) + 0.5 - side_px / 2) * pixel_um
    lens, deep = WideField(0.75, 522.0), WideField(0.75, 522.0, refractive_index=1e9)
    depths_um = (np.arange(PLANES) - (PLANES - 1) / 2) * STEP_UM
    y_um, x_um = places[:, np.newaxis], places[np.newaxis]
    stack = [renderer.image(View("any", lens, pixel_um, float(z)), y_um, x_um) for z in depths_um]
    return np.stack(stack), renderer.image(View("any", deep, pixel_um, 0.0), y_um, x_um)


def hills(side_px=128):
    """One textured surface that rises and falls through the stack, blurred by its distance from a plane."""
    rng = np.random.default_rng(0)
    texture = np.clip(ndimage.gaussian_filter(rng.normal(size=(side_px, side_px)), 1.0) / 0.28 + 1.5, 0, None)
    y, x = np.mgrid[:side_px, :side_px] / side_px
    height = (PLANES - 1) * (0.5 + 0.45 * np.sin(2 * np.pi * (0.5 * x + 0.3 * y)))
    stack = np.zeros((PLANES, side_px, side_px))
    for depth in range(PLANES):
        layer = texture * np.clip(1 - np.abs(height - depth), 0, 1)
        for plane in range(PLANES):
            stack[plane] += ndimage.gaussian_filter(layer, 0.8 + 0.35 * abs(depth - plane))
    return stack, ndimage.gaussian_filter(texture, 0.8)


def photographed(stack, truth, peak_electrons):
    """Poisson and read noise on the stack; the truth on the same scale."""
    rng = np.random.default_rng(0)
    gain = peak_electrons / np.percentile(truth, 99.9)
    counts = rng.poisson(np.maximum(stack * gain, 0) + BACKGROUND) + rng.normal(0, READ_NOISE, stack.shape)
    return counts.astype(np.float32), (truth * gain + BACKGROUND).astype(np.float32)


def psnr_db(image, truth):
    """As METHOD scores: over the truth's 99.9th percentile, after a linear fit, without 16 px of border."""
    seen, true = (picture[16:-16, 16:-16].astype(float).ravel() for picture in (image, truth))
    slope, offset = np.polyfit(seen, true, 1)
    error = np.mean((slope * seen + offset - true) ** 2)
    return 10 * np.log10(np.percentile(true, 99.9) ** 2 / error)


def taken(stack, plane_of):
    return np.take_along_axis(stack, plane_of[np.newaxis], axis=0)[0]


def largest_variance(stack, side_px=9):
    square, mean = (
        np.stack([ndimage.uniform_filter(plane, side_px) for plane in planes]) for planes in (stack**2, stack)
    )
    return taken(stack, (square - mean**2).argmax(axis=0))


_ROOT = 1j * np.sqrt(15)
LOW_PASS = np.array([-3 - _ROOT, 5 - _ROOT, 30 + 2 * _ROOT, 30 + 2 * _ROOT, 5 - _ROOT, -3 - _ROOT])
LOW_PASS = LOW_PASS * np.sqrt(2) / 64
"""The symmetric complex Daubechies filter of six taps (Lina & Mayrand 1995), orthonormal."""
HIGH_PASS = np.conj(LOW_PASS[::-1]) * (-1.0) ** np.arange(6)


def split(x, taps, axis):
    x = np.moveaxis(x, axis, -1)
    places = np.arange(0, x.shape[-1], 2)
    parts = [np.conj(tap) * x[..., (places + k - 2) % x.shape[-1]] for k, tap in enumerate(taps)]
    return np.moveaxis(sum(parts), -1, axis)


def joined(low, high, axis):
    low, high = np.moveaxis(low, axis, -1), np.moveaxis(high, axis, -1)
    whole = np.zeros((*low.shape[:-1], 2 * low.shape[-1]), complex)
    for k in range(6):
        share = LOW_PASS[k] * low + HIGH_PASS[k] * high
        whole[..., k % 2 :: 2] += np.roll(share, (k - 2 - k % 2) // 2, axis=-1)
    return np.moveaxis(whole, -1, axis)


def complex_wavelet_fusion(stack, levels=5):
    """Forster et al. 2004: the largest coefficient, made consistent, then a pixel's own nearest value."""
    low, chosen = stack.astype(complex), []
    for _ in range(levels):
        by_rows = [split(low, taps, 1) for taps in (LOW_PASS, HIGH_PASS)]
        (low, *details) = (split(part, taps, 2) for taps in (LOW_PASS, HIGH_PASS) for part in by_rows)
        bands = np.stack(details)  # (3, Z, Y, X)
        plane = np.abs(bands).argmax(axis=1)  # (3, Y, X)
        middle = np.sort(plane, axis=0)[1]
        agreed = ((plane == middle).sum(axis=0) >= 2)[np.newaxis]
        plane = np.where(agreed, middle, plane)
        chosen.append(
            [taken(band, majority(one, len(stack))) for band, one in zip(bands, plane, strict=True)]
        )
    fused = taken(low, np.abs(low).argmax(axis=0))
    for down, across, both in reversed(chosen):
        fused = joined(joined(fused, across, 1), joined(down, both, 1), 0)
    return taken(stack, np.abs(stack - fused.real).argmin(axis=0))


def majority(plane, planes):
    votes = np.stack([ndimage.uniform_filter((plane == z).astype(float), 3) for z in range(planes)])
    return np.where(votes.max(axis=0) >= 0.5, votes.argmax(axis=0), plane)


@pytest.fixture(scope="module", params=[filaments, hills], ids=["filaments", "hills"])
def scene(request):
    return photographed(*request.param(), peak_electrons=1000)


def test_the_reference_transform_is_its_own_inverse():
    image = np.random.default_rng(0).normal(size=(1, 64, 96))
    np.testing.assert_allclose(complex_wavelet_fusion(image)[None], image)
    low, high = (split(image, taps, 1) for taps in (LOW_PASS, HIGH_PASS))
    np.testing.assert_allclose(joined(low, high, 1), image, atol=1e-12)


def test_it_beats_the_simple_fusions_and_the_complex_wavelets_clearly(scene):
    stack, truth = scene
    figures = {
        "best plane": max(psnr_db(plane, truth) for plane in stack),
        "maximum": psnr_db(stack.max(axis=0), truth),
        "variance": psnr_db(largest_variance(stack), truth),
        "complex wavelets": psnr_db(complex_wavelet_fusion(stack), truth),
    }
    fused = psnr_db(extended_depth_of_field(stack), truth)
    print({name: round(float(db), 2) for name, db in figures.items()}, f"here {fused:.2f} dB")
    assert fused > max(figures.values()) + 1.0


def test_counts_keep_their_meaning(scene):
    stack, truth = scene
    fused = extended_depth_of_field(stack)
    assert fused.mean() == pytest.approx(stack.mean(), rel=0.1)
    assert np.polyfit(truth.ravel(), fused.ravel(), 1)[0] == pytest.approx(1, abs=0.15)


def test_low_light_is_averaged_rather_than_the_noise_picked():
    stack, truth = photographed(*hills(), peak_electrons=100)
    assert psnr_db(extended_depth_of_field(stack), truth) > psnr_db(largest_variance(stack), truth) + 1.0


def texture(side_px, seed=0):
    noise = np.random.default_rng(seed).normal(size=(side_px, side_px))
    return (1000 + 300 * ndimage.gaussian_filter(noise, 0.8) / 0.35).astype(np.float32)


def test_the_one_sharp_plane_comes_back():
    sharp = texture(96)
    stack = np.stack([ndimage.gaussian_filter(sharp, abs(z - 3) * 1.5) for z in range(8)])
    np.testing.assert_allclose(extended_depth_of_field(stack), sharp, atol=3e-3 * np.ptp(sharp))


def test_the_one_plane_that_shows_anything_keeps_its_brightness():
    sharp = texture(96)
    stack = np.stack([np.full_like(sharp, 100), sharp, np.full_like(sharp, 100)])
    np.testing.assert_allclose(extended_depth_of_field(stack), sharp, atol=3e-3 * np.ptp(sharp))


def test_a_tilted_surface_is_sharp_everywhere():
    sharp = texture(160)
    blurs = np.stack([ndimage.gaussian_filter(sharp, sigma) for sigma in np.arange(0, 5.01, 0.25)])
    depth = np.linspace(0, 9, 160)  # of each column, in planes
    columns = np.arange(160)
    stack = np.stack([blurs[np.rint(abs(depth - z) * 2).astype(int), :, columns].T for z in range(10)])
    fused = extended_depth_of_field(stack)
    for part in np.split(np.arange(160), 10):
        sharpness = (
            np.abs(np.diff(fused[:, part], axis=0)).mean() / np.abs(np.diff(sharp[:, part], axis=0)).mean()
        )
        assert sharpness > 0.9


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32, np.float64])
def test_a_constant_stack_stays_constant(dtype):
    fused = extended_depth_of_field(np.full((4, 37, 50), 77, dtype))
    assert fused.dtype == np.float32
    np.testing.assert_array_equal(fused, 77)


def test_one_plane_comes_back():
    plane = texture(61).astype(np.uint16)
    np.testing.assert_allclose(extended_depth_of_field(plane[np.newaxis]), plane, rtol=1e-6)


stacks = st_numpy.arrays(
    np.uint16,
    st.tuples(st.integers(1, 4), st.integers(1, 40), st.integers(1, 40)),
    elements=st.integers(0, 65535),
)


@given(stacks)
@settings(max_examples=40, deadline=None)
def test_no_value_is_invented(stack):
    fused = extended_depth_of_field(stack)
    assert fused.shape == stack.shape[1:]
    assert (fused >= stack.min(axis=0)).all()
    assert (fused <= stack.max(axis=0)).all()


@given(stacks, st.randoms(use_true_random=False))
@settings(max_examples=30, deadline=None)
def test_the_order_of_the_planes_does_not_matter(stack, random):
    order = random.sample(range(len(stack)), len(stack))
    np.testing.assert_allclose(
        extended_depth_of_field(stack[order]), extended_depth_of_field(stack), rtol=1e-4, atol=0.5
    )


@given(st.floats(0.01, 1000), st.floats(-1000, 1000))
@settings(max_examples=20, deadline=None)
def test_gain_and_offset_of_the_camera_pass_through(gain, offset):
    stack = np.stack([texture(48, seed) for seed in range(3)])
    expected = gain * extended_depth_of_field(stack) + offset
    np.testing.assert_allclose(
        extended_depth_of_field(gain * stack + offset), expected, atol=1e-3 * gain * np.ptp(stack)
    )


def test_a_real_stack_becomes_sharper_than_its_sharpest_plane(shared_data):
    stack = tifffile.imread(shared_data / "cells" / "golgi_zstack.tif")
    fused = extended_depth_of_field(stack)

    def sharpness(plane):
        return np.var(ndimage.gaussian_laplace(plane.astype(float), 1.5))

    assert sharpness(fused) > 1.2 * max(sharpness(plane) for plane in stack)
    assert ((fused >= stack.min(axis=0)) & (fused <= stack.max(axis=0))).all()


@pytest.mark.parametrize(
    ("stack", "words"),
    [
        (np.zeros((32, 32)), r"\(Z, Y, X\).*shape \(32, 32\)"),
        (np.zeros((0, 32, 32)), r"\(Z, Y, X\)"),
        (np.zeros((2, 32, 32), complex), "complex128"),
        (np.full((2, 32, 32), np.nan), "NaN"),
        (np.array([[[0.0, np.inf]], [[1.0, 2.0]]]), "infinity"),
    ],
)
def test_what_is_no_stack_is_named(stack, words):
    with pytest.raises(WrongInputError, match=words):
        extended_depth_of_field(stack)
