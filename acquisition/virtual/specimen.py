"""Where fluorophores are: an unbounded specimen, drawn block by block on one grid and cached.

Owns the grid and the drawing of points onto it. What the points form (cells, beads, pits) is the point
source's matter; how they are imaged, the stand's. A stain, a rectangle and a time come in, fluorophores per
grid pixel and plane go out, the same for the same place however the rectangle is cut.
"""

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from itertools import product
from typing import Any, Protocol

import numpy as np

from acquisition.virtual.structured_light import Stripes

__all__ = ["DrawnSpecimen", "PointCloud", "PointSource", "Specimen", "plane_shares"]

FloatImage = np.ndarray[Any, np.dtype[np.float32]]
FloatArray = np.ndarray[Any, np.dtype[np.floating[Any]]]
Chosen = np.ndarray[Any, np.dtype[np.bool_]] | np.ndarray[Any, np.dtype[np.intp]]

_BLOCK_PX = 512
_SMOOTH_PX = 16
"""Grid pixels between the nodes of the raster on which the smooth part of a specimen is asked for."""
_BLOCKS_CACHED = 81
"""At 3 planes of float32 a block takes 3.1 MB: one 10x field of 1024 x 1024 px in one stain, 250 MB."""


class Specimen(Protocol):
    """What the optics image."""

    @property
    def pitch_um(self) -> float:
        """Side of a grid pixel; pixel k covers [k, k + 1) pitch_um. At most half the finest camera pixel."""
        ...

    @property
    def plane_depths_um(self) -> tuple[float, ...]:
        """Depths of the planes, ascending; depth 0 is the plane that counts as the best focus."""
        ...

    @property
    def moves(self) -> bool:
        """Whether it is another one at another time."""
        ...

    def density(
        self,
        stain: str,
        origin_yx_px: tuple[int, int],
        shape_yx: tuple[int, int],
        time_s: float,
        stripes: Stripes | None = None,
    ) -> FloatImage:
        """Return fluorophores per grid pixel, (Z, Y, X) float32, Z in the order of `plane_depths_um`.

        Parameters
        ----------
        origin_yx_px
            The rectangle's first grid pixel; may be negative.
        stripes
            Light that is not uniform, by which every fluorophore is weighted where it stands, not where the
            grid draws it.
        """
        ...

    def drawing_transfer(self, frequency_per_um: FloatArray) -> FloatArray:
        """Return the transfer along one axis of the shape in which `density` holds a point.

        Whoever images the density divides by it (as particle-mesh codes do), so that points are points.
        """
        ...


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

    def where(self, chosen: Chosen) -> "PointCloud":
        """Return the points chosen by a mask (N,) or by their indices."""
        return PointCloud(self.x_um[chosen], self.y_um[chosen], self.z_um[chosen], self.weight[chosen])


class PointSource(Protocol):
    """What a drawn specimen is made of. It must give the same for the same place and time at every call."""

    @property
    def plane_depths_um(self) -> tuple[float, ...]:
        """Depths of the planes, ascending; depth 0 is the plane that counts as the best focus."""
        ...

    @property
    def moves(self) -> bool:
        """Whether its points are elsewhere at another time."""
        ...

    def clouds(
        self, stain: str, low_xy_um: tuple[float, float], high_xy_um: tuple[float, float], time_s: float
    ) -> Iterable[PointCloud]:
        """Return everything of one stain that may lie in a rectangle (more is allowed)."""
        ...

    def dissolved(self, stain: str, x_um: FloatArray, y_um: FloatArray) -> FloatArray | None:
        """Return the smooth part of a stain over a raster of columns x (X,) and rows y (Y,).

        Returns
        -------
        FloatArray | None
            (Z, Y, X), fluorophores per um^2, with nothing in it finer than the raster; None where there is
            none.
        """
        ...


