"""The table of methods by figures, with the best of each column marked and a reason where there is no figure.

Owns how figures are laid out for people (HTML) and for programs (CSV). Knows the columns of
`training.evaluation.figures`; knows neither images nor how a figure is measured.
"""

import csv
import html
import io
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from training.evaluation.figures import COLUMNS, Column, Figures, NotMeasured

__all__ = ["ImageFigures", "TableRow", "csv_text", "figure_table"]

MOST_COLUMNS = 9
"""Of one table, so that none is cut off on A4."""
AIMS = {
    "higher": "higher ↑",
    "lower": "lower ↓",
    "one": "near 1",
    "zero": "near 0",
    "as the truth's": "as truth",
}
"""How the head of a column says what is better."""


@dataclass(frozen=True, slots=True)
class TableRow:
    """One method, or the truth."""

    label: str
    figures: Figures
    """By the name of a column; one that does not apply is left out, and its cell stays empty."""
    kind: Literal["input", "restoration", "truth", "apart"] = "restoration"
    """The best is marked among restorations; the truth's figures are what theirs should be like."""
    counts: Mapping[str, str] = field(default_factory=dict)
    """Of how many fields a figure is the mean, such as "3 of 5", where it is not of all."""


@dataclass(frozen=True, slots=True)
class ImageFigures:
    """The figures of one image, for a line of the CSV."""

    keys: Mapping[str, str | int]
    """What tells the image from the others, such as channel, region and method."""
    figures: Figures


def figure_table(rows: Sequence[TableRow], columns: Sequence[Column] = COLUMNS, *, caption: str = "") -> str:
    """Return the table as HTML, in parts of at most nine columns, with its notes.

    Parameters
    ----------
    rows
        In the order of the table.
    columns
        Those for which no row has an entry are left out.
    caption
        Above the table; escaped.
    """
    shown = [column for column in columns if any(column.name in row.figures for row in rows)]
    blocks = _blocks(shown)
    reasons = list(dict.fromkeys(_reasons(rows, blocks)))
    captions = [caption, *[f"{caption}, continued" if caption else ""] * len(blocks)]
    tables = "".join(map(_table, [rows] * len(blocks), blocks, [reasons] * len(blocks), captions))
    return f'<div class="figures">{tables}{_notes(rows, shown, reasons)}</div>'


