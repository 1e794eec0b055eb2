"""Draws training patches from a pair set: which pair, where, and how turned.

Pure numpy, and a function of the seed, the iteration and the place in the batch alone: a run that is resumed,
and one that is shared out over several processes, draw what one undisturbed process would have drawn.
Patches with specimen are preferred over empty background, and flips and right-angle turns are exact on the
pixel grid.
"""

from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from time import perf_counter
from typing import Any, Protocol

import numpy as np

from configs.document import WrongInputError
from inference.preprocess import FULL_SCALE, upsample
from training.pairing.pairs import PairRecord, PairSet, Split

__all__ = ["Batch", "Patches", "Planes", "StoredPlanes", "Supply", "load_planes", "prefetched"]

FloatImage = np.ndarray[Any, np.dtype[np.float32]]
Batch = tuple[FloatImage, FloatImage]
"""Low and high, each (B, 1, P, P) float32."""
CANDIDATES = 2
"""Places drawn for each patch, of which the brightest is taken."""
AHEAD = 3
"""Batches that are drawn while one is learned from."""


class Planes(Protocol):
    """One pair, both (Y, X) float32 on the 0 to 255 scale."""

    @property
    def low(self) -> FloatImage:
        """The network's input."""

    @property
    def high(self) -> FloatImage:
        """What it is to make of it."""


@dataclass(frozen=True, slots=True)
class StoredPlanes:
    """A pair on disk, mapped into memory when it is looked at: a set may be larger than the memory."""

    pair_set: PairSet
    record: PairRecord

    @property
    def low(self) -> FloatImage:
        """The network's input."""
        return self.pair_set.map(self.record)[0]

    @property
    def high(self) -> FloatImage:
        """What it is to make of it."""
        return self.pair_set.map(self.record)[1]


def load_planes(pair_set: PairSet, split: Split, channel: str) -> list[StoredPlanes]:
    """Find the accepted pairs of a split.

    Raises
    ------
    WrongInputError
        When there is none; the message says which splits and channels there are.
    """
    records = pair_set.select(split, channel)
    if not records:
        channels = sorted({pair.channel for pair in pair_set.index.pairs})
        if channel in channels:
            msg = f"{pair_set.path} has no accepted {split} pair of channel '{channel}'; pair more fields"
        else:
            msg = (
                f"{pair_set.path} has no channel '{channel}', it has {', '.join(channels) or 'none'}; "
                "give --channel, or correct `channel` in the training file"
            )
        raise WrongInputError(msg)
    return [StoredPlanes(pair_set, record) for record in records]


class Patches:
    """An endless supply of batches.

    Parameters
    ----------
    first, count
        Which patches of every batch are drawn here; the others are drawn by other processes.
    noise
        The most that is added to a low patch, see `TrainingPlan.input_noise`.
    factor
        Of the low planes' enlargement: noise is added on the low camera's pixels, and enlarged with them.
    """

    def __init__(
        self,
        planes: Sequence[Planes],
        patch_px: int,
        seed: int,
        *,
        first: int = 0,
        count: int = 1,
        noise: float = 0.0,
        factor: int = 1,
    ) -> None:
        too_small = [pair.low.shape for pair in planes if min(pair.low.shape) < patch_px]
        if too_small:
            msg = f"a pair of {too_small[0]} px is smaller than the patch of {patch_px} px; lower patch_px"
            raise WrongInputError(msg)
        self._planes = planes
        self._patch_px = patch_px
        self._seed = seed
        self._places = range(first, first + count)
        self._noise, self._factor = noise, factor
        areas = np.array([pair.low.size for pair in planes], dtype=np.float64)
        self._cumulative = np.cumsum(areas) / areas.sum()

    def draw(self, iteration: int, attempt: int = 0) -> Batch:
        """Return the batch of an iteration; after a roll-back another attempt draws others."""
        patches = [self._draw_one(iteration, attempt, place) for place in self._places]
        low = np.stack([patch[0] for patch in patches])[:, np.newaxis]  # (B, 1, P, P)
        high = np.stack([patch[1] for patch in patches])[:, np.newaxis]
        return low, high

    def _draw_one(self, iteration: int, attempt: int, place: int) -> tuple[FloatImage, FloatImage]:
        random = np.random.default_rng((self._seed, attempt, iteration, place))
        candidates = [self._window(random) for _ in range(CANDIDATES)]
        pair, y, x = max(candidates, key=lambda window: self._brightness(*window))
        window = (slice(y, y + self._patch_px), slice(x, x + self._patch_px))
        turns, flip = int(random.integers(4)), bool(random.integers(2))
        planes = self._planes[pair]
        low, high = planes.low[window], planes.high[window]
        if self._noise:
            low = low + self._shot_noise(low, random)
        return _turned(low, turns, flip), _turned(high, turns, flip)

    def _shot_noise(self, low: FloatImage, random: np.random.Generator) -> FloatImage:
        """Return noise of a strength drawn for this patch, on the grid of the low camera."""
        camera = np.maximum(low[:: self._factor, :: self._factor], 0)
        deviation = random.uniform(0, self._noise) * np.sqrt(FULL_SCALE * camera)
        noise = (deviation * random.standard_normal(camera.shape)).astype(np.float32)
        return upsample(noise, self._factor)[: low.shape[0], : low.shape[1]]

    def _window(self, random: np.random.Generator) -> tuple[int, int, int]:
        pair = int(np.searchsorted(self._cumulative, random.random(), side="right"))
        height, width = self._planes[pair].low.shape
        y = int(random.integers(height - self._patch_px + 1))
        x = int(random.integers(width - self._patch_px + 1))
        return pair, y, x

    def _brightness(self, pair: int, y: int, x: int) -> float:
        low = self._planes[pair].low
        return float(low[y : y + self._patch_px : 4, x : x + self._patch_px : 4].mean())


def _turned(patch: FloatImage, turns: int, flip: bool) -> FloatImage:
    turned = np.rot90(patch, turns)
    return np.ascontiguousarray(turned[:, ::-1] if flip else turned)


class Supply:
    """Batches in order, drawn ahead; remembers how long it let the network wait."""

    def __init__(self, patches: Patches, start: int, attempt: int, pool: ThreadPoolExecutor) -> None:
        self._patches, self._attempt, self._pool = patches, attempt, pool
        self._next = start
        self._drawn: list[Future[Batch]] = []
        self.waited_s = 0.0

    def take(self) -> Batch:
        """Return the next batch."""
        while len(self._drawn) < AHEAD:
            self._drawn.append(self._pool.submit(self._patches.draw, self._next, self._attempt))
            self._next += 1
        began = perf_counter()
        batch = self._drawn.pop(0).result()
        self.waited_s += perf_counter() - began
        return batch


@contextmanager
def prefetched(patches: Patches, start: int, attempt: int) -> Iterator[Supply]:
    """Give the batches from an iteration on, drawn by a thread of their own."""
    with ThreadPoolExecutor(1, thread_name_prefix="patches") as pool:
        yield Supply(patches, start, attempt, pool)
