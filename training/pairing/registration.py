"""One channel of one field: the high tiles brought onto the upsampled low image.

Owns the order of steps (global match of the mosaic, elastic registration of each tile by correlation and at
last by least squares, blur, warp, blend) and the figures that say how well it went. Knows no files and no
gate.

The distortion of an objective belongs to its field of view, so in a mosaic it jumps at every seam, where no
smooth field could follow it. The elastic step therefore moves each tile by its own smooth field against the
one undivided low frame, and the tiles are blended after they were warped. All shifts of a tile are composed
into one field, and each high value is interpolated once from the pixels that the camera delivered.
"""

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from training.pairing.correlation import normalised_correlation
from training.pairing.elastic import ElasticSettings, LowGrid, best_blur, measure_blocks, refine
from training.pairing.global_match import CoarseMatch, fine_match
from training.pairing.least_squares import certainty, polish
from training.pairing.mosaic import Blend, Mosaic
from training.pairing.sampling import FloatArray, Image, block_mean, high_pass
from training.pairing.smooth_field import smallest_jacobian
from training.pairing.tile_view import HIGH_PASS_LOW_PX, TileSampling, TileView

__all__ = ["Registration", "register"]

FIRST_BLUR = 1.0
"""Sigma of the first blur of the high image, in low pixels; generous, since it only has to find the way."""
SHARPEST_BLUR = 0.3
"""Sigma below which blurring is left to the sampling by the low pixel itself."""
LEAST_OVERLAP_LOW_PX = 24
RESIDUAL_BLOCK_PX = 80


@dataclass(frozen=True, slots=True)
class Registration:
    """The high image on the upsampled low grid, and how it got there."""

    high: FloatArray
    """(fY, fX) counts, warped; 0 where no tile lies."""
    covered: FloatArray
    """(fY, fX), 1 where tiles lie."""
    shift_yx_px: tuple[float, float]
    """Of the mosaic against the low image, by the global match."""
    displacement_yx_px: FloatArray
    """(2, Y, X) on the low grid, in high pixels: what the elastic registration adds to the shift."""
    certainty: FloatArray
    """(Y, X) on the low grid, per squared high pixel: see `least_squares.certainty`."""
    blur_px: float
    """Gaussian sigma that brings the high image to the low one's bandwidth, in high pixels."""
    residual_px: float | None
    """Shift that is left, RMS over blocks with texture; None where no block has any."""
    specimen_fraction: float
    """Share of the blocks that have texture."""
    ncc_before: float
    """Correlation of low and blurred high where the stage put them."""
    ncc_after: float
    smallest_jacobian: float
    """Zero or less where a tile's field folds over."""
    matched: bool
    """Whether low and high have anything in common."""
    samplings: tuple[TileSampling, ...]
    """Where in each tile the values of `high` come from: everything that was found, in one field."""


def register(
    low: Image,
    mosaic: Mosaic,
    factor: int,
    coarse: CoarseMatch,
    settings: ElasticSettings | None = None,
) -> Registration:
    """Register the mosaic of one channel to one low frame and warp it.

    Parameters
    ----------
    low
        (Y, X) counts.
    mosaic
        On the upsampled low grid, where the stage puts it.
    coarse
        Of this field, all channels together. Where it found nothing, the stage's word is kept; where this
        channel has nothing to match, the other channels'.
    settings
        None takes METHOD's figures.
    """
    settings = settings or ElasticSettings()
    shift, matched = fine_match(low, mosaic, factor, coarse) if coarse.found else ((0.0, 0.0), False)
    views = _views(low, mosaic, factor, shift)
    # What has nothing in common with the low image (an empty channel) would only follow its own noise.
    found, blur = _elastic(views, settings) if matched else ([_still(view) for view in views], FIRST_BLUR)
    blend = Blend((low.shape[0] * factor, low.shape[1] * factor))
    moves = [Blend((low.shape[0], low.shape[1])) for _ in ("dy", "dx", "certainty")]
    samplings = tuple(view.sampling(field[:2]) for view, field in zip(views, found, strict=True))
    for view, field, sampling in zip(views, found, samplings, strict=True):
        blend.add(sampling.window, view.warp(sampling), sampling.edge_px)
        for move, component in zip(moves, field, strict=True):
            move.add((view.low_rows, view.low_columns), component, sampling.edge_px[::factor, ::factor])
    high, covered = blend.result()
    moved = np.stack([move.result()[0] for move in moves])  # (3, Y, X)
    residual, specimen = _residual(low, high, covered, factor, blur * factor) if matched else (None, 0.0)
    unmoved = mosaic.render((0, 0), high.shape)
    return Registration(
        high=high,
        covered=covered,
        shift_yx_px=shift,
        displacement_yx_px=moved[:2],
        certainty=moved[2],
        blur_px=blur * factor,
        residual_px=residual,
        specimen_fraction=specimen,
        ncc_before=_ncc(low, *unmoved, factor, blur * factor),
        ncc_after=_ncc(low, high, covered, factor, blur * factor),
        smallest_jacobian=min(
            (smallest_jacobian(field[:2] / np.float32(factor)) for field in found), default=1.0
        ),
        matched=matched,
        samplings=samplings,
    )


