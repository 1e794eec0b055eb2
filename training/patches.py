"""Draws training patches from a pair set: which pair, where, and how turned.

Pure numpy, deterministic by its generator's state, which a checkpoint can hold. Patches with specimen are
preferred over empty background, and flips and right-angle turns are exact on the pixel grid.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from configs.document import WrongInputError
from training.pairing.pairs import PairSet, Split

__all__ = ["Patches", "load_planes"]

FloatImage = np.ndarray[Any, np.dtype[np.float32]]
CANDIDATES = 2
"""Places drawn for each patch, of which the brightest is taken."""


@dataclass(frozen=True, slots=True)
class Planes:
    """One pair in memory, both (Y, X) float32 on the 0 to 255 scale."""

    low: FloatImage
    high: FloatImage


def load_planes(pair_set: PairSet, split: Split, channel: str) -> list[Planes]:
    """Read the accepted pairs of a split into memory.

    Raises
    ------
    WrongInputError
        When there is none; the message says which splits and channels there are.
    """
    records = pair_set.select(split, channel)
    if not records:
        channels = sorted({pair.channel for pair in pair_set.index.pairs})
        msg = (
            f"{pair_set.path} has no accepted {split} pair of channel '{channel}' (channels: "
            f"{', '.join(channels) or 'none'}); pair more fields, or correct 'channel' in the training file"
        )
        raise WrongInputError(msg)
    return [Planes(*pair_set.read(record)) for record in records]


class Patches:
    """An endless supply of batches."""

    def __init__(self, planes: Sequence[Planes], patch_px: int, batch: int, seed: int) -> None:
        too_small = [pair.low.shape for pair in planes if min(pair.low.shape) < patch_px]
        if too_small:
            msg = f"a pair of {too_small[0]} px is smaller than the patch of {patch_px} px; lower patch_px"
            raise WrongInputError(msg)
        self._planes = planes
        self._patch_px = patch_px
        self._batch = batch
        self.random = np.random.default_rng(seed)
        areas = np.array([pair.low.size for pair in planes], dtype=np.float64)
        self._weights = areas / areas.sum()

    def draw(self) -> tuple[FloatImage, FloatImage]:
        """Return the next batch, low and high, each (B, 1, P, P) float32."""
        patches = [self._draw_one() for _ in range(self._batch)]
        low = np.stack([patch[0] for patch in patches])[:, np.newaxis]  # (B, 1, P, P)
        high = np.stack([patch[1] for patch in patches])[:, np.newaxis]
        return low, high

    def _draw_one(self) -> tuple[FloatImage, FloatImage]:
        places = [self._place() for _ in range(CANDIDATES)]
        pair, y, x = max(places, key=lambda place: self._brightness(*place))
        window = (slice(y, y + self._patch_px), slice(x, x + self._patch_px))
        turns, flip = int(self.random.integers(4)), bool(self.random.integers(2))
        planes = self._planes[pair]
        return _turned(planes.low[window], turns, flip), _turned(planes.high[window], turns, flip)

    def _place(self) -> tuple[int, int, int]:
        pair = int(self.random.choice(len(self._planes), p=self._weights))
        height, width = self._planes[pair].low.shape
        y = int(self.random.integers(height - self._patch_px + 1))
        x = int(self.random.integers(width - self._patch_px + 1))
        return pair, y, x

    def _brightness(self, pair: int, y: int, x: int) -> float:
        low = self._planes[pair].low
        return float(low[y : y + self._patch_px : 4, x : x + self._patch_px : 4].mean())


def _turned(patch: FloatImage, turns: int, flip: bool) -> FloatImage:
    turned = np.rot90(patch, turns)
    return np.ascontiguousarray(turned[:, ::-1] if flip else turned)
