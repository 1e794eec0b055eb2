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

__all__ = ["LeastSquaresBlocks", "certainty", "least_squares_blocks", "polish"]

SOFTEST = 0.1
"""Stiffness of a field that follows every block, in units of `smooth_field.BENDING`."""
STIFFER = (1.0, 3.0, 10.0, 30.0)
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
    """What the blocks of a lattice say once the high image is moved by a displacement.

    Moved further by u, a block leaves the energy left - 2 pull u + u^T curvature u.
    """

    shift_yx_px: FloatArray
    """(2, N, M) high pixels, still missing in the displacement."""
    information: FloatArray
    """(3, N, M), yy, xx, yx of the inverse covariance of the shift; 0 for a block that says nothing."""
    left: FloatArray
    """(N, M), energy of low minus high."""
    pull: FloatArray
    """(2, N, M)."""
    curvature: FloatArray
    """(3, N, M), yy, xx, yx."""
    rows_px: FloatArray
    columns_px: FloatArray

    @property
    def textured(self) -> np.ndarray:
        """Which blocks say something, (N, M)."""
        return np.asarray((self.information[:2] > 0).any(axis=0))

    @property
    def nodes(self) -> tuple[np.ndarray, ...]:
        """Index of the lattice in a (2, Y, X) field."""
        return np.ix_(np.arange(2), self.rows_px.astype(np.intp), self.columns_px.astype(np.intp))

    def rise(self, move_yx_px: FloatArray) -> float:
        """Return by what share moves of (2, N, M) high pixels would raise the misfit of a textured block.

        The mean over the blocks; one counts for at most its own misfit.
        """
        if not self.textured.any():
            return 0.0
        (y, x), (yy, xx, yx) = move_yx_px, self.curvature
        rise = y * (yy * y - 2 * self.pull[0]) + x * (xx * x - 2 * self.pull[1]) + 2 * yx * y * x
        return float(np.clip(rise[self.textured] / self.left[self.textured], -1, 1).mean())


def certainty(images: LowGrid, displacement_yx_px: FloatArray, settings: ElasticSettings) -> FloatArray:
    """Return how well the displacement is known at each pixel of the low grid, (Y, X) per squared high pixel.

    The inverse variance of the shift of one smallest block, in the direction that shows least; 0 where
    nothing shows. The smooth field, which joins many blocks, is known better.
    """
    blocks = least_squares_blocks(images, displacement_yx_px, settings.smallest_block_px)
    yy, xx, yx = blocks.information
    least = 0.5 * (yy + xx) - np.sqrt(0.25 * (yy - xx) ** 2 + yx**2)  # the smaller eigenvalue
    lattice = np.maximum(least, 0)[np.newaxis]  # (1, N, M)
    return np.asarray(spread(lattice, blocks.rows_px, blocks.columns_px, images.low.shape, degree=1)[0])


def polish(images: LowGrid, displacement_yx_px: FloatArray, settings: ElasticSettings) -> FloatArray:
    """Return the final displacement, (2, Y, X) high pixels, from one that is right to a fraction of a pixel.

    The distortion of a lens is far smoother than the noise of the blocks, but how smooth is not known: the
    field is made stiffer as long as it explains the low image as well as before.
    """
    field = _converged(images, displacement_yx_px, settings, SOFTEST)
    blocks = least_squares_blocks(images, field, settings.smallest_block_px)
    stiffness = SOFTEST
    for stiffer in STIFFER:
        if blocks.rise(_fitted(blocks, field, stiffer) - field[blocks.nodes]) > TOLERATED:
            break
        stiffness = stiffer
    return _converged(images, field, settings, stiffness)


def _converged(
    images: LowGrid, displacement: FloatArray, settings: ElasticSettings, stiffness: float
) -> FloatArray:
    """Return the field of one stiffness that the blocks ask for, once it has come to rest."""
    for _ in range(settings.iterations):
        blocks = least_squares_blocks(images, displacement, settings.smallest_block_px)
        if not blocks.textured.any():
            break
        lattice = _fitted(blocks, displacement, stiffness)
        moved_px = np.hypot(*(lattice - displacement[blocks.nodes]))[blocks.textured]
        displacement = spread(lattice, blocks.rows_px, blocks.columns_px, images.low.shape)
        if float(np.quantile(moved_px, 0.9)) < settings.final_tolerance_px:
            break
    return displacement


def _fitted(blocks: LeastSquaresBlocks, displacement: FloatArray, stiffness: float) -> FloatArray:
    """Return the lattice, (2, N, M) high pixels, that blocks measured at a displacement ask for.

    Unlike in the pyramid the whole field is fitted anew, not its correction: corrections add up to all the
    roughness that each of them was denied.
    """
    wanted = displacement[blocks.nodes] + blocks.shift_yx_px
    return fit_lattice(wanted, blocks.information, OUTLIER_PX, stiffness)


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
        pull=pull,
        curvature=curvature,
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
