"""Layers of the generator for a GPU: the same functions, fewer passes over the memory.

torch.compile fuses what is pointwise, and leaves two things slow: the enlargement on the way up, which it
computes through tables of indices (`join_kernel` takes its place), and convolutions from and to one channel,
which cuDNN pads to eight. Here these are one matrix product behind (before) nine shifts.
"""

import logging
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from inference.generator import Generator, UpBlock

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["ConvolutionFromOne", "ConvolutionToOne", "fusible"]

log = logging.getLogger(__name__)

TAPS, PADDED_TAPS = 9, 16
"""Of a 3 x 3 convolution; matrix products like multiples of eight."""


class ConvolutionFromOne(nn.Module):
    """A 3 x 3 convolution of one channel: (B, 1, H, W) to (B, C, H, W)."""

    def __init__(self, convolution: nn.Conv2d) -> None:
        super().__init__()
        taps = convolution.weight.detach().flatten(1)  # (C, 9)
        self.weight = nn.Parameter(functional.pad(taps, (0, PADDED_TAPS - TAPS)).T.contiguous())  # (16, C)
        self.bias = nn.Parameter(_bias(convolution))

    def forward(self, x: Tensor) -> Tensor:
        """Gather the neighbours of every pixel, and multiply."""
        height, width = x.shape[2:]
        around = functional.pad(x[:, 0], (1, 1, 1, 1))  # (B, H + 2, W + 2)
        taps = [around[:, i : i + height, j : j + width] for i in range(3) for j in range(3)]
        taps += [torch.zeros_like(taps[0])] * (PADDED_TAPS - TAPS)
        return (torch.stack(taps, -1) @ self.weight + self.bias).permute(0, 3, 1, 2)


class ConvolutionToOne(nn.Module):
    """A 3 x 3 convolution to one channel: (B, C, H, W) to (B, 1, H, W) float32."""

    def __init__(self, convolution: nn.Conv2d) -> None:
        super().__init__()
        taps = convolution.weight.detach()[0].flatten(1)  # (C, 9)
        self.weight = nn.Parameter(functional.pad(taps, (0, PADDED_TAPS - TAPS)))  # (C, 16)
        self.bias = nn.Parameter(_bias(convolution))

    def forward(self, x: Tensor) -> Tensor:
        """Multiply, and add up what every pixel gives to its neighbours."""
        height, width = x.shape[2:]
        taps = (x.permute(0, 2, 3, 1) @ self.weight).float()  # (B, H, W, 16)
        around = functional.pad(taps, (0, 0, 1, 1, 1, 1))
        shifted = (around[:, i : i + height, j : j + width, 3 * i + j] for i in range(3) for j in range(3))
        return torch.add(sum(shifted), self.bias.float())[:, None]


def _bias(convolution: nn.Conv2d) -> Tensor:
    return torch.zeros(convolution.out_channels) if convolution.bias is None else convolution.bias.detach()


def join_kernel() -> ModuleType | None:
    """Return the kernel's module, tried on the GPU; None where it cannot run (no GPU, Triton, C compiler)."""
    if not torch.cuda.is_available():
        return None
    try:
        kernel = import_module("inference.backends.join_kernel")
        kernel.enlarged_and_joined(
            torch.ones(1, 4, 2, 2, device="cuda"), torch.ones(1, 4, 4, 4, device="cuda")
        )
    except Exception as error:  # whatever Triton lacks, there is another way
        log.warning("the network runs without its own kernel: %s", error)
        return None
    return kernel


def fusible(generator: nn.Module) -> nn.Module:
    """Put these layers into a U-Net, in place; leave another network as it is."""
    if not isinstance(generator, Generator):
        return generator
    kernel = join_kernel()
    for block in cast("Iterable[UpBlock]", generator.up):
        channels = block.channels_in
        if kernel is not None and kernel.can_join(channels):
            block.join = kernel.enlarged_and_joined  # chosen here: a choice in `forward` would cut the graph
    if generator.first.in_channels == 1:
        generator.set_submodule("first", ConvolutionFromOne(generator.first))
    if generator.last.out_channels == 1:
        generator.set_submodule("last", ConvolutionToOne(generator.last))
    return generator
