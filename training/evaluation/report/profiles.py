"""The section with intensities along one line, the same in every image of a field.

Owns which images are drawn and what is said of their peaks. Knows neither how the line is found nor the look
of a plot.
"""

from collections.abc import Mapping

import numpy as np

from training.evaluation.evaluate import Evaluation, FieldEvaluation, FieldImages, Row
from training.evaluation.line_profile import LineProfile, dip_between, line_profile, peak_separation_um
from training.evaluation.metrics import fit_to_truth
from training.evaluation.not_measurable import NotMeasurableError
from training.evaluation.report.page import Section, paragraph, table
from training.evaluation.report.plots import Curve, profile_plot
from training.evaluation.report.sections import ROLES, row_label
from training.evaluation.telling_line import telling_line

__all__ = ["profile_section"]

DRAWN: tuple[Row, ...] = ("bilinear", "richardson_lucy_best", "enhanced", "truth")
WIDTH_PX = 3
"""Of the line: what is averaged across it."""


def profile_section(evaluation: Evaluation, field: FieldEvaluation, images: FieldImages) -> Section:
    """Return profiles of input, deconvolution, output and truth across two structures of the truth."""
    title = f"Line profiles, {evaluation.channel}"
    truth = images.view.truth
    try:
        start, end = telling_line(truth, margin_px=WIDTH_PX)
        profiles: dict[Row, LineProfile] = {
            row: line_profile(_image(images, row), start, end, WIDTH_PX)
            for row in DRAWN
            if row == "truth" or row in images.images
        }
    except NotMeasurableError as error:
        return Section(title, paragraph(f"Not measurable: {error}."))
    pixel_um = evaluation.pixel_size_um or 1.0
    unit = "µm" if evaluation.pixel_size_um else "px"
    text = (
        f"Region {field.record.region}, from (y, x) = ({start[0]:.0f}, {start[1]:.0f}) to ({end[0]:.0f}, "
        f"{end[1]:.0f}) px, {WIDTH_PX} px wide: of all rows and columns of the truth, the place with the "
        "deepest dip between two neighbours. Every image is fitted linearly to the truth. One place proves "
        "nothing; the columns 'invented' and 'missed' count all of them."
    )
    curves = [
        Curve(row_label(evaluation, row), pixel_um * profile.position_px, profile.intensity, ROLES[row])
        for row, profile in profiles.items()
    ]
    plot = profile_plot(
        curves, "Intensity along the line, on the network's scale.", x_label=f"along ({unit})"
    )
    return Section(title, paragraph(text) + plot + _peaks(evaluation, profiles, truth, pixel_um, unit))


def _image(images: FieldImages, row: Row) -> np.ndarray:
    truth = images.view.truth
    return truth if row == "truth" else fit_to_truth(images.images[row], truth)


def _peaks(
    evaluation: Evaluation,
    profiles: Mapping[Row, LineProfile],
    truth: np.ndarray,
    pixel_um: float,
    unit: str,
) -> str:
    background, rows = float(np.median(truth)), []
    for row, profile in profiles.items():
        try:
            apart = f"{peak_separation_um(profile, pixel_um):.3f}"
            dip = f"{100 * dip_between(profile, background):.0f}"
        except NotMeasurableError as error:
            apart, dip = "–", str(error)
        rows.append([row_label(evaluation, row), apart, dip])
    return table(["image", f"peaks apart ({unit})", "dip between them (%)"], rows)
