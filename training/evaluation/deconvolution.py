"""Deconvolution of an image with a known point spread function: the baselines that a model has to beat.

Owns Richardson-Lucy (plain, damped, with total variation) and non-negative least squares; the searches for
the best setting are `training.evaluation.deconvolution_search`'s. Images go in and come out as numpy float32,
(Y, X) or (B, Y, X), in their own units; the work is done by torch on any device. Does not know where the PSF
comes from (`training.evaluation.point_spread`).

Sources: Richardson 1972, J Opt Soc Am 62:55; Lucy 1974, Astron J 79:745; White 1994, Proc SPIE 2198:1342; Dey
et al. 2006, Microsc Res Tech 69:260; Wang et al. 2019, Methods, "Image deconvolution".
"""

from collections.abc import Iterator
from itertools import islice
from typing import Any

import numpy as np
import torch
from torch import Tensor

from training.evaluation.point_spread import Blur, Observation

__all__ = [
    "check_iterations",
    "check_range",
    "nonnegative_least_squares",
    "richardson_lucy",
    "richardson_lucy_estimates",
    "richardson_lucy_tv",
]

FloatImage = np.ndarray[Any, np.dtype[np.float32]]
Device = str | torch.device
DARK = 1e-6
"""Share of the brightest pixel below which a prediction is taken for dark: float32 Fourier noise."""
DAMPING_STEEPNESS = 10
"""N of White 1994; MATLAB's `deconvlucy` has the same."""


def richardson_lucy(
    image: FloatImage,
    psf: FloatImage,
    iterations: int = 10,
    *,
    damping_percent: float = 0.0,
    device: Device = "cpu",
) -> FloatImage:
    """Return the Richardson-Lucy estimate after a number of iterations, begun from a flat image.

    Without damping it keeps the total intensity (of the extended image) at every iteration. It is the plain
    iteration: MATLAB's `deconvlucy` accelerates its own, so that ten of its iterations do more than ten of
    these.

    Parameters
    ----------
    image
        (Y, X) or (B, Y, X); what is negative is taken for zero. Extended by reflection while it is worked on,
        against ringing at the border.
    psf
        (y, x) with odd sides, centred, none negative, sum 1.
    damping_percent
        White's threshold T in percent: a pixel's correction is suppressed where the observation deviates from
        the prediction by less than T standard deviations of Poisson noise. MATLAB's DAMPAR is the same T for
        an image in photons. The paper does not say of what its percent are. Here they are of the image's
        maximum, as on an image scaled from 0 to 1: at the maximum 1 % suppresses deviations below 1 % of the
        maximum, and where the prediction is a fraction b of the maximum, below sqrt(b) times that.

    Returns
    -------
    FloatImage
        Of the image's shape and units, never negative.

    Raises
    ------
    NotMeasurableError
        When an image holds NaN or infinity, one value alone, or nothing above zero.
    ValueError
        When the PSF has an even side, a negative pixel or another sum than 1, or a number is out of range.
    """
    check_iterations(iterations)
    check_range("damping_percent", damping_percent, 0, np.inf)
    observation = Observation(image, psf, device)
    estimates = richardson_lucy_estimates(
        observation.extended, observation.blur, damping=damping_percent / 100
    )
    return observation.result(_nth(estimates, iterations))


def richardson_lucy_tv(
    image: FloatImage,
    psf: FloatImage,
    iterations: int = 10,
    *,
    regularisation: float = 0.002,
    device: Device = "cpu",
) -> FloatImage:
    """Return the Richardson-Lucy estimate that is held smooth by its total variation.

    Every iteration divides by 1 - regularisation * div(grad x / |grad x|) (Dey et al. 2006). The other
    parameters, the result and what is raised are those of `richardson_lucy`.

    Parameters
    ----------
    regularisation
        Dey's lambda, in pixels: 0 for none, less than 0.25, where the divisor could reach zero.
    """
    check_iterations(iterations)
    check_range("regularisation", regularisation, 0, 0.25)
    observation = Observation(image, psf, device)
    estimates = richardson_lucy_estimates(
        observation.extended, observation.blur, regularisation=regularisation
    )
    return observation.result(_nth(estimates, iterations))


