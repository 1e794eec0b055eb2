"""`sharpscope evaluate`: models' figures and pictures in a folder."""

import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from configs.document import WrongInputError
from inference.engine import Engine, load_engine
from inference.journal import write_atomic
from sharpscope.console import print_table, progress_bar
from training.evaluation.cross_use import OtherUse, cross_use, opened
from training.evaluation.evaluate import Evaluation, FieldImages, Row, evaluate, images_of
from training.evaluation.figures import COLUMNS, Figure, NotMeasured, json_of, text_of
from training.evaluation.model_card import card_of
from training.evaluation.not_measurable import NotMeasurableError
from training.evaluation.report import (
    Section,
    chosen,
    composite_field,
    cross_use_section,
    figures_section,
    image_figures,
    paragraph,
    plots_section,
    shown_field,
    table,
    uncertainty_section,
    write_report,
)
from training.evaluation.report.figure_table import csv_text
from training.evaluation.report.profiles import profile_section
from training.evaluation.report.viewer import ShownField, viewer
from training.evaluation.restorations import LABELS, Method
from training.evaluation.stated_uncertainty import stated_calibration
from training.evaluation.uncertainty import Calibration
from training.pairing.pairs import PairRecord, PairSet

__all__ = ["evaluate_to_folder", "field_sections", "figures_of", "show_figures"]

SHOWN: tuple[Method, ...] = ("bicubic", "richardson_lucy_best", "enhanced")
SHORT = ("psnr_db", "ssim", "slope", "offset")
"""Columns of the table on the console: the report has all."""
PAGE_BYTES = 20_000_000
"""Of the pictures of all channels, so that the page opens on a laptop."""


_Others = dict[str, dict[str, Evaluation]]
"""By channel of the model, and label of the use."""


@dataclass(frozen=True, slots=True)
class _Case:
    """One model and what was measured of it."""

    engine: Engine
    pairs: PairSet
    second: PairSet | None
    evaluation: Evaluation

    def calibration(self) -> Calibration | None:
        """Return how the model's stated errors compare with those it makes, where it states any."""
        with suppress(NotMeasurableError):
            records = [field.record for field in self.evaluation.fields]
            return stated_calibration(self.engine.package, self.pairs, records)
        return None

    def records(self) -> dict[tuple[str, ...], PairRecord]:
        """Return the test pairs by the files they come of, which the channels of a scan share."""
        return {tuple(sorted(f.record.sources.values())): f.record for f in self.evaluation.fields}

    def images(self, record: PairRecord) -> FieldImages:
        """Return the images of a test pair."""
        return images_of(self.engine, self.pairs, record, self.evaluation.restorations, self.second)


def evaluate_to_folder(
    models: Sequence[Path],
    pairs: Path,
    output: Path,
    *,
    second: Path | None = None,
    also: Sequence[str] = (),
    device: str = "auto",
    overwrite: bool = False,
) -> dict[str, Any]:
    """Write report.html, figures.json, images.csv and a model card each; returns the figures.

    Parameters
    ----------
    models
        One for each channel.
    second
        A pair set of the same low files and a second acquisition of the high images.
    also
        `LABEL=PAIRS[:CHANNEL]` each: other specimens, channels, objectives, noise or focus.
    """
    uses = [OtherUse.parsed(text) for text in also]
    report = output / "report.html"
    if report.exists() and not overwrite:
        msg = f"{report} is there already; give another folder, or --overwrite"
        raise WrongInputError(msg)
    engines = [load_engine(model, device) for model in models]  # type: ignore[arg-type] # checked there
    channels = [engine.channel for engine in engines]
    if len(set(channels)) < len(channels):
        msg = f"the models are of channels {', '.join(channels)}; give one model for each channel"
        raise WrongInputError(msg)
    for engine in engines:
        opened(engine, uses)  # what is wrong there is told before hours are spent
    cases = [_evaluated(engine, pairs, second) for engine in engines]
    figures = {case.evaluation.channel: figures_of(case.evaluation) for case in cases}
    others = {case.evaluation.channel: cross_use(case.engine, uses) for case in cases} if uses else {}
    _write(cases, output, figures, others)
    for case in cases:
        show_figures(case.evaluation)
    return next(iter(figures.values())) if len(figures) == 1 else {"channels": figures}


def _evaluated(engine: Engine, pairs: Path, second: Path | None) -> _Case:
    pair_set = PairSet.open(pairs)
    other = None if second is None else PairSet.open(second)
    with progress_bar(f"evaluate {engine.channel}, fields") as progress:
        return _Case(engine, pair_set, other, evaluate(engine, pair_set, second=other, progress=progress))


def _write(cases: Sequence[_Case], output: Path, figures: dict[str, Any], others: _Others) -> None:
    title = f"sharpscope: {', '.join(case.engine.name for case in cases)}"
    write_report(output / "report.html", title, _sections(cases, others))
    every = {case.evaluation.channel: _every_figure(case.evaluation) for case in cases}
    document = {"summary": figures, "figures": every}
    if others:
        used = {c: {label: _every_figure(e) for label, e in found.items()} for c, found in others.items()}
        document["other_uses"] = used
    write_atomic(output / "figures.json", json.dumps(document, indent=2, allow_nan=False))
    lines = [line for case in cases for line in image_figures(case.evaluation)]
    write_atomic(output / "images.csv", csv_text(lines))
    for case in cases:
        card = card_of(case.engine.package, case.evaluation)
        name = "".join(c if c.isalnum() else "_" for c in case.evaluation.channel)
        write_atomic(output / f"model_card_{name}.md", card)


