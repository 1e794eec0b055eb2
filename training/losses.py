"""The losses of Wang et al. 2019 and what came after them, as pure functions of tensors.

Images are (B, 1, H, W) on the 0 to 255 scale, logits (B,). The terms come unweighted; what they weigh is said
by `Weights`, the plan's own or the ones that hold a share of the whole. Sources: Methods, "Loss"; SSIM as in
Wang, Bovik et al. 2004, with a Gaussian window of sigma 1.5 px over 11 px (the paper leaves the window open);
hinge: Lim & Ye 2017; relativistic average: Jolicoeur-Martineau, ICLR 2019; R1: Mescheder et al., ICML 2018.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from inference.generator import START_LOG_VARIANCE, image_of, log_variance_of
from inference.preprocess import FULL_SCALE
from training.settings import LossPlan

__all__ = [
    "GeneratorTerms",
    "Weights",
    "discriminator_loss",
    "fourier_distance",
    "generator_terms",
    "r1_penalty",
    "ssim",
    "uncertain_error",
    "weights_for_shares",
]

Gan = Literal["paper", "hinge", "relativistic"]

WINDOW_SIGMA_PX = 1.5
WINDOW_RADIUS_PX = 5
K1, K2 = 0.01, 0.03
LEAST_LOG_VARIANCE = -14.0
"""An uncertain generator cannot claim to be surer than this: an error of 0.23 on the 0 to 255 scale."""
LEAST_TERM = 1e-6
"""A share's weight grows no further once its term is below this: an MSE of 0.26 on the 0 to 255 scale."""
LEAST_TOTAL = 0.02
"""Nor does it fall with a whole loss below this: the adversarial term may pass through zero."""


@dataclass(frozen=True, slots=True)
class Weights:
    """What the terms of the generator's loss weigh beside the adversarial one, which weighs 1."""

    mse: float
    ssim: float
    fourier: float

    @classmethod
    def of(cls, plan: LossPlan) -> "Weights":
        """Return the plan's own numbers, whatever its shares."""
        return cls(plan.mse_weight, plan.ssim_weight, plan.fourier_weight)


@dataclass(frozen=True, slots=True)
class GeneratorTerms:
    """The terms of the generator's loss, unweighted, each a scalar tensor; zero where the plan has none."""

    adversarial: Tensor
    mse: Tensor
    """On images divided by 255; of an uncertain generator `uncertain_error` stands here."""
    ssim: Tensor
    """`-log[(1 + SSIM) / 2]`, the mean over the images: so parts of a batch add up to the whole."""
    fourier: Tensor

    def raw(self) -> dict[str, Tensor]:
        """Return the unweighted terms by name."""
        return {"adversarial": self.adversarial, "mse": self.mse, "ssim": self.ssim, "fourier": self.fourier}

    def weighted(self, weights: Weights) -> dict[str, Tensor]:
        """Return by name what each term adds to the loss."""
        return {
            "adversarial": self.adversarial,
            "mse": weights.mse * self.mse,
            "ssim": weights.ssim * self.ssim,
            "fourier": weights.fourier * self.fourier,
        }

    def total(self, weights: Weights) -> Tensor:
        """Return the whole loss."""
        return self.adversarial + self.fidelity(weights)

    def fidelity(self, weights: Weights) -> Tensor:
        """Return the part that does not move with the discriminator; models are selected by it."""
        return weights.mse * self.mse + weights.ssim * self.ssim + weights.fourier * self.fourier


def generator_terms(
    generated: Tensor,
    truth: Tensor,
    logits: Tensor | None,
    plan: LossPlan,
    logits_true: Tensor | None = None,
) -> GeneratorTerms:
    """Return the terms of the generator's loss.

    Parameters
    ----------
    generated
        The generator's output, (B, 1, H, W), or (B, 2, H, W) with the log-variance of an uncertain one.
    logits
        The discriminator's on the generated images; None leaves the adversarial term out.
    logits_true
        The same on the true ones, needed by the relativistic loss alone. The generator has no part in them,
        so they need no gradient.
    """
    image, log_variance = image_of(generated), log_variance_of(generated)
    zero = image.new_zeros(())
    if log_variance is None:
        mse = functional.mse_loss(image, truth) / FULL_SCALE**2
    else:
        mse = uncertain_error(image, truth, log_variance)
    wants_ssim = plan.ssim_weight > 0 or plan.ssim_share is not None
    return GeneratorTerms(
        adversarial=zero if logits is None else _adversarial(logits, logits_true, plan.gan),
        mse=mse,
        ssim=-torch.log((1 + ssim(image, truth)) / 2).mean() if wants_ssim else zero,
        fourier=fourier_distance(image, truth) if plan.fourier_weight > 0 else zero,
    )


