"""The sections of a report that an `Evaluation` yields.

Owns what is said of an evaluation and in which order. Knows nothing of how figures come about, nor of the
look of tables, plots and panels. Other commands add sections of their own.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np

from training.evaluation.evaluate import Evaluation, Row
from training.evaluation.field_view import Measured
from training.evaluation.figures import COLUMNS, Figure, NotMeasured
from training.evaluation.report.figure_table import ImageFigures, TableRow, figure_table
from training.evaluation.report.inline_svg import Role
from training.evaluation.report.page import Section, paragraph
from training.evaluation.report.plots import (
    Curve,
    Sample,
    calibration_plot,
    ring_correlation_plot,
    spectra_plot,
    strip_plot,
)
from training.evaluation.report.width_histograms import width_histograms
from training.evaluation.restorations import LABELS, PAPERS_ITERATIONS
from training.evaluation.stated_uncertainty import MOST_FIELDS
from training.evaluation.uncertainty import Calibration

__all__ = [
    "cross_use_section",
    "figures_section",
    "figures_table",
    "image_figures",
    "plots_section",
    "row_label",
    "uncertainty_section",
]

T = TypeVar("T")
FloatArray = np.ndarray[Any, np.dtype[np.float64]]
ROLES: dict[Row, Role] = {
    "enhanced": "enhanced",
    "bilinear": "input",
    "bicubic": "interpolated",
    "richardson_lucy_best": "deconvolved",
    "nonnegative_least_squares": "denoised",
    "second": "other",
    "acquired": "other",
    "truth": "truth",
}
"""Of what is plotted: two deconvolutions among four, or no curve could be told from another."""


CROSSED: dict[Row, str] = {
    "enhanced": "network",
    "richardson_lucy_best": "Lucy-Richardson, best",
    "bilinear": "input",
}
CROSSED_COLUMNS = (
    "psnr_db", "ssim", "slope", "rsp", "spots_invented", "spots_missed", "filaments_invented",
    "filaments_missed",
)  # fmt: skip


def row_label(evaluation: Evaluation, row: Row) -> str:
    """Return how a row is called in tables; the enhanced one carries the model's hash."""
    if row == "truth":
        return f"truth ({evaluation.truth} high image)"
    if row == "enhanced" and evaluation.model_hash:
        return f"{LABELS[row]}, model {evaluation.model_hash[:8]}"
    return LABELS[row]


def figures_section(evaluation: Evaluation) -> Section:
    """Return the table of all methods, the mean over the fields."""
    fields, setting = len(evaluation.fields), evaluation.restorations.setting
    said = [
        f"{fields} test field(s) that the model was not trained on, the mean of each figure over those where "
        f"it could be measured. Truth: the {evaluation.truth} high image. PSNR, SSIM, NRMSE and the spectrum "
        "are taken after a linear intensity fit to the truth; slope and offset say what the fit had to do.",
        "Lucy-Richardson is given its best chance: point spread function with pixel and upsampling, and the "
        "iterations that score highest on the very image."
        + (
            f" One setting for all, searched as the paper did: {setting.iterations} iterations, "
            f"{setting.damping_percent:g} % damping."
            if setting
            else f" One setting for all: {PAPERS_ITERATIONS} iterations, as the paper found; not searched."
        ),
    ]
    if evaluation.restorations.psf is None:
        said[1] = f"No deconvolution: {evaluation.restorations.why_no_psf}."
    if "acquired" in evaluation.methods:
        said.append(
            "The acquired high image is an independent acquisition of the noise-free truth: its row says "
            "what the better microscope scores, noise and all."
        )
    elif "second" not in evaluation.methods:
        said.append(
            "There is no second acquisition of the truth: how well the better microscope agrees with "
            "itself, noise and all, is not known here."
        )
    alone = [f"{f.record.file} ({f.why_no_second})" for f in evaluation.fields if f.why_no_second]
    if alone:
        said.append(f"Without a second acquisition: {', '.join(alone)}.")
    left_out = [f"{file} ({reason})" for file, reason in evaluation.left_out.items()]
    if left_out:
        said.append(
            f"Left out by the gate of the pair set, for faults of acquisition: {', '.join(left_out)}."
        )
    body = "".join(paragraph(text) for text in said) + figures_table(evaluation)
    return Section(f"Figures, {evaluation.channel}", body)


