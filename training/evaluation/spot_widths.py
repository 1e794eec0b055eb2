"""How wide a point is in input, output and truth: the paper's measurement of the point spread.

METHOD, "What the paper compares": bright spots picked in the truth, a window around each, the same places in
every image, a two-dimensional Gaussian fitted to each, the histogram of the widths, and a one-dimensional
Gaussian fitted to the histogram's main peak (Wang et al., Nature Methods 16, 103-110 (2019), Methods). The
search and the fit are those of `spots`. Pure functions of arrays, all on one pixel grid; pool the widths of
several fields before the histogram is made.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import optimize

from training.evaluation.noise import background_noise
from training.evaluation.not_measurable import NotMeasurableError, check_image, check_side
from training.evaluation.spots import fit_spots, isolated_spots

__all__ = ["SpotWidths", "WidthHistogram", "bright_spots", "spot_widths", "width_histogram", "window_px_of"]

Image = np.ndarray[Any, np.dtype[Any]]
FloatArray = np.ndarray[Any, np.dtype[np.float64]]
Places = np.ndarray[Any, np.dtype[Any]]
"""(N, 2) places (y, x) in px; a whole number is the centre of a pixel."""

LEAST_WINDOW_PX = 7
"""A Gaussian of six parameters wants some background beside it."""
WIDEST_OF_WINDOW = 2 / 3
"""In the truth; what is wider is no point: a window is twice as wide as the input's point spread."""
LEAST_HEIGHT_OF_NOISE = 4.0
"""Of a spot smoothed by 1 px, over the noise of a pixel."""
NEIGHBOUR_OF_NOISE = 1.4
"""The same of a peak that spoils another's window: five times the noise that such smoothing leaves (0.28)."""
LEAST_HEIGHT_OF_FULL = 0.1
"""Of a spot, over the brightest parts of the image: fainter ones are not bright spots."""
FULL_PERCENTILE = 99.9
LEAST_SPOTS = 5
"""For a median."""
LEAST_FITTED = 0.6
"""The share of the spots that must be fitted: those that fail are the narrow ones, where points are
undersampled (FWHM below 2 px) and noisy (SNR about 5), and the median of the others is 6 % too wide."""
LEAST_FOR_HISTOGRAM = 20
REACH_OF_HISTOGRAM = 6.0
"""To either side of the median, in robust standard deviations; widths beyond are counted, but not drawn."""
LEAST_SPREAD = 1e-6
"""Of the median, below which widths do not differ."""
OF_MAD = 1.4826
"""The standard deviation of a normal distribution over its median absolute deviation."""
FOOT_OF_PEAK = 0.3
"""Of the smoothed histogram's highest bin, down to which the bins around it belong to the main peak."""


@dataclass(frozen=True, slots=True)
class SpotWidths:
    """Full widths at half maximum of the same spots in one image."""

    widths_um: FloatArray
    """(N,) one for each place, NaN where no Gaussian could be fitted; the median passes those over."""
    median_um: float
    fitted: int
    """Of the N places."""


@dataclass(frozen=True, slots=True)
class WidthHistogram:
    """The distribution of widths and its main peak."""

    edges_um: FloatArray
    """(B + 1,) of the bins."""
    counts: FloatArray
    """(B,)."""
    peak_um: float
    """Centre of the Gaussian fitted to the main peak: the paper's figure."""
    peak_std_um: float
    peak_count: float
    """Height of that Gaussian, in spots a bin."""
    median_um: float
    outside: int
    """Widths too far from the median to be drawn."""


def window_px_of(input_fwhm_um: float, pixel_size_um: float) -> int:
    """Return the side of the window for the fits: odd, about twice the input's width, at least 7 px.

    The paper's 19 px follow from its confocal input, 290 nm wide, and its pixels of 30 nm.

    Parameters
    ----------
    input_fwhm_um
        Of a point in the low-resolution image; 0.51 wavelength / NA where it was not measured.
    pixel_size_um
        Of the grid on which all images lie.
    """
    return max(2 * int(input_fwhm_um / pixel_size_um) + 1, LEAST_WINDOW_PX)


def bright_spots(truth: Image, window_px: int, *, least_height: float | None = None) -> Places:
    """Return the spots of the truth that are bright, stand alone and are points.

    Parameters
    ----------
    truth
        (Y, X), 48 px or more to a side.
    window_px
        Of `window_px_of`. No other spot stands in it, and the spot is narrower than two thirds of it.
    least_height
        Of a spot smoothed by 1 px, above the median of the image, in its units. By default 4 times the noise
        of a pixel, and a tenth of the 99.9th percentile above the median.

    Returns
    -------
    Places
        (N, 2) pixels (y, x), the brightest first.

    Raises
    ------
    NotMeasurableError
        Of an image that is too small, constant or holds NaN, and where there is no such spot.
    """
    check_image(truth, "the truth")
    check_side(truth, max(window_px, 48), "the truth")
    noise = _noise_of(truth)
    if least_height is None:
        full = float(np.percentile(truth, FULL_PERCENTILE) - np.median(truth))
        least_height = max(LEAST_HEIGHT_OF_NOISE * noise, LEAST_HEIGHT_OF_FULL * full)
    least_neighbour = max(least_height / 10, NEIGHBOUR_OF_NOISE * noise)
    places = isolated_spots(
        truth, window_px, least_height=max(least_height, 1e-30), least_neighbour=least_neighbour
    )
    narrow = fit_spots(truth, places, window_px) < WIDEST_OF_WINDOW * window_px  # NaN is not
    if not narrow.any():
        msg = f"there are no spots in the truth that stand alone in {window_px} px and are points"
        raise NotMeasurableError(msg)
    return places[narrow]


