"""The pyramidal elastic registration: what a global shift leaves, block by block, finer and finer.

Owns METHOD step 5. Works on the low camera's own grid, where the low image holds all that it knows and an
upsampled one would hold no more at four times the cost: the high image, blurred to the low one's
bandwidth, is sampled at the centres of the low pixels, moved by the field found so far, and compared
block by block. Both then alias alike at the fixed point, so undersampling does not bias it. What is left
of a pixel after the smallest blocks is `least_squares`'s. Knows no placing, no files and not how the final
warp is done.
"""

from dataclasses import dataclass

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from scipy import fft

from training.pairing.correlation import BlockShifts, block_shifts
from training.pairing.mosaic import edge_distance
from training.pairing.sampling import FloatArray, sample
from training.pairing.smooth_field import fit_lattice, spread

__all__ = ["ElasticSettings", "LowGrid", "best_blur", "block_centres", "measure_blocks", "refine"]

MIN_CORRELATION = 0.3
"""Two blocks of noise of 32 x 32 px seldom correlate more; what gets through has little weight."""
MIN_TEXTURE = 0.02
"""A block holds texture when its energy exceeds this share of the energy of the well-filled blocks."""


@dataclass(frozen=True, slots=True)
class ElasticSettings:
    """The figures of METHOD step 5, in pixels of the high image."""

    largest_block_px: int = 256
    smallest_block_px: int = 64
    division: float = 1.2
    iterations: int = 5
    """At each block side; fewer when the tolerance is reached."""
    tolerance_px: float = 0.2
    final_tolerance_px: float = 0.02
    """Of the smallest blocks once they are fitted by least squares; nothing finer will correct them."""

    def block_sides_px(self) -> list[float]:
        """Return the block sides from the largest to the smallest."""
        sides = [float(self.largest_block_px)]
        while sides[-1] / self.division > self.smallest_block_px:
            sides.append(sides[-1] / self.division)
        return [*sides, float(self.smallest_block_px)]


@dataclass(frozen=True, slots=True)
class LowGrid:
    """The two images as the low camera's grid sees them."""

    low: FloatArray
    """(Y, X), high-passed."""
    high: FloatArray
    """(V, U), blurred and high-passed."""
    spline: FloatArray
    """(V, U), the same as coefficients of a cubic spline. Linear interpolation pulls every position towards
    whole pixels: a period of 6 px by 0.02 px, one of 4 px by 0.05 px. That is enough to find the way by."""
    slope_yx: FloatArray
    """(2, V, U), the gradient of the same image, per px."""
    centres_yx_px: FloatArray
    """(2, Y, X): where the centre of each low pixel lies in `high` when nothing is deformed."""
    factor: int

    def moved(self, displacement_yx_px: FloatArray, *, exactly: bool = True) -> tuple[FloatArray, FloatArray]:
        """Return the high image at the low pixels, moved by (2, Y, X) high pixels, and where it is valid."""
        positions = self.centres_yx_px + displacement_yx_px
        valid = edge_distance(positions, self.high.shape) >= 0
        image, order = (self.spline, 3) if exactly else (self.high, 1)
        return sample(image, positions, order), valid.astype(np.float32)

    def moved_slope(self, displacement_yx_px: FloatArray) -> FloatArray:
        """Return the gradient of the high image at the low pixels, moved, (2, Y, X) per high pixel."""
        positions = self.centres_yx_px + displacement_yx_px
        return np.stack([sample(slope, positions, order=1) for slope in self.slope_yx])


@dataclass(frozen=True, slots=True)
class Blocks:
    """A lattice of blocks with what was measured on it."""

    shifts: BlockShifts
    """In low pixels."""
    confidence: FloatArray
    """(N, M), 0 for a block without texture or agreement."""
    rows_px: FloatArray
    columns_px: FloatArray


def refine(
    images: LowGrid, sides_px: list[float], start_yx_px: FloatArray, settings: ElasticSettings
) -> FloatArray:
    """Register through the given block sides and return the displacement, (2, Y, X) in high pixels.

    Parameters
    ----------
    sides_px
        Block sides in high pixels, decreasing.
    start_yx_px
        (2, Y, X), the displacement to begin with, on the low grid.
    """
    displacement = start_yx_px
    for side in sides_px:
        for _ in range(settings.iterations):
            step, largest_px = _step(images, displacement, side)
            displacement = displacement + step
            if largest_px < settings.tolerance_px:
                break
    return displacement


