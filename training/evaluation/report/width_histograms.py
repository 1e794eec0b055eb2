"""The histograms of the widths of spots, one for each image, each with its median and its Gaussian fit.

Plain arrays come in, HTML with an SVG inside goes out. How spots are found, measured and fitted is
`training.evaluation.spot_widths`'s business.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from training.evaluation.not_measurable import NotMeasurableError
from training.evaluation.report.inline_svg import LOOKS, QUIET, plot_html
from training.evaluation.report.plots import WIDTH_INCHES, Sample
from training.evaluation.spot_widths import WidthHistogram, width_histogram

__all__ = ["width_histograms"]

FloatArray = np.ndarray[Any, np.dtype[np.float64]]

BINS = 40


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
    look, values, peak = LOOKS[sample.role], sample.known, _peak(sample.known)
    axis.set_title(f"{sample.name}\n{_width_words(values, peak, unit)}", fontsize=8, loc="left", pad=2)
    axis.hist(
        values, bins=edges.tolist(), color=look.colour, alpha=0.45, edgecolor=look.colour, linewidth=0.5
    )
    axis.grid(visible=False, axis="y")
    axis.locator_params(axis="y", nbins=3, integer=True)
    if values.size:
        axis.axvline(float(np.median(values)), color=look.colour, linewidth=1.6)
    if peak is not None:
        x = np.linspace(edges[0], edges[-1], 300)
        own_bin, drawn_bin = peak.edges_um[1] - peak.edges_um[0], edges[1] - edges[0]
        height = peak.peak_count * drawn_bin / own_bin
        gaussian = height * np.exp(-0.5 * ((x - peak.peak_um) / peak.peak_std_um) ** 2)
        axis.plot(x, gaussian, color="black", linewidth=1)


def _peak(values: FloatArray) -> WidthHistogram | None:
    try:
        return width_histogram(values)
    except NotMeasurableError:
        return None


def _width_words(values: FloatArray, peak: WidthHistogram | None, unit: str) -> str:
    if not values.size:
        return "no spot could be fitted"
    words = f"median {np.median(values):#.3g} {unit}, {values.size} spots"
    if peak is None:
        return words
    return f"{words}, main peak {peak.peak_um:#.3g} ± {peak.peak_std_um:#.2g} {unit}"
