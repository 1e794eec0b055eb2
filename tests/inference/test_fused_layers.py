"""Layers written for a compiler compute what torch's own compute."""

import pytest
import torch
from torch import nn

from inference.backends import fused_layers
from inference.backends.fused_layers import ConvolutionFromOne, ConvolutionToOne, fusible
from inference.generator import GeneratorPlan, build_generator, enlarged_beside


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(3)


@pytest.fixture
def on_the_cpu(monkeypatch):
    """Where there is a GPU the layers would take its kernel, and these generators are on the CPU."""
    monkeypatch.setattr(fused_layers, "join_kernel", lambda: None)


@pytest.mark.parametrize(
    ("convolution", "layer"),
    [(nn.Conv2d(1, 8, 3, padding=1), ConvolutionFromOne), (nn.Conv2d(8, 1, 3, padding=1), ConvolutionToOne)],
)
def test_a_convolution_is_a_matrix_product_and_nine_shifts(convolution, layer):
    x = torch.randn(2, convolution.in_channels, 9, 12)
    torch.testing.assert_close(layer(convolution)(x), convolution(x), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("plan", [{}, {"shuffle": 2}, {"uncertainty": True}, {"global_residual": True}])
@pytest.mark.usefixtures("on_the_cpu")
@torch.inference_mode()
def test_a_fusible_generator_is_the_same_function(plan):
    generator = build_generator(GeneratorPlan(base_width=4, levels=2, **plan)).eval()
    low = 100 * torch.rand(1, 1, 32, 48)
    expected = generator(low)
    torch.testing.assert_close(fusible(generator)(low), expected, rtol=1e-4, atol=1e-3)


@pytest.mark.usefixtures("on_the_cpu")
@torch.inference_mode()
def test_narrow_weights_take_and_give_float32():
    generator = build_generator(GeneratorPlan(base_width=8, levels=1, global_residual=True)).eval()
    low = 100 * torch.rand(1, 1, 16, 16)
    expected = generator(low)
    narrow = fusible(generator).to(torch.bfloat16)(low)
    assert narrow.dtype == torch.float32
    torch.testing.assert_close(narrow, expected, rtol=0.02, atol=0.5)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
@pytest.mark.parametrize(
    "shape", [(1, 4, 4, 3, 5), (2, 8, 4, 1, 1), (1, 16, 16, 7, 300), (1, 512, 256, 5, 9)]
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_kernel_enlarges_and_joins(shape, dtype):
    kernel = pytest.importorskip("inference.backends.join_kernel")
    batch, channels, skip_channels, height, width = shape
    x = torch.randn(batch, channels, height, width, dtype=dtype, device="cuda")
    skip = torch.randn(batch, skip_channels, 2 * height, 2 * width, dtype=dtype, device="cuda")
    joined = kernel.enlarged_and_joined(x, skip)
    assert joined.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(joined, enlarged_beside(x, skip), rtol=0.01, atol=1e-5)
