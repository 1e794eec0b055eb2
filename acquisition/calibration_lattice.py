"""Which stage positions a calibration visits: lines of overlapping fields that cross, over a wide square.

Owns the plan. Pure; knows no devices. Lines instead of a full grid: what an affine matrix is regressed on is
the width, and a full grid of the same width would take three times as many exposures.
"""

from dataclasses import dataclass

import numpy as np

from acquisition.plan import Experiment

__all__ = ["Lattice", "lattice_of", "widest_extent_um"]

APPROACH_UM = 25.0
"""Every position is come to from so far below, along x and y, so that the screws' play cancels."""
_OVERLAP = 0.38
"""Of a field with its neighbour on a line."""


@dataclass(frozen=True, slots=True)
class Lattice:
    """Stage positions, in the order of visiting."""

    nodes_xy_um: tuple[tuple[float, float], ...]
    crossings: tuple[int, ...]
    """Those where lines cross, evenly spaced over the square."""
    neighbours: tuple[tuple[int, int], ...]
    """Pairs of nodes whose fields overlap."""


def lattice_of(centre_xy_um: tuple[float, float], extent_um: float, lines: int, field_um: float) -> Lattice:
    """Return lines along x and along y over a square.

    Parameters
    ----------
    extent_um
        Side of the square of stage positions.
    lines
        Along either axis; they cross at the square of their number, evenly spaced.
    field_um
        The smaller side of a field of view.
    """
    between = max(1, int(np.ceil(extent_um / (lines - 1) / ((1 - _OVERLAP) * field_um))))  # steps
    count = between * (lines - 1) + 1
    along_um = np.linspace(-extent_um / 2, extent_um / 2, count)
    cells = [
        (row, column)
        for row in range(count)
        for column in (range(count) if row % 2 == 0 else reversed(range(count)))
        if row % between == 0 or column % between == 0
    ]
    number = {cell: index for index, cell in enumerate(cells)}
    neighbours = [
        (number[row, column], number[other])
        for row, column in cells
        for other in ((row, column + 1), (row + 1, column))
        if other in number
    ]
    return Lattice(
        nodes_xy_um=tuple(
            (centre_xy_um[0] + float(along_um[column]), centre_xy_um[1] + float(along_um[row]))
            for row, column in cells
        ),
        crossings=tuple(number[cell] for cell in cells if cell[0] % between == 0 and cell[1] % between == 0),
        neighbours=tuple(neighbours),
    )


def widest_extent_um(experiment: Experiment, centre_xy_um: tuple[float, float]) -> float:
    """Return the side of the widest square around a centre that the stage may visit; negative for none."""
    window = experiment.stage_window_um
    if window is None:
        return float("inf")
    reaches = [
        min(centre - APPROACH_UM - low, high - centre)
        for centre, (low, high) in zip(centre_xy_um, (window.x_um, window.y_um), strict=True)
    ]
    return 2 * min(reaches)