def nonnegative_least_squares(
    image: FloatImage,
    psf: FloatImage,
    iterations: int = 100,
    *,
    step: float = 0.5,
    device: Device = "cpu",
) -> FloatImage:
    """Return the projected Landweber estimate: x <- max(0, x + step * H^T (y - H x)), begun from the image.

    A PSF of sum 1 has ||H|| <= 1, so that ||H x - y|| never rises for steps below 2. 100 iterations of 0.5
    are the paper's. The other parameters, the result and what is raised are those of `richardson_lucy`.

    Parameters
    ----------
    step
        Above 0, below 2.
    """
    check_iterations(iterations)
    check_range("step", step, np.nextafter(0, 1), 2)
    observation = Observation(image, psf, device)
    transfer = observation.blur.transfer
    kept = 1 - step * (transfer.real**2 + transfer.imag**2)  # of the estimate: 1 - step * H^T H
    gained = step * observation.blur.adjoint(observation.extended)
    estimate = observation.extended
    for _ in range(iterations):
        estimate = observation.blur.filtered(estimate, kept).add_(gained).clamp_(min=0)
    return observation.result(estimate)


def check_iterations(iterations: int) -> None:
    """Raise ValueError for less than one iteration."""
    if iterations < 1:
        msg = f"iterations is {iterations}; at least 1 is needed"
        raise ValueError(msg)


def check_range(name: str, number: float, least: float, below: float) -> None:
    """Raise ValueError, which names the parameter, for a number out of its range."""
    if not least <= number < below:
        msg = f"{name} is {number:g}; expected {least:g} or more and less than {below:g}"
        raise ValueError(msg)


def _nth(estimates: Iterator[Tensor], count: int) -> Tensor:
    return next(islice(estimates, count - 1, None))


def richardson_lucy_estimates(
    observed: Tensor, blur: Blur, damping: float = 0.0, regularisation: float = 0.0
) -> Iterator[Tensor]:
    """Yield estimates (B, H, W) without end."""
    brightest = observed.amax((-2, -1), keepdim=True)  # (B, 1, 1)
    dark = DARK * brightest
    estimate = observed.mean((-2, -1), keepdim=True).expand_as(observed)
    while True:
        predicted = torch.maximum(blur.apply(estimate), dark)
        ratio = observed / predicted
        if damping:
            ratio = _damped(ratio, observed, predicted, damping**2 * brightest)
        correction = blur.adjoint(ratio).clamp_(min=0)
        if regularisation:
            correction /= 1 - regularisation * _curvature(estimate, dark)
        estimate = correction.mul_(estimate)
        yield estimate


def _damped(ratio: Tensor, observed: Tensor, predicted: Tensor, threshold_squared: Tensor) -> Tensor:
    """Return the ratio, drawn towards 1 where the prediction is as good as noise allows (White 1994)."""
    deviance = 2 * (torch.xlogy(observed, ratio) - observed + predicted)  # about (y - Hx)^2 / Hx
    share = (deviance / threshold_squared).clamp_(0, 1)
    n = DAMPING_STEEPNESS
    trust = share ** (n - 1) * (n - (n - 1) * share)
    return 1 + trust * (ratio - 1)


def _curvature(estimate: Tensor, flat: Tensor) -> Tensor:
    """Return div(grad x / |grad x|) of (B, H, W), periodic; forward differences, and backward for div."""
    down = torch.roll(estimate, -1, -2) - estimate
    right = torch.roll(estimate, -1, -1) - estimate
    length = torch.sqrt(down * down + right * right + flat * flat)
    down /= length
    right /= length
    return down - torch.roll(down, 1, -2) + right - torch.roll(right, 1, -1)
