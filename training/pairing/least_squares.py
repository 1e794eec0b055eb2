"""The last step of the elastic registration: shifts of the smallest blocks by least squares.

Owns the measurement and the choice of how stiff the final field is. Correlation finds a shift from far, but
both of its images lie under the block's window, and where they are not equally sharp (two apertures, two
planes of focus in a thick specimen) what crosses the border of the window pulls the peak aside, without any
noise. A sum of squared differences has one window and is pulled less, and its normal matrix over its misfit
says how far each block is to be believed (Lucas and Kanade, Proc. IJCAI 1981, 674-679): with the same smooth
field, the two together halve the error on the virtual stand. Knows no placing and no files.
"""

from dataclasses import dataclass

import numpy as np

from training.pairing.elastic import MIN_CORRELATION, MIN_TEXTURE, ElasticSettings, LowGrid, block_centres
from training.pairing.sampling import FloatArray
from training.pairing.smooth_field import fit_lattice, spread

__all__ = ["LeastSquaresBlocks", "least_squares_blocks", "polish"]

STIFFNESSES = (0.1, 1.0, 3.0, 10.0, 30.0)
"""Of the field, in units of `smooth_field.BENDING`; the first follows every block."""
TOLERATED = 0.08
"""By what share the misfit may rise for a stiffer field. On the virtual stand, noise that is no longer
followed accounts for 0.01 to 0.05, in nuclei for somewhat more. Of a deformation of 3 px with a period of
256 px, what is no longer followed accounts for 0.2 at stiffness 1 and 0.8 at 3."""
OUTLIER_PX = 1.0
LARGEST_STEP_PX = 1.0
RIDGE = 0.01
"""Of the mean curvature: along a straight filament, where nothing can be seen, a block stays where it is."""
LEAST_NOISE = 1e-3
"""Of a block's energy; a perfect match is not believed beyond it."""


@dataclass(frozen=True, slots=True)
class LeastSquaresBlocks:
    """What the blocks of a lattice say once the high image is moved by a displacement."""

    shift_yx_px: FloatArray
    """(2, N, M) high pixels, still missing in the displacement."""
    information: FloatArray
    """(3, N, M), yy, xx, yx of the inverse covariance of the shift; 0 for a block that says nothing."""
    left: FloatArray
    """(N, M), energy of low minus high."""
    rows_px: FloatArray
    columns_px: FloatArray

    @property
    def textured(self) -> np.ndarray:
        """Which blocks say something, (N, M)."""
        return np.asarray((self.information[:2] > 0).any(axis=0))


def polish(images: LowGrid, displacement_yx_px: FloatArray, settings: ElasticSettings) -> FloatArray:
    """Return the final displacement, (2, Y, X) high pixels, from one that is right to a fraction of a pixel.

    The distortion of a lens is far smoother than the noise of the blocks, but how smooth is not known: the
    field is made stiffer as long as it explains the low image as well as before.
    """
    best = displacement_yx_px
    softest: LeastSquaresBlocks | None = None
    for stiffness in STIFFNESSES:
        trial = best
        for _ in range(settings.iterations):
            trial, largest_px = _fitted(images, trial, settings.smallest_block_px, stiffness)
            if largest_px < settings.final_tolerance_px:
                break
        blocks = least_squares_blocks(images, trial, settings.smallest_block_px)
        softest = softest or blocks
        if _rise(softest, blocks) > TOLERATED:
            break
        best = trial
    return best


def _rise(before: LeastSquaresBlocks, after: LeastSquaresBlocks) -> float:
    """Return by what share the misfit rose, the mean over the blocks that had texture before.

    A block counts for at most its own misfit: on a tile's border one gains or loses half of its pixels.
    """
    if not before.textured.any():
        return 0.0
    first, second = before.left[before.textured], after.left[before.textured]
    return float(np.clip(second / first - 1, -1, 1).mean())


