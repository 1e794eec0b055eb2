"""A second, independent acquisition of the truth, which says what perfect agreement would score.

It comes as a pair set of its own: the same low files, paired with high images that were taken anew. Owns how
a field of one set is found in the other, and brought to its grid and scale. Nothing is registered here; both
sets are on the grid of the same low frame.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from training.evaluation.not_measurable import NotMeasurableError
from training.pairing.pairs import PairRecord, PairSet

__all__ = ["Second", "second_of"]

FloatImage = np.ndarray[Any, np.dtype[np.float32]]
Window = tuple[slice, slice]
LEAST_SHARED_PX = 64


@dataclass(frozen=True, slots=True)
class Second:
    """A second high image of a field."""

    image: FloatImage
    """(Y, X) on the first set's scale."""
    window: Window
    """Which part of the first pair it shows."""


def second_of(record: PairRecord, pairs: PairSet, second_pairs: PairSet) -> Second:
    """Return the second acquisition of a pair's high image.

    Raises
    ------
    NotMeasurableError
        The second set holds no accepted pair of the same low file and channel, or shows too little of it.
    """
    other = _same_field(record, second_pairs)
    shape_yx = pairs.read(record)[1].shape
    high = second_pairs.read(other)[1]
    mine, theirs = _shared(record.origin_yx_px, shape_yx, other.origin_yx_px, high.shape)
    if min(side.stop - side.start for side in mine) < LEAST_SHARED_PX:
        msg = f"the second acquisition shows less than {LEAST_SHARED_PX} px of the field"
        raise NotMeasurableError(msg)
    scales = [s.index.normalisation[record.channel].high.scale for s in (pairs, second_pairs)]
    return Second((high[theirs] * np.float32(scales[0] / scales[1])).astype(np.float32), mine)


def _same_field(record: PairRecord, second_pairs: PairSet) -> PairRecord:
    hashes = set(record.sources.values())
    for other in second_pairs.index.pairs:
        if other.accepted and other.channel == record.channel and hashes & set(other.sources.values()):
            if set(other.sources.values()) == hashes:
                msg = f"{second_pairs.path} holds the same high image of {record.file}, not a second one"
                raise NotMeasurableError(msg)
            return other
    msg = f"{second_pairs.path} has no accepted pair of the same low file as {record.file}"
    raise NotMeasurableError(msg)


def _shared(
    origin: tuple[int, int], shape: tuple[int, ...], other: tuple[int, int], other_shape: tuple[int, ...]
) -> tuple[Window, Window]:
    """Return the part that two rectangles share, as windows into either."""
    mine, theirs = [], []
    for start, length, other_start, other_length in zip(origin, shape, other, other_shape, strict=True):
        first, last = max(start, other_start), min(start + length, other_start + other_length)
        last = max(first, last)
        mine.append(slice(first - start, last - start))
        theirs.append(slice(first - other_start, last - other_start))
    return (mine[0], mine[1]), (theirs[0], theirs[1])