def _step(images: LowGrid, displacement: FloatArray, side_px: float) -> tuple[FloatArray, float]:
    """Return one correction, (2, Y, X) in high pixels, and its size over the confident blocks."""
    moved, valid = images.moved(displacement, exactly=False)
    blocks = measure_blocks(images.low * valid, moved * valid, side_px / images.factor)
    information = blocks.shifts.curvature * blocks.confidence
    lattice = fit_lattice(blocks.shifts.shift_yx_px(), information, outlier_px=0.5)
    lattice = lattice * np.float32(images.factor)  # now high pixels
    confident = blocks.confidence > 0
    if not confident.any():
        return np.zeros_like(displacement), 0.0
    largest = float(np.quantile(np.hypot(*lattice)[confident], 0.9))
    return spread(lattice, blocks.rows_px, blocks.columns_px, images.low.shape), largest


def measure_blocks(a: FloatArray, b: FloatArray, side: float, *, staggered: bool = False) -> Blocks:
    """Measure the shift of b against a in half-overlapping blocks whose centres reach to the borders.

    Parameters
    ----------
    a, b
        (Y, X) of zero mean, 0 where there is no value.
    side
        Side of a block in pixels of these images; rounded to a length that transforms fast.
    staggered
        Shift the lattice by a quarter of a block, to places where no block was centred before.
    """
    length = fft.next_fast_len(max(8, round(side)), real=True)
    length += length % 2
    rows, columns = (block_centres(n, length, staggered) for n in a.shape)
    window = np.hanning(length + 1)[:-1].astype(np.float32)
    taper = np.outer(window, window)
    cut_a, cut_b = (_cut(image, rows, columns, length) * taper for image in (a, b))  # (N, M, S, S)
    shifts = block_shifts(cut_a, cut_b, search_px=max(3, length // 4))
    return Blocks(shifts, _confidence(shifts), rows.astype(np.float32), columns.astype(np.float32))


def block_centres(count: int, length: int, staggered: bool) -> np.ndarray:
    """Return the centres of the blocks along one axis, the outermost on the image's borders."""
    steps = max(2, round((count - 1) / (length / 2)))
    centres = np.linspace(0, count - 1, steps + 1)
    if staggered:
        centres = centres[:-1] + 0.5 * (centres[1] - centres[0])
    return np.rint(centres).astype(np.intp)


def _cut(image: FloatArray, rows: np.ndarray, columns: np.ndarray, length: int) -> FloatArray:
    """Return the blocks around the given centres, zero beyond the image, (N, M, S, S)."""
    padded = np.pad(image, length // 2)
    views = sliding_window_view(padded, (length, length))  # (Y + 1, X + 1, S, S)
    return np.asarray(views[rows[:, None], columns[None, :]])


def _confidence(shifts: BlockShifts) -> FloatArray:
    """Return how far each block is to be believed.

    The variance of a shift found by correlation goes as the noise that is left over the gradient energy
    (the Cramer-Rao bound); with band-limited texture of one kind that is (1 - r^2) / (r^2 energy), with
    the energy in units of what a well-filled block has.
    """
    r = np.where(shifts.correlation > MIN_CORRELATION, shifts.correlation, 0)
    filled = max(float(np.quantile(shifts.energy, 0.9)), 1e-30)
    share = np.minimum(shifts.energy / filled, 1)
    confident = r * r / (1 - r * r + 0.02) * np.sqrt(share)
    return np.where(share > MIN_TEXTURE, confident, 0).astype(np.float32)


def best_blur(images: LowGrid, displacement_yx_px: FloatArray, side: int = 32) -> float | None:
    """Return the Gaussian sigma, in low pixels, that makes the high image most like the low one.

    The cross-spectrum of aligned blocks, averaged over all blocks and over rings of equal frequency, gives
    the correlation that any blur would reach, without blurring anything. None where no block has texture.
    """
    moved, valid = images.moved(displacement_yx_px)
    rows, columns = (block_centres(n, side, staggered=False) for n in images.low.shape)
    window = np.hanning(side + 1)[:-1].astype(np.float32)
    taper = np.outer(window, window)
    a, b = (_cut(image * valid, rows, columns, side) * taper for image in (images.low, moved))
    shifts = block_shifts(a, b, search_px=4)
    usable = _confidence(shifts) > 0
    if not usable.any():
        return None
    ky, kx = 2 * np.pi * fft.fftfreq(side)[:, None], 2 * np.pi * fft.rfftfreq(side)[None, :]
    dy, dx = (shifts.shift_yx_px()[i][usable][:, None, None] for i in (0, 1))
    aligned = fft.rfft2(b[usable]) * np.exp(1j * (ky * dy + kx * dx))
    cross = np.real(np.conj(fft.rfft2(a[usable])) * aligned).sum(axis=0)
    power = (np.abs(aligned) ** 2).sum(axis=0)
    sigmas = np.arange(0, 4.01, 0.05)[:, None, None]
    gain = np.exp(-0.5 * sigmas**2 * (ky**2 + kx**2))
    score = (gain * cross).sum(axis=(1, 2)) / np.sqrt((gain**2 * power).sum(axis=(1, 2)))
    return float(sigmas[int(score.argmax()), 0, 0])
