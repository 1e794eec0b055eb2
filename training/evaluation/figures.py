"""The figures that an image is given: their names, units and meaning, and what stands where there is none.

Owns the list of columns of every table of an evaluation. Knows neither how a figure is measured nor how it is
shown.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from training.evaluation.not_measurable import NotMeasurableError

__all__ = [
    "COLUMNS",
    "Column",
    "Figure",
    "Figures",
    "NotMeasured",
    "figure_of",
    "json_of",
    "mean_of",
    "text_of",
]


@dataclass(frozen=True, slots=True)
class NotMeasured:
    """Stands where a figure cannot be had."""

    reason: str


Figure = float | NotMeasured
Figures = Mapping[str, Figure]
"""By the name of a `Column`."""


@dataclass(frozen=True, slots=True)
class Column:
    """One figure of an image."""

    name: str
    """As in figures.json and the CSV; it ends in the unit, where there is one."""
    label: str
    """For a table's head."""
    digits: int
    better: Literal["higher", "lower", "one", "zero", "as the truth's"]
    meaning: str
    """One sentence for a reader who does not know it."""


COLUMNS: tuple[Column, ...] = (
    Column("psnr_db", "PSNR (dB)", 2, "higher", "Peak signal to noise ratio, after a linear fit."),
    Column("ssim", "SSIM", 4, "higher", "Structural similarity, after a linear fit to the truth."),
    Column("nrmse", "NRMSE", 4, "lower", "Root mean square error over the truth's range, after the fit."),
    Column("pearson", "Pearson", 4, "higher", "Correlation with the truth, pixel by pixel."),
    Column("slope", "slope", 3, "one", "Of the image against the truth, unfitted: 1 keeps intensities."),
    Column("offset", "offset", 3, "zero", "Of the same line, in parts of the truth's 99.9th percentile."),
    Column("rsp", "RSP", 4, "higher", "SQUIRREL: how well the image, blurred, explains the input."),
    Column("rse", "RSE", 3, "lower", "SQUIRREL: error of the same, on the network's scale of 0 to 255."),
    Column("frc_um", "FRC (um)", 3, "lower", "Finest detail that agrees with the truth's, at 1/7."),
    Column("decorrelation_um", "decorrelation (um)", 3, "as the truth's", "Resolution, told from the image."),
    Column("spectrum_error_db", "spectrum (dB)", 2, "lower", "Of the fine half, from the truth's."),
    Column("snr", "SNR", 1, "as the truth's", "Specimen over background noise."),
    Column("fwhm_um", "spot FWHM (um)", 3, "as the truth's", "Median width of spots alone in the truth."),
    Column("spots_invented", "spots invented", 4, "zero", "Of the image's spots, not in the truth."),
    Column("spots_missed", "spots missed", 4, "zero", "Of the truth's spots, not in the image."),
    Column("filaments_invented", "filaments invented", 4, "zero", "The same of filaments, by length."),
    Column("filaments_missed", "filaments missed", 4, "zero", "The same of filaments, by length."),
)  # fmt: skip


def figure_of(measure: Callable[[], float]) -> Figure:
    """Return what a measurement returns, or why it cannot be had."""
    try:
        value = float(measure())
    except NotMeasurableError as error:
        return NotMeasured(str(error))
    return value if np.isfinite(value) else NotMeasured("the measurement gave no number")


def mean_of(figures: Sequence[Figure]) -> Figure:
    """Return the mean of those that could be measured; of none, the first one's reason."""
    known = [figure for figure in figures if not isinstance(figure, NotMeasured)]
    if known:
        return float(np.mean(known))
    reasons = [figure.reason for figure in figures if isinstance(figure, NotMeasured)]
    return NotMeasured(reasons[0] if reasons else "there is no field")


def json_of(figure: Figure) -> Any:  # noqa: ANN401 - a number or an object
    """Return a figure for a JSON file: a number, or an object that says why there is none."""
    return {"not_measurable": figure.reason} if isinstance(figure, NotMeasured) else figure


def text_of(figure: Figure, column: Column) -> str:
    """Return a figure for a table without notes: a dash stands where there is none."""
    return "-" if isinstance(figure, NotMeasured) else f"{figure:.{column.digits}f}"
