"""The generator: the U-Net of Wang et al. 2019, its widths as configuration, or residual channel attention.

Owns the U-Net's layers, what both architectures do at their two ends, and the arithmetic of their reach
(receptive field, step). Knows nothing of training, files or images: a tensor (B, 1, H, W) on the 0 to 255
scale comes in, one of the same shape goes out; an uncertain generator adds a second channel, the logarithm of
the variance, which `image_of` and `MeanOnly` leave away. H and W must be multiples of `GeneratorPlan.step`.
"""

from itertools import pairwise
from typing import TYPE_CHECKING, Literal, cast

import torch
from pydantic import BaseModel, Field
from torch import Tensor, nn
from torch.nn import functional

from inference import attention
from inference.preprocess import FULL_SCALE

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = [
    "AttentionGenerator",
    "Generator",
    "GeneratorPlan",
    "MeanOnly",
    "build_generator",
    "image_of",
    "log_variance_of",
]

SLOPE = 0.1
"""Of the leaky rectifier (Methods, network architecture)."""
START_LOG_VARIANCE = -6.0
"""What an uncertain generator says of every pixel before it has learned: an error of 0.05 of the full scale.
Adam would need tens of thousands of steps to come there from zero."""


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
        grid = attention.WINDOW if self.kind == "attention" else 2**self.levels
        return int(self.shuffle * grid)

    @property
    def widths(self) -> tuple[int, ...]:
        """Channels of the U-Net's first convolution and of every level."""
        return tuple(self.base_width * 2**level for level in range(self.levels + 1))

    @property
    def receptive_radius_px(self) -> int:
        """How far, at the most, an input pixel reaches an output pixel, in px of the high grid."""
        in_blocks = attention.reach(self.levels) if self.kind == "attention" else self._unet_reach()
        return self.shuffle * in_blocks + self.shuffle - 1

    def _unet_reach(self) -> int:
        """Return the U-Net's reach in blocks of `shuffle` pixels.

        Three 3 x 3 convolutions a block reach 3 px of their own level, on the way down and up; bilinear
        upsampling reaches one px of the level below; the first, the last and the bottom one add theirs.
        """
        blocks: int = sum(3 * 2**level for level in range(self.levels))
        upsampling: int = sum(2 ** (level + 1) for level in range(self.levels))
        return int(1 + blocks + 2**self.levels + upsampling + blocks + 1)

    @property
    def channels(self) -> tuple[int, int]:
        """Channels of the first layer's input and of the last one's output, in blocks of `shuffle` pixels."""
        block = self.shuffle**2
        return block, 2 * block if self.uncertainty else block


def build_generator(plan: GeneratorPlan) -> nn.Module:
    """Return the generator that a plan describes, untrained."""
    return AttentionGenerator(plan) if plan.kind == "attention" else Generator(plan)


def image_of(output: Tensor) -> Tensor:
    """Return the image in what a generator gave, (B, 1 or 2, H, W) to (B, 1, H, W)."""
    return output[:, :1]


def log_variance_of(output: Tensor) -> Tensor | None:
    """Return the log-variance (B, 1, H, W) on the scale divided by 255; None from a certain generator."""
    return output[:, 1:] if output.shape[1] > 1 else None


def _to_blocks(low: Tensor, plan: GeneratorPlan, dtype: torch.dtype) -> Tensor:
    """Turn (B, 1, H, W) into blocks of pixels (B, S*S, H/S, W/S), divided by 255, of the weights' type.

    The first and the last layer then see numbers of order one, as Adam's step size expects.
    """
    return functional.pixel_unshuffle(low / FULL_SCALE, plan.shuffle).to(dtype)


def _to_output(blocks: Tensor, low: Tensor, plan: GeneratorPlan) -> Tensor:
    """Turn the last layer's blocks into the output (B, 1, H, W), or (B, 2, H, W) with the log-variance."""
    output = functional.pixel_shuffle(blocks, plan.shuffle).to(low.dtype)
    high = image_of(output) * FULL_SCALE if plan.uncertainty else output * FULL_SCALE
    if plan.global_residual:
        high = low + high
    return torch.cat([high, output[:, 1:]], dim=1) if plan.uncertainty else high


