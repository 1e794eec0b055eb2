"""Nuclei with a labelled histone, as a confocal and a STED microscope see them: domains of chromatin.

Owns the look of a nucleus at a scale of some ten nanometres. One nucleus stands at each node of a jittered
lattice; everything about it is drawn from a random stream of (seed, node). Knows no grid and no optics.
"""

from collections.abc import Iterable
from functools import lru_cache
from typing import Any

import numpy as np

from acquisition.virtual.random_streams import stream_of
from acquisition.virtual.specimen import PointCloud

__all__ = ["HISTONE", "HistoneNuclei"]

FloatArray = np.ndarray[Any, np.dtype[np.floating[Any]]]

HISTONE = "histone"

_LATTICE_UM = 17.0
_JITTER_UM = 1.5
_REACH_UM = 10.0
_DOMAINS_PER_UM2 = 26.0
_POINTS = 8
"""In a domain, which is 50 to 130 nm wide."""


class HistoneNuclei:
    """A layer of nuclei.

    Parameters
    ----------
    seed
        The same seed gives the same layer.
    """

    plane_depths_um = (-0.5, 0.0, 0.5)
    moves = False

    def __init__(self, seed: int = 0) -> None:
        self._seed = seed
        self._nucleus = lru_cache(maxsize=64)(self._draw)

    def clouds(
        self, stain: str, low_xy_um: tuple[float, float], high_xy_um: tuple[float, float], time_s: float
    ) -> Iterable[PointCloud]:
        """Return the nuclei that may reach into a rectangle."""
        reach_um = _REACH_UM + _JITTER_UM
        columns, rows = (
            range(int((low - reach_um) // _LATTICE_UM), int((high + reach_um) // _LATTICE_UM) + 2)
            for low, high in zip(low_xy_um, high_xy_um, strict=True)
        )
        return (self._nucleus(row, column) for row in rows for column in columns)

    def dissolved(self, stain: str, x_um: FloatArray, y_um: FloatArray) -> None:
        """Return nothing: histones are bound."""

    def _draw(self, row: int, column: int) -> PointCloud:
        rng = stream_of(self._seed, (row, column), 83)
        centre = np.array([column + 0.5 * (row % 2), row]) * _LATTICE_UM + rng.uniform(-1, 1, 2) * _JITTER_UM
        semi_axes_um = rng.uniform([6.0, 4.2], [7.8, 5.6])
        u, v, strength = _domains(rng, int(_DOMAINS_PER_UM2 * np.pi * semi_axes_um.prod()))
        depth_um = rng.uniform(-1, 1, u.size) * 1.5 * np.sqrt(np.clip(1 - u**2 - v**2, 0.05, 1))
        width_um = rng.uniform(0.02, 0.055, u.size)[:, np.newaxis]  # standard deviation of a domain
        scatter = rng.normal(0, 1, (3, u.size, _POINTS)) * width_um
        x, y = (
            coordinate[:, np.newaxis] * axis + part
            for coordinate, axis, part in zip((u, v), semi_axes_um, scatter[:2], strict=True)
        )
        z = depth_um[:, np.newaxis] + scatter[2]
        turn = rng.uniform(0, np.pi)
        cos, sin = np.cos(turn), np.sin(turn)
        weight = np.broadcast_to(strength[:, np.newaxis] / _POINTS, x.shape)
        return PointCloud(
            (centre[0] + cos * x - sin * y).ravel(),
            (centre[1] + sin * x + cos * y).ravel(),
            z.ravel(),
            weight.ravel(),
        )


def _domains(rng: np.random.Generator, count: int) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return places on the unit disc and strengths: threads, dense at the rim, thin in nucleoli."""
    radius, angle = np.sqrt(rng.uniform(0, 1, count)), rng.uniform(0, 2 * np.pi, count)
    at_rim = rng.random(count) < 0.18
    radius[at_rim] = rng.uniform(0.93, 1.0, at_rim.sum())
    u, v = radius * np.cos(angle), radius * np.sin(angle)
    strength = rng.lognormal(0, 0.5, count)
    wave, phase = rng.normal(0, 9.0, (2, 12)), rng.uniform(0, 2 * np.pi, 12)
    texture = np.cos(np.outer(u, wave[0]) + np.outer(v, wave[1]) + phase).sum(axis=1) / np.sqrt(6)
    strength *= np.clip(1 + 0.7 * texture, 0.05, 3)
    for centre_u, centre_v in rng.uniform(-0.5, 0.5, (int(rng.integers(1, 4)), 2)):
        strength *= np.where(np.hypot(u - centre_u, v - centre_v) < rng.uniform(0.12, 0.22), 0.08, 1)
    return u, v, strength
