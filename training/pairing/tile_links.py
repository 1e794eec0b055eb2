"""The link between two overlapping tiles: how far the second lies from the first, and how surely.

Owns the correlation of two tiles at every offset within the search, the proof that what agrees is one place,
and the offset to a fraction of a pixel with its covariance. A filament that runs along the overlap says
nothing of the way along itself; the covariance says so too. Pure functions of arrays: of a tile only the
strip is looked at that may lie over the other. Knows no more than two tiles at a time.
"""

from dataclasses import dataclass, replace

import numpy as np
from scipy import fft, ndimage

from training.pairing.sampling import FloatArray, Image
from training.pairing.tile_texture import COARSE, FINE, texture

__all__ = ["LINK_ERROR_PX", "MIN_OVERLAP_PX", "Link", "StripPlan", "link_strips", "plan_strips"]

MIN_OVERLAP_PX = 8
MIN_CORRELATION = 0.25
MIN_SIGNIFICANCE = 6.0
"""In standard deviations of the correlation that two unrelated overlaps of that size would have; the
highest of the thousands of offsets that are looked at reaches 4."""
LINK_ERROR_PX = 0.03
"""Of the best link: what distortion and interpolation leave."""
CANDIDATES = 3
LEAST_SHARE = 0.88
"""Two views of one place agree but for the pixels' noise, to 0.95 and more of what it permits; bright spots
that only happen to be alike, to 0.3 to 0.85."""
LARGEST_ERROR_PX = 0.25
"""Standard deviation of a link in its weakest direction. Where so little is to be seen that it would be more,
what agrees may as well be two edges of haze."""
LEAST_PERMITTED = 0.1
"""Of the correlation that noise is taken to leave possible."""
_FIT_PX = 5
"""Reach of the correlations through which the spline goes; the peak lies within 2 px of the middle."""
_STEPS_PER_PX = 16
_FLAT_PX = 30.0
"""Standard deviation of a direction in which the overlap shows nothing."""

Offset = tuple[int, int]


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
    covariance_px2: tuple[float, float, float] = (LINK_ERROR_PX**2, LINK_ERROR_PX**2, 0.0)
    """Of the offset: yy, xx, yx."""
    contradicted: bool = False
    """It had texture, but the other links say otherwise."""


@dataclass(frozen=True, slots=True)
class _Match:
    """One of the places at which two tiles may lie, looked at closely."""

    offset_yx_px: tuple[float, float]
    covariance_px2: tuple[float, float, float]
    share: float
    """Correlation, of that which the pixels' noise leaves possible."""
    evidence: float

    @property
    def convinces(self) -> bool:
        """Whether the two show the same place, and it can be told where."""
        yy, xx, yx = self.covariance_px2
        weakest_px2 = (yy + xx) / 2 + np.hypot((yy - xx) / 2, yx)
        return bool(self.share >= LEAST_SHARE and weakest_px2 <= LARGEST_ERROR_PX**2)


@dataclass(frozen=True, slots=True)
class StripPlan:
    """Which part of two tiles to compare."""

    expected_yx_px: Offset
    """Corner of the second tile minus corner of the first, as the stage says, rounded."""
    search_px: int
    shapes_yx: tuple[Offset, Offset]
    windows: tuple[tuple[slice, slice], tuple[slice, slice]]
    """Of the first and of the second tile: all that may lie over the other within the search."""


def plan_strips(shape_a: Offset, shape_b: Offset, expected_yx_px: Image, search_px: int) -> StripPlan | None:
    """Return what to compare of two tiles, None where the stage says that they do not overlap."""
    expected = (round(float(expected_yx_px[0])), round(float(expected_yx_px[1])))
    in_a, in_b = [], []
    for size_a, size_b, offset in zip(shape_a, shape_b, expected, strict=True):
        if min(size_a, offset + size_b) - max(0, offset) < MIN_OVERLAP_PX:
            return None
        in_a.append(slice(max(0, offset - search_px), min(size_a, offset + size_b + search_px)))
        in_b.append(slice(max(0, -offset - search_px), min(size_b, size_a - offset + search_px)))
    return StripPlan(expected, search_px, (shape_a, shape_b), ((in_a[0], in_a[1]), (in_b[0], in_b[1])))


