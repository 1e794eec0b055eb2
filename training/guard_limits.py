"""Measures what a package tells the frame guard: how training's low frames look, how well they are explained.

Takes frames from the pair set, as serving will see them, and the generator that is packaged. Knows no package
and no guard.
"""

from collections.abc import Iterator
from math import lcm
from typing import Any

import numpy as np
import torch
from torch import nn

from inference.appearance import LEAST_SIDE_PX, appearance, cosines
from inference.artifact_score import ArtifactScore, artifact_score, binned
from inference.domain import bright_level
from inference.model_package import GuardLimits
from inference.preprocess import undo_upsampling
from inference.signal_to_noise import BRIGHT_PERCENTILE
from training.evaluation.artifacts import artifact_map
from training.evaluation.not_measurable import NotMeasurableError
from training.pairing.pairs import PairRecord, PairSet

__all__ = ["guard_limits"]

MOST_FRAMES, MOST_ENHANCED = 256, 16
"""Evenly chosen: to look at a frame takes milliseconds, to enhance one may take seconds."""
LEAST_UNEXPLAINED = 1e-4
"""A share of nothing would forbid everything."""

FloatImage = np.ndarray[Any, np.dtype[np.float32]]


def guard_limits(generator: nn.Module, step: int, pair_set: PairSet, channel: str) -> GuardLimits | None:
    """Return the ranges over the training and validation frames and their quarters.

    Parameters
    ----------
    generator
        (B, 1, H, W) to the same shape, on the CPU.
    step
        That H and W must be multiples of.

    Returns
    -------
    GuardLimits or None
        None where the pairs are too small, or nothing in them can be measured.
    """
    records = [record for split in ("train", "validation") for record in pair_set.select(split, channel)]
    seen = [_numbers(frame) for record in _some(records, MOST_FRAMES) for frame in _parts(pair_set, record)]
    scored = [_Enhanced(generator, step, pair_set, record) for record in _some(records, MOST_ENHANCED)]
    blurs = [blur for one in scored if (blur := one.blur_px()) is not None]
    if not seen or not blurs:
        return None
    blur_px = float(np.median(blurs))
    scores = [score for one in scored for score in one.scores(blur_px) if score.gain > 0]
    if not scores:
        return None
    unexplained = [max(score.unexplained, LEAST_UNEXPLAINED) for score in scores]
    return GuardLimits(
        least_side_px=max(
            LEAST_SIDE_PX, min(side for record in records for side in _quarter_yx(pair_set, record))
        ),
        appearance_min=tuple(float(number) for number in np.min(seen, axis=0)),
        appearance_max=tuple(float(number) for number in np.max(seen, axis=0)),
        blur_px=blur_px,
        unexplained_min=min(unexplained),
        unexplained_max=max(unexplained),
        noise_share_max=max(
            (share for one in scored if (share := one.noise_share()) is not None), default=None
        ),
        gain_min=min(score.gain for score in scores),
        gain_max=max(score.gain for score in scores),
    )


class _Enhanced:
    """A low frame and what the generator makes of it, both on the network's scale."""

    def __init__(self, generator: nn.Module, step: int, pair_set: PairSet, record: PairRecord) -> None:
        self.factor = pair_set.index.factor
        self._ratio = None if record.signal_to_noise is None else record.signal_to_noise.low
        plane = _from_whole_pixel(pair_set.read(record)[0], record, self.factor, lcm(step, self.factor))
        self.frame = undo_upsampling(plane, self.factor)
        with torch.inference_mode():
            self.output: FloatImage = generator(torch.from_numpy(plane)[None, None])[0, 0].numpy()

    def blur_px(self) -> float | None:
        """Return the sigma by which the output explains the frame best, None where none does."""
        try:
            return artifact_map(binned(self.output, self.factor), self.frame).sigma_px
        except NotMeasurableError:
            return None

    def noise_share(self) -> float | None:
        """Return the camera's noise over the frame's standard deviation, None where the set does not say."""
        if not self._ratio:
            return None
        return float(np.percentile(self.frame, BRIGHT_PERCENTILE) / self._ratio / self.frame.std())

    def scores(self, blur_px: float) -> Iterator[ArtifactScore]:
        """Score the whole frame and its quarters."""
        for rows, columns in _windows(self.frame):
            fine = tuple(slice(self.factor * part.start, self.factor * part.stop) for part in (rows, columns))
            score = artifact_score(self.output[fine], cosines(self.frame[rows, columns]), blur_px)
            if score is not None:
                yield score


def _numbers(frame: FloatImage) -> np.ndarray[Any, np.dtype[np.float64]]:
    return appearance(cosines(frame), bright_level(frame, 0.0))


def _parts(pair_set: PairSet, record: PairRecord) -> Iterator[FloatImage]:
    """Yield a low frame, on the camera's pixels and above its background, and its four quarters."""
    factor = pair_set.index.factor
    frame = undo_upsampling(_from_whole_pixel(pair_set.read(record)[0], record, factor, factor), factor)
    if min(_quarter(frame.shape)) >= LEAST_SIDE_PX:
        yield from (frame[window] for window in _windows(frame))


def _windows(frame: FloatImage) -> Iterator[tuple[slice, slice]]:
    """Yield the whole of a frame, and its quarters."""
    height, width = _quarter(frame.shape)
    yield slice(0, frame.shape[0]), slice(0, frame.shape[1])
    for top in (0, height):
        for left in (0, width):
            yield slice(top, top + height), slice(left, left + width)


def _quarter(shape_yx: tuple[int, ...]) -> tuple[int, int]:
    return shape_yx[0] // 2, shape_yx[1] // 2


def _quarter_yx(pair_set: PairSet, record: PairRecord) -> tuple[int, int]:
    factor = pair_set.index.factor
    plane = _from_whole_pixel(pair_set.map(record)[0], record, factor, factor)
    return _quarter((plane.shape[0] // factor, plane.shape[1] // factor))


def _from_whole_pixel(plane: FloatImage, record: PairRecord, factor: int, multiple: int) -> FloatImage:
    """Return the upsampled low plane from where a camera pixel begins, with sides that are multiples."""
    tops = [-origin % factor for origin in record.origin_yx_px]
    sides = [(side - top) // multiple * multiple for side, top in zip(plane.shape, tops, strict=True)]
    rows, columns = (slice(top, top + side) for top, side in zip(tops, sides, strict=True))
    return np.ascontiguousarray(plane[rows, columns])


def _some(records: list[PairRecord], most: int) -> list[PairRecord]:
    """Return no more than so many, evenly chosen."""
    places = np.unique(np.linspace(0, len(records) - 1, min(most, len(records))).astype(int))
    return [records[place] for place in places]
