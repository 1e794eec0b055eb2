"""The plots of a report: spectra, ring correlation, a figure over fields, calibration.

Owns what each plot shows and how it is labelled; `width_histograms` is beside it. Plain arrays come in, HTML
with an SVG inside goes out. Knows nothing of evaluations, methods or files.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from training.evaluation.report.inline_svg import LOOKS, QUIET, Look, Role, plot_html

__all__ = [
    "WIDTH_INCHES",
    "Curve",
    "Sample",
    "calibration_plot",
    "profile_plot",
    "ratio_db",
    "ring_correlation_plot",
    "spectra_plot",
    "strip_plot",
]

FloatArray = np.ndarray[Any, np.dtype[np.float64]]

WIDTH_INCHES = 5.6
"""Of a plot, before the page scales it."""
MARKERS = 7
"""Along a curve."""
LEAST_BOXED = 5
"""Values for a box; fewer are shown as points alone."""
FLOOR = 1e-30
"""Of power, so that an empty ring has a logarithm."""


@dataclass(frozen=True, slots=True)
class Curve:
    """One line of a plot."""

    name: str
    x: FloatArray
    """(N,)."""
    y: FloatArray
    """(N,)."""
    role: Role


@dataclass(frozen=True, slots=True)
class Sample:
    """Values of one image or method, in no order."""

    name: str
    values: FloatArray
    """(N,); those that are no number are left out."""
    role: Role

    @property
    def known(self) -> FloatArray:
        """The values that are numbers."""
        return np.asarray(self.values[np.isfinite(self.values)], dtype=np.float64)


def spectra_plot(
    curves: Sequence[Curve],
    caption: str,
    *,
    x_label: str = "spatial frequency (cycles/µm)",
    marks: Mapping[str, float] | None = None,
) -> str:
    """Plot power over spatial frequency, and its ratio to the truth's in dB where one curve is the truth's.

    Parameters
    ----------
    curves
        Power on the same frequencies.
    marks
        Words to a frequency, such as the cutoff of an objective.
    """
    truth = next((curve for curve in curves if curve.role == "truth"), None)

    def draw(figure: Figure) -> None:
        axes = figure.subplots(1 if truth is None else 2, 1, sharex=True, squeeze=False)[:, 0]
        for curve in curves:
            _line(axes[0], curve)
            if truth is not None and curve is not truth:
                _line(axes[1], Curve(curve.name, curve.x, ratio_db(curve.y, truth.y), curve.role))
        axes[0].set_yscale("log")
        axes[0].set_ylabel("power")
        if truth is not None:
            axes[1].axhline(0, color=LOOKS["truth"].colour, linewidth=1)
            axes[1].set_ylabel("power over truth's (dB)")
        axes[-1].set_xlabel(x_label)
        _mark(list(axes), marks or {})
        _legend(figure, axes[0])

    return plot_html(draw, (WIDTH_INCHES, 3.4 if truth is None else 5.4), caption)


def ratio_db(power: FloatArray, truth: FloatArray) -> FloatArray:
    """Return a power over the truth's, (N,) dB: 0 where they are alike, -3 at half of it."""
    return np.asarray(10 * np.log10(np.maximum(power, FLOOR) / np.maximum(truth, FLOOR)))


def ring_correlation_plot(
    curves: Sequence[Curve],
    caption: str,
    *,
    threshold: float = 1 / 7,
    threshold_name: str = "threshold 1/7",
    x_label: str = "spatial frequency (cycles/µm)",
    marks: Mapping[str, float] | None = None,
) -> str:
    """Plot the correlation with the truth over spatial frequency; finer detail is farther to the right."""

    def draw(figure: Figure) -> None:
        axis = figure.subplots()
        for curve in curves:
            _line(axis, curve)
        axis.axhline(threshold, color=QUIET, linestyle="--", linewidth=1, label=threshold_name)
        axis.axhline(0, color=QUIET, linewidth=0.6)
        axis.set_ylim(min(-0.1, *(float(np.nanmin(curve.y)) for curve in curves)), 1.03)
        axis.set_xlabel(x_label)
        axis.set_ylabel("ring correlation")
        _mark([axis], marks or {})
        _legend(figure, axis)

    return plot_html(draw, (WIDTH_INCHES, 3.8), caption)


