"""Bright spots: where they stand alone, how wide they are, whether two are told apart or one is torn in two.

Owns the measures of a point-spread function in an image (METHOD, "What the paper compares"): spots are picked
in one image, the truth, and a two-dimensional Gaussian is fitted at the same places of every other. All
spots are fitted at once, in numpy. Pure functions of arrays: knows no specimen, no microscope and no
network.
"""

from typing import Any

import numpy as np
from scipy import ndimage

__all__ = ["fit_spots", "isolated_spots", "peaks_between", "split_spots"]

FloatArray = np.ndarray[Any, np.dtype[np.float64]]
BoolArray = np.ndarray[Any, np.dtype[np.bool_]]
Image = np.ndarray[Any, np.dtype[Any]]
Places = np.ndarray[Any, np.dtype[Any]]
"""(N, 2) places (y, x) in px; a whole number is the centre of a pixel."""

WINDOW_PX = 19
"""Of the paper: 577 nm at its 30-nm pixels."""
FWHM_OF_SIGMA = float(2 * np.sqrt(2 * np.log(2)))
STEPS = 40
SMALLEST_STEP = 1e-4
"""Of all parameters, as a part of their scale, below which a fit has ended."""
AT_ONCE = 500
"""Spots fitted together: a quarter of their Jacobian fits a processor's cache."""
LEAST_DIP = 0.1
"""Between two peaks, in parts of the lower one. Rayleigh's criterion has 0.26; at Sparrow's there is none."""
LEAST_SHARE = 0.25
"""Of the higher peak, that the lower one must have; a smaller one may be noise beside it."""
SAMPLES = 61
"""Along the line through two places."""


def isolated_spots(
    image: Image, window_px: int = WINDOW_PX, *, least_height: float, least_neighbour: float | None = None
) -> Places:
    """Return the bright spots that have a window to themselves.

    Parameters
    ----------
    image
        (Y, X).
    window_px
        Side of the window, odd. No other spot stands in it, and it lies within the image.
    least_height
        Of a spot's peak, above the median of the image and smoothed by a Gaussian of 1 px.
    least_neighbour
        Of a peak that spoils another's window; a tenth of `least_height` by default.

    Returns
    -------
    Places
        (N, 2) pixels (y, x) of the peaks, the brightest first.
    """
    smooth = ndimage.gaussian_filter(image.astype(np.float64), 1.0)
    smooth -= np.median(smooth)
    least = least_height / 10 if least_neighbour is None else least_neighbour
    peaks = (smooth >= ndimage.maximum_filter(smooth, 3)) & (smooth >= least)
    crowd = window_px**2 * ndimage.uniform_filter(peaks.astype(np.float64), window_px)  # peaks in each window
    alone = peaks & (crowd < 1.5) & (smooth >= least_height)
    places = np.argwhere(alone)
    half = window_px // 2
    inside = ((places >= half) & (places < np.array(image.shape) - half)).all(axis=1)
    places = places[inside]
    return places[np.argsort(-smooth[tuple(places.T)], kind="stable")]


def fit_spots(image: Image, places_yx: Places, window_px: int = WINDOW_PX) -> FloatArray:
    """Return the full widths at half maximum of Gaussians fitted to spots.

    Least squares, all pixels alike, over height, place, width along either axis and background
    (Levenberg-Marquardt, each spot with its own damping).

    Parameters
    ----------
    image
        (Y, X).
    places_yx
        (N, 2) about the middles of the spots.
    window_px
        Side of the part of the image that is fitted, odd.

    Returns
    -------
    FloatArray
        (N,) px, the geometric mean of both axes; NaN where there is no window within the image, or no spot:
        a fit that does not end, is darker than its background, as wide as the window or centred outside its
        middle half.
    """
    half = window_px // 2
    corners = np.rint(places_yx).astype(int).reshape(-1, 2) - half
    whole = ((corners >= 0) & (corners + window_px <= np.array(image.shape))).all(axis=1)
    widths = np.full(len(corners), np.nan)
    if not whole.any():
        return widths
    windows = np.lib.stride_tricks.sliding_window_view(image, (window_px, window_px))
    chosen = np.flatnonzero(whole)
    for start in range(0, chosen.size, AT_ONCE):
        part = chosen[start : start + AT_ONCE]
        values = windows[tuple(corners[part].T)].reshape(part.size, -1).astype(np.float64)  # (N, P)
        widths[part] = _fitted(values, window_px)
    return widths