def link_strips(first: int, second: int, plan: StripPlan, tile_a: Image, tile_b: Image) -> Link:
    """Return the link of two tiles.

    Parameters
    ----------
    tile_a, tile_b
        (C, Y, X) whole tiles, of which only the plan's windows and what the high-pass needs around them
        are looked at.

    Returns
    -------
    Link
        Not accepted, and at the stage's word, where the two have no texture in common.
    """
    a, b = (texture(t, w, COARSE)[0] for t, w in zip((tile_a, tile_b), plan.windows, strict=True))
    correlation, count, chance_px = _correlations(a, b, plan, MIN_OVERLAP_PX)
    matches = []
    for row, column in _candidates(correlation, count, chance_px):
        place = tuple(e - plan.search_px + k for e, k in zip(plan.expected_yx_px, (row, column), strict=True))
        match = _match((place[0], place[1]), plan.shapes_yx, tile_a, tile_b)
        matches.append((match, float(correlation[row, column])))
    convincing = [entry for entry in matches if entry[0].convinces]
    if not convincing:
        expected = (float(plan.expected_yx_px[0]), float(plan.expected_yx_px[1]))
        return Link(first, second, expected, max(0.0, float(correlation.max())), accepted=False)
    match, quality = max(convincing, key=lambda entry: entry[0].evidence)
    return Link(first, second, match.offset_yx_px, quality, True, match.covariance_px2)


def _candidates(correlation: Image, count: Image, chance_px: float) -> list[Offset]:
    """Return the peaks that may be the place, the likeliest first; none where all may be chance."""
    # Logarithm of how much likelier two views of one place are than two of different places.
    evidence = -0.5 * count / chance_px * np.log1p(-(np.clip(correlation, 0, 0.9999) ** 2))
    significance = correlation * np.sqrt(count / chance_px)
    likely = (correlation >= MIN_CORRELATION) & (significance >= MIN_SIGNIFICANCE)
    peaks = np.where(likely & (evidence == ndimage.maximum_filter(evidence, 5)), evidence, 0.0)
    order = np.argsort(peaks, axis=None)[::-1][:CANDIDATES]
    rows, columns = np.unravel_index(order, peaks.shape)
    return [(int(i), int(j)) for i, j in zip(rows, columns, strict=True) if peaks[i, j] > 0]


def _correlations(a: FloatArray, b: FloatArray, plan: StripPlan, least_px: int) -> tuple[Image, Image, float]:
    """Return Pearson's correlation of the overlap at every offset, and what it rests on.

    Returns
    -------
    tuple
        Correlation and number of pixels, both (2S+1, 2S+1) for offsets from expected - S to expected + S, 0
        where the overlap is narrower than `least_px`; and how many pixels count as one independent value
        when unrelated textures are correlated (Bartlett's formula: the coarser they are and the more alike
        their spectra, the more).
    """
    offsets = [e + np.arange(-plan.search_px, plan.search_px + 1) for e in plan.expected_yx_px]
    starts = [(wa.start, wb.start) for wa, wb in zip(*plan.windows, strict=True)]
    # Row u of strip a lies over row u + shift of strip b.
    shifts = [a0 - b0 - offset for (a0, b0), offset in zip(starts, offsets, strict=True)]
    sides = [
        fft.next_fast_len(int(max(la + max(s.max(), 0), lb - min(s.min(), 0))), real=True)
        for la, lb, s in zip(a.shape[-2:], b.shape[-2:], shifts, strict=True)
    ]
    cross = np.conj(fft.rfft2(a, sides)) * fft.rfft2(b, sides)  # (C, V, U)
    power = np.abs(cross) ** 2
    energy = 2 * float(power.sum(dtype=np.float64)) - float(power[..., 0].sum(dtype=np.float64))
    chance_px = energy / (len(a) * sides[0] * sides[1] * a[0].size * b[0].size)
    product = fft.irfft2(cross.sum(axis=0), sides)[np.ix_(shifts[0] % sides[0], shifts[1] % sides[1])]
    spans_a = [_spans(la, lb, s) for la, lb, s in zip(a.shape[-2:], b.shape[-2:], shifts, strict=True)]
    spans_b = [(lo + s, hi + s) for (lo, hi), s in zip(spans_a, shifts, strict=True)]
    rows, columns = (np.maximum(hi - lo, 0) for lo, hi in spans_a)
    area = rows[:, np.newaxis] * columns
    enough = (rows[:, np.newaxis] >= least_px) & (columns >= least_px)
    count = np.where(enough, len(a) * area, 1)
    sum_a, sum_b = _sums(a.sum(axis=0), spans_a), _sums(b.sum(axis=0), spans_b)
    power_a, power_b = _sums((a * a).sum(axis=0), spans_a), _sums((b * b).sum(axis=0), spans_b)
    variance_a, variance_b = power_a - sum_a**2 / count, power_b - sum_b**2 / count
    usable = enough & (variance_a > 1e-6 * count) & (variance_b > 1e-6 * count)
    norm = np.sqrt(np.where(usable, variance_a * variance_b, 1.0))
    correlation = np.where(usable, np.clip((product - sum_a * sum_b / count) / norm, -1, 1), 0.0)
    return correlation, np.where(enough, count, 0), max(chance_px, 1.0)


