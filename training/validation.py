"""How good a generator is on pairs that it does not learn from.

Owns the crops of the validation split, and the loss by which models are selected: the fidelity terms with the
plan's own numbers, without the adversarial term, since the discriminator moves, and whatever the shares do
to the weights. Knows no training.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from inference.generator import image_of
from training.losses import Weights, generator_terms
from training.networks import Networks
from training.patches import FloatImage, Planes
from training.settings import TrainingPlan

__all__ = ["Validation", "enhanced_plane"]

CROP_PX = 512
MOST_CROPS = 16
"""Spread over the split; more would not change the choice, only take its time."""


class Validation:
    """The validation split of one channel.

    Parameters
    ----------
    planes
        Of the split.
    """

    def __init__(self, planes: Sequence[Planes], plan: TrainingPlan, device: torch.device) -> None:
        self._plan, self._device = plan, device
        spread = np.unique(np.linspace(0, len(planes) - 1, min(len(planes), MOST_CROPS)).round().astype(int))
        self._crops = [_middle(planes[k], plan.generator.step) for k in spread]

    @property
    def fixed(self) -> tuple[FloatImage, FloatImage]:
        """Low and high of the crop with most specimen, (Y, X) each, to watch over the whole run."""
        low, high = max(self._crops, key=lambda crop: float(crop[0].std()))
        return low[0, 0].numpy(), high[0, 0].numpy()

    @torch.no_grad()
    def loss(self, networks: Networks) -> float:
        """Return the mean fidelity loss of the kept generator over the crops."""
        weights = Weights.of(self._plan.loss)
        losses = []
        for low, high in self._crops:
            generated = self._generated(networks, low)
            terms = generator_terms(generated, high.to(self._device), None, self._plan.loss)
            losses.append(float(terms.fidelity(weights)))
        return float(np.mean(losses))

    @torch.no_grad()
    def output(self, networks: Networks) -> FloatImage:
        """Return what the kept generator makes of the fixed crop, (Y, X)."""
        low = torch.from_numpy(self.fixed[0])[None, None]
        return np.asarray(image_of(self._generated(networks, low))[0, 0].cpu().numpy())

    def _generated(self, networks: Networks, low: Tensor) -> Tensor:
        generator = networks.kept.eval()
        with networks.narrow():
            generated: Tensor = generator(low.to(self._device))
        generator.train()
        return generated.float()


def _middle(pair: Planes, step: int) -> tuple[Tensor, Tensor]:
    """Cut the middle of a pair, (1, 1, H, W), sides multiples of the step."""
    height, width = (min(side, CROP_PX) // step * step for side in pair.low.shape)
    y, x = (pair.low.shape[0] - height) // 2, (pair.low.shape[1] - width) // 2
    window = (slice(y, y + height), slice(x, x + width))
    low, high = (torch.from_numpy(np.array(plane[window])) for plane in (pair.low, pair.high))
    return low[None, None], high[None, None]


@torch.no_grad()
def enhanced_plane(generator: nn.Module, low: FloatImage, step: int) -> FloatImage:
    """Return what a generator makes of a low plane, both (Y, X) on the 0 to 255 scale; any size.

    The plane is mirrored at its lower and right border to a multiple of the generator's step.
    """
    padding = [(0, -size % step) for size in low.shape]
    padded = torch.from_numpy(np.pad(low, padding, mode="symmetric"))[None, None]
    plane = image_of(generator(padded))[0, 0].numpy()
    return np.ascontiguousarray(plane[: low.shape[0], : low.shape[1]])
