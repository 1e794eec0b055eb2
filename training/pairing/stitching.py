"""Tiles of one imaging state placed against each other.

Owns the link between two overlapping tiles (phase correlation, checked by the normalised correlation of
the overlap it claims) and the global placement (weighted least squares over all links, with the stage
positions as prior). An overlap without texture makes no link: the tile stays where the stage put it, and
a note says so. Knows nothing of the stage's units: positions come in as pixels.
"""

from dataclasses import dataclass
from itertools import combinations

import numpy as np
from scipy import ndimage

from training.pairing.correlation import fit_gaussian_peak, normalised_correlation, phase_correlation
from training.pairing.sampling import FloatArray, Image, high_pass

__all__ = ["Link", "Placement", "place_tiles"]

MIN_OVERLAP_PX = 8
MIN_CORRELATION = 0.25
MIN_SIGNIFICANCE = 5.0
"""In standard deviations of the correlation that two unrelated overlaps of that size would have."""
SMOOTHING_PX = 1.5
"""Against pixel noise, which two tiles do not share."""
HIGH_PASS_PX = 31
CANDIDATES = 8
STAGE_ERROR_PX = 5.0
LINK_ERROR_PX = 0.2
OUTLIER_PX = 2.0


@dataclass(frozen=True, slots=True)
class Link:
    """What two overlapping tiles say of their places."""

    first: int
    second: int
    offset_yx_px: tuple[float, float]
    """Corner of the second tile minus corner of the first."""
    quality: float
    """Normalised correlation of the overlap, smoothed and high-passed."""
    accepted: bool


@dataclass(frozen=True, slots=True)
class Placement:
    """Where the tiles lie, and what that rests on."""

    corners_yx_px: Image
    """(N, 2)."""
    links: tuple[Link, ...]
    notes: tuple[str, ...]
    """One line for every overlap that fell back to the stage."""


def place_tiles(tiles: list[Image], stage_corners_yx_px: Image, search_px: int = 24) -> Placement:
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
    stage = np.asarray(stage_corners_yx_px, dtype=np.float64)
    textures = [_texture(tile) for tile in tiles]
    pairs = combinations(range(len(tiles)), 2)
    found = (_link(i, j, textures[i], textures[j], stage[j] - stage[i], search_px) for i, j in pairs)
    links = [link for link in found if link is not None]
    corners, used = _solve(stage, [link for link in links if link.accepted])
    corners += (stage - corners).mean(axis=0) if len(tiles) > 1 else 0.0
    final = tuple(link if link in used else _refused(link) for link in links)
    return Placement(corners, final, tuple(_notes(final, len(tiles))))


def _texture(tile: Image) -> FloatArray:
    """Return the fine structure of a tile, (C, Y, X), each channel of unit standard deviation."""
    covered = np.ones(tile.shape[-2:], dtype=np.float32)
    planes = []
    for plane in tile:
        smooth = ndimage.gaussian_filter(plane.astype(np.float32), SMOOTHING_PX)
        fine = high_pass(smooth, covered, HIGH_PASS_PX)
        planes.append(fine / max(float(fine.std()), 1e-12))
    return np.stack(planes)


def _link(
    first: int, second: int, a: FloatArray, b: FloatArray, expected_yx_px: Image, search_px: int
) -> Link | None:
    """Return the link of two tiles, None where the stage says that they do not overlap."""
    expected = np.round(expected_yx_px).astype(int)
    windows = _overlap(a.shape[-2:], b.shape[-2:], expected)
    if windows is None:
        return None
    crop_a, crop_b = a[(..., *windows[0])], b[(..., *windows[1])]
    surface = phase_correlation(_tapered(crop_a), _tapered(crop_b), search_px)
    best, quality, overlap_px = _best_candidate(a, b, expected, surface)
    # Smoothed noise has one independent value in 4 pi sigma^2 pixels.
    significance = quality * np.sqrt(overlap_px * len(a) / (4 * np.pi * SMOOTHING_PX**2))
    accepted = quality >= MIN_CORRELATION and significance >= MIN_SIGNIFICANCE
    offset = _refine(a, b, best) if accepted else expected_yx_px
    return Link(first, second, (float(offset[0]), float(offset[1])), quality, bool(accepted))