def figures_table(evaluation: Evaluation) -> str:
    """Return the table alone."""
    order: list[Row] = [*evaluation.methods, "truth"]
    return figure_table(
        [
            TableRow(
                row_label(evaluation, row), _means(evaluation, row), _kind(row), _counts(evaluation, row)
            )
            for row in order
        ]
    )


def _means(evaluation: Evaluation, row: Row) -> dict[str, Figure]:
    measured = [field.measured[row].figures for field in evaluation.fields if row in field.measured]
    names = {name for figures in measured for name in figures}
    return {column.name: evaluation.mean(row, column.name) for column in COLUMNS if column.name in names}


def _counts(evaluation: Evaluation, row: Row) -> dict[str, str]:
    """Return of how many fields each mean is, where some fields could not be measured."""
    fields, counts = len(evaluation.fields), {}
    for name in _means(evaluation, row):
        known = sum(not isinstance(field.figure(row, name), NotMeasured) for field in evaluation.fields)
        if 0 < known < fields:
            counts[name] = f"{known} of {fields}"
    return counts


def _kind(row: Row) -> Any:  # noqa: ANN401 - a Literal of TableRow
    if row in ("truth", "acquired", "second"):
        return "truth"
    return "input" if row == "bilinear" else "restoration"


def plots_section(evaluation: Evaluation) -> Section:
    """Return spectra, ring correlation, widths of points, and SSIM field by field."""
    drawn = [row for row in ROLES if row == "truth" or row in evaluation.methods]
    parts = [
        _spectra(evaluation, drawn),
        _correlations(evaluation, drawn),
        _widths(evaluation, drawn),
        _strips(evaluation, drawn),
    ]
    body = f'<div class="plots">{"".join(parts)}</div>'
    return Section(f"Spectra, resolution, points, {evaluation.channel}", body)


def _per_um(evaluation: Evaluation, per_px: FloatArray) -> tuple[FloatArray, str]:
    if evaluation.pixel_size_um is None:
        return per_px, "spatial frequency (cycles/px)"
    return per_px / evaluation.pixel_size_um, "spatial frequency (cycles/µm)"


def _spectra(evaluation: Evaluation, rows: Sequence[Row]) -> str:
    def power(measured: Measured) -> tuple[FloatArray, FloatArray] | None:
        found = measured.spectrum
        return None if found is None else (found.frequency_per_px, found.power)

    curves, label = _curves(evaluation, rows, power)
    if not curves:
        return paragraph("No field has a spectrum that can be measured.")
    caption = "Radially averaged power spectra, the mean over the fields, on the network's scale."
    return spectra_plot(curves, caption, x_label=label)


def _correlations(evaluation: Evaluation, rows: Sequence[Row]) -> str:
    def correlation(measured: Measured) -> tuple[FloatArray, FloatArray] | None:
        found = measured.correlation
        return None if found is None else (found.frequency_per_px, found.correlation)

    curves, label = _curves(evaluation, rows, correlation)
    if not curves:
        return ""
    caption = "Fourier ring correlation with the truth: to which detail each image agrees with it."
    return ring_correlation_plot(curves, caption, x_label=label)


def _curves(
    evaluation: Evaluation,
    rows: Sequence[Row],
    get: Callable[[Measured], tuple[FloatArray, FloatArray] | None],
) -> tuple[list[Curve], str]:
    """Return the mean curve of every row over the fields that have one, and what the frequencies are in."""
    found = {row: _of(evaluation, row, get) for row in rows}
    # On the rings of the smallest image: fields and crops differ in size.
    rings = [frequency for curves in found.values() for frequency, _ in curves]
    if not rings:
        return [], ""
    frequency = min(rings, key=len)
    x, label = _per_um(evaluation, frequency)
    means = {
        row: np.mean([np.interp(frequency, own, values) for own, values in curves], axis=0)
        for row, curves in found.items()
        if curves
    }
    return [Curve(row_label(evaluation, row), x, y, ROLES[row]) for row, y in means.items()], label


