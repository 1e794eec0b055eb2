"""What there is to do for an enhanced image of any size: one piece of work for every chunk that is written.

Pure geometry. A piece of level 0 enhances: it reads a window of the source, the chunk with a halo of the
network's receptive radius around it, on the pooling grid, so that its pixels are those of the whole image
(as `inference.tiling` has it). A piece of a higher level averages the four chunks below it. Every piece
writes a chunk of its own, so pieces of a level may be done in any order, anywhere, and twice.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from inference.model_package import ServingCard
from inference.tiling import padded_length
from inference.volume import VolumeFacts

__all__ = ["CHUNK_PX", "ChunkPlan", "Piece", "SourceWindow", "source_window"]

CHUNK_PX = 1024
SMALLEST_LEVEL_PX = 1024
"""A level of the pyramid whose longer side is no more than this is the last."""

Window = tuple[slice, slice]


@dataclass(frozen=True, slots=True)
class Piece:
    """One chunk of one level of the enhanced image."""

    level: int
    index: tuple[int, ...]
    """Of the plane, over the leading axes."""
    row: int
    column: int

    @classmethod
    def of_line(cls, line: dict[str, Any]) -> "Piece":
        """Return the piece that a journal's line names."""
        return cls(int(line["level"]), tuple(line["index"]), int(line["row"]), int(line["column"]))

    def line(self) -> dict[str, Any]:
        """Return what a journal says of it."""
        return {"level": self.level, "index": list(self.index), "row": self.row, "column": self.column}


@dataclass(frozen=True, slots=True)
class SourceWindow:
    """What a piece of level 0 reads, and what it keeps of it."""

    read: Window
    """In pixels of the source; a pixel beyond the halo, where there is one, for the upsampling."""
    fed: Window
    """What the network is fed, within the upsampled window."""
    keep: Window
    """The chunk, within what was fed."""


@dataclass(frozen=True, slots=True)
class ChunkPlan:
    """The enhanced image's levels and chunks."""

    leading: tuple[int, ...]
    """Lengths of the axes before Y and X."""
    shape_yx: tuple[int, int]
    """Of level 0."""
    chunk_px: int

    @classmethod
    def of(cls, facts: VolumeFacts, card: ServingCard, chunk_px: int = CHUNK_PX) -> "ChunkPlan":
        """Plan for a source and a model; the chunk's side is rounded up to the model's grid."""
        height, width = (card.factor * length for length in facts.shape_yx)
        grid = math.lcm(card.step, card.factor)
        return cls(facts.shape[:-2], (height, width), padded_length(chunk_px, grid))

    @property
    def levels(self) -> list[tuple[int, int]]:
        """Height and width of every level, in px."""
        height, width = self.shape_yx
        levels = [(height, width)]
        while max(height, width) > SMALLEST_LEVEL_PX:
            height, width = -(-height // 2), -(-width // 2)
            levels.append((height, width))
        return levels

    def chunks(self, level: int) -> tuple[int, int]:
        """Return the number of rows and columns of chunks of a level."""
        height, width = self.levels[level]
        return -(-height // self.chunk_px), -(-width // self.chunk_px)

    def planes(self) -> int:
        """Return the number of planes."""
        return math.prod(self.leading)

    def pieces(self, level: int, index: tuple[int, ...]) -> Iterator[Piece]:
        """Give the pieces of one level of a plane, row after row."""
        rows, columns = self.chunks(level)
        for row in range(rows):
            for column in range(columns):
                yield Piece(level, index, row, column)

    def written(self, piece: Piece) -> Window:
        """Return where a piece's pixels lie in its level."""
        return self._clipped(piece.row, piece.column, self.chunk_px, self.levels[piece.level])

    def below(self, piece: Piece) -> Window:
        """Return the window of the level below that a piece of a higher level is the mean of."""
        return self._clipped(piece.row, piece.column, 2 * self.chunk_px, self.levels[piece.level - 1])

    @staticmethod
    def _clipped(row: int, column: int, side: int, shape_yx: tuple[int, int]) -> Window:
        rows = slice(row * side, min((row + 1) * side, shape_yx[0]))
        return rows, slice(column * side, min((column + 1) * side, shape_yx[1]))


def source_window(plan: ChunkPlan, piece: Piece, card: ServingCard) -> SourceWindow:
    """Return what a piece of level 0 reads of its plane.

    At the image's border there is no halo, as the network has none there either; what the network lacks to
    its step it is given by reflection, as the whole image is.
    """
    halo_px = padded_length(card.receptive_radius_px, math.lcm(card.step, card.factor))
    rows, columns = plan.written(piece)
    height, width = plan.shape_yx
    read_y, fed_y, keep_y = _span(rows, height, halo_px, card.factor)
    read_x, fed_x, keep_x = _span(columns, width, halo_px, card.factor)
    return SourceWindow((read_y, read_x), (fed_y, fed_x), (keep_y, keep_x))


def _span(core: slice, length: int, halo_px: int, factor: int) -> tuple[slice, slice, slice]:
    start, stop = max(0, core.start - halo_px), min(length, core.stop + halo_px)
    first, last = max(0, start // factor - 1), min(length // factor, stop // factor + 1)
    fed = slice(start - first * factor, stop - first * factor)
    return slice(first, last), fed, slice(core.start - start, core.stop - start)
