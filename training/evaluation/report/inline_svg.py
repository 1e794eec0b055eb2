"""Plots as SVG inside a page, with text that can be selected, and the colours that tell methods apart.

Owns the look of a plot (Okabe-Ito colours, each with a dash and a marker of its own) and what an SVG needs to
stand beside others in one page. Knows nothing of what is plotted.
"""

import hashlib
import html
import io
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import matplotlib
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

__all__ = ["LOOKS", "QUIET", "Look", "Role", "plot_html"]

Role = Literal["truth", "enhanced", "input", "interpolated", "deconvolved", "denoised", "other"]
"""What an image is, which gives its colour in every plot."""
Dash = str | tuple[int, tuple[int, ...]]


@dataclass(frozen=True, slots=True)
class Look:
    """How an image is drawn."""

    colour: str
    dash: Dash
    marker: str
    width: float = 1.4


LOOKS: dict[Role, Look] = {
    "truth": Look("#000000", "-", "s"),
    "enhanced": Look("#D55E00", "-", "o", 2.2),
    "input": Look("#56B4E9", (0, (5, 2)), "v"),
    "interpolated": Look("#0072B2", (0, (1, 1)), "^"),
    "deconvolved": Look("#009E73", (0, (5, 1, 1, 1)), "D"),
    "denoised": Look("#E69F00", (0, (3, 1)), "P"),
    "other": Look("#CC79A7", (0, (5, 1, 1, 1, 1, 1)), "X"),
}
"""Okabe & Ito 2008, but for yellow, which is lost on white paper."""
QUIET = "#666666"
"""Of thresholds, marks and grids."""

STYLE: Any = {  # the type of its keys differs between versions of matplotlib
    "svg.fonttype": "none",  # text stays text
    "svg.hashsalt": "sharpscope",  # the same plot has the same names in every run
    "font.size": 9,
    "font.sans-serif": ["DejaVu Sans", "Verdana", "Arial"],
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#dddddd",
    "grid.linewidth": 0.6,
    "axes.axisbelow": True,
    "legend.frameon": False,
    "legend.handlelength": 3.2,
}


def plot_html(draw: Callable[[Figure], None], size_inches: tuple[float, float], caption: str) -> str:
    """Return a figure of HTML with a plot inside; the same plot gives the same text.

    Parameters
    ----------
    draw
        Draws into an empty figure of matplotlib.
    size_inches
        Width and height; the page scales it to the place that it has.
    caption
        Below the plot, and what a screen reader says of it; escaped.
    """
    stream = io.StringIO()
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=size_inches, layout="constrained")
        FigureCanvasSVG(figure)
        draw(figure)
        figure.savefig(stream, format="svg", metadata={"Date": None, "Creator": None})
    svg = _inline(stream.getvalue(), caption)
    text = html.escape(caption)
    return f'<figure class="plot"><div class="scroll">{svg}</div><figcaption>{text}</figcaption></figure>'


def _inline(svg: str, label: str) -> str:
    """Make the file of an SVG an element of a page.

    Its names get a prefix, since matplotlib calls the parts of every plot alike, and the rule that it gives
    for all elements holds for it alone.
    """
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>", "", svg, flags=re.DOTALL)
    prefix = f"s{hashlib.sha256(svg.encode()).hexdigest()[:10]}-"
    svg = re.sub(r'(\bid="|url\(#|href="#)', rf"\g<1>{prefix}", svg)
    svg = re.sub(r'^<svg([^>]*?) width="[^"]*"', r"<svg\1", svg)
    svg = re.sub(r'^<svg([^>]*?) height="[^"]*"', r"<svg\1", svg)
    attributes = (
        f'role="img" aria-label="{html.escape(label)}" style="stroke-linejoin:round;stroke-linecap:butt"'
    )
    return svg.replace("<svg", f"<svg {attributes}", 1).strip()