def _views(low: Image, mosaic: Mosaic, factor: int, shift_yx_px: tuple[float, float]) -> list[TileView]:
    """Return the tiles that meet the low image, where the global match puts them."""
    views = [TileView(number, low, mosaic, shift_yx_px, factor) for number in range(len(mosaic.tiles))]
    return [view for view in views if min(view.shape_low_yx) >= LEAST_OVERLAP_LOW_PX]


def _still(view: TileView) -> FloatArray:
    """Return a field that moves nothing and knows nothing, (3, Y, X)."""
    return np.zeros((3, *view.shape_low_yx), dtype=np.float32)


def _elastic(views: list[TileView], settings: ElasticSettings) -> tuple[list[FloatArray], float]:
    """Return each tile's displacement and certainty on its low window, and the blur in low pixels."""
    sides = settings.block_sides_px()
    fields, blurs = [], []
    for view in views:
        fields.append(refine(view.low_grid(FIRST_BLUR), sides[:1], _still(view)[:2], settings))
        blurs.append(best_blur(view.low_grid(SHARPEST_BLUR), fields[-1]))
    known = [blur for blur in blurs if blur is not None]
    blur = float(np.hypot(SHARPEST_BLUR, np.median(known))) if known else FIRST_BLUR
    return [
        _finished(view.low_grid(blur), field, settings) for view, field in zip(views, fields, strict=True)
    ], blur


def _finished(images: LowGrid, field: FloatArray, settings: ElasticSettings) -> FloatArray:
    """Return a tile's displacement through the rest of the pyramid and the last step, with its certainty."""
    field = polish(images, refine(images, settings.block_sides_px()[1:], field, settings), settings)
    return np.concatenate([field, certainty(images, field, settings)[np.newaxis]])  # (3, Y, X)


def _residual(
    low: Image, high: FloatArray, covered: FloatArray, factor: int, blur_px: float
) -> tuple[float | None, float]:
    """Return the shift that is left, in high pixels, and the share of blocks with texture.

    The blocks are centred where the registration centred none, so that the figure is not the remainder of
    its own fit.
    """
    seen, valid = _as_low(high, covered, factor, blur_px)
    a = high_pass(low.astype(np.float32), valid, HIGH_PASS_LOW_PX)
    b = high_pass(seen, valid, HIGH_PASS_LOW_PX)
    blocks = measure_blocks(a, b, RESIDUAL_BLOCK_PX / factor, staggered=True)
    inside = valid[np.ix_(blocks.rows_px.astype(int), blocks.columns_px.astype(int))] > 0
    textured = inside & (blocks.confidence > 0)
    if not textured.any():
        return None, 0.0
    # What can be seen of a shift (across a filament, not along it) counts, each block by what it knows.
    dy, dx = blocks.shifts.shift_yx_px()[:, textured]
    yy, xx, yx = (blocks.shifts.curvature * blocks.confidence)[:, textured]
    squared = (yy * dy**2 + xx * dx**2 + 2 * yx * dy * dx).sum() / max(0.5 * float((yy + xx).sum()), 1e-30)
    rms_px = float(np.sqrt(max(squared, 0.0))) * factor
    return rms_px, float(textured.sum() / max(inside.sum(), 1))


def _ncc(low: Image, high: FloatArray, covered: FloatArray, factor: int, blur_px: float) -> float:
    seen, valid = _as_low(high, covered, factor, blur_px)
    inside = valid > 0
    return normalised_correlation(low[inside].astype(np.float32), seen[inside]) if inside.any() else 0.0


def _as_low(
    high: FloatArray, covered: FloatArray, factor: int, blur_px: float
) -> tuple[FloatArray, FloatArray]:
    """Return the high image with the low one's bandwidth on the low one's pixels, and where it is valid."""
    weight = np.maximum(ndimage.gaussian_filter(covered, blur_px), np.float32(1e-3))
    blurred = ndimage.gaussian_filter(high * covered, blur_px) / weight
    return block_mean(blurred, factor), (block_mean(covered, factor) > 0.999).astype(np.float32)
