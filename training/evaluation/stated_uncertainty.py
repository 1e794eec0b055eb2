"""Of a model that states its uncertainty: whether the errors it makes are those it states.

Serving runs the image alone; the standard deviations are in the package's safetensors weights. Owns how they
are had; `uncertainty` compares them with the errors.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from safetensors.torch import load

from inference.generator import GeneratorPlan, build_generator, image_of, log_variance_of
from inference.model_package import ModelPackage
from inference.preprocess import FULL_SCALE
from training.evaluation.uncertainty import Calibration, calibration
from training.pairing.pairs import PairRecord, PairSet

__all__ = ["MOST_FIELDS", "stated_calibration"]

FloatImage = np.ndarray[Any, np.dtype[np.float32]]
MOST_FIELDS = 8
"""A million pixels each are enough for fifteen bins."""


@torch.inference_mode()
def stated_calibration(
    package: ModelPackage, pairs: PairSet, records: Sequence[PairRecord]
) -> Calibration | None:
    """Return how nearly stated and made errors agree over some fields; None of a model that states none.

    The errors are those against the acquired high images, which the model learned from: their noise is part
    of what it states.

    Raises
    ------
    NotMeasurableError
        The fields are too small, or hold NaN.
    """
    plan = GeneratorPlan.model_validate(package.card.generator)
    if not plan.uncertainty:
        return None
    generator = build_generator(plan)
    generator.load_state_dict(load(package.safetensors))
    generator.eval()
    found: list[tuple[FloatImage, FloatImage, FloatImage]] = []
    for record in records[:MOST_FIELDS]:
        low, acquired = pairs.read(record)
        sides = [side // plan.step * plan.step for side in low.shape]
        window = (slice(0, sides[0]), slice(0, sides[1]))
        output = generator(torch.from_numpy(np.array(low[window]))[None, None])  # (1, 2, H, W)
        log_variance = log_variance_of(output)
        assert log_variance is not None, "the plan says that there is one"
        std = FULL_SCALE * torch.exp(log_variance / 2)
        found.append((image_of(output).numpy().ravel(), std.numpy().ravel(), acquired[window].ravel()))
    image, std_all, truth = (np.concatenate(parts) for parts in zip(*found, strict=True))
    return calibration(image, std_all, truth)
