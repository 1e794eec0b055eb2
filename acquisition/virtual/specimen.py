"""Where fluorophores are: an unbounded specimen, drawn block by block on one grid and cached.

Owns the grid and the drawing of points onto it. What the points form (cells, beads) is the point source's
matter; how they are imaged, the stand's. A stain and a rectangle come in, fluorophores per grid pixel and
plane go out, the same for the same place however the rectangle is cut.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Protocol

import numpy as np

__all__ = ["GRID_UM", "Beads", "PointCloud", "PointSource", "Specimen"]

FloatImage = np.ndarray[Any, np.dtype[np.float32]]
FloatArray = np.ndarray[Any, np.dtype[np.floating[Any]]]

GRID_UM = 0.1625
"""Side of a grid pixel; pixel k covers [k, k + 1) GRID_UM. Half the 20x camera pixel, so that the grid
holds all that a 0.75-NA objective passes."""

_BLOCK_PX = 256
_BLOCKS_CACHED = 360
"""At 3 planes of float32 a block takes 0.8 MB: one 10x field in three stains and a margin, 280 MB."""


@dataclass(frozen=True, slots=True)
class PointCloud:
    """Fluorophores as points: (N,) each, positions in um, weight in arbitrary fluorophore units."""

    x_um: FloatArray
    y_um: FloatArray
    z_um: FloatArray
    weight: FloatArray

    @classmethod
    def joined(cls, clouds: Iterable["PointCloud"]) -> "PointCloud":
        """Return several clouds as one."""
        parts = [(cloud.x_um, cloud.y_um, cloud.z_um, cloud.weight) for cloud in clouds]
        if not parts:
            nothing = np.empty(0)
            return cls(nothing, nothing, nothing, nothing)
        return cls(*(np.concatenate(column) for column in zip(*parts, strict=True)))

    def where(self, chosen: np.ndarray[Any, np.dtype[np.bool_]]) -> "PointCloud":
        """Return the points chosen by a mask (N,)."""
        return PointCloud(self.x_um[chosen], self.y_um[chosen], self.z_um[chosen], self.weight[chosen])


class PointSource(Protocol):
    """What a specimen is made of."""

    @property
    def plane_depths_um(self) -> tuple[float, ...]:
        """Depths of the planes, ascending; depth 0 is the plane that counts as the best focus."""
        ...

    def clouds(
        self, stain: str, low_xy_um: tuple[float, float], high_xy_um: tuple[float, float]
    ) -> Iterable[PointCloud]:
        """Return everything of one stain that may lie in a rectangle (more is allowed)."""
        ...


class Specimen:
    """A point source on the grid, drawn when first looked at.

    Parameters
    ----------
    source
        What to draw. It must return the same points for the same place at every call.
    """

    def __init__(self, source: PointSource) -> None:
        self.plane_depths_um = source.plane_depths_um
        self._source = source
        self._block = lru_cache(maxsize=_BLOCKS_CACHED)(self._draw_block)

    def density(self, stain: str, origin_yx_px: tuple[int, int], shape_yx: tuple[int, int]) -> FloatImage:
        """Return fluorophores per grid pixel, (Z, Y, X) float32, Z in the order of `plane_depths_um`.

        Parameters
        ----------
        origin_yx_px
            The rectangle's first grid pixel; may be negative.
        """
        density = np.empty((len(self.plane_depths_um), *shape_yx), dtype=np.float32)  # (Z, Y, X)
        for target_y, block_y, source_y in _cuts(origin_yx_px[0], shape_yx[0]):
            for target_x, block_x, source_x in _cuts(origin_yx_px[1], shape_yx[1]):
                density[:, target_y, target_x] = self._block(stain, block_y, block_x)[:, source_y, source_x]
        return density

    @staticmethod
    def drawing_transfer(frequency_per_um: FloatArray) -> FloatArray:
        """Return the transfer along one axis of the hat in which `density` holds a point.

        Whoever images the density divides by it (as particle-mesh codes do), so that points are points.
        """
        return np.asarray(np.sinc(frequency_per_um * GRID_UM) ** 2)

    def _draw_block(self, stain: str, block_y: int, block_x: int) -> FloatImage:
        origin = (block_y * _BLOCK_PX, block_x * _BLOCK_PX)
        low_xy_um = ((origin[1] - 1) * GRID_UM, (origin[0] - 1) * GRID_UM)
        side_um = (_BLOCK_PX + 2) * GRID_UM
        clouds = self._source.clouds(stain, low_xy_um, (low_xy_um[0] + side_um, low_xy_um[1] + side_um))
        return _deposit(clouds, origin, self.plane_depths_um)


def _cuts(origin_px: int, length_px: int) -> Iterator[tuple[slice, int, slice]]:
    """Cut an interval at block borders: (where in the result, which block, where in the block)."""
    end_px = origin_px + length_px
    for block in range(origin_px // _BLOCK_PX, (end_px - 1) // _BLOCK_PX + 1):
        start = max(origin_px, block * _BLOCK_PX)
        stop = min(end_px, (block + 1) * _BLOCK_PX)
        inside = slice(start - block * _BLOCK_PX, stop - block * _BLOCK_PX)
        yield slice(start - origin_px, stop - origin_px), block, inside


def _deposit(
    clouds: Iterable[PointCloud], origin_yx_px: tuple[int, int], plane_depths_um: tuple[float, ...]
) -> FloatImage:
    """Draw points into a block, linearly shared among the neighbouring pixels and planes.

    Linear sharing keeps the sum and the centre of mass of every point (`drawing_transfer` is its blur).
    While drawing, the block has a border of one pixel, which takes what belongs to its neighbours.
    """
    side = _BLOCK_PX + 2
    cloud = PointCloud.joined(_touching(cloud, origin_yx_px) for cloud in clouds)
    x, y = (_index(cloud.x_um, origin_yx_px[1]) + 1, _index(cloud.y_um, origin_yx_px[0]) + 1)
    column, row = np.floor(x).astype(np.intp), np.floor(y).astype(np.intp)
    right, lower = x - column, y - row
    corner = row * side + column
    index = np.concatenate([corner, corner + 1, corner + side, corner + side + 1])
    shares = [(1 - lower) * (1 - right), (1 - lower) * right, lower * (1 - right), lower * right]
    volume = np.empty((len(plane_depths_um), _BLOCK_PX, _BLOCK_PX), dtype=np.float32)  # (Z, Y, X)
    for plane in range(len(plane_depths_um)):
        weight = cloud.weight * _plane_share(cloud.z_um, plane, plane_depths_um)
        spread = np.concatenate([weight * share for share in shares])
        drawn = np.bincount(index, weights=spread, minlength=side * side).reshape(side, side)
        volume[plane] = drawn[1:-1, 1:-1]
    return volume


def _index(position_um: FloatArray, origin_px: int) -> FloatArray:
    """Return positions as indices of grid pixel centres in a block."""
    return position_um / GRID_UM - (0.5 + origin_px)


def _touching(cloud: PointCloud, origin_yx_px: tuple[int, int]) -> PointCloud:
    x, y = _index(cloud.x_um, origin_yx_px[1]), _index(cloud.y_um, origin_yx_px[0])
    return cloud.where((x > -1) & (x < _BLOCK_PX) & (y > -1) & (y < _BLOCK_PX))


def _plane_share(z_um: FloatArray, plane: int, plane_depths_um: tuple[float, ...]) -> FloatArray:
    """Return one plane's linear share of points at depths z; the outermost planes take what lies beyond."""
    return np.asarray(np.interp(z_um, plane_depths_um, np.eye(len(plane_depths_um))[plane]))


@dataclass(frozen=True)
class Beads:
    """Sub-resolution beads on a square lattice through (0, 0), visible in every channel.

    `spacing_um` should be far wider than the point spread function.
    """

    spacing_um: float = 20.0
    depth_um: float = 0.0
    weight: float = 60.0
    plane_depths_um: tuple[float, ...] = (0.0,)

    def clouds(
        self, stain: str, low_xy_um: tuple[float, float], high_xy_um: tuple[float, float]
    ) -> Iterable[PointCloud]:
        """Return the beads of a rectangle; the same in every stain."""
        axes = [
            np.arange(np.ceil(low / self.spacing_um), np.floor(high / self.spacing_um) + 1) * self.spacing_um
            for low, high in zip(low_xy_um, high_xy_um, strict=True)
        ]
        x_um, y_um = (axis.ravel() for axis in np.meshgrid(*axes))
        yield PointCloud(x_um, y_um, np.full(x_um.size, self.depth_um), np.full(x_um.size, self.weight))