def profile_plot(curves: Sequence[Curve], caption: str, *, x_label: str) -> str:
    """Plot intensities along a line."""

    def draw(figure: Figure) -> None:
        axis = figure.subplots()
        for curve in curves:
            _line(axis, curve)
        axis.set_xlabel(x_label)
        axis.set_ylabel("intensity")
        _legend(figure, axis)

    return plot_html(draw, (WIDTH_INCHES, 3.4), caption)


def strip_plot(samples: Sequence[Sample], caption: str, *, value_label: str) -> str:
    """Plot a figure over fields: a point for each field, and from five fields on the quartiles as a box.

    Parameters
    ----------
    samples
        One for each method, from above to below.
    value_label
        Of the axis, with the unit.
    """

    def draw(figure: Figure) -> None:
        axis = figure.subplots()
        for place, sample in enumerate(samples):
            _draw_strip(axis, sample, place)
        axis.set_yticks(range(len(samples)), [sample.name for sample in samples])
        axis.set_ylim(len(samples) - 0.4, -0.6)  # the first one above
        axis.grid(visible=False, axis="y")
        axis.set_xlabel(value_label)

    return plot_html(draw, (WIDTH_INCHES, 0.7 + 0.42 * len(samples)), caption)


def _draw_strip(axis: Axes, sample: Sample, place: int) -> None:
    values, look = sample.known, LOOKS[sample.role]
    if values.size >= LEAST_BOXED:
        low, high = np.percentile(values, (25, 75))
        axis.barh(place, high - low, 0.62, low, facecolor="none", edgecolor=look.colour, linewidth=1.2)
    if values.size:
        middle = float(np.median(values))
        axis.plot([middle, middle], [place - 0.36, place + 0.36], color=look.colour, linewidth=2.4)
    # An even spread across the strip, always the same: the golden ratio leaves no two points together.
    across = place + 0.4 * ((np.arange(values.size) * 0.618034) % 1 - 0.5)
    axis.plot(values, across, **_marker(look), linestyle="none", alpha=0.75)


def calibration_plot(
    curves: Sequence[Curve],
    caption: str,
    *,
    x_label: str = "expected error",
    y_label: str = "observed error",
) -> str:
    """Plot what was observed against what was expected, on equal axes with the line where both agree."""
    values = [values for curve in curves for values in (curve.x, curve.y)]
    highest = 1.05 * max((float(np.nanmax(one)) for one in values if one.size), default=1.0)

    def draw(figure: Figure) -> None:
        axis = figure.subplots()
        axis.plot([0, highest], [0, highest], color=QUIET, linestyle="--", linewidth=1, label="both agree")
        for curve in curves:
            look = LOOKS[curve.role]
            axis.plot(curve.x, curve.y, label=curve.name, linestyle=look.dash, **_marker(look, 5))
        axis.set(xlim=(0, highest), ylim=(0, highest), aspect="equal", xlabel=x_label, ylabel=y_label)
        _legend(figure, axis)

    return plot_html(draw, (WIDTH_INCHES, 4.8), caption)


def _line(axis: Axes, curve: Curve) -> None:
    look = LOOKS[curve.role]
    every = max(len(curve.x) // MARKERS, 1)
    # Each role starts at a place of its own, or the markers of curves that agree would hide each other.
    start = list(LOOKS).index(curve.role) * every // len(LOOKS)
    axis.plot(
        curve.x, curve.y, label=curve.name, linestyle=look.dash, linewidth=look.width,
        markevery=(start, every), **_marker(look),
    )  # fmt: skip


def _marker(look: Look, size: float = 4) -> dict[str, Any]:
    return {"color": look.colour, "marker": look.marker, "markersize": size, "markeredgewidth": 0.6}


def _mark(axes: Sequence[Axes], marks: Mapping[str, float]) -> None:
    """Draw lines at frequencies, with their words above the axes: on two levels, so that neighbours fit."""
    for number, (words, x) in enumerate(sorted(marks.items(), key=lambda mark: mark[1])):
        for axis in axes:
            axis.axvline(x, color=QUIET, linestyle=":", linewidth=1)
        axes[0].annotate(
            words, (x, 1.0), (0, 2 + 10 * (number % 2)), xycoords=("data", "axes fraction"),
            textcoords="offset points", va="bottom", ha="center", fontsize=7.5, color=QUIET,
        )  # fmt: skip


def _legend(figure: Figure, axis: Axes) -> None:
    handles, names = axis.get_legend_handles_labels()
    columns = 2 if max(map(len, names), default=0) > 16 else 3
    figure.legend(handles, names, loc="outside upper center", ncols=columns, fontsize=8)
