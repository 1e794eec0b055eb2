"""The histograms of the widths of spots, one for each image, each with its median and its Gaussian fit.

Plain arrays come in, HTML with an SVG inside goes out. Knows nothing of how spots are found and measured.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy import optimize

from training.evaluation.report.inline_svg import LOOKS, QUIET, plot_html
from training.evaluation.report.plots import WIDTH_INCHES, Sample

__all__ = ["gaussian_of", "width_histograms"]

FloatArray = np.ndarray[Any, np.dtype[np.float64]]

BINS = 40
LEAST_FITTED = 8
"""Values for a Gaussian fit."""
PEAK_SIGMAS = 3.0
"""Around the median, which is the main peak of a histogram."""
SIGMA_OF_DEVIATION = 1.4826
"""The standard deviation of a normal distribution over its median absolute deviation."""


def width_histograms(samples: Sequence[Sample], caption: str, *, unit: str = "µm") -> str:
    """Plot the histogram of widths of spots for each image, with its median and its Gaussian fit.

    Parameters
    ----------
    samples
        Full widths at half maximum, one sample for each image. The median of the one whose role is the truth
        is marked in all.
    unit
        Of the widths.
    """
    everything = np.concatenate([sample.known for sample in samples])
    highest = float(np.percentile(everything, 99)) if everything.size else 1.0
    edges = np.linspace(0, 1.15 * highest, BINS + 1)
    truth = next((np.median(s.known) for s in samples if s.role == "truth" and s.known.size), None)

    def draw(figure: Figure) -> None:
        rows = figure.subplots(len(samples), 1, sharex=True, squeeze=False)[:, 0]
        for axis, sample in zip(rows, samples, strict=True):
            _draw_widths(axis, sample, edges, unit)
            if truth is not None:
                axis.axvline(truth, color=QUIET, linestyle=":", linewidth=1.2)
        rows[-1].set_xlabel(f"full width at half maximum ({unit}); dotted: median of the truth")
        figure.supylabel("spots", fontsize=9)

    return plot_html(draw, (WIDTH_INCHES, 0.55 + 1.05 * len(samples)), caption)


def _draw_widths(axis: Axes, sample: Sample, edges: FloatArray, unit: str) -> None:
    look, values = LOOKS[sample.role], sample.known
    axis.set_title(f"{sample.name}\n{_width_words(values, unit)}", fontsize=8, loc="left", pad=2)
    axis.hist(
        values, bins=edges.tolist(), color=look.colour, alpha=0.45, edgecolor=look.colour, linewidth=0.5
    )
    axis.grid(visible=False, axis="y")
    axis.locator_params(axis="y", nbins=3, integer=True)
    if values.size:
        axis.axvline(float(np.median(values)), color=look.colour, linewidth=1.6)
    fit = gaussian_of(values)
    if fit is not None:
        mean, sigma = fit
        x = np.linspace(edges[0], edges[-1], 300)
        light = values.size * (edges[1] - edges[0])
        axis.plot(x, light * _gaussian(x, mean, sigma), color="black", linewidth=1)


def _width_words(values: FloatArray, unit: str) -> str:
    if not values.size:
        return "no spot could be fitted"
    words = f"median {np.median(values):#.3g} {unit}, {values.size} spots"
    fit = gaussian_of(values)
    return words if fit is None else f"{words}, Gaussian {fit[0]:#.3g} ± {fit[1]:#.2g} {unit}"


def gaussian_of(values: FloatArray) -> tuple[float, float] | None:
    """Return mean and standard deviation of a Gaussian fitted to the main peak of the values' histogram.

    The peak is what lies within three standard deviations of the median, told by the median absolute
    deviation, so that a tail of touching spots does not widen it. None of fewer than eight values, and of
    values that are all alike.
    """
    middle = float(np.median(values)) if values.size else 0.0
    spread = SIGMA_OF_DEVIATION * float(np.median(np.abs(values - middle))) if values.size else 0.0
    if values.size < LEAST_FITTED or spread <= 0:
        return None
    reach = PEAK_SIGMAS * spread
    bins = int(np.clip(2 * np.sqrt(values.size), 8, 40))
    counts, edges = np.histogram(values, bins, (middle - reach, middle + reach))
    density = counts / (values.size * (edges[1] - edges[0]))
    try:
        fit, _ = optimize.curve_fit(
            lambda x, share, mean, sigma: share * _gaussian(x, mean, sigma),
            (edges[1:] + edges[:-1]) / 2, density, (1.0, middle, spread),
        )  # fmt: skip
    except RuntimeError:  # it does not converge on a histogram without a peak
        return None
    return float(fit[1]), abs(float(fit[2]))


def _gaussian(x: FloatArray, mean: float, sigma: float) -> FloatArray:
    return np.asarray(np.exp(-0.5 * ((x - mean) / sigma) ** 2) / (sigma * np.sqrt(2 * np.pi)))
