"""Clathrin-coated pits on the lower membrane: they appear, wander, grow to rings, gather to plaques, vanish.

Owns the lives of pits. Each tile of the membrane and each stretch of time has pits of its own, drawn from a
random stream of (seed, tile, stretch): so the membrane has no borders and no repeats, and any place at any
time can be made without the rest. Knows no grid and no optics.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from acquisition.virtual.random_streams import stream_of
from acquisition.virtual.specimen import PointCloud

__all__ = ["CLATHRIN", "ClathrinPits"]

FloatArray = np.ndarray[Any, np.dtype[np.floating[Any]]]

CLATHRIN = "clathrin"

_TILE_UM = 12.0
_STRETCH_S = 120.0
_LONGEST_LIFE_S = 240.0
_REACH_UM = 1.5
"""No pit strays farther from where it was born."""
_POINTS = 20
"""On the ring of a pit; at 95 nm radius they stand 30 nm apart."""
_FLUOROPHORES = 40.0


@dataclass(frozen=True, slots=True)
class _Pits:
    """The pits that are born in one tile within one stretch of time: (N,) each."""

    born_s: FloatArray
    life_s: FloatArray
    x_um: FloatArray
    y_um: FloatArray
    gather_x_um: FloatArray
    gather_y_um: FloatArray
    """Where it drifts within its life: towards a plaque, or nowhere."""
    radius_um: FloatArray
    """Of the full-grown ring."""
    brightness: FloatArray
    wander: FloatArray
    """(N, 2, 3, 2) amplitudes in um and phases of three slow waves along x and y."""


class ClathrinPits:
    """Pits of AP2-labelled clathrin.

    Parameters
    ----------
    seed
        The same seed gives the same pits at the same times.
    per_um2
        Pits alive, on average.
    moving
        Whether they live. If not, they stay as they are at time zero.
    """

    plane_depths_um = (0.0,)

    def __init__(self, seed: int = 0, per_um2: float = 0.45, *, moving: bool = True) -> None:
        self.moves = moving
        self._seed = seed
        self._per_um2 = per_um2
        self._born = lru_cache(maxsize=400)(self._draw)

    def clouds(
        self, stain: str, low_xy_um: tuple[float, float], high_xy_um: tuple[float, float], time_s: float
    ) -> Iterable[PointCloud]:
        """Return the pits that are alive in a rectangle."""
        columns, rows = (
            range(int((low - _REACH_UM) // _TILE_UM), int((high + _REACH_UM) // _TILE_UM) + 1)
            for low, high in zip(low_xy_um, high_xy_um, strict=True)
        )
        now = time_s if self.moves else 0.0
        stretches = range(int((now - _LONGEST_LIFE_S) // _STRETCH_S), int(now // _STRETCH_S) + 1)
        return (
            _seen_at(self._born(row, column, stretch), now)
            for row in rows
            for column in columns
            for stretch in stretches
        )

    def dissolved(self, stain: str, x_um: FloatArray, y_um: FloatArray) -> None:
        """Return nothing: what is dissolved is not in the evanescent field."""

    def _draw(self, row: int, column: int, stretch: int) -> _Pits:
        rng = stream_of(self._seed, (row, column, stretch), 82)
        life_s = rng.gamma(4.0, 17.0, 4000).clip(15.0, _LONGEST_LIFE_S)
        births = self._per_um2 * _TILE_UM**2 * _STRETCH_S / float(life_s.mean())
        count = int(rng.poisson(births))
        x_um, y_um = (np.array([[column], [row]]) + rng.uniform(0, 1, (2, count))) * _TILE_UM
        gather = self._plaque(rng, count, x_um, y_um)
        wander = rng.uniform(0, 1, (count, 2, 3, 2)) * [0.05, 2 * np.pi]
        return _Pits(
            born_s=(stretch + rng.uniform(0, 1, count)) * _STRETCH_S,
            life_s=life_s[:count],
            x_um=x_um,
            y_um=y_um,
            gather_x_um=gather[0],
            gather_y_um=gather[1],
            radius_um=rng.uniform(0.055, 0.1, count),
            brightness=_FLUOROPHORES * rng.lognormal(0, 0.3, count),
            wander=wander,
        )

    @staticmethod
    def _plaque(rng: np.random.Generator, count: int, x_um: FloatArray, y_um: FloatArray) -> FloatArray:
        """Return how far each pit drifts, (2, N): one in six joins the nearest of the tile's few plaques."""
        if count == 0:
            return np.zeros((2, 0))
        centres = rng.choice(np.stack([x_um, y_um]), max(1, count // 12), axis=1)  # (2, plaques)
        away = centres[:, np.newaxis] - np.stack([x_um, y_um])[..., np.newaxis]  # (2, N, plaques)
        nearest = np.hypot(*away).argmin(axis=1)
        drift = np.take_along_axis(away, nearest[np.newaxis, :, np.newaxis], axis=2)[..., 0]
        joins = (rng.random(count) < 1 / 6) & (np.hypot(*drift) < 1.0)
        beside = rng.normal(0, 0.12, (2, count))
        return np.asarray((drift + beside) * joins)


def _seen_at(pits: _Pits, now_s: float) -> PointCloud:
    """Return the fluorophores of the pits that are alive."""
    alive = np.flatnonzero((pits.born_s <= now_s) & (now_s < pits.born_s + pits.life_s))
    age = (now_s - pits.born_s[alive]) / pits.life_s[alive]  # 0 to 1
    grown = np.clip(age / 0.35, 0, 1)
    left = np.clip((1 - age) / 0.12, 0, 1)  # the vesicle leaves the evanescent field
    amplitude, phase = pits.wander[alive].transpose(3, 0, 1, 2)  # (N, 2, waves) each
    period_s = np.array([19.0, 47.0, 110.0])
    stray = (amplitude * np.sin(2 * np.pi * now_s / period_s + phase)).sum(axis=2)  # (N, 2)
    joined = np.clip(age / 0.7, 0, 1) ** 2
    x = pits.x_um[alive] + joined * pits.gather_x_um[alive] + stray[:, 0]
    y = pits.y_um[alive] + joined * pits.gather_y_um[alive] + stray[:, 1]
    radius = pits.radius_um[alive] * np.sqrt(grown)
    angle = np.arange(_POINTS) * 2 * np.pi / _POINTS
    ring_x = x[:, np.newaxis] + radius[:, np.newaxis] * np.cos(angle)  # (N, points)
    ring_y = y[:, np.newaxis] + radius[:, np.newaxis] * np.sin(angle)
    weight = (pits.brightness[alive] * grown * left / _POINTS)[:, np.newaxis] + np.zeros(_POINTS)
    return PointCloud(ring_x.ravel(), ring_y.ravel(), np.zeros(ring_x.size), weight.ravel())
