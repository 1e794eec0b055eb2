"""The report: one self-contained HTML file, pictures inside, readable without a network."""

from training.evaluation.report.page import Section, paragraph, picture, table, write_report
from training.evaluation.report.sections import (
    cross_use_section,
    figures_section,
    figures_table,
    image_figures,
    plots_section,
    uncertainty_section,
)
from training.evaluation.report.shown import chosen, composite_field, detail_panels, shown_field

__all__ = [
    "Section",
    "chosen",
    "composite_field",
    "cross_use_section",
    "detail_panels",
    "figures_section",
    "figures_table",
    "image_figures",
    "paragraph",
    "picture",
    "plots_section",
    "shown_field",
    "table",
    "uncertainty_section",
    "write_report",
]
