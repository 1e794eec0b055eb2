"""Endothelial-like cells: nuclei (DAPI), microtubules (FITC) and F-actin (Texas Red) as points.

Owns what the specimen looks like. Each node of a jittered lattice is the home of one cell, whose every
property is drawn from a random stream of (seed, node, stain): so the layer has no borders, no repeats, and
any part of it can be made without the rest. Knows no grid and no optics.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from acquisition.virtual.random_streams import stream_of
from acquisition.virtual.specimen import PointCloud, plane_shares

__all__ = ["CHROMATIN", "F_ACTIN", "MICROTUBULES", "STAINS", "EndothelialCells"]

FloatArray = np.ndarray[Any, np.dtype[np.floating[Any]]]
BoolArray = np.ndarray[Any, np.dtype[np.bool_]]

CHROMATIN = "chromatin"
MICROTUBULES = "microtubules"
F_ACTIN = "F-actin"
STAINS = (CHROMATIN, MICROTUBULES, F_ACTIN)

_LATTICE_UM = 52.0
_JITTER_UM = 13.0
_REACH_UM = 58.0
"""No point of a cell lies farther from its centre."""
_DISSOLVED_PER_UM2 = {CHROMATIN: 0.07, MICROTUBULES: 1.1, F_ACTIN: 0.55}
"""Of dye that is bound to nothing, where a cell is thickest; a filament has 1 per um."""
_PLACES = len(STAINS) + 1
"""Number of the random stream that says which places are empty; the outlines' is 0, the stains' follow."""
_LAYERS = np.array([-0.375, -0.125, 0.125, 0.375])
"""Where in its thickness the haze of a cell is drawn."""
_HEIGHTS = np.linspace(0, 1, 33)
"""At which it is known how the haze is shared among the planes."""
_DIRECTIONS = 720
"""In which an outline is known."""
_STEP_UM = 0.25
"""Between the points of a filament: 4 per um, beyond what any objective here passes."""

_LONGEST_MICROTUBULE_UM = 65.0
_CHROMATIN_STEP_UM = 0.25
_THREAD_WAVES = 48


@dataclass(frozen=True, slots=True)
class _Outline:
    """Where a cell lies and how far it reaches in each direction."""

    centre_xy_um: tuple[float, float]
    angle: float
    semi_axes_um: tuple[float, float]
    reach_um: float
    radii_um: FloatArray
    """(3 _DIRECTIONS,) distance of the edge from the centre in the cell's own frame, from -2 pi to 4 pi: so
    that no angle need be wrapped."""

    @classmethod
    def drawn(cls, centre_xy_um: tuple[float, float], rng: np.random.Generator) -> "_Outline":
        """Return a random outline: an ellipse with a few slow lobes."""
        a, b = rng.uniform([33, 22], [44, 30])
        polar_angle = np.arange(_DIRECTIONS) * 2 * np.pi / _DIRECTIONS
        ellipse = a * b / np.hypot(b * np.cos(polar_angle), a * np.sin(polar_angle))
        waves = np.cos(np.outer(polar_angle, np.arange(2, 6)) + rng.uniform(0, 2 * np.pi, 4))
        lobes = 1 + waves @ rng.normal(0, 0.08, 4).clip(-0.15, 0.15)
        radii_um = np.minimum(ellipse * lobes, _REACH_UM - 1).astype(np.float32)
        angle, reach_um = float(rng.uniform(0, np.pi)), float(radii_um.max())
        return cls(centre_xy_um, angle, (float(a), float(b)), reach_um, np.tile(radii_um, 3))

    def radius_um(self, polar_angle: FloatArray) -> FloatArray:
        """Return the distance of the edge from the centre, in the cell's own frame."""
        direction = (polar_angle * (_DIRECTIONS / (2 * np.pi)) + (_DIRECTIONS + 0.5)).astype(np.intp)
        return np.asarray(self.radii_um[direction])

    def touches(self, low_xy_um: tuple[float, float], high_xy_um: tuple[float, float]) -> bool:
        """Say whether the cell may reach into a rectangle."""
        reach_um = self.reach_um + 1
        return all(
            low - reach_um < centre < high + reach_um
            for centre, low, high in zip(self.centre_xy_um, low_xy_um, high_xy_um, strict=True)
        )

    def contains(self, x_um: FloatArray, y_um: FloatArray) -> BoolArray:
        """Say of points in the cell's own frame whether they lie inside."""
        return np.asarray(np.hypot(x_um, y_um) < self.radius_um(np.arctan2(y_um, x_um)))

    def place(self, x_um: FloatArray, y_um: FloatArray, z_um: FloatArray, weight: FloatArray) -> PointCloud:
        """Return points given in the cell's own frame where they lie in the specimen."""
        kept = weight > 0
        x_um, y_um, z_um, weight = x_um[kept], y_um[kept], z_um[kept], weight[kept]
        near = np.hypot(x_um, y_um) < _REACH_UM
        cos, sin = np.cos(self.angle), np.sin(self.angle)
        x = self.centre_xy_um[0] + cos * x_um - sin * y_um
        y = self.centre_xy_um[1] + sin * x_um + cos * y_um
        return PointCloud(x, y, z_um, weight).where(near)

    def own_frame(self, x_um: FloatArray, y_um: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Return where points of the specimen lie in the cell's own frame."""
        x, y = x_um - self.centre_xy_um[0], y_um - self.centre_xy_um[1]
        cos, sin = np.cos(self.angle), np.sin(self.angle)
        return cos * x + sin * y, cos * y - sin * x


class EndothelialCells:
    """A nearly confluent layer of cells, a few micrometres thick.

    Parameters
    ----------
    seed
        The same seed gives the same layer.
    occupancy
        Share of the places that hold a cell: 1 is confluent, 0.1 a few cells in a field.
    """

    plane_depths_um = (-1.2, 0.0, 1.2)
    moves = False

    def __init__(self, seed: int, occupancy: float = 1.0) -> None:
        self._seed = seed
        self._occupancy = occupancy
        layers = _LAYERS[:, np.newaxis] * _thickness_um(_HEIGHTS)
        self._haze_shares = plane_shares(layers, self.plane_depths_um).mean(axis=1)  # (Z, heights)
        self._outline = lru_cache(maxsize=1000)(self._draw_outline)
        self._cloud = lru_cache(maxsize=160)(self._draw)

    def clouds(
        self, stain: str, low_xy_um: tuple[float, float], high_xy_um: tuple[float, float], time_s: float
    ) -> Iterator[PointCloud]:
        """Return the cells whose reach touches a rectangle."""
        for row, column in self._nodes(low_xy_um, high_xy_um):
            yield self._cloud(stain, row, column)

    def dissolved(self, stain: str, x_um: FloatArray, y_um: FloatArray) -> FloatArray:
        """Return the haze of the cells over a raster: as much of it as a cell is thick there."""
        density = np.zeros((len(self.plane_depths_um), y_um.size, x_um.size))
        for node in self._nodes((x_um[0], y_um[0]), (x_um[-1], y_um[-1])):
            outline = self._outline(*node)
            x, y = outline.own_frame(x_um, y_um[:, np.newaxis])
            height = _height(x, y)
            amount = _DISSOLVED_PER_UM2[stain] * (0.25 + height) * outline.contains(x, y)
            for plane, share in enumerate(self._haze_shares):
                density[plane] += amount * np.interp(height, _HEIGHTS, share)
        return density

    def _nodes(
        self, low_xy_um: tuple[float, float], high_xy_um: tuple[float, float]
    ) -> Iterator[tuple[int, int]]:
        """Return the lattice nodes, (row, column), of the cells that may reach into a rectangle."""
        reach = _REACH_UM + _JITTER_UM
        columns, rows = (
            range(int(np.floor((low - reach) / _LATTICE_UM)), int(np.ceil((high + reach) / _LATTICE_UM)) + 1)
            for low, high in zip(low_xy_um, high_xy_um, strict=True)
        )
        for row in rows:
            for column in columns:
                here = (
                    self._occupancy >= 1
                    or stream_of(self._seed, (row, column), _PLACES).random() < self._occupancy
                )
                if here and self._outline(row, column).touches(low_xy_um, high_xy_um):
                    yield row, column

    def _draw(self, stain: str, row: int, column: int) -> PointCloud:
        outline = self._outline(row, column)
        rng = stream_of(self._seed, (row, column), STAINS.index(stain) + 1)
        if stain == CHROMATIN:
            return _nucleus(outline, rng)
        return _microtubules(outline, rng) if stain == MICROTUBULES else _actin(outline, rng)

    def _draw_outline(self, row: int, column: int) -> _Outline:
        rng = stream_of(self._seed, (row, column), 0)
        x, y = np.array([column + 0.5 * (row % 2), row]) * _LATTICE_UM + rng.uniform(-1, 1, 2) * _JITTER_UM
        return _Outline.drawn((float(x), float(y)), rng)


def _smooth_noise(rng: np.random.Generator, count: int, steps: int, wavelengths_um: FloatArray) -> FloatArray:
    """Return `count` random smooth functions at so many steps of a filament: (count, S), unit variance.

    Made at every micrometre and interpolated, since no wavelength is shorter than several.
    """
    per_um = round(1 / _STEP_UM)
    knots = np.arange(-(-steps // per_um) + 1)
    amplitude = rng.normal(0, np.sqrt(2 / wavelengths_um.size), (count, wavelengths_um.size, 1))
    phase = rng.uniform(0, 2 * np.pi, (count, wavelengths_um.size, 1))
    waves = amplitude * np.cos(2 * np.pi * knots / wavelengths_um[:, np.newaxis] + phase)
    values = waves.sum(axis=1).astype(np.float32)[..., np.newaxis]  # (count, knots, 1)
    share = np.arange(per_um, dtype=np.float32) * np.float32(_STEP_UM)
    between = values[:, :-1] * (1 - share) + values[:, 1:] * share  # (count, knots - 1, steps per um)
    return np.asarray(between.reshape(count, -1)[:, :steps])


def _random_inside(outline: _Outline, rng: np.random.Generator, count: int) -> tuple[FloatArray, FloatArray]:
    """Return points evenly spread over the cell, in its own frame."""
    polar_angle = rng.uniform(0, 2 * np.pi, count)
    radius_um = outline.radius_um(polar_angle) * np.sqrt(rng.uniform(0, 1, count))
    return radius_um * np.cos(polar_angle), radius_um * np.sin(polar_angle)


def _microtubules(outline: _Outline, rng: np.random.Generator) -> PointCloud:
    """Long filaments that leave the centrosome and thin out; a few that begin anywhere.

    The network rises over the nucleus, beside which the centrosome lies, and is flat at the edge.
    """
    count = int(rng.integers(100, 140))
    x0_um, y0_um = _random_inside(outline, rng, count)
    central = np.arange(count) < 0.85 * count
    x0_um[central] = 7 + rng.normal(0, 0.8, central.sum())
    y0_um[central] = rng.normal(0, 0.8, central.sum())
    length_um = np.minimum(rng.gamma(2.0, 11.0, count), _LONGEST_MICROTUBULE_UM)
    alike = np.array_split(np.argsort(length_um), 2)  # short ones need not be drawn as far as long ones
    return PointCloud.joined(
        _filaments(outline, rng, x0_um[these], y0_um[these], length_um[these]) for these in alike
    )


def _filaments(
    outline: _Outline, rng: np.random.Generator, x0_um: FloatArray, y0_um: FloatArray, length_um: FloatArray
) -> PointCloud:
    """Return curving filaments from where they begin to their length, or to the edge of the cell."""
    count = length_um.size
    s = np.arange(0, length_um.max() + _STEP_UM, _STEP_UM, dtype=np.float32)
    bends = _smooth_noise(rng, count, s.size, np.array([11.0, 27.0, 70.0]))
    heading = (rng.uniform(0, 2 * np.pi, (count, 1)) + 0.35 * bends).astype(np.float32)
    x, y = (
        start.astype(np.float32)[:, np.newaxis] + np.cumsum(along(heading), axis=1) * np.float32(_STEP_UM)
        for start, along in ((x0_um, np.cos), (y0_um, np.sin))
    )  # (count, S) each
    wander_um = rng.normal(0, 0.2, (count, 1)).astype(np.float32) + np.float32(0.2) * _smooth_noise(
        rng, count, s.size, np.array([15.0, 40.0])
    )
    per_um = round(1 / _STEP_UM)  # the cell's height changes too slowly to be asked for at every step
    height = np.repeat(_height(x[:, ::per_um], y[:, ::per_um]), per_um, axis=1)[:, : s.size]
    z = wander_um * _thickness_um(height)
    alive = np.logical_and.accumulate(outline.contains(x, y), axis=1) & (s < length_um[:, np.newaxis])
    weight = alive * rng.uniform(0.7, 1.4, (count, 1)) * _STEP_UM
    return outline.place(x, y, z, weight)


def _height(x_um: FloatArray, y_um: FloatArray) -> FloatArray:
    """Return how thick the cell is, 1 over the nucleus and falling to 0 in the flat periphery."""
    return np.asarray(np.exp(-(x_um**2 + y_um**2) / (2 * 11.0**2)))


def _thickness_um(height: FloatArray) -> FloatArray:
    return 1 + 3 * height


def _actin(outline: _Outline, rng: np.random.Generator) -> PointCloud:
    """Stress fibres, bundles of nearly parallel strands along the cell; and a cortex."""
    strands_of = rng.integers(1, 5, int(rng.integers(16, 26)))
    count = int(strands_of.sum())
    s = np.arange(-34, 34, _STEP_UM)

    def for_strands(values: FloatArray) -> FloatArray:
        return np.repeat(values, strands_of)[:, np.newaxis]  # (count, 1)

    bundles = strands_of.size
    across = for_strands(rng.uniform(-1, 1, bundles) * outline.semi_axes_um[1]) + rng.normal(
        0, 0.35, (count, 1)
    )
    angle = for_strands(rng.normal(0, 0.16, bundles))
    bend = for_strands(rng.normal(0, 0.0025, bundles))
    x = s * np.cos(angle) - bend * s**2 * np.sin(angle)
    y = across + s * np.sin(angle) + bend * s**2 * np.cos(angle)
    middle, half = for_strands(rng.normal(0, 9, bundles)), for_strands(rng.uniform(7, 26, bundles))
    taper = np.clip((half - np.abs(s - middle)) / 4, 0, 1)
    banding = 1 + 0.3 * np.cos(2 * np.pi * s / 1.3 + rng.uniform(0, 2 * np.pi, (count, 1)))
    strength = for_strands(rng.lognormal(0, 0.45, bundles)) * rng.uniform(0.6, 1.2, (count, 1))
    weight = outline.contains(x, y) * taper * banding * strength * _STEP_UM
    z = for_strands(rng.normal(-0.25, 0.7, bundles)) + np.zeros_like(x)
    fibres = outline.place(x, y, z, weight)
    return PointCloud.joined([fibres, _cortex(outline, rng)])


def _cortex(outline: _Outline, rng: np.random.Generator) -> PointCloud:
    """Return the actin along the cell's edge, stronger in some stretches."""
    polar_angle = np.linspace(0, 2 * np.pi, 900, endpoint=False)
    radius_um = outline.radius_um(polar_angle)
    length_um = radius_um * (polar_angle[1] - polar_angle[0])
    way_um = np.cumsum(length_um)
    at_steps = _smooth_noise(rng, 1, int(way_um[-1] / _STEP_UM) + 2, np.array([17.0, 45.0]))[0]
    noise = at_steps[(way_um / _STEP_UM).astype(np.intp)]
    strength = np.clip(0.9 + 0.8 * noise, 0, 3)
    ruffle_um = radius_um - 0.4 + rng.normal(0, 0.15, polar_angle.size)
    x, y = ruffle_um * np.cos(polar_angle), ruffle_um * np.sin(polar_angle)
    return outline.place(x, y, rng.normal(0, 0.3, x.size), strength * length_um)


def _nucleus(outline: _Outline, rng: np.random.Generator) -> PointCloud:
    """Return a flattened ball of threaded chromatin with dense foci and dark nucleoli."""
    semi_axes_um = rng.uniform([8.5, 5.8], [11.5, 8.0])
    shift_x, shift_y = rng.normal(0, 2.0, 2)
    u, v, z_share = _on_unit_disc(rng, _CHROMATIN_STEP_UM / semi_axes_um)
    thickness = np.sqrt(np.clip(1 - u**2 - v**2, 0, 1))
    texture = np.clip(1 + 0.55 * _threads(rng, u * semi_axes_um[0], v * semi_axes_um[1]), 0.15, 4)
    for centre_u, centre_v in rng.uniform(-0.5, 0.5, (int(rng.integers(1, 4)), 2)):
        texture *= np.where(np.hypot(u - centre_u, v - centre_v) < rng.uniform(0.1, 0.2), 0.35, 1)
    weight = thickness * texture * _CHROMATIN_STEP_UM**2
    z = (z_share - 0.5) * 4.0 * thickness
    return outline.place(u * semi_axes_um[0] + shift_x, v * semi_axes_um[1] + shift_y, z, weight)


def _on_unit_disc(rng: np.random.Generator, step: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return points all over the unit disc, and for each a share in [0, 1) that neighbours do not share."""
    reach = (1 / step).astype(int)
    column, row = (index.ravel() for index in np.mgrid[-reach[0] : reach[0] + 1, -reach[1] : reach[1] + 1])
    u, v = (
        (index + rng.uniform(-0.5, 0.5, index.size)) * along
        for index, along in zip((column, row), step, strict=True)
    )
    inside = np.hypot(u, v) < 1
    return u[inside], v[inside], _spread(column, row)[inside]


def _spread(column: FloatArray, row: FloatArray) -> FloatArray:
    """Return numbers in [0, 1), evenly spread in every neighbourhood of a lattice (Roberts 2018, R2)."""
    return np.asarray((0.7549 * column + 0.5698 * row) % 1)


def _threads(rng: np.random.Generator, x_um: FloatArray, y_um: FloatArray) -> FloatArray:
    """Return a random texture of unit variance at points of a nucleus, with structure of 0.7 to 2.2 um."""
    wave_number = 2 * np.pi / rng.uniform(0.7, 2.2, _THREAD_WAVES)
    direction, phase = rng.uniform(0, 2 * np.pi, (2, _THREAD_WAVES))
    axis_um = np.arange(-12.0, 12.0, 0.1)[:, np.newaxis]
    along_y, along_x = (
        axis_um * wave_number * np.sin(direction) + phase,
        axis_um * wave_number * np.cos(direction),
    )
    raster = _summed(np.cos(along_y), np.cos(along_x)) - _summed(np.sin(along_y), np.sin(along_x))
    row, column = (np.rint((along + 12.0) / 0.1).astype(np.intp) for along in (y_um, x_um))
    return np.asarray(raster[row, column] * np.sqrt(2 / _THREAD_WAVES))


def _summed(along_y: FloatArray, along_x: FloatArray) -> FloatArray:
    """Return the sum over waves of products; without BLAS, whose threads cost more than this."""
    return np.asarray(np.einsum("yk,xk->yx", along_y, along_x))
