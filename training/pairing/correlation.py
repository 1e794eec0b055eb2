"""Shifts found by correlation: of whole images over a short or any distance, and of many blocks at once.

Owns normalised cross-correlation, phase correlation and the sub-pixel peak. Pure functions of arrays.
Everywhere the shift s means b(q + s) = a(q): how far the content of `b` lies from where `a` shows it.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import fft, optimize

from training.pairing.sampling import FloatArray, Image

__all__ = [
    "BlockShifts",
    "block_shifts",
    "fit_gaussian_peak",
    "masked_correlation",
    "normalised_correlation",
    "phase_correlation",
    "small_shift",
]

Spectrum = np.ndarray[Any, np.dtype[np.complex64]]


@dataclass(frozen=True, slots=True)
class BlockShifts:
    """What the correlation peak of each block says: place, height, and how sharp it is in which direction.

    Along a straight filament a shift cannot be seen, and the peak is a ridge: slope and curvature keep
    what is known across it apart from what is not known along it.
    """

    peak_yx_px: FloatArray
    """(2, N, M), to whole pixels."""
    correlation: FloatArray
    """(N, M), 0 to 1: the normalised cross-correlation at the peak."""
    slope: FloatArray
    """(2, N, M): gradient of the normalised cross-correlation at the peak, per px."""
    curvature: FloatArray
    """(3, N, M): minus its second derivatives yy, xx, yx, per px squared; positive definite."""
    energy: FloatArray
    """(N, M): sum of squares of the first image under the block's window."""

    def shift_yx_px(self) -> FloatArray:
        """Return the sub-pixel shift of each block by itself, (2, N, M), within half a pixel of its peak."""
        yy, xx, yx = self.curvature
        trace = np.maximum(yy + xx, np.float32(1e-12))
        yy, xx = yy + np.float32(0.01) * trace, xx + np.float32(0.01) * trace  # ridges: stay where we are
        determinant = yy * xx - yx * yx
        dy = (xx * self.slope[0] - yx * self.slope[1]) / determinant
        dx = (yy * self.slope[1] - yx * self.slope[0]) / determinant
        return np.asarray(self.peak_yx_px + np.clip(np.stack([dy, dx]), -0.75, 0.75))


def normalised_correlation(a: Image, b: Image) -> float:
    """Return Pearson's correlation of two equally large images, 0 where one is constant."""
    x = (a - a.mean(dtype=np.float64)).astype(np.float32).ravel()
    y = (b - b.mean(dtype=np.float64)).astype(np.float32).ravel()
    # Plain sums: a BLAS product of vectors wakes all its threads and waits for them on a busy machine.
    xx, yy, xy = (float(np.sum(p * q, dtype=np.float64)) for p, q in ((x, x), (y, y), (x, y)))
    return xy / (xx * yy) ** 0.5 if xx > 0 and yy > 0 else 0.0


def fit_gaussian_peak(surface: Image) -> tuple[tuple[float, float], float]:
    """Fit a 2D Gaussian on an offset to a small surface with its peak near the middle.

    Parameters
    ----------
    surface
        (2R + 1, 2R + 1) correlation values.

    Returns
    -------
    tuple
        Position of the peak against the middle, (dy, dx) px, and its height. Where the surface has no
        peak within it, the middle itself.
    """
    radius = surface.shape[0] // 2
    y, x = np.mgrid[-radius : radius + 1, -radius : radius + 1].astype(np.float64)
    low, high = float(surface.min()), float(surface.max())
    span = max(high - low, 1e-12)
    values = (surface.astype(np.float64) - low) / span  # 0 to 1, so that one tolerance fits all

    def misfit(p: Image) -> Image:
        dy, dx = y - p[0], x - p[1]
        model = p[2] * np.exp(-(p[3] * dy * dy + p[4] * dx * dx + p[5] * dy * dx)) + p[6]
        return np.asarray(model - values).ravel()

    start = [0.0, 0.0, 1.0, 1.0 / radius**2, 1.0 / radius**2, 0.0, 0.0]
    fit = optimize.least_squares(misfit, start, method="lm", max_nfev=200)
    dy, dx, height, offset = fit.x[0], fit.x[1], fit.x[2], fit.x[6]
    if not (np.isfinite(fit.x).all() and max(abs(dy), abs(dx)) <= radius and height > 0):
        return (0.0, 0.0), high
    return (float(dy), float(dx)), float((height + offset) * span + low)


