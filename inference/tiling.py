"""Cuts an image into tiles that a network can be run on, and puts the results together without seams.

Pure geometry. A tile's core is what is kept of it; around the core lies a halo of at least the network's
receptive radius, so that each kept pixel is computed from the very same neighbourhood as in the whole
image. All origins lie on the pooling grid, or the pooling would mix other pixels than in the whole image.
"""

from collections.abc import Iterator
from dataclasses import dataclass

__all__ = ["Tile", "padded_length", "plan_tiles"]


@dataclass(frozen=True, slots=True)
class Tile:
    """One tile of an image, as slices."""

    read: tuple[slice, slice]
    """What is fed to the network, core and halo, in image pixels (Y, X)."""
    keep: tuple[slice, slice]
    """The core within what was read."""
    write: tuple[slice, slice]
    """The core in image pixels."""


def padded_length(length: int, step: int, minimum: int = 1) -> int:
    """Return the least multiple of `step` that is at least `length` and `minimum`, in px."""
    needed = max(length, minimum)
    return -(-needed // step) * step


def plan_tiles(shape_yx: tuple[int, int], core_px: int, halo_px: int, step: int) -> list[Tile]:
    """Plan tiles whose cores cover the image exactly once.

    Parameters
    ----------
    shape_yx
        Height and width, multiples of `step`.
    core_px
        Side of a core; rounded up to a multiple of `step`.
    halo_px
        The network's receptive radius; rounded up to a multiple of `step`. At the image's border there is
        no halo, as the network has none there either.
    step
        The network's pooling grid.
    """
    core, halo = padded_length(core_px, step), padded_length(halo_px, step)
    return [
        Tile((ry, rx), (ky, kx), (wy, wx))
        for ry, ky, wy in _spans(shape_yx[0], core, halo)
        for rx, kx, wx in _spans(shape_yx[1], core, halo)
    ]


def _spans(length: int, core: int, halo: int) -> Iterator[tuple[slice, slice, slice]]:
    for start in range(0, length, core):
        stop = min(start + core, length)
        read_start, read_stop = max(0, start - halo), min(length, stop + halo)
        keep = slice(start - read_start, stop - read_start)
        yield slice(read_start, read_stop), keep, slice(start, stop)
