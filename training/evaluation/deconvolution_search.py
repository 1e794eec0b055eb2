"""Which setting of Richardson-Lucy scores highest: the searches that give the baseline its best chance.

Owns the exhaustive search of the paper (one setting for a channel) and the best iteration for one image
(METHOD, last section), judged by the PSNR of `training.evaluation.metrics`. The iteration itself is
`training.evaluation.deconvolution`'s.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
import torch
from torch import Tensor

from training.evaluation.deconvolution import check_iterations, check_range, richardson_lucy_estimates
from training.evaluation.metrics import BORDER_PX, FULL_PERCENTILE
from training.evaluation.not_measurable import NotMeasurableError, check_image, check_pair, check_side
from training.evaluation.point_spread import Observation

__all__ = [
    "DAMPING_PERCENTS",
    "BestDeconvolution",
    "FastPsnr",
    "RichardsonLucySetting",
    "best_richardson_lucy",
    "search_richardson_lucy",
]

FloatImage = np.ndarray[Any, np.dtype[np.float32]]
Device = str | torch.device
DAMPING_PERCENTS = (0.0, 0.1, 0.3, 1.0, 3.0, 10.0)
"""The grid of the exhaustive search; the paper says 0 to 10 % and not the steps."""
MOST_ITERATIONS = 100
PATIENCE = 5
"""Iterations without a better score, after which the best is behind: the PSNR rises, then falls for good, as
the estimate takes up noise (semi-convergence)."""


class FastPsnr:
    """`metrics.psnr_db` against one truth, on the device, for estimates by the hundred.

    Parameters
    ----------
    truth
        (Y, X), larger than 32 px.

    Raises
    ------
    NotMeasurableError
        When the truth is too small, holds no number or nothing bright.
    """

    def __init__(self, truth: FloatImage, device: Device) -> None:
        check_side(truth, 2 * BORDER_PX + 1, "the truth")
        check_image(truth, "the truth")
        self._full = float(np.percentile(truth, FULL_PERCENTILE))
        if self._full <= 0:
            raise NotMeasurableError("the truth holds nothing bright; it cannot be scored against")
        self._centred = _centred(torch.from_numpy(np.array(truth, np.float32)).to(device))

    def __call__(self, estimate: Tensor) -> Tensor:
        """Return the PSNR after the linear fit, dB, of an estimate (Y, X): a tensor of no dimension."""
        centred = _centred(estimate)
        power = (centred * centred).sum()
        slope = (centred * self._centred).sum() / power.clamp(min=torch.finfo(torch.float32).tiny)
        residual = centred.mul_(slope).sub_(self._centred)
        return -10 * torch.log10((residual * residual).mean() / self._full**2)


def _centred(image: Tensor) -> Tensor:
    inside = image[BORDER_PX:-BORDER_PX, BORDER_PX:-BORDER_PX]
    return inside - inside.mean()


@dataclass(frozen=True, slots=True)
class BestDeconvolution:
    """The estimate that scores highest, which favours the baseline: in use, nobody has the truth."""

    image: FloatImage
    iterations: int


def best_richardson_lucy(
    image: FloatImage,
    truth: FloatImage,
    psf: FloatImage,
    most_iterations: int = MOST_ITERATIONS,
    *,
    device: Device = "cpu",
) -> BestDeconvolution:
    """Return the estimate, of 1 to `most_iterations` iterations, with the highest PSNR against the truth.

    It stops where five iterations in a row brought no better score.

    Parameters
    ----------
    image, truth
        (Y, X) each, larger than 32 px.

    Raises
    ------
    NotMeasurableError, ValueError
        As `richardson_lucy` and `FastPsnr`, and when image and truth differ in shape.
    """
    check_iterations(most_iterations)
    check_pair(image, truth)
    psnr_db, observation = FastPsnr(truth, device), Observation(image, psf, device)
    best, best_db, best_iterations = observation.extended, -np.inf, 0
    for iteration, estimate in enumerate(
        islice(richardson_lucy_estimates(observation.extended, observation.blur), most_iterations), start=1
    ):
        estimate_db = float(psnr_db(observation.blur.crop(estimate)[0]))
        if estimate_db > best_db:
            best, best_db, best_iterations = estimate, estimate_db, iteration
        if iteration >= best_iterations + PATIENCE:
            break
    return BestDeconvolution(observation.result(best), best_iterations)


@dataclass(frozen=True, slots=True)
class RichardsonLucySetting:
    """The setting of damped Richardson-Lucy that scores highest over the images of a channel."""

    iterations: int
    damping_percent: float
    """As `richardson_lucy` takes it."""
    mean_psnr_db: float


def search_richardson_lucy(
    pairs: Iterable[tuple[FloatImage, FloatImage]],
    psf: FloatImage,
    most_iterations: int = MOST_ITERATIONS,
    damping_percents: Sequence[float] = DAMPING_PERCENTS,
    *,
    device: Device = "cpu",
) -> RichardsonLucySetting:
    """Return the setting with the highest mean PSNR, of 1 to `most_iterations` iterations at each damping.

    The paper's exhaustive search (1 to 100 iterations, damping 0 to 10 %), run once for a channel and judged
    by figure where the paper judged by eye. It needs the truth, so that it too favours the baseline.

    Parameters
    ----------
    pairs
        Images and their truths, (Y, X) each, larger than 32 px; read one at a time.

    Raises
    ------
    NotMeasurableError, ValueError
        As `best_richardson_lucy`, and when there is no pair or no damping to try.
    """
    check_iterations(most_iterations)
    for percent in damping_percents:
        check_range("damping_percents", percent, 0, np.inf)
    tables = [
        _psnr_table(image, truth, psf, most_iterations, damping_percents, device) for image, truth in pairs
    ]
    if not tables or not damping_percents:
        msg = f"{len(tables)} image(s) and {len(damping_percents)} damping(s) to search; at least 1 is needed"
        raise ValueError(msg)
    mean_db = np.mean(tables, axis=0)  # (damping, iteration)
    row, column = divmod(int(mean_db.argmax()), most_iterations)
    return RichardsonLucySetting(column + 1, damping_percents[row], float(mean_db[row, column]))


def _psnr_table(
    image: FloatImage,
    truth: FloatImage,
    psf: FloatImage,
    most_iterations: int,
    damping_percents: Sequence[float],
    device: Device,
) -> FloatImage:
    """Return the PSNR in dB, (damping, iteration)."""
    check_pair(image, truth)
    psnr_db, observation = FastPsnr(truth, device), Observation(image, psf, device)
    rows = []
    for percent in damping_percents:
        estimates = richardson_lucy_estimates(observation.extended, observation.blur, damping=percent / 100)
        row = [psnr_db(observation.blur.crop(estimate)[0]) for estimate in islice(estimates, most_iterations)]
        rows.append(torch.stack(row))
    table: FloatImage = torch.stack(rows).cpu().numpy()
    return table