def csv_text(rows: Sequence[ImageFigures], columns: Sequence[Column] = COLUMNS) -> str:
    """Return one line for each image: its keys, then its figures under the names of their columns.

    A figure that could not be measured is an empty cell, and a column of the same name that ends in
    `_reason` says why.
    """
    keys = list(dict.fromkeys(key for row in rows for key in row.keys))
    lines = [dict(row.keys) | _cells(row.figures) for row in rows]
    known = {name for line in lines for name in line}
    names = [name for column in columns for name in (column.name, f"{column.name}_reason") if name in known]
    stream = io.StringIO()
    writer = csv.DictWriter(stream, [*keys, *names], extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    return stream.getvalue()


def _cells(figures: Figures) -> dict[str, str | int]:
    cells: dict[str, str | int] = {}
    for name, figure in figures.items():
        if isinstance(figure, NotMeasured):
            cells |= {name: "", f"{name}_reason": figure.reason}
        else:
            cells[name] = f"{figure:.6g}"
    return cells


def _blocks(columns: Sequence[Column]) -> list[Sequence[Column]]:
    """Return the columns in parts of about the same width."""
    count = -(-len(columns) // MOST_COLUMNS)
    length = -(-len(columns) // count) if count else 0
    return [columns[start : start + length] for start in range(0, len(columns), length or 1)]


def _reasons(rows: Sequence[TableRow], blocks: Sequence[Sequence[Column]]) -> Iterable[str]:
    """Yield the reasons in the order in which a reader meets them."""
    for block in blocks:
        for row in rows:
            for column in block:
                figure = row.figures.get(column.name)
                if isinstance(figure, NotMeasured):
                    yield figure.reason


def _table(rows: Sequence[TableRow], columns: Sequence[Column], reasons: Sequence[str], caption: str) -> str:
    best = {column.name: _best(column, rows) for column in columns}
    head = "".join(_head(column) for column in columns)
    body = ""
    for number, row in enumerate(rows):
        cells = "".join(_cell(row, column, reasons, best=number in best[column.name]) for column in columns)
        body += f'<tr class="{row.kind}"><th scope="row">{html.escape(row.label)}</th>{cells}</tr>'
    title = f"<caption>{html.escape(caption)}</caption>" if caption else ""
    head = f'<thead><tr><th scope="col">image</th>{head}</tr></thead>'
    return f'<div class="scroll"><table>{title}{head}<tbody>{body}</tbody></table></div>'


def _head(column: Column) -> str:
    meaning = html.escape(column.meaning)
    aim = f'<span class="aim">{AIMS[column.better]}</span>'
    return f'<th scope="col" title="{meaning}">{html.escape(_label(column))}{aim}</th>'


def _label(column: Column) -> str:
    return column.label.replace("(um)", "(µm)")


def _cell(row: TableRow, column: Column, reasons: Sequence[str], *, best: bool) -> str:
    figure = row.figures.get(column.name)
    if figure is None:
        return "<td></td>"
    if isinstance(figure, NotMeasured):
        number = reasons.index(figure.reason) + 1
        said = '<span class="unseen">not measurable, note </span>'
        return f'<td title="{html.escape(figure.reason)}">–<sup>{said}{number}</sup></td>'
    text = f"{figure:.{column.digits}f}"
    count = f'<span class="count">{row.counts[column.name]}</span>' if column.name in row.counts else ""
    if not best:
        return f"<td>{text}{count}</td>"
    return f'<td class="best"><strong>{text}</strong>{count}<span class="unseen"> best</span></td>'


def _best(column: Column, rows: Sequence[TableRow]) -> set[int]:
    """Return the numbers of the restorations that come nearest to a column's aim.

    Those that cannot be told apart at the digits shown are all best; where no two differ, none is.
    """
    badness = _badness(column, rows)
    known = {
        number: round(badness(figure), column.digits)
        for number, row in enumerate(rows)
        if _competes(row, column) and isinstance(figure := row.figures.get(column.name), float | int)
    }
    least = min(known.values(), default=0.0)
    best = {number for number, value in known.items() if value == least}
    return best if len(best) < len(known) else set()


def _competes(row: TableRow, column: Column) -> bool:
    """Say whether a row can be the best: the input too, but for explaining itself."""
    return row.kind == "restoration" or (row.kind == "input" and column.name not in ("rsp", "rse"))


def _badness(column: Column, rows: Sequence[TableRow]) -> Callable[[float], float]:
    if column.better == "higher":
        return lambda value: -value
    if column.better == "lower":
        return lambda value: value
    aim = {"one": 1.0, "zero": 0.0}.get(column.better, _truth(column, rows))
    return lambda value: abs(value - aim) if aim is not None else 0.0


def _truth(column: Column, rows: Sequence[TableRow]) -> float | None:
    """Return the truth's own figure, where it has one."""
    # The truth is the last of its kind: acquisitions of it stand above.
    figures = (row.figures.get(column.name) for row in reversed(rows) if row.kind == "truth")
    return next((figure for figure in figures if isinstance(figure, float | int)), None)


def _notes(rows: Sequence[TableRow], columns: Sequence[Column], reasons: Sequence[str]) -> str:
    marked = any(_best(column, rows) for column in columns)
    partly = any(row.counts for row in rows)
    counted = (
        "<p>Small below a figure: of how many fields it is the mean, where not of all.</p>" if partly else ""
    )
    mark = "<p>● and bold: the best of the column, truth and acquisitions aside.</p>" if marked else ""
    listed = "".join(f"<li>{html.escape(reason)}</li>" for reason in reasons)
    dashes = f"<p>–: not measurable, because</p><ol>{listed}</ol>" if reasons else ""
    meanings = "".join(
        f"<div><dt>{html.escape(_label(column))}</dt><dd>{html.escape(column.meaning)}</dd></div>"
        for column in columns
    )
    return f'<div class="notes">{mark}{counted}{dashes}<dl>{meanings}</dl></div>'
