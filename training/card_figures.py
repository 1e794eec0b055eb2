"""The figures for the card of a package, measured before there is one.

Owns how many test fields a training looks at by itself. The measurements are `training.evaluation`'s.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import nn

from training.evaluation.evaluate import Evaluation, evaluate_network
from training.evaluation.restorations import Restorations
from training.pairing.pairs import PairSet
from training.settings import TrainingPlan
from training.validation import enhanced_plane

__all__ = ["card_figures"]

FloatImage = np.ndarray[Any, np.dtype[np.float32]]
CARD_FIELDS = 4
"""Seconds each: `sharpscope evaluate` takes them all."""


@dataclass(frozen=True, slots=True)
class _Unpackaged:
    """A generator as an evaluation takes it, before there is a package."""

    name: str
    factor: int
    channel: str
    generator: nn.Module
    step: int
    model_hash: str = ""

    def run_network(self, prepared: FloatImage) -> FloatImage:
        """Return the output (Y, X)."""
        return enhanced_plane(self.generator, prepared, self.step)


def card_figures(
    generator: nn.Module, plan: TrainingPlan, pair_set: PairSet, inherited: frozenset[str]
) -> Evaluation | str:
    """Measure a generator on some of the test split, for the card of its package; or say why not."""
    index = pair_set.index
    unseen = [
        record
        for record in pair_set.select("test", plan.channel)
        if not inherited.intersection(record.sources.values())
    ]
    if not unseen:
        return "its pair set holds no test field that it was not trained on"
    spread = np.unique(np.linspace(0, len(unseen) - 1, min(len(unseen), CARD_FIELDS)).astype(int))
    network = _Unpackaged(plan.name, index.factor, plan.channel, generator, plan.generator.step)
    restorations = Restorations.of(index, plan.channel)
    return evaluate_network(network, pair_set, [unseen[k] for k in spread], restorations)
