"""The GPU's backend: what is pure on the CPU, the rest where there is a card."""

import numpy as np
import pytest
import torch
from safetensors.torch import save
from torch import nn

from inference.backends import cuda_backend
from inference.backends.precision_gate import LARGEST_ERROR, error_of, is_good_enough
from inference.engine import Engine
from inference.generator import GeneratorPlan, build_generator
from inference.model_package import IntensityRange, ModelPackage, ServingCard
from inference.preprocess import Photometry, prepare, restore

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
TF32_ERROR = 0.005
"""cuDNN multiplies float32 with eleven bits."""
LIGHT = Photometry(background=120.0, scale=0.02, flux_gain=1.25)


@pytest.fixture
def rng():
    return np.random.default_rng(7)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
@pytest.mark.parametrize("factor", [1, 2, 4])
@pytest.mark.parametrize("shape", [(32, 48), (37, 29)])
def test_a_frame_is_prepared_and_restored_as_on_the_host(dtype, factor, shape, rng):
    image = rng.integers(0, 250, shape).astype(dtype)
    enlarged = (factor * shape[0], factor * shape[1])
    padded = tuple(-(-length // 16) * 16 for length in enlarged)
    network = cuda_backend.FrameNetwork(nn.Identity(), factor, shape, padded)

    def through(counts):
        light = cuda_backend.light_of(LIGHT, counts=counts)
        return network(torch.from_numpy(image), light).numpy()

    expected = prepare(image, LIGHT, factor)
    np.testing.assert_allclose(through(counts=False), expected, rtol=1e-5, atol=1e-4)
    np.testing.assert_allclose(through(counts=True), restore(expected, LIGHT), rtol=1e-5, atol=1e-3)


def test_padding_repeats_the_edge_pixel_as_on_the_host(rng):
    image = rng.integers(0, 250, (5, 7)).astype(np.uint16)
    seen = []

    class Looking(nn.Module):
        def forward(self, low):
            seen.append(low.numpy()[0, 0])
            return low

    network = cuda_backend.FrameNetwork(Looking(), 1, image.shape, (8, 16))
    network(torch.from_numpy(image), cuda_backend.light_of(Photometry(0.0, 1.0), counts=True))
    np.testing.assert_array_equal(seen[0], np.pad(image, ((0, 3), (0, 9)), mode="symmetric"))


def package_of(plan):
    torch.manual_seed(0)
    generator = build_generator(plan).eval()
    low = np.random.default_rng(1).uniform(0, 255, (1, 1, 64, 64)).astype(np.float32)
    with torch.inference_mode():
        high = generator(torch.from_numpy(low)).numpy()
    card = ServingCard(
        sharpscope_version="test", factor=2, channel="FITC", modality="widefield", low_pixel_size_um=0.65,
        high_pixel_size_um=0.325, low_numerical_aperture=0.3, high_numerical_aperture=0.5, background=100.0,
        scale=0.01, intensity=IntensityRange(bright_counts_min=1, bright_counts_max=65535, bright_network=9),
        generator=plan.model_dump(), step=plan.step, minimum=plan.step,
        receptive_radius_px=plan.receptive_radius_px, lineage={},
    )  # fmt: skip
    return ModelPackage("test", "ab" * 32, card, b"", save(generator.state_dict()), low, high)


SMALL = GeneratorPlan(base_width=8, levels=2)


def test_the_gate_passes_the_right_answer_and_neither_a_wrong_nor_a_missing_one():
    package = package_of(SMALL)
    right = package.test_output
    off = right + (LARGEST_ERROR * 1.1) * right.std()
    assert is_good_enough(error_of(package, lambda _: right))
    assert error_of(package, lambda _: off) == pytest.approx(LARGEST_ERROR * 1.1, rel=1e-4)
    assert not is_good_enough(error_of(package, lambda _: off))
    assert not is_good_enough(error_of(package, lambda _: np.full_like(right, np.nan)))


@needs_gpu
@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("plan", [SMALL, GeneratorPlan(kind="attention", base_width=16, levels=1, shuffle=2)])
def test_frames_come_down_as_the_cpu_computes_them(plan, compiled, rng):
    from inference.backends.torch_backend import TorchBackend

    package = package_of(plan)
    on_gpu = Engine(package, cuda_backend.CudaBackend(package, narrow=False, compiled=compiled))
    on_cpu = Engine(package, TorchBackend(package, "cpu"))
    frames = [rng.integers(100, 20000, (61, 90)).astype(np.uint16) for _ in range(6)]
    begun = [on_gpu.begin(frame, pixel_size_um=0.65, channel="FITC") for frame in frames]
    for frame, wait in zip(frames, begun, strict=True):
        expected = on_cpu.enhance(frame, pixel_size_um=0.65, channel="FITC").image
        error = np.sqrt(np.mean((wait().image - expected) ** 2)) / expected.std()
        assert error < TF32_ERROR


@needs_gpu
def test_results_stay_when_later_frames_pass(rng):
    package = package_of(SMALL)
    engine = Engine(package, cuda_backend.CudaBackend(package, compiled=False))
    frame = rng.integers(100, 20000, (64, 64)).astype(np.uint16)
    first = engine.enhance(frame, pixel_size_um=0.65).image
    kept = first.copy()
    for level in range(20):
        engine.enhance(np.full_like(frame, 200 * level + 200), pixel_size_um=0.65)
    np.testing.assert_array_equal(first, kept)
    np.testing.assert_array_equal(engine.enhance(frame, pixel_size_um=0.65).image, kept)
