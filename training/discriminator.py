"""The discriminator of Wang et al. 2019: tells a patch of a true high image from a generated one.

Knows nothing of losses: a patch (B, 1, H, W) on the 0 to 255 scale comes in, a logit (B,) goes out. The
paper's sigmoid stands in the loss, where it can be computed together with the logarithm without overflow.
"""

from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.parametrizations import spectral_norm
from torch.nn.utils.parametrize import register_parametrization

from inference.generator import SLOPE
from inference.preprocess import FULL_SCALE
from training.settings import DiscriminatorPlan

__all__ = ["SPECTRAL_GAIN", "Discriminator"]

BLOCKS = 5
SPECTRAL_GAIN = 2.0
"""Largest singular value of every weight under `spectral_norm`. He's weights have about this one; held at 1,
the signal would halve at each of twelve layers, and the discriminator begin blind. A constant, so the
steepness of the whole stays bounded."""


def _convolution(channels_in: int, channels_out: int, stride: int) -> list[nn.Module]:
    return [nn.Conv2d(channels_in, channels_out, 3, stride, padding=1), nn.LeakyReLU(SLOPE)]


def _initialise(layer: nn.Module) -> None:
    """Give a layer He's initialisation.

    Torch's default shrinks the signal about threefold a layer: after twelve of them the discriminator
    would see nothing and learn nothing.
    """
    if isinstance(layer, nn.Conv2d | nn.Linear):
        nn.init.kaiming_normal_(layer.weight, a=SLOPE)
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)


class _Gain(nn.Module):
    """The fixed factor on a normalised weight."""

    def forward(self, weight: Tensor) -> Tensor:
        return SPECTRAL_GAIN * weight


def _normalise(layer: nn.Module) -> None:
    """Hold a layer's largest singular value (kernel and channels in are one axis) at the gain."""
    if isinstance(layer, nn.Conv2d | nn.Linear):
        register_parametrization(spectral_norm(layer), "weight", _Gain())


class Discriminator(nn.Module):
    """A convolution, five blocks of two, average pooling over the patch, two fully connected layers.

    The second convolution of a block halves height and width (the paper leaves open where it is done).
    """

    def __init__(self, plan: DiscriminatorPlan) -> None:
        super().__init__()
        self._shuffle = plan.shuffle
        layers = _convolution(plan.shuffle**2, plan.base_width, stride=1)
        width = plan.base_width
        for _ in range(BLOCKS):
            layers += [*_convolution(width, width, stride=1), *_convolution(width, 2 * width, stride=2)]
            width *= 2
        self.features = nn.Sequential(*layers)
        self.head = nn.Sequential(nn.Linear(width, width), nn.LeakyReLU(SLOPE), nn.Linear(width, 1))
        self.apply(_initialise)
        if plan.spectral_norm:
            self.apply(_normalise)

    def forward(self, patch: Tensor) -> Tensor:
        """(B, 1, H, W) to (B,) logits; positive means "a true image"."""
        blocks = functional.pixel_unshuffle(patch / FULL_SCALE, self._shuffle)  # (B, S*S, H/S, W/S)
        features = self.features(blocks)  # (B, C, H/32S, W/32S)
        logits: Tensor = self.head(features.mean(dim=(2, 3)))  # (B, 1)
        return logits.squeeze(1)