def _fitted(
    images: LowGrid, displacement: FloatArray, side_px: float, stiffness: float
) -> tuple[FloatArray, float]:
    """Return the field that the blocks ask for, and how far it moved textured blocks, in high pixels.

    Unlike in the pyramid the whole field is fitted anew, not its correction: corrections add up to all the
    roughness that each of them was denied.
    """
    blocks = least_squares_blocks(images, displacement, side_px)
    if not blocks.textured.any():
        return displacement, 0.0
    nodes = np.ix_(np.arange(2), blocks.rows_px.astype(np.intp), blocks.columns_px.astype(np.intp))
    before = displacement[nodes]  # (2, N, M)
    lattice = fit_lattice(before + blocks.shift_yx_px, blocks.information, OUTLIER_PX, stiffness)
    largest = float(np.quantile(np.hypot(*(lattice - before))[blocks.textured], 0.9))
    return spread(lattice, blocks.rows_px, blocks.columns_px, images.low.shape), largest


def least_squares_blocks(
    images: LowGrid, displacement_yx_px: FloatArray, side_px: float
) -> LeastSquaresBlocks:
    """Measure what is still missing in a displacement, in half-overlapping blocks.

    Each block minimises the sum of w (low - g high(q + displacement + shift))^2, linear in the shift, with w
    a Hann window and g the gain of the block, which takes up uneven light.

    Parameters
    ----------
    displacement_yx_px
        (2, Y, X) high pixels.
    side_px
        Side of a block in high pixels.
    """
    b, valid = images.moved(displacement_yx_px)
    slope_y, slope_x = images.moved_slope(displacement_yx_px) * valid
    a, b = images.low * valid, b * valid
    length = round(side_px / images.factor)
    rows, columns = (block_centres(n, length, staggered=False) for n in a.shape)
    down, across = (_hann(n, centres, length) for n, centres in zip(a.shape, (rows, columns), strict=True))

    def total(image: FloatArray) -> FloatArray:
        # einsum, as in smooth_field: the threads of a BLAS would cost more than they save.
        return np.asarray(np.einsum("nx,mx->nm", np.einsum("ny,yx->nx", down, image), across))

    aa, bb, ab, count = total(a * a), total(b * b), total(a * b), total(valid)
    gain = ab / np.maximum(bb, np.float32(1e-20))
    left = np.maximum(aa - gain * ab, np.float32(LEAST_NOISE) * aa)
    correlation = ab / np.sqrt(np.maximum(aa * bb, np.float32(1e-30)))
    filled = max(float(np.quantile(aa, 0.9)), 1e-30)
    textured = (correlation > MIN_CORRELATION) & (aa / filled > MIN_TEXTURE)
    products = np.stack([total(p * q) for p, q in _pairs(slope_y, slope_x)])
    differences = np.stack([total(s * a) - gain * total(s * b) for s in (slope_y, slope_x)])
    curvature = np.asarray(gain**2 * products, dtype=np.float32)  # (3, N, M)
    pull = np.asarray(gain * differences, dtype=np.float32)  # (2, N, M)
    information = curvature * (count / np.maximum(left, np.float32(1e-20)))
    shift = np.clip(_solved(curvature, pull), -LARGEST_STEP_PX, LARGEST_STEP_PX)
    return LeastSquaresBlocks(
        shift_yx_px=np.where(textured, shift, 0).astype(np.float32),
        information=np.where(textured, information, 0).astype(np.float32),
        left=left,
        rows_px=rows.astype(np.float32),
        columns_px=columns.astype(np.float32),
    )


def _pairs(y: FloatArray, x: FloatArray) -> tuple[tuple[FloatArray, FloatArray], ...]:
    """Return what is multiplied for the elements yy, xx, yx of a symmetric matrix."""
    return (y, y), (x, x), (y, x)


def _solved(curvature: FloatArray, pull: FloatArray) -> FloatArray:
    """Return the (2, N, M) solutions of 2 x 2 systems, damped where the matrix has one direction only."""
    yy, xx, yx = curvature
    ridge = np.float32(RIDGE) * np.maximum(yy + xx, np.float32(1e-20))
    yy, xx = yy + ridge, xx + ridge
    determinant = yy * xx - yx * yx
    solved = np.stack([xx * pull[0] - yx * pull[1], yy * pull[1] - yx * pull[0]]) / determinant
    return np.asarray(solved, dtype=np.float32)


def _hann(count: int, centres: np.ndarray, length: int) -> FloatArray:
    """Return a window around each centre, (centres, count); beyond the image it is cut off."""
    away = np.arange(count)[np.newaxis] - centres[:, np.newaxis]
    window = 0.5 + 0.5 * np.cos(2 * np.pi * away / length)
    return np.asarray(np.where(2 * np.abs(away) < length, window, 0), dtype=np.float32)