def _widths(evaluation: Evaluation, rows: Sequence[Row]) -> str:
    samples = []
    for row in rows:
        found = _of(evaluation, row, lambda m: m.widths_um)
        pooled = np.concatenate(found) if found else np.empty(0)
        if np.isfinite(pooled).any():
            samples.append(Sample(row_label(evaluation, row), pooled, ROLES[row]))
    if not samples:
        figure = evaluation.mean("truth", "fwhm_um")
        reason = figure.reason if isinstance(figure, NotMeasured) else "no point could be fitted"
        return paragraph(f"Widths of points: not measurable, {reason}.")
    caption = "Widths of points that stand alone in the truth, at the same places of every image."
    return width_histograms(samples, caption)


def _strips(evaluation: Evaluation, rows: Sequence[Row]) -> str:
    samples = []
    for row in rows:
        figures = [field.figure(row, "ssim") for field in evaluation.fields]
        values = np.array([f for f in figures if not isinstance(f, NotMeasured)], dtype=np.float64)
        if values.size:
            samples.append(Sample(row_label(evaluation, row), values, ROLES[row]))
    return strip_plot(samples, "SSIM of every test field.", value_label="SSIM") if samples else ""


def _of(evaluation: Evaluation, row: Row, get: Callable[[Measured], T | None]) -> list[T]:
    """Return something of a row in every field that has it."""
    found = (get(field.measured[row]) for field in evaluation.fields if row in field.measured)
    return [one for one in found if one is not None]


def cross_use_section(evaluation: Evaluation, others: Mapping[str, Evaluation]) -> Section:
    """Return what a model makes of images that it was not made for, beside those that it was."""
    rows = []
    for label, found in {"as trained": evaluation, **others}.items():
        use = f"{label} ({len(found.fields)} field(s), {found.truth} truth)"
        for row, name in CROSSED.items():
            if row in found.methods:
                # None is marked as the best: the uses are no rivals.
                rows.append(TableRow(f"{use}: {name}", _means(found, row), "apart", _counts(found, row)))
    columns = [column for column in COLUMNS if column.name in CROSSED_COLUMNS]
    text = (
        "The model on images that it was not made for, with their own normalisation; serving refuses most of "
        "these. Where the network's rows fall below Lucy-Richardson's or the input's, it does harm."
    )
    return Section(f"Other uses, {evaluation.channel}", paragraph(text) + figure_table(rows, columns))


def uncertainty_section(channel: str, found: Calibration) -> Section:
    """Return how nearly the errors that a model states are those that it makes."""
    shares = [100 * share for share in (found.coverage_1_sigma, found.coverage_2_sigma)]
    text = (
        "The model states an error for every pixel. In groups of pixels with like stated errors, of the "
        f"first {MOST_FIELDS} test fields at the most, stated and made ones differ by "
        f"{100 * found.ence:.0f} % (expected normalised calibration error; the noise of "
        f"the acquired image is part of both). {shares[0]:.1f} % of the pixels are within one stated "
        f"standard deviation (68.3 % expected) and {shares[1]:.1f} % within two (95.4 % expected)."
    )
    curve = Curve("ENHANCED", found.predicted, found.observed, "enhanced")
    plot = calibration_plot([curve], "Root mean square of made against stated errors, 0 to 255.")
    return Section(f"Stated uncertainty, {channel}", paragraph(text) + plot)


def image_figures(evaluation: Evaluation) -> list[ImageFigures]:
    """Return one line of the CSV for every image."""
    return [
        ImageFigures(
            {
                "channel": evaluation.channel,
                "region": field.record.region,
                "file": field.record.file,
                "image": row,
            },
            measured.figures,
        )
        for field in evaluation.fields
        for row, measured in field.measured.items()
    ]
