"""The still overview of a pair set: one PNG with a few of the best, the worst and the left-out pairs.

Owns the drawing. Which pairs are shown, and what is said of them, comes in.
"""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from training.pairing.contact_sheet.pictures import PairPictures, overlay, scale_bar

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["Sample", "overview_png"]

DPI = 100
PANEL_PX, GAP_PX, MARGIN_PX = 256, 8, 28
TITLE_PX, ROW_PX, WORDS_PX = 84, 40, 64
"""Heights of the page's title, of a row's title, and of the words above a sample."""
HOW_TO_READ = (
    "Left: detail at 100 %, low in green, high in magenta, white or grey where equal; a fringe that is green "
    "on one side and magenta on the other is misalignment. Right: how high was bent, magnified, without the "
    "mean shift; faint where uncertain."
)
ROW_WIDTH = 4
"""Samples in a row."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One pair in the overview."""

    name: str
    words: tuple[str, str]
    """Two lines on it."""
    pictures: PairPictures


def overview_png(title: str, rows: Mapping[str, Sequence[Sample]], pixel_size: float, unit: str) -> bytes:
    """Draw rows of samples: the overlay of the detail pixel for pixel, and the arrows over the high image.

    Parameters
    ----------
    rows
        Title to samples, at most four each; a row without samples says so.
    pixel_size, unit
        Of the pairs.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    sample_px = 2 * PANEL_PX + GAP_PX
    width = ROW_WIDTH * (sample_px + MARGIN_PX) + MARGIN_PX
    heights = [ROW_PX + (WORDS_PX + PANEL_PX + GAP_PX if samples else 0) for samples in rows.values()]
    figure = Figure(figsize=(width / DPI, (TITLE_PX + sum(heights) + MARGIN_PX) / DPI), dpi=DPI)
    FigureCanvasAgg(figure)
    page = _Page(figure, width, TITLE_PX + sum(heights) + MARGIN_PX)
    page.write(MARGIN_PX, 34, title, 15, "bold")
    page.write(MARGIN_PX, 62, HOW_TO_READ, 10.5)
    top = TITLE_PX
    for (row_title, samples), height in zip(rows.items(), heights, strict=True):
        page.write(MARGIN_PX, top + 24, row_title if samples else f"{row_title}: none", 13, "bold")
        for k, sample in enumerate(samples[:ROW_WIDTH]):
            left = MARGIN_PX + k * (sample_px + MARGIN_PX)
            _draw_sample(page, sample, left, top + ROW_PX, (pixel_size, unit))
        top += height
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=DPI)
    return stream.getvalue()


@dataclass(frozen=True, slots=True)
class _Page:
    """A figure whose places are given in pixels from the upper left corner."""

    figure: "Figure"
    width_px: int
    height_px: int

    def write(self, x: float, y: float, words: str, size: float, weight: str = "normal") -> None:
        """Write a line; y is its baseline."""
        self.figure.text(
            x / self.width_px, 1 - y / self.height_px, words, size=size, weight=weight, parse_math=False
        )

    def panel(self, left: float, top: float, width: float, height: float) -> "Axes":
        """Return axes without ticks."""
        w, h = self.width_px, self.height_px
        axes = self.figure.add_axes((left / w, 1 - (top + height) / h, width / w, height / h))
        axes.set_axis_off()
        return axes


def _draw_sample(page: _Page, sample: Sample, left: int, top: int, pixel: tuple[float, str]) -> None:
    p = sample.pictures
    page.write(left, top + 14, _shortened(sample.name, 62), 10, "bold")
    field = "no deformation to show" if p.arrows is None else f"arrows {p.arrows.magnification} ×"
    page.write(left, top + 33, _shortened(sample.words[0], 74), 10)
    page.write(left, top + 52, f"{sample.words[1]} · {field}", 10)
    top += WORDS_PX
    cut = overlay(p.low_cut, p.high_cut)
    height, width = cut.shape[:2]
    # At its own size, so that one pixel of the pair is one of the picture.
    axes = page.panel(left, top, min(width, PANEL_PX), min(height, PANEL_PX))
    axes.imshow(cut, interpolation="nearest", aspect="auto")
    _draw_bar(axes, width, height, pixel)
    rows, columns = p.high.shape
    scale = PANEL_PX / max(rows, columns)
    whole = page.panel(left + PANEL_PX + GAP_PX, top, columns * scale, rows * scale)
    whole.imshow(p.high, cmap="gray", vmin=0, vmax=340, interpolation="antialiased", aspect="auto")
    _draw_arrows(whole, p)


def _draw_bar(axes: "Axes", width: int, height: int, pixel: tuple[float, str]) -> None:
    from matplotlib.patches import Rectangle

    length, label = scale_bar(width, *pixel)
    left = width - 12 - length
    axes.add_patch(
        Rectangle((left, height - 14), length, 5, facecolor="white", edgecolor="black", linewidth=0.5)
    )
    axes.text(left + length / 2, height - 18, label, color="white", size=9, ha="center", va="bottom")


def _draw_arrows(axes: "Axes", pictures: PairPictures) -> None:
    from matplotlib.collections import LineCollection

    if pictures.arrows is None:
        return
    scale = pictures.high.shape[1] / pictures.shape_yx[1]
    for certain, opacity in ((False, 0.38), (True, 1.0)):
        strokes = pictures.arrows.strokes(certain, 0.02 * pictures.shape_yx[1])
        lines = [stroke[:, ::-1] * scale - 0.5 for stroke in strokes]  # x, y
        axes.add_collection(
            LineCollection(lines, colors="#ffd000", linewidths=1.0, alpha=opacity), autolim=False
        )


def _shortened(name: str, longest: int) -> str:
    return name if len(name) <= longest else f"{name[: longest - 1]}…"
