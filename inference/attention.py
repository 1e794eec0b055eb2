"""Residual channel attention (Zhang et al., ECCV 2018), with an attention that looks only near.

Owns the layers between blocks of pixels, (B, C_in, H, W) to (B, C_out, H, W), and the arithmetic of their
reach; knows nothing of scales, images or plans (`inference.generator` wraps it). H and W must be multiples of
`WINDOW`.

Zhang's attention averages every channel over the whole image. A pixel then depends on how much of the field
was fed: tiles would not fit together, and what was trained on patches of 64 px would be served on statistics
that it never saw. Here the mean is taken in windows of 8 x 8 on a fixed grid, and the gates are interpolated
linearly between the windows' centres. The reach is finite, and tiles that begin on the grid (every tile does)
give the whole image's numbers.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["BLOCKS_PER_GROUP", "WINDOW", "ResidualAttention", "reach"]

WINDOW = 8
"""Side of the windows of the attention, in blocks of pixels."""
BLOCKS_PER_GROUP = 4
REDUCTION = 16
"""Of the channels inside the attention, as in Zhang et al., but to no fewer than their four (64 / 16)."""


def reach(groups: int) -> int:
    """Return how far an input block reaches an output block, at the most.

    A gate is made of the windows on both sides of the place that it is for: at most one window and a half,
    less one. A block adds its two 3 x 3 convolutions; a group, the trunk, the first and the last layer add
    one convolution each.
    """
    gate = WINDOW + WINDOW // 2 - 1
    group = BLOCKS_PER_GROUP * (2 + gate) + 1
    return 1 + groups * group + 1 + 1


class ChannelAttention(nn.Module):
    """Weigh each channel by what the windows around hold of all channels."""

    def __init__(self, width: int) -> None:
        super().__init__()
        narrow = max(4, width // REDUCTION)
        self.squeeze = nn.Conv2d(width, narrow, 1)
        self.excite = nn.Conv2d(narrow, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to the same shape."""
        means = functional.avg_pool2d(x, WINDOW)  # (B, C, H/8, W/8)
        gates = torch.sigmoid(self.excite(functional.relu(self.squeeze(means))))
        return x * functional.interpolate(gates, scale_factor=WINDOW, mode="bilinear", align_corners=False)


class AttentionBlock(nn.Module):
    """Two convolutions and the attention, added to the input."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(width, width, 3, padding=1)
        self.second = nn.Conv2d(width, width, 3, padding=1)
        self.attention = ChannelAttention(width)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to the same shape."""
        features = self.second(functional.relu(self.first(x)))
        return torch.add(x, self.attention(features))


class ResidualGroup(nn.Module):
    """Attention blocks and a convolution, added to the input."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.blocks = nn.Sequential(*(AttentionBlock(width) for _ in range(BLOCKS_PER_GROUP)))
        self.last = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to the same shape."""
        return torch.add(x, self.last(self.blocks(x)))


class ResidualAttention(nn.Module):
    """A convolution, residual groups under a long skip, and a convolution.

    Parameters
    ----------
    channels_in, channels_out
        Of the network's two ends.
    width
        Channels everywhere between them.
    groups
        Of four blocks each (Zhang et al.: ten groups of twenty).
    """

    def __init__(self, channels_in: int, channels_out: int, width: int, groups: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels_in, width, 3, padding=1)
        self.groups = nn.Sequential(*(ResidualGroup(width) for _ in range(groups)))
        self.trunk = nn.Conv2d(width, width, 3, padding=1)
        self.last = nn.Conv2d(width, channels_out, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C_in, H, W) to (B, C_out, H, W)."""
        shallow = self.first(x)  # (B, C, H, W)
        result: Tensor = self.last(torch.add(shallow, self.trunk(self.groups(shallow))))
        return result