def small_shift(a: FloatArray, b: FloatArray, search_px: int) -> tuple[tuple[float, float], float]:
    """Return the sub-pixel shift of b against a, no larger than `search_px`, and the correlation there.

    Parameters
    ----------
    a, b
        (Y, X), of zero mean and fading to zero at the border (the correlation is circular).
    """
    surface = _circular_correlation(a, b)
    norm = float(np.sqrt(np.sum(a * a, dtype=np.float64) * np.sum(b * b, dtype=np.float64)))
    if norm == 0:
        return (0.0, 0.0), 0.0
    reach = min(search_px + 3, (min(surface.shape) - 1) // 2)
    near = _centred(surface, reach, reach)  # (2 reach + 1, 2 reach + 1)
    inner = near[3:-3, 3:-3]
    peak = np.unravel_index(int(np.argmax(inner)), inner.shape)
    py, px = int(peak[0]) + 3, int(peak[1]) + 3
    (dy, dx), height = fit_gaussian_peak(near[py - 3 : py + 4, px - 3 : px + 4])
    return (py - reach + dy, px - reach + dx), height / norm


def _circular_correlation(a: FloatArray, b: FloatArray) -> FloatArray:
    shape = [fft.next_fast_len(n, real=True) for n in a.shape]
    cross = np.conj(fft.rfft2(a, shape)) * fft.rfft2(b, shape)
    return np.asarray(fft.irfft2(cross, shape))


def _centred(surface: FloatArray, reach_y: int, reach_x: int) -> FloatArray:
    """Return shifts -reach to reach of a circular correlation surface, zero in the middle."""
    rows = np.arange(-reach_y, reach_y + 1) % surface.shape[-2]
    columns = np.arange(-reach_x, reach_x + 1) % surface.shape[-1]
    return np.asarray(surface[..., rows[:, None], columns])


def phase_correlation(a: FloatArray, b: FloatArray, search_px: int) -> FloatArray:
    """Return the phase correlation of b against a for shifts -search_px to search_px, (2S+1, 2S+1).

    Parameters
    ----------
    a, b
        (..., Y, X); leading axes (channels that share one shift) are summed.
    """
    shape = [fft.next_fast_len(n + search_px, real=True) for n in a.shape[-2:]]
    cross = np.conj(fft.rfft2(a, shape)) * fft.rfft2(b, shape)
    magnitude = np.abs(cross)
    # Without a floor, frequencies that hold nothing but rounding would vote like all others.
    floor = 1e-3 * magnitude.max(axis=(-1, -2), keepdims=True) + 1e-30
    surface = fft.irfft2(cross / (magnitude + floor), shape)
    surface = surface.reshape(-1, *surface.shape[-2:]).sum(axis=0)
    return _centred(surface, search_px, search_px)


def masked_correlation(a: FloatArray, a_mask: FloatArray, b: FloatArray, b_mask: FloatArray) -> FloatArray:
    """Return the normalised cross-correlation over what both images cover, for every shift of b.

    Every shift is scored by Pearson's correlation over its own overlap (Padfield, IEEE Trans. Image
    Process. 21, 2706 (2012)), so that neither brightness nor the size of the overlap decides. Shifts
    that leave less than a quarter of the largest overlap score 0.

    Parameters
    ----------
    a, a_mask
        (Y, X).
    b, b_mask
        (V, U); masks are 1 where there is a value and 0 elsewhere.

    Returns
    -------
    FloatArray
        (Y + V - 1, X + U - 1); the shift of index (i, j) is (i - (Y - 1), j - (X - 1)).
    """
    full = (a.shape[0] + b.shape[0] - 1, a.shape[1] + b.shape[1] - 1)
    shape = [fft.next_fast_len(n, real=True) for n in full]
    fa, fma, faa = (
        np.conj(fft.rfft2(x.astype(np.float64), shape)) for x in (a * a_mask, a_mask, a * a * a_mask)
    )
    fb, fmb, fbb = (fft.rfft2(x.astype(np.float64), shape) for x in (b * b_mask, b_mask, b * b * b_mask))
    rows, columns = np.arange(1 - a.shape[0], b.shape[0]), np.arange(1 - a.shape[1], b.shape[1])

    def correlate(x: Spectrum, y: Spectrum) -> Image:
        return np.asarray(fft.irfft2(x * y, shape)[np.ix_(rows, columns)])

    count = np.maximum(correlate(fma, fmb), 1e-6)
    sum_a, sum_b = correlate(fa, fmb), correlate(fma, fb)
    covariance = correlate(fa, fb) - sum_a * sum_b / count
    power_a, power_b = correlate(faa, fmb), correlate(fma, fbb)
    variance_a, variance_b = power_a - sum_a * sum_a / count, power_b - sum_b * sum_b / count
    # Rounding of the transforms leaves a trace of variance where an image is constant.
    varied = (variance_a > 1e-9 * power_a.max()) & (variance_b > 1e-9 * power_b.max())
    usable = varied & (count >= 0.25 * count.max())
    norm = np.sqrt(np.where(usable, variance_a * variance_b, 1))
    return np.where(usable, np.clip(covariance / norm, -1, 1), 0).astype(np.float32)


def block_shifts(a: FloatArray, b: FloatArray, search_px: int) -> BlockShifts:
    """Return what the cross-correlation of each block of b with the same block of a says of their shift.

    Parameters
    ----------
    a, b
        (N, M, S, S) blocks, each already under the same window.
    search_px
        The largest shift looked for.
    """
    side = a.shape[-1]
    cross = np.conj(fft.rfft2(a, workers=-1)) * fft.rfft2(b, workers=-1)
    surface = fft.irfft2(cross, (side, side), workers=-1)  # (N, M, S, S)
    reach = min(search_px, side // 2 - 2)
    near = _centred(surface, reach + 1, reach + 1)  # (N, M, 2 reach + 3, 2 reach + 3)
    energy = np.einsum("nmyx,nmyx->nm", a, a)
    norm = np.sqrt(energy * np.einsum("nmyx,nmyx->nm", b, b))
    peak_yx, height, slope, curvature = _peaks(near)
    scale = np.where(norm > 0, 1 / np.maximum(norm, np.float32(1e-30)), 0).astype(np.float32)
    return BlockShifts(
        peak_yx_px=(peak_yx - np.float32(reach + 1)).astype(np.float32),
        correlation=np.clip(height * scale, 0, 1).astype(np.float32),
        slope=slope * scale,
        curvature=_positive(curvature * scale),
        energy=energy,
    )


def _peaks(surface: FloatArray) -> tuple[Image, FloatArray, FloatArray, FloatArray]:
    """Return place, height, slope and curvature at the highest inner pixel of each (N, M, S, S)."""
    n, m, side, _ = surface.shape
    flat = surface[..., 1:-1, 1:-1].reshape(n, m, -1).argmax(axis=-1)
    row, column = flat // (side - 2) + 1, flat % (side - 2) + 1
    i, j = np.ogrid[:n, :m]

    def at(dy: int, dx: int) -> FloatArray:
        return np.asarray(surface[i, j, row + dy, column + dx])

    height = at(0, 0)
    slope = np.float32(0.5) * np.stack([at(1, 0) - at(-1, 0), at(0, 1) - at(0, -1)])  # (2, N, M)
    curve_y, curve_x = 2 * height - at(1, 0) - at(-1, 0), 2 * height - at(0, 1) - at(0, -1)
    mixed = (at(1, -1) + at(-1, 1) - at(1, 1) - at(-1, -1)) / np.float32(4)
    curvature = np.stack([curve_y, curve_x, mixed])
    return np.stack([row, column]), height, slope.astype(np.float32), curvature


def _positive(curvature: FloatArray) -> FloatArray:
    """Limit the mixed term so that the matrix stays positive definite where noise would turn it."""
    curve_y, curve_x, mixed = np.maximum(curvature[0], 0), np.maximum(curvature[1], 0), curvature[2]
    limit = np.float32(0.98) * np.sqrt(curve_y * curve_x)
    return np.stack([curve_y, curve_x, np.clip(mixed, -limit, limit)])