def spot_widths(image: Image, places_yx: Places, pixel_size_um: float, window_px: int) -> SpotWidths:
    """Return how wide an image shows the spots that were picked in its truth.

    Parameters
    ----------
    image
        (Y, X) on the truth's grid: the truth itself, an output, or the input brought there.
    places_yx
        (N, 2) of `bright_spots`.
    pixel_size_um
        Of that grid.
    window_px
        As `bright_spots` was given.

    Raises
    ------
    NotMeasurableError
        Of an image that is constant or holds NaN, of fewer than five spots, and where fewer than 60 % of them
        can be fitted.
    """
    check_image(image)
    widths_um = pixel_size_um * fit_spots(image, places_yx, window_px)
    known = widths_um[np.isfinite(widths_um)]
    if len(widths_um) < LEAST_SPOTS:
        msg = f"{_count(len(widths_um))} stand alone; a median width wants {LEAST_SPOTS}"
        raise NotMeasurableError(msg)
    if known.size < LEAST_FITTED * widths_um.size:
        msg = f"only {known.size} of {_count(widths_um.size)} of the truth can be fitted in the image"
        raise NotMeasurableError(msg)
    return SpotWidths(widths_um, float(np.median(known)), int(known.size))


def width_histogram(widths_um: FloatArray) -> WidthHistogram:
    """Return the histogram of widths and the Gaussian fitted to its main peak.

    Bins are 2 IQR / N**(1/3) wide (Freedman & Diaconis 1981). The main peak is the highest bin of the
    histogram smoothed over three, with all bins around it that stand above 0.3 of it; to these a Gaussian
    is fitted by least squares, each bin weighted by its Poisson error.

    Parameters
    ----------
    widths_um
        (N,) of `spot_widths`, of one or of many fields; NaN is left out.

    Raises
    ------
    NotMeasurableError
        Of fewer than twenty widths, of widths that are all alike, and where the main peak is no Gaussian.
    """
    known = np.asarray(widths_um, dtype=np.float64)
    known = known[np.isfinite(known)]
    if known.size < LEAST_FOR_HISTOGRAM:
        msg = f"{_count(known.size)} could be fitted; a distribution of widths wants {LEAST_FOR_HISTOGRAM}"
        raise NotMeasurableError(msg)
    counts, edges_um = _histogram(known)
    peak_count, peak_um, peak_std_um = _main_peak(counts, edges_um)
    return WidthHistogram(
        edges_um=edges_um,
        counts=counts,
        peak_um=peak_um,
        peak_std_um=peak_std_um,
        peak_count=peak_count,
        median_um=float(np.median(known)),
        outside=int(known.size - counts.sum()),
    )


def _noise_of(image: Image) -> float:
    try:
        return background_noise(image).std
    except NotMeasurableError:  # A simulated truth has none.
        return 0.0


def _count(spots: int) -> str:
    return {0: "no spots", 1: "one spot"}.get(spots, f"{spots} spots")


def _histogram(widths_um: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return counts (B,) and edges (B + 1,)."""
    median = float(np.median(widths_um))
    spread = OF_MAD * float(np.median(np.abs(widths_um - median)))
    if spread <= LEAST_SPREAD * median:
        msg = f"the widths of {widths_um.size} spots are all alike; they have no distribution"
        raise NotMeasurableError(msg)
    low = max(median - REACH_OF_HISTOGRAM * spread, float(widths_um.min()))
    high = min(median + REACH_OF_HISTOGRAM * spread, float(widths_um.max()))
    step = 2 * float(np.subtract(*np.percentile(widths_um, [75, 25]))) / widths_um.size ** (1 / 3)
    counts, edges = np.histogram(widths_um, bins=max(int(np.ceil((high - low) / step)), 5), range=(low, high))
    return counts.astype(np.float64), edges


def _main_peak(counts: FloatArray, edges_um: FloatArray) -> tuple[float, float, float]:
    """Return height, centre and standard deviation of the Gaussian fitted to the highest peak."""
    centres = (edges_um[1:] + edges_um[:-1]) / 2
    step = float(edges_um[1] - edges_um[0])
    smooth = np.convolve(counts, np.ones(3) / 3, "same")
    top = int(smooth.argmax())
    below = np.flatnonzero(smooth < FOOT_OF_PEAK * smooth[top])
    first = int(below[below < top].max(initial=-1)) + 1
    beyond = int(below[below > top].min(initial=counts.size))
    # With fewer than five bins there is nothing to fit three parameters to.
    first, beyond = max(min(first, top - 2), 0), min(max(beyond, top + 3), counts.size)
    x, y = centres[first:beyond], counts[first:beyond]
    start = (smooth[top], centres[top], max(x.size / 3, 1) * step)
    try:
        fit, _ = optimize.curve_fit(_gaussian, x, y, p0=start, sigma=np.sqrt(np.maximum(y, 1)))
    except (RuntimeError, TypeError) as error:  # no convergence; fewer bins than parameters
        msg = "the main peak of the widths is no Gaussian"
        raise NotMeasurableError(msg) from error
    height, centre, std = float(fit[0]), float(fit[1]), abs(float(fit[2]))
    if not (height > 0 and x[0] <= centre <= x[-1] and std <= edges_um[-1] - edges_um[0]):
        msg = "the main peak of the widths is no Gaussian"
        raise NotMeasurableError(msg)
    return height, centre, std


def _gaussian(x: FloatArray, height: float, centre: float, std: float) -> FloatArray:
    return np.asarray(height * np.exp(-0.5 * ((x - centre) / std) ** 2))
