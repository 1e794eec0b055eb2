"""Sub-resolution beads: on a lattice, scattered, or in pairs of a known distance.

Owns where beads lie. They are points, visible in every stain.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from acquisition.virtual.random_streams import stream_of
from acquisition.virtual.specimen import PointCloud

__all__ = ["Beads", "ScatteredBeads"]

FloatArray = np.ndarray[Any, np.dtype[np.floating[Any]]]

_TILE_UM = 20.0


@dataclass(frozen=True)
class Beads:
    """Beads on a square lattice through (0, 0), isolated where `spacing_um` is far wider than the blur."""

    spacing_um: float = 20.0
    depth_um: float = 0.0
    weight: float = 60.0
    plane_depths_um: tuple[float, ...] = (0.0,)
    moves: bool = False

    def clouds(
        self, stain: str, low_xy_um: tuple[float, float], high_xy_um: tuple[float, float], time_s: float
    ) -> Iterable[PointCloud]:
        """Return the beads of a rectangle; the same in every stain."""
        axes = [
            np.arange(np.ceil(low / self.spacing_um), np.floor(high / self.spacing_um) + 1) * self.spacing_um
            for low, high in zip(low_xy_um, high_xy_um, strict=True)
        ]
        x_um, y_um = (axis.ravel() for axis in np.meshgrid(*axes))
        yield PointCloud(x_um, y_um, np.full(x_um.size, self.depth_um), np.full(x_um.size, self.weight))

    def dissolved(self, stain: str, x_um: FloatArray, y_um: FloatArray) -> None:
        """Return nothing: beads are points."""


@dataclass(frozen=True)
class ScatteredBeads:
    """Beads anywhere, as a drop of suspension leaves them: crowded or sparse by their density.

    Parameters
    ----------
    pair_distance_um
        Where not None, each bead has a second one at this distance in a random direction.
    weight_spread
        Standard deviation of the logarithm of the beads' brightness.
    """

    seed: int = 0
    per_um2: float = 0.02
    weight: float = 60.0
    weight_spread: float = 0.2
    pair_distance_um: float | None = None
    plane_depths_um: tuple[float, ...] = (0.0,)
    moves: bool = False

    def clouds(
        self, stain: str, low_xy_um: tuple[float, float], high_xy_um: tuple[float, float], time_s: float
    ) -> Iterable[PointCloud]:
        """Return the beads of a rectangle; the same in every stain."""
        margin_um = self.pair_distance_um or 0.0
        columns, rows = (
            range(int((low - margin_um) // _TILE_UM), int((high + margin_um) // _TILE_UM) + 1)
            for low, high in zip(low_xy_um, high_xy_um, strict=True)
        )
        return (self._tile(row, column) for row in rows for column in columns)

    def dissolved(self, stain: str, x_um: FloatArray, y_um: FloatArray) -> None:
        """Return nothing: beads are points."""

    def _tile(self, row: int, column: int) -> PointCloud:
        rng = stream_of(self.seed, (row, column), 81)
        count = rng.poisson(self.per_um2 * _TILE_UM**2)
        x_um, y_um = (np.array([[column], [row]]) + rng.uniform(0, 1, (2, count))) * _TILE_UM
        weight = self.weight * rng.lognormal(0, self.weight_spread, count)
        if self.pair_distance_um is not None:
            direction = rng.uniform(0, 2 * np.pi, count)
            x_um = np.concatenate([x_um, x_um + self.pair_distance_um * np.cos(direction)])
            y_um = np.concatenate([y_um, y_um + self.pair_distance_um * np.sin(direction)])
            weight = np.concatenate([weight, weight])
        return PointCloud(x_um, y_um, np.zeros(x_um.size), weight)