@torch.no_grad()
def _start(generator: nn.Module, last: nn.Conv2d, plan: GeneratorPlan) -> None:
    """Begin without offsets, and as the identity where that is the aim.

    Fluorescence fills a few per cent of the 0 to 255 scale, far below the offsets that torch draws: with
    them the network first had to learn to see. The weights stay as torch draws them (uniform, a third of
    He's variance): residual branches then begin small, and many in a row do not blow the signal up.
    """
    for layer in generator.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.zeros_(cast("Tensor", layer.bias))
    if plan.global_residual:
        nn.init.zeros_(last.weight)
    if plan.uncertainty:
        block = plan.shuffle**2
        nn.init.zeros_(last.weight[block:])
        nn.init.constant_(cast("Tensor", last.bias)[block:], START_LOG_VARIANCE)


def enlarged_beside(x: Tensor, skip: Tensor) -> Tensor:
    """(B, C, H, W), enlarged bilinearly, and (B, S, 2H, 2W) to (B, C + S, 2H, 2W)."""
    enlarged = functional.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
    return torch.cat([enlarged, skip], dim=1)


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
        self.channels_in = channels_in
        self.convolutions = _three_convolutions(2 * channels_in, channels_out)
        self.join: Callable[[Tensor, Tensor], Tensor] = enlarged_beside

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        """(B, C, H/2, W/2) and the skip (B, C, H, W) to (B, C/2, H, W)."""
        result: Tensor = self.convolutions(self.join(x, skip))
        return result


class Generator(nn.Module):
    """The U-Net."""

    def __init__(self, plan: GeneratorPlan) -> None:
        super().__init__()
        self.plan = plan
        widths = plan.widths
        channels_in, channels_out = plan.channels
        self.first = nn.Conv2d(channels_in, widths[0], 3, padding=1)
        self.down = nn.ModuleList(DownBlock(a, b) for a, b in pairwise(widths))
        self.bottom = nn.Conv2d(widths[-1], widths[-1], 3, padding=1)
        up = [UpBlock(b, a) for a, b in pairwise(widths)]
        self.up = nn.ModuleList(reversed(up))
        self.last = nn.Conv2d(widths[0], channels_out, 3, padding=1)
        _start(self, self.last, plan)

    def forward(self, low: Tensor) -> Tensor:
        """Turn low images (B, 1, H, W) into high ones on the 0 to 255 scale; see the module docstring."""
        x = functional.leaky_relu(self.first(_to_blocks(low, self.plan, self.first.weight.dtype)), SLOPE)
        skips: list[Tensor] = []
        for block in self.down:
            x = block(x)
            skips.append(x)
            x = functional.avg_pool2d(x, 2)
        x = functional.leaky_relu(self.bottom(x), SLOPE)
        for block, skip in zip(self.up, reversed(skips), strict=True):
            x = block(x, skip)
        return _to_output(self.last(x), low, self.plan)


class AttentionGenerator(nn.Module):
    """Residual channel attention, between the same two ends as the U-Net."""

    def __init__(self, plan: GeneratorPlan) -> None:
        super().__init__()
        self.plan = plan
        channels_in, channels_out = plan.channels
        self.network = attention.ResidualAttention(channels_in, channels_out, plan.base_width, plan.levels)
        _start(self, self.network.last, plan)

    def forward(self, low: Tensor) -> Tensor:
        """Turn low images (B, 1, H, W) into high ones on the 0 to 255 scale; see the module docstring."""
        blocks = _to_blocks(low, self.plan, self.network.first.weight.dtype)
        return _to_output(self.network(blocks), low, self.plan)


class MeanOnly(nn.Module):
    """A generator of which only the image is wanted: what is exported and served."""

    def __init__(self, generator: nn.Module) -> None:
        super().__init__()
        self.generator = generator

    def forward(self, low: Tensor) -> Tensor:
        """(B, 1, H, W) to the same shape, both on the 0 to 255 scale."""
        return image_of(self.generator(low))