def _sections(cases: Sequence[_Case], others: _Others) -> list[Section]:
    sections = [Section("What this is", _introduction(cases))]
    cases_of = {case.evaluation.channel: case.evaluation for case in cases}
    for case in cases:
        sections.append(figures_section(case.evaluation))
    composites = _composites(cases) if len(cases) > 1 else []
    if composites:
        page = viewer(composites, budget_bytes=PAGE_BYTES // 4)
        sections.append(Section("All channels together", page))
    for case in cases:
        sections += field_sections(
            case.engine, case.pairs, case.evaluation, case.second, budget_bytes=PAGE_BYTES // len(cases)
        )
    sections += [cross_use_section(cases_of[c], found) for c, found in others.items()]
    stated = {case.evaluation.channel: case.calibration() for case in cases}
    sections += [uncertainty_section(channel, found) for channel, found in stated.items() if found]
    return [*sections, Section("Where it comes from", _lineage(cases))]


def field_sections(
    engine: Engine,
    pairs: PairSet,
    evaluation: Evaluation,
    second: PairSet | None = None,
    *,
    budget_bytes: int = PAGE_BYTES,
) -> list[Section]:
    """Return the sections that show a model's fields: best, median and worst, and the plots of all."""
    shown, lines = [], []
    middle = evaluation.ranked()[len(evaluation.fields) // 2]
    for name, field in chosen(evaluation).items():
        images = images_of(engine, pairs, field.record, evaluation.restorations, second)
        shown.append(shown_field(evaluation, field, images, name))
        if field is middle:
            lines.append(profile_section(evaluation, field, images))
    title = f"Best, median and worst field, {evaluation.channel}"
    return [Section(title, viewer(shown, budget_bytes=budget_bytes)), *lines, plots_section(evaluation)]


def _composites(cases: Sequence[_Case]) -> list[ShownField]:
    """Return a field that every channel has, the one nearest to the first channel's median; none, if none."""
    records = {case.evaluation.channel: case.records() for case in cases}
    ranked = [tuple(sorted(field.record.sources.values())) for field in cases[0].evaluation.ranked()]
    order = ranked[len(ranked) // 2 :] + ranked
    common = [key for key in order if key and all(key in found for found in records.values())]
    if not common:
        return []
    evaluations = {case.evaluation.channel: case.evaluation for case in cases}
    images = {c.evaluation.channel: c.images(records[c.evaluation.channel][common[0]]) for c in cases}
    region = records[cases[0].evaluation.channel][common[0]].region
    return [composite_field(evaluations, images, region)]


def _introduction(cases: Sequence[_Case]) -> str:
    names = "; ".join(f"{case.engine.name} ({case.engine.model_hash[:12]})" for case in cases)
    return paragraph(
        f"What {names} makes of fields that were kept from training, and where that is wrong."
    ) + paragraph(
        "An enhanced image is for seeing more in a quick image, for finding what to look at next, and "
        "for measuring what the tables below show it to measure right. Structure finer than the input's "
        "resolution is the network's guess from its training pairs: it is no evidence by itself, and the "
        "columns 'invented' and 'missed' say how often the guess is wrong on specimens like these. They say "
        "nothing of other specimens, stains, objectives or exposures."
    )


def _lineage(cases: Sequence[_Case]) -> str:
    rows = []
    for case in cases:
        package, name = case.engine.package, case.evaluation.channel
        rows += [
            [f"{name}: model", f"{package.name}, SHA-256 {package.model_hash}"],
            [f"{name}: trained on", f"{len(package.trained_on)} files (listed in the package)"],
            *[[f"{name}: {key}", value] for key, value in package.card.lineage.items() if value],
        ]
    first = cases[0]
    rows += [
        ["pair set", str(first.pairs.path)],
        ["pair set: run", first.pairs.index.run_id or "not stated"],
        ["test fields", ", ".join(field.record.file for field in first.evaluation.fields)],
    ]
    return table(["", ""], rows)


def figures_of(evaluation: Evaluation) -> dict[str, Any]:
    """Return the figures under the names of the JSON line; one that cannot be had is null."""
    return {
        "psnr_db": {method: _rounded(evaluation.mean(method, "psnr_db"), 3) for method in SHOWN},
        "ssim": {method: _rounded(evaluation.mean(method, "ssim"), 4) for method in SHOWN},
        "slope_enhanced": _rounded(evaluation.mean("enhanced", "slope"), 4),
        "truth": evaluation.truth,
        "test_fields": len(evaluation.fields),
    }


def _rounded(figure: Figure, digits: int) -> float | None:
    return None if isinstance(figure, NotMeasured) else round(figure, digits)


def _every_figure(evaluation: Evaluation) -> dict[str, Any]:
    """Return the means of all columns by image, with the reason where there is none."""
    order: list[Row] = [*evaluation.methods, "truth"]
    return {
        row: {
            column.name: json_of(evaluation.mean(row, column.name))
            for column in COLUMNS
            if any(column.name in f.measured[row].figures for f in evaluation.fields if row in f.measured)
        }
        for row in order
    }


def show_figures(evaluation: Evaluation) -> None:
    """Print the table."""
    columns = [column for column in COLUMNS if column.name in SHORT]
    rows = [
        [LABELS[row], *(text_of(evaluation.mean(row, c.name), c) for c in columns)]
        for row in evaluation.methods
    ]
    title = f"{evaluation.channel}, truth: {evaluation.truth}, {len(evaluation.fields)} test field(s)"
    print_table(title, ["", *(column.label for column in columns)], rows)
