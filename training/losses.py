"""The losses of Wang et al. 2019, as pure functions of tensors.

Images are (B, 1, H, W) on the 0 to 255 scale, logits (B,). Sources: Methods, "Loss"; SSIM as in Wang,
Bovik et al. 2004, with a Gaussian window of sigma 1.5 px over 11 px (the paper leaves the window open).
"""

from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor
from torch.nn import functional

from inference.preprocess import FULL_SCALE
from training.settings import LossPlan

__all__ = ["GeneratorTerms", "discriminator_loss", "generator_terms", "ssim"]

WINDOW_SIGMA_PX = 1.5
WINDOW_RADIUS_PX = 5
K1, K2 = 0.01, 0.03


@dataclass(frozen=True, slots=True)
class GeneratorTerms:
    """The weighted terms of the generator's loss, each a scalar tensor."""

    adversarial: Tensor
    mse: Tensor
    ssim: Tensor

    @property
    def total(self) -> Tensor:
        """The whole loss."""
        return self.adversarial + self.mse + self.ssim

    @property
    def fidelity(self) -> Tensor:
        """The part that does not move with the discriminator; models are selected by it."""
        return self.mse + self.ssim


def generator_terms(
    generated: Tensor, truth: Tensor, logits: Tensor | None, plan: LossPlan
) -> GeneratorTerms:
    """Return `-log D(G(x))`, `lambda MSE(G(x), y)` and `-nu log[(1 + SSIM(G(x), y)) / 2]`.

    Parameters
    ----------
    logits
        The discriminator's on `generated`; None leaves the adversarial term out.
    """
    zero = generated.new_zeros(())
    adversarial = zero if logits is None else functional.softplus(-logits).mean()  # -log sigmoid
    mse = functional.mse_loss(generated, truth) / FULL_SCALE**2
    similarity = ssim(generated, truth) if plan.ssim_weight else zero
    return GeneratorTerms(
        adversarial=adversarial,
        mse=plan.mse_weight * mse,
        ssim=-plan.ssim_weight * torch.log((1 + similarity) / 2) if plan.ssim_weight else zero,
    )


def discriminator_loss(logits_true: Tensor, logits_generated: Tensor) -> Tensor:
    """Return `-log D(y) - log[1 - D(G(x))]`, averaged over the batch."""
    return functional.softplus(-logits_true).mean() + functional.softplus(logits_generated).mean()


def ssim(a: Tensor, b: Tensor) -> Tensor:
    """Return the mean structural similarity of two batches (B, 1, H, W), a scalar in [-1, 1]."""
    window = _window(a.device, a.dtype)
    means = _smooth(torch.cat([a, b, a * a, b * b, a * b]), window)  # (5B, 1, H - 10, W - 10)
    mean_a, mean_b, mean_aa, mean_bb, mean_ab = means.chunk(5)
    variance_a, variance_b = mean_aa - mean_a**2, mean_bb - mean_b**2
    covariance = mean_ab - mean_a * mean_b
    c1, c2 = (K1 * FULL_SCALE) ** 2, (K2 * FULL_SCALE) ** 2
    luminance = (2 * mean_a * mean_b + c1) / (mean_a**2 + mean_b**2 + c1)
    structure = (2 * covariance + c2) / (variance_a + variance_b + c2)
    return (luminance * structure).mean()


@cache
def _window(device: torch.device, dtype: torch.dtype) -> Tensor:
    offset = torch.arange(-WINDOW_RADIUS_PX, WINDOW_RADIUS_PX + 1, device=device, dtype=torch.float32)
    weights = torch.exp(-0.5 * (offset / WINDOW_SIGMA_PX) ** 2)
    return (weights / weights.sum()).to(dtype)


def _smooth(image: Tensor, window: Tensor) -> Tensor:
    """Separable Gaussian mean, valid part only, (B, 1, H, W) to (B, 1, H - 10, W - 10)."""
    rows = functional.conv2d(image, window.view(1, 1, -1, 1))
    return functional.conv2d(rows, window.view(1, 1, 1, -1))