def _adversarial(logits: Tensor, logits_true: Tensor | None, gan: Gan) -> Tensor:
    """Return the generator's adversarial term.

    `-log D(G(x))`; `-D(G(x))` against a hinge; the relativistic one is the discriminator's with both sides
    exchanged (Jolicoeur-Martineau, eq. 10 and 11).
    """
    if gan == "paper":
        return functional.softplus(-logits).mean()  # -log sigmoid
    if gan == "hinge":
        return -logits.mean()
    if logits_true is None:
        msg = "the relativistic loss compares: give generator_terms the logits of the true patches as well"
        raise ValueError(msg)
    return discriminator_loss(logits, logits_true, gan)


def discriminator_loss(logits_true: Tensor, logits_generated: Tensor, gan: Gan = "paper") -> Tensor:
    """Return the discriminator's loss, averaged over the batch.

    With D the logits and s their sigmoid: `-log s(D(y)) - log[1 - s(D(G(x)))]` (paper), the same of
    `D(y) - mean D(G(x))` and `D(G(x)) - mean D(y)` (relativistic), or
    `max(0, 1 - D(y)) + max(0, 1 + D(G(x)))` (hinge).
    """
    if gan == "hinge":
        return functional.relu(1 - logits_true).mean() + functional.relu(1 + logits_generated).mean()
    if gan == "relativistic":
        mean_true, mean_generated = logits_true.mean(), logits_generated.mean()
        logits_true, logits_generated = logits_true - mean_generated, logits_generated - mean_true
    return functional.softplus(-logits_true).mean() + functional.softplus(logits_generated).mean()


def r1_penalty(discriminator: nn.Module, true: Tensor) -> Tensor:
    """Return half the mean squared gradient of the logits at true patches (B, 1, H, W), a scalar.

    The gradient is taken for images divided by 255, as the MSE is, so that weights from the literature hold.
    It is differentiated once more by `backward`: give the network itself, not a compiled one, and outside
    of bfloat16.
    """
    patches = true.detach().requires_grad_()
    (gradient,) = torch.autograd.grad(discriminator(patches).float().sum(), patches, create_graph=True)
    return 0.5 * (FULL_SCALE * gradient).square().sum(dim=(1, 2, 3)).mean()


def uncertain_error(image: Tensor, truth: Tensor, log_variance: Tensor) -> Tensor:
    """Return the negative log-likelihood of the truth under a Gaussian a pixel, brought to the MSE's size.

    With e the error divided by 255 and v the predicted variance, `v0 (e^2 / v + log v - log v_least)`: twice
    the negative log-likelihood, times `v0`, the variance that an untrained generator predicts, so that
    `mse_weight` means at the start what it means to a certain generator; counted from its least possible
    value, so that it is never negative and can have a share. The floor is soft: the gradient goes on below.
    """
    above = functional.softplus(log_variance - LEAST_LOG_VARIANCE)  # log v - log v_least
    squared = ((image - truth) / FULL_SCALE).square()
    start = torch.full((), START_LOG_VARIANCE, device=image.device, dtype=image.dtype)
    # e^2 v0 / v in one exponential: v0 and 1 / v by themselves span ten decades
    return (squared * torch.exp(start - LEAST_LOG_VARIANCE - above) + start.exp() * above).mean()


