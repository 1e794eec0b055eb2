"""A specimen for the benches: cells on one side of a line across the stage, beads on the other."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from acquisition.virtual import EndothelialCells, ScatteredBeads
from acquisition.virtual.specimen import FloatArray, PointCloud

__all__ = ["BEADS", "CellsAndBeads"]

BEADS = {"per_um2": 0.004, "weight": 12.0, "weight_spread": 0.3}
"""As bright as the stand's cells at either objective, and most of them alone."""


@dataclass(frozen=True, slots=True)
class CellsAndBeads:
    """Cells above `border_y_um`, beads from there on."""

    cells: EndothelialCells
    beads: ScatteredBeads
    border_y_um: float
    moves: bool = False

    @property
    def plane_depths_um(self) -> tuple[float, ...]:
        """The cells' planes; the beads lie in the plane at depth 0."""
        return self.cells.plane_depths_um

    def clouds(
        self, stain: str, low_xy_um: tuple[float, float], high_xy_um: tuple[float, float], time_s: float
    ) -> Iterable[PointCloud]:
        """Return of either what lies on its side."""
        for cloud in self.cells.clouds(stain, low_xy_um, high_xy_um, time_s):
            yield cloud.where(cloud.y_um < self.border_y_um)
        for cloud in self.beads.clouds(stain, low_xy_um, high_xy_um, time_s):
            yield cloud.where(cloud.y_um >= self.border_y_um)

    def dissolved(self, stain: str, x_um: FloatArray, y_um: FloatArray) -> FloatArray:
        """Return the cells' haze on their side."""
        haze = self.cells.dissolved(stain, x_um, y_um)
        return np.where((y_um < self.border_y_um)[:, np.newaxis], haze, 0.0)