def _overlap(
    shape_a: tuple[int, ...], shape_b: tuple[int, ...], offset_yx: Image
) -> tuple[tuple[slice, slice], tuple[slice, slice]] | None:
    """Return the slices of a and of b that show the same place when b's corner lies at `offset_yx`."""
    in_a, in_b = [], []
    for size_a, size_b, offset in zip(shape_a, shape_b, offset_yx, strict=True):
        start, stop = max(0, int(offset)), min(size_a, int(offset) + size_b)
        if stop - start < MIN_OVERLAP_PX:
            return None
        in_a.append(slice(start, stop))
        in_b.append(slice(start - int(offset), stop - int(offset)))
    return (in_a[0], in_a[1]), (in_b[0], in_b[1])


def _tapered(crop: FloatArray) -> FloatArray:
    """Fade a crop to zero at its border, so that the border itself does not correlate."""
    windows = [np.minimum(np.arange(n) + 0.5, n - np.arange(n) - 0.5) for n in crop.shape[-2:]]
    fade = [np.minimum(window / max(1.0, 0.1 * len(window)), 1.0) for window in windows]
    return np.asarray(crop * np.outer(*fade), dtype=np.float32)


def _best_candidate(
    a: FloatArray, b: FloatArray, expected: Image, surface: FloatArray
) -> tuple[Image, float, int]:
    """Return the offset among the highest peaks whose overlap really agrees, its correlation and its size."""
    reach = surface.shape[0] // 2
    peaks = (surface == ndimage.maximum_filter(surface, 3)) * (surface - surface.min())
    order = np.argsort(peaks, axis=None)[::-1][:CANDIDATES]
    best, quality, size = expected, -1.0, 0
    for row, column in zip(*np.unravel_index(order, surface.shape), strict=True):
        # The content of b lies (row, column) further, so its corner lies that much less far.
        offset = expected - (np.array([row, column]) - reach)
        windows = _overlap(a.shape[-2:], b.shape[-2:], offset)
        if windows is None:
            continue
        overlap_a = a[(..., *windows[0])]
        score = normalised_correlation(overlap_a, b[(..., *windows[1])])
        if score > quality:
            best, quality, size = offset, score, overlap_a[0].size
    return best, max(quality, 0.0), size


def _refine(a: FloatArray, b: FloatArray, offset: Image) -> Image:
    """Return the offset to sub-pixel, from a Gaussian fit to the correlation at neighbouring offsets."""
    reach = 2
    surface = np.zeros((2 * reach + 1, 2 * reach + 1))
    for dy, dx in np.ndindex(surface.shape):
        windows = _overlap(a.shape[-2:], b.shape[-2:], offset + np.array([dy, dx]) - reach)
        if windows is not None:
            surface[dy, dx] = normalised_correlation(a[(..., *windows[0])], b[(..., *windows[1])])
    (dy_px, dx_px), _ = fit_gaussian_peak(surface)
    return np.asarray(offset + np.clip([dy_px, dx_px], -1.0, 1.0))


def _solve(stage: Image, links: list[Link]) -> tuple[Image, list[Link]]:
    """Return the corners of least squares, and the links that were used: the worst outliers are dropped."""
    used = list(links)
    while True:
        corners = _least_squares(stage, used)
        misfits = [np.hypot(*(corners[k.second] - corners[k.first] - k.offset_yx_px)) for k in used]
        if not misfits or max(misfits) <= OUTLIER_PX:
            return corners, used
        del used[int(np.argmax(misfits))]


def _least_squares(stage: Image, links: list[Link]) -> Image:
    count = len(stage)
    rows = np.zeros((len(links) + count, count))
    values = np.zeros((len(links) + count, 2))
    for k, link in enumerate(links):
        weight = link.quality / LINK_ERROR_PX
        rows[k, link.second], rows[k, link.first] = weight, -weight
        values[k] = weight * np.array(link.offset_yx_px)
    rows[len(links) :] = np.eye(count) / STAGE_ERROR_PX
    values[len(links) :] = stage / STAGE_ERROR_PX
    return np.linalg.lstsq(rows, values, rcond=None)[0]


def _refused(link: Link) -> Link:
    return Link(link.first, link.second, link.offset_yx_px, link.quality, accepted=False)


def _notes(links: tuple[Link, ...], tiles: int) -> list[str]:
    notes = [
        f"overlap of tiles {k.first} and {k.second} has no common texture (correlation {k.quality:.2f}); "
        "it does not hold them together"
        for k in links
        if not k.accepted
    ]
    held = {tile for k in links if k.accepted for tile in (k.first, k.second)}
    loose = [tile for tile in range(tiles) if tile not in held]
    if tiles > 1:
        notes += [f"tile {tile} is placed by the stage alone" for tile in loose]
    return notes
