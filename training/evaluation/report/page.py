"""The page of a report: one self-contained HTML file, readable without a network, on a screen and on paper.

Owns the shell (title, contents, style, script) and its plain parts: paragraph, picture, table. Text and bytes
come in, HTML goes out. Knows nothing of what a section shows, nor how figures come about.
"""

import base64
import html
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from inference.journal import write_atomic

__all__ = ["Section", "page_html", "paragraph", "picture", "table", "write_report"]

RESOURCES = "training.evaluation.report"
STYLES, SCRIPTS = ("page.css", "viewer.css"), ("viewer_canvas.js", "viewer.js")
TEMPLATE = ("viewer-controls", "viewer_controls.html")
"""What the script puts into each viewer: its id, and the file."""
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'"
"""The browser refuses whatever would leave the page; a report never calls home."""


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
    """Return a table; the cells are escaped. One without a word in its header has no head."""
    head = "".join(f'<th scope="col">{html.escape(cell)}</th>' for cell in header)
    head = f"<thead><tr>{head}</tr></thead>" if any(header) else ""
    body = "".join(f"<tr>{_row(row)}</tr>" for row in rows)
    return f'<div class="scroll"><table>{head}<tbody>{body}</tbody></table></div>'


def _row(cells: Sequence[str]) -> str:
    """Return the cells of a row, of which the first names it."""
    first, *rest = (html.escape(cell) for cell in cells)
    return f'<th scope="row">{first}</th>' + "".join(f"<td>{cell}</td>" for cell in rest)


def write_report(path: Path, title: str, sections: Sequence[Section]) -> None:
    """Write the page, whole or not at all."""
    page = page_html(title, sections)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, page)


def page_html(title: str, sections: Sequence[Section]) -> str:
    """Return the whole page.

    Parameters
    ----------
    title
        Of the page; escaped.
    sections
        In the order of the page; titles are escaped, bodies are not.
    """
    styles = "".join(f"<style>{_resource(name)}</style>" for name in STYLES)
    body = "".join(_section(number, section) for number, section in enumerate(sections, start=1))
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{html.escape(title)}</title>{styles}</head>\n"
        f'<body><a class="skip" href="#main">to the first section</a><header id="top">'
        f"<h1>{html.escape(title)}</h1>{_contents(sections)}</header>\n"
        f'<main id="main">{body}</main>{_script()}</body></html>\n'
    )


def _script() -> str:
    """Return the scripts in one function, so that they share their names with each other alone."""
    name, file = TEMPLATE
    script = "\n".join(_resource(name) for name in SCRIPTS)
    template = f'<template id="{name}">{_resource(file)}</template>'
    return f'{template}\n<script>\n"use strict";\n(() => {{\n{script}}})();\n</script>'


def _resource(name: str) -> str:
    return files(RESOURCES).joinpath(name).read_text(encoding="utf-8")


def _contents(sections: Sequence[Section]) -> str:
    if len(sections) < 2:
        return ""
    links = "".join(
        f'<li><a href="#section-{number}">{html.escape(section.title)}</a></li>'
        for number, section in enumerate(sections, start=1)
    )
    return f'<nav class="contents" aria-label="Contents"><ol>{links}</ol></nav>'


def _section(number: int, section: Section) -> str:
    back = '<a class="top" href="#top">contents</a>'
    heading = f'<h2 id="heading-{number}">{html.escape(section.title)}</h2>'
    label = f'aria-labelledby="heading-{number}"'
    return f'<section id="section-{number}" {label}>{heading}{back}{section.body}</section>\n'