def peaks_between(
    image: Image,
    first_yx: Places,
    second_yx: Places,
    *,
    least_dip: float = LEAST_DIP,
    least_share: float = LEAST_SHARE,
) -> BoolArray:
    """Say of pairs of places whether the image shows two peaks there.

    Along the line through both places each must have its own peak, no farther from it than a third of their
    distance, and between them the image must fall.

    Parameters
    ----------
    image
        (Y, X), above the background.
    first_yx, second_yx
        (N, 2) each.
    least_dip
        By how much it falls, in parts of the lower peak.
    least_share
        Of the lower peak in the higher one.

    Returns
    -------
    BoolArray
        (N,).
    """
    along = np.linspace(-1 / 3, 4 / 3, SAMPLES)
    first, second = (np.asarray(places, dtype=np.float64).reshape(-1, 2) for places in (first_yx, second_yx))
    line = first[:, np.newaxis] + along[:, np.newaxis] * (second - first)[:, np.newaxis]  # (N, S, 2)
    profile = ndimage.map_coordinates(image.astype(np.float64), line.transpose(2, 0, 1), order=3)  # (N, S)
    near_first, near_second = along <= 1 / 3, along >= 2 / 3
    start = profile[:, near_first].argmax(axis=1)
    end = profile[:, near_second].argmax(axis=1) + int(np.flatnonzero(near_second)[0])
    number = np.arange(SAMPLES)
    between = (number >= start[:, np.newaxis]) & (number <= end[:, np.newaxis])
    lowest = np.where(between, profile, np.inf).min(axis=1)
    heights = np.take_along_axis(profile, np.stack([start, end], axis=1), axis=1)  # (N, 2)
    lower, higher = heights.min(axis=1), heights.max(axis=1)
    return np.asarray((lower > 0) & (lower >= least_share * higher) & (lowest <= (1 - least_dip) * lower))


def split_spots(
    image: Image,
    places_yx: Places,
    radius_px: float,
    *,
    least_dip: float = LEAST_DIP,
    least_share: float = LEAST_SHARE,
) -> BoolArray:
    """Say of single spots whether the image shows more than one peak there.

    Parameters
    ----------
    image
        (Y, X), above the background.
    places_yx
        (N, 2) of spots that stand alone.
    radius_px
        Around the place, within which a second peak counts.
    least_dip, least_share
        As `peaks_between`.

    Returns
    -------
    BoolArray
        (N,).
    """
    peaks = np.argwhere(image >= ndimage.maximum_filter(image, 3))
    highest, others, owners = [], [], []
    for number, place in enumerate(np.asarray(places_yx, dtype=np.float64).reshape(-1, 2)):
        near = peaks[np.hypot(*(peaks - place).T) <= radius_px]
        order = np.argsort(-image[tuple(near.T)], kind="stable")
        rest = near[order[1:]]
        others.append(rest)
        highest.append(near[np.repeat(order[:1], len(rest))])
        owners.append(np.full(len(rest), number))
    split = np.zeros(len(owners), dtype=bool)
    if owners:
        # All at once: the image is made a spline once, not once a spot.
        apart = peaks_between(
            image,
            np.concatenate(highest),
            np.concatenate(others),
            least_dip=least_dip,
            least_share=least_share,
        )
        split[np.concatenate(owners)[apart]] = True
    return split