def fourier_distance(a: Tensor, b: Tensor) -> Tensor:
    """Return the mean absolute difference of the complex spectra of two batches (B, 1, H, W), a scalar.

    By Parseval the MSE is the mean *square* of this difference, and there the few strong low frequencies are
    all that counts; the mean absolute one lets the many weak high frequencies count, where the resolution is.
    Phase counts, so structure in the wrong place is no gain. A Hann window keeps the patch's edges, which
    are no structure, out of the spectrum.

    The scale is that of a root mean square error on images divided by 255: white noise of standard deviation
    s gives sqrt(pi) / 2 s, an error at one pixel its own, and smooth errors give much less.
    """
    height, width = a.shape[-2:]
    difference = (a - b).float() / FULL_SCALE * _hann(height, width, a.device)
    spectrum: Tensor = torch.fft.rfft2(difference, norm="ortho")  # (B, 1, H, W / 2 + 1)
    return spectrum.abs().mean()


def weights_for_shares(plan: LossPlan, means: Mapping[str, float]) -> Weights:
    """Return the weights with which MSE and SSIM take their shares of the generator's whole loss.

    Let A be the size of the adversarial term, m and s the raw terms, F what the terms without a share add
    with the plan's own weights. The whole is `T = A + F + w_m m + w_s s`. Shares `w_m m = a T` and
    `w_s s = b T` give `T = (A + F) / (1 - a - b)`, `w_m = a T / m`, `w_s = b T / s`. A hinge's term may be
    negative; its size is what is followed.

    Parameters
    ----------
    plan
        A term without a share keeps its weight; so do all where there is no adversarial term to follow.
    means
        Running means of `GeneratorTerms.raw`, by name; before there are any, the plan's weights hold.
    """
    own = Weights.of(plan)
    shares = {"mse": plan.mse_share, "ssim": plan.ssim_share}
    if not plan.adversarial or "adversarial" not in means:
        return own
    followed = {name: share for name, share in shares.items() if share is not None}
    fixed = plan.fourier_weight * means["fourier"]
    fixed += sum(getattr(own, name) * means[name] for name in shares if name not in followed)
    total = max(abs(means["adversarial"]) + fixed, LEAST_TOTAL) / (1 - sum(followed.values()))
    steered = {name: share * total / max(means[name], LEAST_TERM) for name, share in followed.items()}
    return replace(own, **steered)


def ssim(a: Tensor, b: Tensor) -> Tensor:
    """Return the structural similarity of each image of two batches (B, 1, H, W), (B,) in [-1, 1]."""
    window = _window(a.device, a.dtype)
    means = _smooth(torch.cat([a, b, a * a, b * b, a * b]), window)  # (5B, 1, H - 10, W - 10)
    mean_a, mean_b, mean_aa, mean_bb, mean_ab = means.chunk(5)
    variance_a, variance_b = mean_aa - mean_a**2, mean_bb - mean_b**2
    covariance = mean_ab - mean_a * mean_b
    c1, c2 = (K1 * FULL_SCALE) ** 2, (K2 * FULL_SCALE) ** 2
    luminance = (2 * mean_a * mean_b + c1) / (mean_a**2 + mean_b**2 + c1)
    structure = (2 * covariance + c2) / (variance_a + variance_b + c2)
    return (luminance * structure).mean(dim=(1, 2, 3))


@cache
def _hann(height: int, width: int, device: torch.device) -> Tensor:
    """Return a Hann window (H, W) of mean square 1."""
    sides = [torch.hann_window(length, device=device, dtype=torch.float32) for length in (height, width)]
    window = torch.outer(*sides)
    return window / window.square().mean().sqrt()


@cache
def _window(device: torch.device, dtype: torch.dtype) -> Tensor:
    offset = torch.arange(-WINDOW_RADIUS_PX, WINDOW_RADIUS_PX + 1, device=device, dtype=torch.float32)
    weights = torch.exp(-0.5 * (offset / WINDOW_SIGMA_PX) ** 2)
    return (weights / weights.sum()).to(dtype)


def _smooth(image: Tensor, window: Tensor) -> Tensor:
    """Separable Gaussian mean, valid part only, (B, 1, H, W) to (B, 1, H - 10, W - 10)."""
    rows = functional.conv2d(image, window.view(1, 1, -1, 1))
    return functional.conv2d(rows, window.view(1, 1, 1, -1))
