"""Tiles of one imaging state placed against each other: a few in memory, or thousands, read as needed.

Owns which tiles are neighbours, the order in which they are read, and the global placement: sparse least
squares over all links, each by its own covariance, with the stage as prior (every tile's own error, of known
size), and links that contradict the others given less and less weight until they have none. An overlap
without texture makes no link: the tile stays where the stage put it, and a note says so. Tiles that links
tie together keep the mean place that the stage gave them. Knows nothing of the stage's units: positions come
in as pixels.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from scipy import sparse
from scipy.sparse.csgraph import connected_components
from scipy.sparse.linalg import splu
from scipy.spatial import KDTree

from training.pairing.sampling import Image
from training.pairing.tile_links import Link, StripPlan, link_strips, plan_strips

__all__ = ["Link", "Placement", "Progress", "ReadTile", "place_tiles", "place_tiles_lazily"]

STAGE_ERROR_PX = 10.0
"""Standard deviation of a tile's own stage error. Loose: a chain of fifty links, each good to a twentieth of
a pixel, outweighs it, and only what no link says is left to it."""
TOLERANCE_PX = 0.25
"""By which links may contradict each other without suspicion: distortion, drift between exposures."""
HUBER, TUKEY = 1.5, 8.0
"""In units of the tolerance, or of the links' own scatter where that is larger: beyond the first a link
weighs less, beyond the second nothing."""
ROUNDS = 8
LEAST_LONG_SIDE = 0.25
"""Of the tile's side: where two tiles only touch corners, what they share is too little to be worth it."""
BAND_TILES = 2.5
"""Width of a band, in tiles without their overlap: two or three columns of a grid."""
CACHE_TILES = 8
"""What a band needs at a time: a row of it, the one before, and the tiles across its border."""

ReadTile = Callable[[int], Image]
"""Gives tile k, (C, Y, X)."""
Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Placement:
    """Where the tiles lie, and what that rests on."""

    corners_yx_px: Image
    """(N, 2)."""
    links: tuple[Link, ...]
    notes: tuple[str, ...]
    """One line for every overlap and every tile that fell back to the stage."""
    alone: tuple[int, ...] = ()
    """Tiles that no link holds: they lie where the stage says."""
    islands: tuple[tuple[int, ...], ...] = ()
    """Groups of tiles that links hold together but do not tie to the largest group: the mean of each lies
    where the stage says."""


def place_tiles(tiles: Sequence[Image], stage_corners_yx_px: Image, search_px: int = 24) -> Placement:
    """Place tiles by their overlaps, with the stage as prior.

    Parameters
    ----------
    tiles
        (C, Y, X) each; the channels of a tile share its place.
    stage_corners_yx_px
        (N, 2), where the stage says the first pixel of each tile lies.
    search_px
        The largest error of the stage that is looked for.

    Returns
    -------
    Placement
        The mean of the corners is the stage's: what moves all tiles alike is not the stitching's to say.
    """
    shapes = np.array([tile.shape[-2:] for tile in tiles]).reshape(-1, 2)
    return place_tiles_lazily(lambda k: tiles[k], shapes, stage_corners_yx_px, search_px)


def place_tiles_lazily(
    read: ReadTile,
    shapes_yx: Image,
    stage_corners_yx_px: Image,
    search_px: int = 24,
    progress: Progress | None = None,
) -> Placement:
    """Place tiles that are read when they are needed, `CACHE_TILES` at a time.

    Parameters
    ----------
    read
        Gives tile k, (C, Y, X). Tiles of a grid are read twice at most, whatever its size.
    shapes_yx
        (N, 2), or (2,) where all tiles are alike.
    stage_corners_yx_px, search_px
        As for `place_tiles`.
    progress
        Called with overlaps compared and overlaps in all.
    """
    stage = np.asarray(stage_corners_yx_px, dtype=np.float64).reshape(-1, 2)
    shapes = np.broadcast_to(np.asarray(shapes_yx, dtype=int), stage.shape)
    pairs = _neighbours(stage, shapes, search_px)
    tile = lru_cache(maxsize=CACHE_TILES)(read)
    links = []
    for done, (first, second, plan) in enumerate(pairs, start=1):
        links.append(link_strips(first, second, plan, tile(first), tile(second)))
        if progress is not None:
            progress(done, len(pairs))
    corners, final = _solve(stage, links)
    alone, islands = _alone(final, len(stage)), _islands(final, len(stage))
    return Placement(corners, final, _notes(final, alone, islands), alone, islands)


def _neighbours(stage: Image, shapes: Image, search_px: int) -> list[tuple[int, int, StripPlan]]:
    """Return the pairs of tiles to compare, in an order that needs few tiles at a time."""
    if len(stage) < 2:
        return []
    largest = shapes.max(axis=0)
    near = KDTree(stage / largest).query_pairs(1.0, p=np.inf)
    rank = _reading_order(stage, largest)
    found = []
    for pair in near:
        first, second = min(pair), max(pair)
        sides = tuple((int(shapes[k][0]), int(shapes[k][1])) for k in (first, second))
        offset = stage[second] - stage[first]
        plan = plan_strips(sides[0], sides[1], offset, search_px)
        if plan is not None and _long_enough(plan):
            order = sorted((int(rank[first]), int(rank[second])), reverse=True)
            found.append((order, (first, second, plan)))
    return [link for _, link in sorted(found, key=lambda entry: entry[0])]


def _long_enough(plan: StripPlan) -> bool:
    shares = []
    for size_a, size_b, offset in zip(*plan.shapes_yx, plan.expected_yx_px, strict=True):
        shares.append((min(size_a, offset + size_b) - max(0, offset)) / min(size_a, size_b))
    return max(shares) >= LEAST_LONG_SIDE


