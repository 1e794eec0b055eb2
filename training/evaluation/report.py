"""The report: one self-contained HTML file, pictures inside, readable without a network.

Owns the look of the page and the sections that an `Evaluation` yields. Knows nothing of how figures come
about. Other commands add sections of their own.
"""

import base64
import html
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from inference.journal import write_atomic
from training.evaluation.evaluate import METHODS, Evaluation, FieldEvaluation, FloatImage, Method
from training.evaluation.pictures import side_by_side_png

__all__ = [
    "Section",
    "detail_panels",
    "evaluation_sections",
    "figure_rows",
    "paragraph",
    "picture",
    "table",
    "write_report",
]

LABELS: dict[Method, str] = {
    "bilinear": "bilinear (network's input)",
    "bicubic": "bicubic",
    "richardson_lucy": "Lucy-Richardson, best",
    "enhanced": "ENHANCED",
}
DETAIL_PX = 256

STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; color: #1a1a1a; background: #fff; max-width: 70rem;
       margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.6rem; } h2 { font-size: 1.2rem; margin-top: 2rem; border-bottom: 1px solid #ddd; }
table { border-collapse: collapse; } td, th { padding: .25rem .8rem; border-bottom: 1px solid #e4e4e4;
       text-align: right; } td:first-child, th:first-child { text-align: left; }
img { max-width: 100%; } figure { margin: 1rem 0; } figcaption { color: #555; font-size: .9rem; }
"""


@dataclass(frozen=True, slots=True)
class Section:
    """A heading and the HTML below it."""

    title: str
    body: str


def paragraph(text: str) -> str:
    """Return a paragraph; the text is escaped."""
    return f"<p>{html.escape(text)}</p>"


def picture(png: bytes, caption: str) -> str:
    """Return a figure with the picture inside the page."""
    source = base64.b64encode(png).decode()
    text = html.escape(caption)
    image = f'<img alt="{text}" src="data:image/png;base64,{source}">'
    return f"<figure>{image}<figcaption>{text}</figcaption></figure>"


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table; the cells are escaped."""
    head = "".join(f"<th>{html.escape(cell)}</th>" for cell in header)
    lines = ["".join(f"<td>{html.escape(cell)}</td>" for cell in row) for row in rows]
    return f"<table><tr>{head}</tr>{''.join(f'<tr>{line}</tr>' for line in lines)}</table>"


def write_report(path: Path, title: str, sections: Sequence[Section]) -> None:
    """Write the page, whole or not at all."""
    parts = [f"<h2>{html.escape(section.title)}</h2>{section.body}" for section in sections]
    page = (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{html.escape(title)}</title>'
        f"<style>{STYLE}</style></head><body><h1>{html.escape(title)}</h1>{''.join(parts)}</body></html>"
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, page)


def evaluation_sections(evaluation: Evaluation) -> list[Section]:
    """Return the figures and the pictures of an evaluation."""
    count = len(evaluation.fields)
    truth = f"Truth: the {evaluation.truth} high image. {count} test field(s), none seen in training."
    figures = Section(
        f"Figures, channel {evaluation.channel}",
        paragraph(truth)
        + table(["", "PSNR (dB)", "SSIM", "slope", "offset"], figure_rows(evaluation))
        + paragraph(
            "PSNR and SSIM after a linear intensity fit to the truth; slope and offset are unfitted (1 and 0 "
            "where intensities are kept). Lucy-Richardson is given the iteration count that scores best."
        ),
    )
    pictures = "".join(_field_picture(field, evaluation) for field in evaluation.fields)
    return [figures, Section("Test fields", pictures)]


def figure_rows(evaluation: Evaluation) -> list[list[str]]:
    """Return one row a method: label, PSNR, SSIM, slope, offset."""
    return [
        [LABELS[m], f"{evaluation.mean(m, 'psnr_db'):.2f}", f"{evaluation.mean(m, 'ssim'):.4f}",
         f"{evaluation.mean(m, 'slope'):.3f}", f"{evaluation.mean(m, 'offset'):.3f}"]
        for m in METHODS
    ]  # fmt: skip


def detail_panels(field: FieldEvaluation, model_hash: str) -> dict[str, FloatImage]:
    """Return the middle of a field by every method and in truth, label to image.

    The enhanced one carries the model's hash, so that the picture still does when it is cut out of the page.
    """
    height, width = field.truth.shape
    side = min(DETAIL_PX, height, width)
    y, x = (height - side) // 2, (width - side) // 2
    window = (slice(y, y + side), slice(x, x + side))
    panels = {LABELS[method]: field.images[method][window] for method in METHODS if method != "bilinear"}
    panels = {
        f"{label}, model {model_hash[:8]}" if label == LABELS["enhanced"] else label: image
        for label, image in panels.items()
    }
    low = field.images["bilinear"][window][::2, ::2]
    return {"raw, low": low, **panels, "acquired, high": field.acquired[window]}


def _field_picture(field: FieldEvaluation, evaluation: Evaluation) -> str:
    scores = ", ".join(f"{LABELS[m]} {field.scores[m].psnr_db:.1f} dB" for m in METHODS)
    png = side_by_side_png(detail_panels(field, evaluation.model_hash), evaluation.pixel_size_um)
    return picture(png, f"Region {field.record.region}, the middle of the field. {scores}.")
