"""The generator: the U-Net of Wang et al. 2019, with its widths as configuration.

Owns the layers and the arithmetic of their reach (receptive field, pooling step). Knows nothing of
training, files or images: a tensor (B, 1, H, W) on the 0 to 255 scale comes in, one of the same shape
goes out. H and W must be multiples of `GeneratorPlan.step`.
"""

from itertools import pairwise
from typing import Literal, cast

import torch
from pydantic import BaseModel, Field
from torch import Tensor, nn
from torch.nn import functional

from inference.preprocess import FULL_SCALE

__all__ = ["Generator", "GeneratorPlan"]

SLOPE = 0.1
"""Of the leaky rectifier (Methods, network architecture)."""


class GeneratorPlan(BaseModel, frozen=True, extra="forbid"):
    """The shape of the network; the defaults are the paper's (14.9 million parameters)."""

    kind: Literal["unet", "attention"] = "unet"
    """The paper's U-Net, or residual channel attention (Zhang et al., ECCV 2018), with `base_width` channels,
    `levels` groups of blocks and no pooling."""
    base_width: int = Field(default=32, ge=1)
    """Channels after the first convolution; level k has base_width * 2^(k+1)."""
    levels: int = Field(default=4, ge=1, le=6)
    """Down blocks, and as many up blocks."""
    shuffle: int = Field(default=1, ge=1, le=4)
    """Pixels along a block that becomes channels before the first layer and pixels again after the last.
    1 is the paper's network; 2 computes at a quarter of the pixels, which on an upsampled low image
    loses nothing (sub-pixel convolution, Shi et al. 2016)."""
    global_residual: bool = False
    """Add the input to the output, so that the network learns the difference. Not in the paper; it saves
    a short training the time in which it would learn the identity."""

    uncertainty: bool = False
    """A second output channel: the logarithm of the variance of each pixel, on the scale divided by 255."""

    @property
    def step(self) -> int:
        """Height and width of the input must be a multiple of this (the pooling grid), in px."""
        return int(self.shuffle * 2**self.levels)

    @property
    def widths(self) -> tuple[int, ...]:
        """Channels of the first convolution and of every level."""
        return tuple(self.base_width * 2**level for level in range(self.levels + 1))

    @property
    def receptive_radius_px(self) -> int:
        """How far, at the most, an input pixel reaches an output pixel, in px of the high grid.

        Three 3 x 3 convolutions a block reach 3 px of their own level, on the way down and up; bilinear
        upsampling reaches one px of the level below; the first, the last and the bottom one add theirs. All
        of it is in blocks of `shuffle` pixels.
        """
        blocks: int = sum(3 * 2**level for level in range(self.levels))
        upsampling: int = sum(2 ** (level + 1) for level in range(self.levels))
        in_blocks = 1 + blocks + 2**self.levels + upsampling + blocks + 1
        return int(self.shuffle * in_blocks + self.shuffle - 1)


def _three_convolutions(channels_in: int, channels_out: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for index in range(3):
        layers.append(nn.Conv2d(channels_in if index == 0 else channels_out, channels_out, 3, padding=1))
        layers.append(nn.LeakyReLU(SLOPE))
    return nn.Sequential(*layers)


class DownBlock(nn.Module):
    """Three convolutions, to which the input is added, zero-padded in channels."""

    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__()
        self.extra_channels = channels_out - channels_in
        self.convolutions = _three_convolutions(channels_in, channels_out)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to (B, 2C, H, W); the pooling is the caller's, who needs the skip before it."""
        padded = functional.pad(x, (0, 0, 0, 0, 0, self.extra_channels))
        return torch.add(self.convolutions(x), padded)


class UpBlock(nn.Module):
    """Bilinear upsampling, concatenation of the skip, three convolutions."""

    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__()
        self.convolutions = _three_convolutions(2 * channels_in, channels_out)

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        """(B, C, H/2, W/2) and the skip (B, C, H, W) to (B, C/2, H, W)."""
        upsampled = functional.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
        result: Tensor = self.convolutions(torch.cat([upsampled, skip], dim=1))
        return result


class Generator(nn.Module):
    """The U-Net; see the module docstring."""

    def __init__(self, plan: GeneratorPlan) -> None:
        super().__init__()
        self.plan = plan
        widths = plan.widths
        self.first = nn.Conv2d(plan.shuffle**2, widths[0], 3, padding=1)
        self.down = nn.ModuleList(DownBlock(a, b) for a, b in pairwise(widths))
        self.bottom = nn.Conv2d(widths[-1], widths[-1], 3, padding=1)
        up = [UpBlock(b, a) for a, b in pairwise(widths)]
        self.up = nn.ModuleList(reversed(up))
        self.last = nn.Conv2d(widths[0], plan.shuffle**2, 3, padding=1)
        self._start()

    @torch.no_grad()
    def _start(self) -> None:
        """Begin without offsets, and as the identity where that is the aim.

        Fluorescence fills a few per cent of the 0 to 255 scale, far below the offsets that torch draws:
        with them the network first had to learn to see.
        """
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.zeros_(cast("Tensor", layer.bias))
        if self.plan.global_residual:
            nn.init.zeros_(self.last.weight)

    def forward(self, low: Tensor) -> Tensor:
        """Turn low images into high ones, both (B, 1, H, W) on the 0 to 255 scale.

        Inside, values are divided by 255: the first and the last layer then see numbers of order one, as
        Adam's step size expects.
        """
        blocks = functional.pixel_unshuffle(low / FULL_SCALE, self.plan.shuffle)  # (B, S*S, H/S, W/S)
        x = functional.leaky_relu(self.first(blocks), SLOPE)
        skips: list[Tensor] = []
        for block in self.down:
            x = block(x)
            skips.append(x)
            x = functional.avg_pool2d(x, 2)
        x = functional.leaky_relu(self.bottom(x), SLOPE)
        for block, skip in zip(self.up, reversed(skips), strict=True):
            x = block(x, skip)
        high = functional.pixel_shuffle(self.last(x), self.plan.shuffle) * FULL_SCALE  # (B, 1, H, W)
        return low + high if self.plan.global_residual else high