class DrawnSpecimen:
    """A point source on the grid, drawn when first looked at.

    Parameters
    ----------
    source
        What to draw.
    pitch_um
        Side of a grid pixel.
    """

    def __init__(self, source: PointSource, pitch_um: float) -> None:
        self.plane_depths_um = source.plane_depths_um
        self.moves = source.moves
        self.pitch_um = pitch_um
        self._source = source
        self._threads = ThreadPoolExecutor(2)
        self._block = lru_cache(maxsize=_BLOCKS_CACHED)(self._draw_block)

    def density(
        self,
        stain: str,
        origin_yx_px: tuple[int, int],
        shape_yx: tuple[int, int],
        time_s: float,
        stripes: Stripes | None = None,
    ) -> FloatImage:
        """Return fluorophores per grid pixel; see `Specimen.density`."""
        if self.moves or stripes is not None:
            return self._draw(stain, origin_yx_px, shape_yx, time_s, stripes)
        density = np.empty((len(self.plane_depths_um), *shape_yx), dtype=np.float32)  # (Z, Y, X)

        def copy(rows: list[_Cut]) -> None:
            for (target_y, block_y, source_y), (target_x, block_x, source_x) in product(rows, columns):
                density[:, target_y, target_x] = self._block(stain, block_y, block_x)[:, source_y, source_x]

        rows, columns = (list(_cuts(*axis)) for axis in zip(origin_yx_px, shape_yx, strict=True))
        half = len(rows) // 2  # threads that stand apart do not draw the same cell twice
        with suppress(RuntimeError):  # the interpreter is leaving: it starts no more work in threads
            deque(self._threads.map(copy, (rows[:half], rows[half:])), maxlen=0)
            return density
        copy(rows)
        return density

    def drawing_transfer(self, frequency_per_um: FloatArray) -> FloatArray:
        """Return the transfer of the hat in which a point is drawn; see `Specimen.drawing_transfer`."""
        return np.asarray(np.sinc(frequency_per_um * self.pitch_um) ** 2)

    def _draw_block(self, stain: str, block_y: int, block_x: int) -> FloatImage:
        origin = (block_y * _BLOCK_PX, block_x * _BLOCK_PX)
        drawn = self._draw(stain, origin, (_BLOCK_PX, _BLOCK_PX), 0.0)
        nodes_um = np.arange(_BLOCK_PX // _SMOOTH_PX + 1) * _SMOOTH_PX * self.pitch_um
        y_um, x_um = (index * self.pitch_um + nodes_um for index in origin)
        smooth = self._source.dissolved(stain, x_um, y_um)
        if smooth is not None:
            drawn += _linear_upsampled((smooth * self.pitch_um**2).astype(np.float32))
        return drawn

    def _draw(
        self,
        stain: str,
        origin_yx_px: tuple[int, int],
        shape_yx: tuple[int, int],
        time_s: float,
        stripes: Stripes | None = None,
    ) -> FloatImage:
        """Draw the points of a rectangle."""
        low_yx = [(origin - 0.5) * self.pitch_um for origin in origin_yx_px]
        high_yx = [
            (origin + side + 0.5) * self.pitch_um for origin, side in zip(origin_yx_px, shape_yx, strict=True)
        ]
        clouds = self._source.clouds(stain, (low_yx[1], low_yx[0]), (high_yx[1], high_yx[0]), time_s)
        cloud = PointCloud.joined(_between(cloud, low_yx, high_yx) for cloud in clouds)
        z = np.interp(cloud.z_um, self.plane_depths_um, np.arange(len(self.plane_depths_um)))
        y, x = (
            position / self.pitch_um - origin + 0.5
            for position, origin in zip((cloud.y_um, cloud.x_um), origin_yx_px, strict=True)
        )
        weight = cloud.weight if stripes is None else cloud.weight * stripes.at(cloud.y_um, cloud.x_um)
        return _deposited(weight, z, y, x, (len(self.plane_depths_um), *shape_yx))


_Cut = tuple[slice, int, slice]
"""Where in the result, which block, where in the block."""


def _cuts(origin_px: int, length_px: int) -> Iterator[_Cut]:
    """Cut an interval at block borders."""
    end_px = origin_px + length_px
    for block in range(origin_px // _BLOCK_PX, (end_px - 1) // _BLOCK_PX + 1):
        start = max(origin_px, block * _BLOCK_PX)
        stop = min(end_px, (block + 1) * _BLOCK_PX)
        inside = slice(start - block * _BLOCK_PX, stop - block * _BLOCK_PX)
        yield slice(start - origin_px, stop - origin_px), block, inside


def _between(cloud: PointCloud, low_yx: list[float], high_yx: list[float]) -> PointCloud:
    """Return the points that a rectangle's pixels may have a share in."""
    inside_x = np.flatnonzero((cloud.x_um > low_yx[1]) & (cloud.x_um < high_yx[1]))
    y_um = cloud.y_um[inside_x]
    return cloud.where(inside_x[(y_um > low_yx[0]) & (y_um < high_yx[0])])


def _deposited(
    weight: FloatArray, z: FloatArray, y: FloatArray, x: FloatArray, shape_zyx: tuple[int, int, int]
) -> FloatImage:
    """Draw points, linearly shared among the neighbouring pixels and planes: (Z, Y, X) float32.

    Linear sharing keeps the sum and the centre of mass of every point (`drawing_transfer` is its blur).

    Parameters
    ----------
    z, y, x
        (N,) indices: planes from 0, pixel centres from 1. While drawing, the image has a border of one
        pixel, which takes what belongs to its neighbours.
    """
    planes, height, width = shape_zyx[0], shape_zyx[1] + 3, shape_zyx[2] + 3
    plane, row, column = z.astype(np.intp), y.astype(np.intp), x.astype(np.intp)
    deeper, lower, right = z - plane, y - row, x - column
    corner = (plane * height + row) * width + column
    index = [corner + (deep * height + low) * width + beside for deep, low, beside in np.ndindex(2, 2, 2)]
    in_plane = [weight * (1 - deeper), weight * deeper]
    in_row = [share * part for share in in_plane for part in (1 - lower, lower)]
    weights = [share * part for share in in_row for part in (1 - right, right)]
    if planes == 1:  # every other one is nothing
        index, weights = index[:4], weights[:4]
    size = (planes + 1) * height * width
    drawn = np.bincount(np.concatenate(index), np.concatenate(weights), minlength=size)
    volume = drawn.reshape(planes + 1, height, width)[:planes, 1:-2, 1:-2]
    return volume.astype(np.float32)


def _linear_upsampled(nodes: FloatImage) -> FloatImage:
    """Interpolate (Z, N, N) on the smooth raster to the pixel centres of a block."""
    share = ((np.arange(_SMOOTH_PX) + 0.5) / _SMOOTH_PX).astype(np.float32)[:, np.newaxis]
    for _ in range(2):  # along y, then along x
        between = nodes[:, :-1, np.newaxis] * (1 - share) + nodes[:, 1:, np.newaxis] * share
        nodes = between.reshape(nodes.shape[0], -1, nodes.shape[-1]).swapaxes(1, 2)
    return np.asarray(nodes)


def plane_shares(z_um: FloatArray, plane_depths_um: tuple[float, ...]) -> FloatArray:
    """Return each plane's linear share of points at depths z: (Z, *z.shape), 1 in sum.

    The outermost planes take what lies beyond them.
    """
    shares = np.eye(len(plane_depths_um))
    return np.stack([np.interp(z_um, plane_depths_um, share) for share in shares])
