"""Tiles of one imaging state, placed, seen as one image.

Owns blending. The mosaic is rendered only to be looked at (for the global match and for figures); the pair
itself is interpolated from the tiles' own pixels, once. Knows nothing of how the tiles were placed.
"""

from dataclasses import dataclass

import numpy as np

from training.pairing.orientation import ALIGNED, Orientation
from training.pairing.sampling import FloatArray, Image, sample

__all__ = ["Blend", "Mosaic", "edge_distance", "grid"]


class Blend:
    """Sums of weighted values on a grid; the weights of a tile fall linearly to zero at its border."""

    def __init__(self, shape_yx: tuple[int, int]) -> None:
        self._total = np.zeros(shape_yx, dtype=np.float32)
        self._weight = np.zeros(shape_yx, dtype=np.float32)

    def add(self, window: tuple[slice, slice], values: FloatArray, edge_px: FloatArray) -> None:
        """Add values on a window of the grid, with each one's distance to its tile's border."""
        weight = np.where(edge_px >= 0, edge_px + np.float32(0.5), np.float32(0))
        self._total[window] += weight * values
        self._weight[window] += weight

    def result(self) -> tuple[FloatArray, FloatArray]:
        """Return the blended values, 0 where no tile lies, and the coverage, 1 or 0."""
        covered = self._weight > 0
        blended = np.divide(self._total, self._weight, out=np.zeros_like(self._total), where=covered)
        return blended, covered.astype(np.float32)


@dataclass(frozen=True, slots=True)
class Mosaic:
    """Placed tiles of one channel."""

    tiles: tuple[Image, ...]
    """(Y, X) counts each."""
    corners_yx_px: Image
    """(N, 2): where the centre of pixel (0, 0) of each tile lies on the grid."""
    orientation: Orientation = ALIGNED
    pivot_yx_px: tuple[float, float] = (0.0, 0.0)
    """Of the orientation: pixel index of the low frame's centre on the grid."""

    def render(
        self, origin_yx_px: tuple[int, int], shape_yx: tuple[int, int], shift_yx_px: tuple[int, int] = (0, 0)
    ) -> tuple[FloatArray, FloatArray]:
        """Return the mosaic on whole pixels of the grid by linear interpolation, and its coverage.

        Parameters
        ----------
        shift_yx_px
            What grid point q shows lies in the tiles where the orientation puts q, and this much further.

        Returns
        -------
        tuple
            (Y, X) values, 0 where no tile lies, and (Y, X) coverage, 1 or 0.
        """
        blend = Blend(shape_yx)
        turned_px = self.reach_px(origin_yx_px, shape_yx)
        for tile, corner in zip(self.tiles, self.corners_yx_px, strict=True):
            start = np.asarray(corner) - np.asarray(shift_yx_px) - np.asarray(origin_yx_px)
            window = tuple(
                slice(
                    min(max(int(np.ceil(s - turned_px)), 0), n),
                    max(min(int(np.floor(s + t - 1 + turned_px)) + 1, n), 0),
                )
                for s, t, n in zip(start, tile.shape, shape_yx, strict=True)
            )
            rows, columns = window
            if rows.stop <= rows.start or columns.stop <= columns.start:
                continue
            shape = (rows.stop - rows.start, columns.stop - columns.start)
            places = grid(shape, (rows.start + origin_yx_px[0], columns.start + origin_yx_px[1]))
            positions = self.in_tile(places, corner, shift_yx_px)
            values = sample(tile.astype(np.float32), positions, order=1)
            blend.add((rows, columns), values, edge_distance(positions, tile.shape))
        return blend.result()

    def reach_px(self, origin_yx_px: tuple[int, int], shape_yx: tuple[int, int]) -> float:
        """Return by how much the orientation moves a point of a rectangle of the grid, at most."""
        (top, left), (height, width) = origin_yx_px, shape_yx
        corners = np.stack(np.meshgrid([top, top + height], [left, left + width], indexing="ij"))
        moves = self.orientation.displacement(corners.astype(np.float32), self.pivot_yx_px)  # (2, 2, 2)
        return float(np.abs(moves).max())

    def in_tile(
        self, places_yx_px: FloatArray, corner_yx_px: Image, shift_yx_px: tuple[float, float]
    ) -> FloatArray:
        """Return where in a tile the grid's points lie, (2, Y, X) pixel indices."""
        moved = (np.asarray(shift_yx_px) - np.asarray(corner_yx_px)).astype(np.float32)[:, None, None]
        if self.orientation == ALIGNED:
            return np.asarray(places_yx_px + moved)
        return np.asarray(
            places_yx_px + moved + self.orientation.displacement(places_yx_px, self.pivot_yx_px)
        )


def grid(shape_yx: tuple[int, ...], origin_yx_px: tuple[float, float] = (0.0, 0.0)) -> FloatArray:
    """Return the pixel indices of an image whose first pixel lies at `origin_yx_px`, (2, Y, X)."""
    rows = np.arange(shape_yx[0], dtype=np.float32) + np.float32(origin_yx_px[0])
    columns = np.arange(shape_yx[1], dtype=np.float32) + np.float32(origin_yx_px[1])
    return np.stack(np.meshgrid(rows, columns, indexing="ij"))


def edge_distance(positions_yx_px: FloatArray, shape_yx: tuple[int, ...]) -> FloatArray:
    """Return the distance of positions to the outermost pixel centres of an image; negative outside."""
    y, x = positions_yx_px
    height, width = np.float32(shape_yx[0] - 1), np.float32(shape_yx[1] - 1)
    return np.asarray(np.minimum(np.minimum(y, height - y), np.minimum(x, width - x)))