def _reading_order(stage: Image, tile_yx: Image) -> Image:
    """Return the rank of each tile, (N,): down one band of a few tiles' width after the other."""
    steps = (stage - stage.min(axis=0)) / tile_yx
    order = np.lexsort((steps[:, 1], steps[:, 0], np.floor(steps[:, 1] / BAND_TILES)))
    rank = np.empty(len(stage), dtype=int)
    rank[order] = np.arange(len(stage))
    return rank


def _solve(stage: Image, links: list[Link]) -> tuple[Image, tuple[Link, ...]]:
    """Return the corners, (N, 2), and the links, with those refused that contradict the others."""
    ties = [k for k, link in enumerate(links) if link.accepted]
    if not ties:
        return stage.copy(), tuple(links)
    system = _System(stage, [links[k] for k in ties])
    weights = np.ones(len(ties))
    for number in range(2 * ROUNDS):
        misfits = system.misfits(system.solve(weights))
        # The median of a Rayleigh distribution is 1.18 standard deviations.
        scaled = misfits / max(1.0, float(np.median(misfits)) / 1.18)
        if number < ROUNDS:  # convex: from anywhere to near the truth
            weights = np.minimum(1.0, HUBER / np.maximum(scaled, 1e-9))
        else:
            weights = np.maximum(1 - (scaled / TUKEY) ** 2, 0.0) ** 2
    used = weights > 0
    corners = stage + system.solve(used.astype(np.float64))
    final = list(links)
    for k, kept in zip(ties, used, strict=True):
        if not kept:
            final[k] = replace(links[k], accepted=False, contradicted=True)
    return corners, tuple(final)


class _System:
    """The normal equations of the corrections to the stage; 2 N unknowns, y and x of each tile in turn."""

    def __init__(self, stage: Image, links: list[Link]) -> None:
        self._count = len(stage)
        self._first = np.array([link.first for link in links])
        self._second = np.array([link.second for link in links])
        offsets = np.array([link.offset_yx_px for link in links])
        self._asked = offsets - (stage[self._second] - stage[self._first])  # (L, 2)
        yy, xx, yx = np.array([link.covariance_px2 for link in links]).T
        covariance = np.stack([np.stack([yy, yx], -1), np.stack([yx, xx], -1)], -2)  # (L, 2, 2)
        self._information = np.linalg.inv(covariance)
        self._suspicion = np.linalg.inv(covariance + TOLERANCE_PX**2 * np.eye(2))

    def solve(self, weights: Image) -> Image:
        """Return the corrections of least squares, (N, 2), with the links weighted, (L,)."""
        blocks = weights[:, np.newaxis, np.newaxis] * self._information
        rows, columns, values = [], [], []
        for one, other, sign in (
            (self._first, self._first, 1),
            (self._second, self._second, 1),
            (self._first, self._second, -1),
            (self._second, self._first, -1),
        ):
            for i, j in np.ndindex(2, 2):
                rows.append(2 * one + i)
                columns.append(2 * other + j)
                values.append(sign * blocks[:, i, j])
        unknowns = 2 * self._count
        places = (np.concatenate(rows), np.concatenate(columns))
        matrix = sparse.coo_matrix((np.concatenate(values), places), shape=(unknowns, unknowns)).tocsc()
        matrix += sparse.identity(unknowns, format="csc") / STAGE_ERROR_PX**2
        pull = np.einsum("lij,lj->li", blocks, self._asked)
        right = np.zeros((self._count, 2))
        np.add.at(right, self._second, pull)
        np.add.at(right, self._first, -pull)
        solution = splu(matrix, permc_spec="MMD_AT_PLUS_A").solve(right.ravel())
        return np.asarray(solution.reshape(-1, 2))

    def misfits(self, corrections: Image) -> Image:
        """Return how far the links are from a solution, (L,), in standard deviations with the tolerance."""
        rest = corrections[self._second] - corrections[self._first] - self._asked
        return np.asarray(np.sqrt(np.einsum("li,lij,lj->l", rest, self._suspicion, rest)))


def _alone(links: Sequence[Link], tiles: int) -> tuple[int, ...]:
    held = {tile for link in links if link.accepted for tile in (link.first, link.second)}
    return tuple(tile for tile in range(tiles) if tile not in held) if tiles > 1 else ()


def _islands(links: Sequence[Link], tiles: int) -> tuple[tuple[int, ...], ...]:
    """Return the groups of linked tiles but for the largest one."""
    ties = [(link.first, link.second) for link in links if link.accepted]
    if not ties:
        return ()
    first, second = np.array(ties).T
    graph = sparse.coo_matrix((np.ones(len(ties)), (first, second)), shape=(tiles, tiles))
    _, label = connected_components(graph, directed=False)
    sizes = np.bincount(label)
    groups = [number for number in np.argsort(-sizes, kind="stable") if sizes[number] > 1]
    return tuple(tuple(int(k) for k in np.flatnonzero(label == number)) for number in groups[1:])


def _notes(links: Sequence[Link], alone: Sequence[int], islands: Sequence[Sequence[int]]) -> tuple[str, ...]:
    notes = []
    for link in links:
        if link.accepted:
            continue
        why = "contradicts the others" if link.contradicted else "has no common texture"
        notes.append(
            f"overlap of tiles {link.first} and {link.second} {why} (correlation {link.quality:.2f}); "
            "it does not hold them together"
        )
    notes += [f"tile {tile} is placed by the stage alone" for tile in alone]
    for group in islands:
        listed = ", ".join(map(str, group[:10])) + (f" and {len(group) - 10} more" if len(group) > 10 else "")
        notes.append(f"tiles {listed} hold together, but only the stage ties them to the others")
    return tuple(notes)