def _spans(length_a: int, length_b: int, shifts: Image) -> tuple[Image, Image]:
    """Return the first and the last row (exclusive) of a that lies over b, for each shift."""
    low = np.clip(-shifts, 0, length_a)
    return low, np.clip(length_b - shifts, low, length_a)


def _sums(plane: Image, spans: list[tuple[Image, Image]]) -> Image:
    """Return the sums of a plane over every pair of row and column spans, (2S+1, 2S+1)."""
    table = np.zeros((plane.shape[0] + 1, plane.shape[1] + 1))
    table[1:, 1:] = plane.astype(np.float64).cumsum(axis=0).cumsum(axis=1)
    (top, bottom), (left, right) = spans
    return np.asarray(
        table[np.ix_(bottom, right)]
        - table[np.ix_(top, right)]
        - table[np.ix_(bottom, left)]
        + table[np.ix_(top, left)]
    )


def _match(offset_yx_px: Offset, shapes_yx: tuple[Offset, Offset], tile_a: Image, tile_b: Image) -> _Match:
    """Return what the overlap at an offset says when it is looked at closely."""
    overlap = plan_strips(*shapes_yx, np.array(offset_yx_px), 0)
    if overlap is None:  # an offset that leaves no overlap has no correlation
        raise ValueError(f"tiles at {offset_yx_px} do not overlap")
    plan = replace(overlap, search_px=_FIT_PX)
    (a, noise_a), (b, noise_b) = (
        texture(tile, window, FINE) for tile, window in zip((tile_a, tile_b), plan.windows, strict=True)
    )
    correlation, count, _ = _correlations(a, b, plan, MIN_OVERLAP_PX - _FIT_PX)
    # Smoothed noise has one independent value in 4 pi sigma^2 pixels.
    independent = float(count[_FIT_PX, _FIT_PX]) / (4 * np.pi * FINE.smoothing_px**2)
    (dy, dx), r, covariance = _peak(correlation, independent)
    permitted = max(float(np.sqrt((1 - noise_a) * (1 - noise_b))), LEAST_PERMITTED)
    return _Match(
        offset_yx_px=(offset_yx_px[0] + dy, offset_yx_px[1] + dx),
        covariance_px2=covariance,
        share=r / permitted,
        evidence=-0.5 * independent * float(np.log1p(-min(r * r, 0.9999))),
    )


def _peak(
    correlation: Image, independent: float
) -> tuple[tuple[float, float], float, tuple[float, float, float]]:
    """Return where the correlation is highest, from the middle, how high, and the covariance of the place.

    The surface is smooth at this scale, so that a spline through it is the surface itself. At the peak of
    -n/2 log(1 - r^2), the logarithm of the likelihood, minus the second derivatives are the information:
    n r / (1 - r^2) times those of -r.

    Parameters
    ----------
    correlation
        (2F+1, 2F+1).
    independent
        Number of independent values that it rests on, n.
    """
    spline = ndimage.spline_filter(correlation, order=5, mode="mirror")

    def at(y: Image, x: Image) -> Image:
        places = np.stack([y, x]) + _FIT_PX
        return np.asarray(ndimage.map_coordinates(spline, places, order=5, mode="mirror", prefilter=False))

    steps = np.arange(-2 * _STEPS_PER_PX, 2 * _STEPS_PER_PX + 1) / _STEPS_PER_PX
    fine = at(*np.meshgrid(steps, steps, indexing="ij"))
    row, column = np.unravel_index(int(np.argmax(fine)), fine.shape)
    y, x, h = float(steps[row]), float(steps[column]), 1 / _STEPS_PER_PX
    dy, dx = np.repeat([-h, 0, h], 3), np.tile([-h, 0, h], 3)
    design = np.stack([np.ones(9), dy, dx, dy * dy / 2, dx * dx / 2, dy * dx], axis=1)
    _, slope_y, slope_x, yy, xx, yx = np.linalg.lstsq(design, at(y + dy, x + dx), rcond=None)[0]
    r = float(np.clip(fine.max(), 0.05, 0.999))
    noise = (1 - r * r) / (independent * r)
    values, vectors = np.linalg.eigh(-np.array([[yy, yx], [yx, xx]]))
    values = np.maximum(values, noise / _FLAT_PX**2)
    step = vectors @ (vectors.T @ np.array([slope_y, slope_x]) / values)
    # Beyond a step of the fine grid the parabola is that of a ridge.
    y, x = y + float(np.clip(step[0], -h, h)), x + float(np.clip(step[1], -h, h))
    spread = vectors @ np.diag(noise / values + LINK_ERROR_PX**2) @ vectors.T
    return (y, x), float(fine.max()), (float(spread[0, 0]), float(spread[1, 1]), float(spread[0, 1]))