def _fitted(values: FloatArray, window_px: int) -> FloatArray:
    """Return the widths of spots in windows, (N,) px, NaN where there is none; values are (N, P)."""
    axis = np.arange(window_px) - window_px // 2.0
    y, x = (grid.ravel() for grid in np.meshgrid(axis, axis, indexing="ij"))  # (P,) each
    unit = np.maximum(np.ptp(values, axis=1, keepdims=True), 1e-30)
    values = values / unit
    fit = _start(values, y, x)
    damping = np.full(len(fit), 1e-2)
    error = _residual(fit, values, y, x)
    going = np.ones(len(fit), dtype=bool)
    for _ in range(STEPS):
        step = _step(fit[going], error[going], damping[going], y, x)
        trial = fit[going] + step
        trial_error = _residual(trial, values[going], y, x)
        better = (trial_error**2).sum(axis=1) < (error[going] ** 2).sum(axis=1)
        moved = np.flatnonzero(going)[better]
        fit[moved], error[moved] = trial[better], trial_error[better]
        damping[going] = np.clip(damping[going] * np.where(better, 0.2, 5.0), 1e-9, 1e9)
        scale = np.array([1.0, window_px, window_px, window_px, window_px, 1.0])
        going[np.flatnonzero(going)[np.abs(step / scale).max(axis=1) < SMALLEST_STEP]] = False
        if not going.any():
            break
    sigma = np.abs(fit[:, 3:5])
    sound = ~going & (fit[:, 0] > 0) & (sigma > 0.2).all(axis=1)
    sound &= (FWHM_OF_SIGMA * sigma < window_px).all(axis=1)
    sound &= (np.abs(fit[:, 1:3]) <= window_px / 4).all(axis=1)
    return np.where(sound, FWHM_OF_SIGMA * np.sqrt(sigma.prod(axis=1)), np.nan)


def _start(values: FloatArray, y: FloatArray, x: FloatArray) -> FloatArray:
    """Return guesses (N, 6): height, y, x, sigma along y and x, background."""
    background = np.median(values, axis=1)
    near = np.hypot(y, x) <= np.hypot(y, x).max() / 3
    height = np.quantile(values[:, near], 0.98, axis=1) - background
    above = np.clip(values - background[:, np.newaxis] - 0.5 * height[:, np.newaxis], 0, None)
    above = above * near
    light = np.maximum(above.sum(axis=1), 1e-30)
    sigma = np.sqrt(np.maximum((above > 0).sum(axis=1), 4) / np.pi) / (FWHM_OF_SIGMA / 2)  # area at half
    return np.stack([height, above @ y / light, above @ x / light, sigma, sigma, background], axis=1)


def _shape(fit: FloatArray, y: FloatArray, x: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return distances along y and x over sigma, and the Gaussian of height 1: (N, P) each."""
    v = (y - fit[:, 1:2]) / fit[:, 3:4]
    u = (x - fit[:, 2:3]) / fit[:, 4:5]
    return v, u, np.exp(-(v**2 + u**2) / 2)


def _residual(fit: FloatArray, values: FloatArray, y: FloatArray, x: FloatArray) -> FloatArray:
    *_, shape = _shape(fit, y, x)
    return np.asarray(values - fit[:, :1] * shape - fit[:, 5:])


def _step(
    fit: FloatArray, error: FloatArray, damping: FloatArray, y: FloatArray, x: FloatArray
) -> FloatArray:
    """Return Levenberg-Marquardt steps, (N, 6)."""
    v, u, shape = _shape(fit, y, x)
    slope = fit[:, :1] * shape  # (N, P)
    jacobian = np.stack(
        [
            shape,
            slope * v / fit[:, 3:4],
            slope * u / fit[:, 4:5],
            slope * v**2 / fit[:, 3:4],
            slope * u**2 / fit[:, 4:5],
            np.ones_like(shape),
        ],
        axis=1,
    )  # (N, 6, P)
    normal = jacobian @ jacobian.transpose(0, 2, 1)  # (N, 6, 6)
    diagonal = np.einsum("nii->ni", normal)
    diagonal += damping[:, np.newaxis] * diagonal + 1e-12
    return np.asarray(np.linalg.solve(normal, jacobian @ error[..., np.newaxis])[..., 0])
