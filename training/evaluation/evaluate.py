"""Scores a model on a pair set's test split, beside bicubic interpolation and the best Lucy-Richardson.

Owns the choice of truth (the noise-free image where the pair set has one, else the acquired one; the
result says which) and the table. Draws nothing and writes nothing: `training.evaluation.report` does.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch.nn import functional

from configs.document import WrongInputError
from inference.engine import Engine
from inference.preprocess import undo_doubling
from training.evaluation.deconvolution import best_richardson_lucy, effective_psf
from training.evaluation.metrics import Score, fit_to_truth, score
from training.pairing.pairs import PairRecord, PairSet

__all__ = ["METHODS", "Evaluation", "FieldEvaluation", "Method", "evaluate"]

FloatImage = np.ndarray[Any, np.dtype[np.float32]]
Method = Literal["bilinear", "bicubic", "richardson_lucy", "enhanced"]
METHODS: tuple[Method, ...] = ("bilinear", "bicubic", "richardson_lucy", "enhanced")


@dataclass(frozen=True, slots=True)
class FieldEvaluation:
    """One test field: its scores, and its images on the network's scale for the pictures."""

    record: PairRecord
    scores: dict[Method, Score]
    images: dict[Method, FloatImage]
    """Each (Y, X) on the high pixel grid."""
    truth: FloatImage
    acquired: FloatImage
    """The acquired high image, registered; equal to the truth where nobody knows a better one."""
    richardson_lucy_iterations: int


@dataclass(frozen=True, slots=True)
class Evaluation:
    """All test fields of one channel."""

    channel: str
    model_hash: str
    truth: Literal["noise-free", "acquired"]
    fields: list[FieldEvaluation]
    pixel_size_um: float | None

    def mean(self, method: Method, figure: Literal["psnr_db", "ssim", "slope", "offset"]) -> float:
        """Return a figure's mean over the fields."""
        return float(np.mean([getattr(field.scores[method], figure) for field in self.fields]))


def evaluate(
    engine: Engine, pair_set: PairSet, *, progress: Callable[[int, int], None] | None = None
) -> Evaluation:
    """Score a model on every test pair of its channel.

    Raises
    ------
    WrongInputError
        When there is no test pair of the model's channel, or the model has another scale factor.
    """
    index = pair_set.index
    if engine.factor != index.factor:
        msg = f"the model enlarges {engine.factor} times, the pairs of {pair_set.path} {index.factor} times"
        raise WrongInputError(msg)
    records = pair_set.select("test", engine.channel)
    if not records:
        msg = f"{pair_set.path} has no test pair of channel '{engine.channel}'; pair more regions"
        raise WrongInputError(msg)
    fields: list[FieldEvaluation] = []
    for done, record in enumerate(records, start=1):
        fields.append(_evaluate_field(engine, pair_set, record))
        if progress:
            progress(done, len(records))
    known = all(record.truth is not None for record in records)
    return Evaluation(
        channel=engine.channel,
        model_hash=engine.model_hash,
        truth="noise-free" if known else "acquired",
        fields=fields,
        pixel_size_um=index.optics.high_pixel_size_um,
    )


def _evaluate_field(engine: Engine, pair_set: PairSet, record: PairRecord) -> FieldEvaluation:
    low, acquired = pair_set.read(record)
    truth = _truth(pair_set, record, acquired)
    deconvolved, iterations = _richardson_lucy(pair_set, record.channel, low, truth)
    images: dict[Method, FloatImage] = {
        "bilinear": low,
        "bicubic": _bicubic(low, pair_set.index.factor),
        "richardson_lucy": deconvolved,
        "enhanced": engine.run_network(low),
    }
    return FieldEvaluation(
        record=record,
        scores={method: score(image, truth) for method, image in images.items()},
        images=images,
        truth=truth,
        acquired=acquired,
        richardson_lucy_iterations=iterations,
    )


def _truth(pair_set: PairSet, record: PairRecord, acquired: FloatImage) -> FloatImage:
    """Return the best known truth on the network's scale."""
    counts = pair_set.read_truth(record)
    if counts is None:
        return acquired
    return counts * np.float32(pair_set.index.normalisation[record.channel].high.scale)


def _bicubic(low: FloatImage, factor: int) -> FloatImage:
    """Return the low camera image enlarged by bicubic interpolation instead of bilinear."""
    if factor != 2:
        return low
    coarse = torch.from_numpy(undo_doubling(low))[None, None]  # (1, 1, Y / 2, X / 2)
    fine = functional.interpolate(coarse, scale_factor=2, mode="bicubic", align_corners=False)
    result: FloatImage = fine[0, 0].numpy()
    return result


def _richardson_lucy(
    pair_set: PairSet, channel: str, low: FloatImage, truth: FloatImage
) -> tuple[FloatImage, int]:
    """Return the best Lucy-Richardson estimate; without known optics it is the input itself."""
    optics = pair_set.index.optics
    emission_nm = optics.emission_nm.get(channel)
    if optics.low_numerical_aperture is None or optics.high_pixel_size_um is None or emission_nm is None:
        return fit_to_truth(low, truth).astype(np.float32), 0
    psf = effective_psf(
        optics.low_numerical_aperture, emission_nm, optics.high_pixel_size_um, pair_set.index.factor
    )
    best = best_richardson_lucy(low, truth, psf)
    return best.image, best.iterations
