"""The picture of a training run: its curves beside what it makes of one fixed field.

Owns the look: colours, axes, panels, grey window, the place that is magnified. Arrays and the lines of
`history.jsonl` come in, PNG bytes go out. Knows nothing of networks, files or TensorBoard.
"""

import io
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from training.pairing.contact_sheet.pictures import ByteImage, Window, reduced, textured_window
from training.run_history import GENERATOR_TERMS, History, duration, series, shares

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["FixedField", "curves_png", "progress_png"]

FloatImage = np.ndarray[Any, np.dtype[np.float32]]

LOW_PERCENTILE, HIGH_PERCENTILE = 1.0, 99.7
DETAIL_SHARE = 0.22
"""Of the shorter side of the field, that the magnified detail shows."""
LEAST_DETAIL_PX = 48
WHOLE_PX = 640
"""Longer side of a whole field; the picture has no more pixels for it."""
SMOOTHED_FROM = 24
"""Points of a curve from which a smoothed one is drawn over it."""
UNDECIDED = 2 * math.log(2)
"""The discriminator's loss, with the paper's logarithms, when it cannot tell true from generated."""
LOG_FROM = 2.0
"""Largest value over least from which an axis is logarithmic."""

INK, FAINT, FRAME = "#22262b", "#8a9199", "#e8a33d"
COLOURS = {
    "adversarial": "#d1495b",
    "mse": "#1f77b4",
    "ssim": "#2a9d6f",
    "fourier": "#8e6bbf",
    "discriminator": "#7a5230",
    "validation": INK,
}
STYLE: dict[Any, Any] = {
    "font.size": 9,
    "text.color": INK,
    "axes.edgecolor": FAINT,
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.8,
    "axes.grid": True,
    "grid.color": "#e6e8eb",
    "grid.linewidth": 0.7,
    "xtick.color": FAINT,
    "ytick.color": FAINT,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "legend.frameon": False,
}


class FixedField:
    """The field that is shown again and again, always by the same grey window and with the same detail.

    Parameters
    ----------
    low, truth
        (Y, X) each, on the 0 to 255 scale and on the same pixels.
    """

    def __init__(self, low: FloatImage, truth: FloatImage) -> None:
        self.low, self.truth = low, truth
        self._black = float(np.percentile(truth, LOW_PERCENTILE))
        self._white = max(float(np.percentile(truth, HIGH_PERCENTILE)), self._black + 1e-6)
        side = min(max(LEAST_DETAIL_PX, round(DETAIL_SHARE * min(truth.shape))), *truth.shape)
        self.detail: Window = textured_window(self.grey(low), self.grey(truth), side)

    def grey(self, image: FloatImage) -> ByteImage:
        """Return an image of the field as it is shown: the truth's black and white, for all alike."""
        finite = np.nan_to_num(image, nan=self._black, posinf=self._white, neginf=self._black)
        share = np.clip((finite - self._black) / (self._white - self._black), 0, 1)
        return np.asarray(np.rint(255 * share), dtype=np.uint8)

    def away_from_truth(self, image: FloatImage) -> float:
        """Return the RMS difference to the truth, on the 0 to 255 scale."""
        return float(np.sqrt(np.mean(np.square(image - self.truth, dtype=np.float64))))

    def side_by_side(self, output: FloatImage, longer_side_px: int) -> tuple[ByteImage, ByteImage]:
        """Return input, output and truth in one row, the whole field and the detail, each (Y, X)."""
        greys = [self.grey(image) for image in (self.low, output, self.truth)]
        wholes = [reduced(grey, longer_side_px) for grey in greys]
        return np.hstack(wholes), np.hstack([self.detail.of(grey) for grey in greys])


def progress_png(
    history: History, field: FixedField, output: FloatImage, title: str, iteration: int
) -> bytes:
    """Draw the curves of a run beside input, output and truth of its fixed field.

    Parameters
    ----------
    output
        (Y, X) on the 0 to 255 scale: what the generator makes of the field now.
    title
        Of the run; iteration, time and best are set beside it.
    iteration
        Of the output; the last line of the history may be older.
    """
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(15.2, 7.6), dpi=100)
        _write_title(figure, title, _facts(history, iteration))
        grid = figure.add_gridspec(
            1, 2, width_ratios=(1, 1.94), left=0.04, right=0.993, top=0.895, bottom=0.07, wspace=0.055
        )
        _draw_curves(grid[0].subgridspec(3, 1, height_ratios=(1.3, 1, 0.75), hspace=0.26), figure, history)
        _draw_images(grid[1].subgridspec(2, 3, hspace=0.09, wspace=0.03), figure, field, output)
        return _png(figure)


def curves_png(history: History) -> bytes:
    """Draw the curves of a run alone."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(7.2, 7.0), dpi=100)
        grid = figure.add_gridspec(3, 1, height_ratios=(1.3, 1, 0.75), hspace=0.24, left=0.1, right=0.97,
                                   top=0.95, bottom=0.07)  # fmt: skip
        _draw_curves(grid, figure, history)
        return _png(figure)


def _write_title(figure: "Figure", title: str, facts: str) -> None:
    figure.text(0.012, 0.965, title, fontsize=14, fontweight="bold", va="center")
    figure.text(0.988, 0.965, facts, fontsize=11, va="center", ha="right")


def _facts(history: History, iteration: int) -> str:
    """Return iteration, time and best of a run in one line."""
    facts = [f"iteration {iteration:,}"]
    if history:
        facts.append(duration(history[-1].get("seconds", 0.0)))
    iterations, losses = series(history, "validation")
    if losses:
        best = int(np.argmin(losses))
        facts.append(f"best validation {losses[best]:.4g} at {iterations[best]:,.0f}")
    return "   ·   ".join(facts)


def _draw_curves(grid: Any, figure: "Figure", history: History) -> None:  # noqa: ANN401 # a GridSpec or a part
    terms, validation, discriminator = (figure.add_subplot(grid[row]) for row in range(3))
    _draw_terms(terms, history)
    _draw_validation(validation, history)
    _draw_discriminator(discriminator, history)
    end = max([line["iteration"] for line in history], default=1)
    for axis in (terms, validation, discriminator):
        axis.set_xlim(0, end * 1.02)
        axis.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    for axis in (terms, validation):
        axis.tick_params(labelbottom=False)
    discriminator.set_xlabel("iteration", labelpad=2)


def _draw_terms(axis: "Axes", history: History) -> None:
    parts = shares(history)
    for name, label in GENERATOR_TERMS.items():
        part = f" {100 * parts[name]:.0f} %" if name in parts else ""
        _draw(axis, history, name, f"{label}{part}")
    _finish(axis, "generator's loss")


def _draw_validation(axis: "Axes", history: History) -> None:
    iterations, losses = series(history, "validation")
    _draw(axis, history, "validation", None)
    if losses:
        best = int(np.argmin(losses))
        axis.plot(iterations[best], losses[best], "*", color=FRAME, markersize=13, markeredgecolor="white")
        axis.plot([], [], "*", color=FRAME, markersize=10, label=f"best, at {iterations[best]:,.0f}")
    _finish(axis, "validation loss")


def _draw_discriminator(axis: "Axes", history: History) -> None:
    _, losses = series(history, "discriminator")
    _draw(axis, history, "discriminator", None)
    if losses:
        axis.axhline(
            UNDECIDED,
            color=FAINT,
            linewidth=1,
            linestyle=(0, (4, 3)),
            label="2 ln 2: cannot tell (logarithmic loss)",
        )
    _finish(axis, "discriminator's loss", log=False)
    if losses:
        axis.set_ylim(min(0.0, *losses), 1.1 * max(UNDECIDED, float(np.percentile(losses, 98))))


def _draw(axis: "Axes", history: History, name: str, label: str | None) -> None:
    """Draw one curve; where it has many points, faint, with a smoothed one over it."""
    iterations, values = series(history, name)
    if not any(values):
        return
    many = len(values) >= SMOOTHED_FROM and name != "validation"
    colour = COLOURS.get(name, FAINT)
    axis.plot(iterations, values, color=colour, linewidth=0.8 if many else 1.5, alpha=0.3 if many else 1,
              label=None if many else label, marker="." if len(values) < SMOOTHED_FROM else None)  # fmt: skip
    if many:
        axis.plot(iterations, _smoothed(values), color=colour, linewidth=1.6, label=label)


def _smoothed(values: Sequence[float]) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Return the running mean over about a twentieth of a curve, narrower at its ends."""
    reach = max(1, len(values) // 40)
    sums = np.concatenate([[0.0], np.cumsum(values, dtype=np.float64)])
    index = np.arange(len(values))
    half = np.minimum(np.minimum(index, len(values) - 1 - index), reach)
    return np.asarray((sums[index + half + 1] - sums[index - half]) / (2 * half + 1))


def _finish(axis: "Axes", title: str, *, log: bool = True) -> None:
    axis.set_title(title, loc="left", fontsize=10, pad=5)
    drawn = [float(value) for line in axis.get_lines() for value in np.ravel(line.get_ydata())]
    if not drawn:
        axis.text(0.5, 0.5, "nothing yet", transform=axis.transAxes, ha="center", color=FAINT)
        axis.set_yticks([])
        return
    if log and min(drawn) > 0 and max(drawn) > LOG_FROM * min(drawn):  # a hinge loss can be negative
        axis.set_yscale("log")
        _label_plainly(axis, max(drawn) / min(drawn))
    axis.grid(which="minor", visible=False)
    handles, labels = axis.get_legend_handles_labels()
    place: dict[str, Any] = {"loc": "lower right", "bbox_to_anchor": (1.01, 0.985), "ncols": len(labels) or 1}
    narrow: dict[str, Any] = {"fontsize": 8.5, "handlelength": 1.2, "handletextpad": 0.4, "borderpad": 0.2}
    axis.legend(handles, labels, columnspacing=1.1, **place, **narrow)


def _label_plainly(axis: "Axes", span: float) -> None:
    """Write numbers as numbers on a log axis, more of them where it spans less than two decades."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    between = () if span > 100 else (2, 5) if span > 8 else (1.5, 2, 3, 5, 7)
    axis.yaxis.set_major_locator(LogLocator(subs=(1, *between)))
    axis.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.yaxis.set_minor_formatter(NullFormatter())


def _draw_images(grid: Any, figure: "Figure", field: FixedField, output: FloatImage) -> None:  # noqa: ANN401 # a part of a GridSpec
    images = {"input": field.low, "output": output, "truth": field.truth}
    for column, (label, image) in enumerate(images.items()):
        grey = field.grey(image)
        whole, cut = figure.add_subplot(grid[0, column]), figure.add_subplot(grid[1, column])
        height, width = grey.shape
        whole.imshow(reduced(grey, WHOLE_PX), cmap="gray", vmin=0, vmax=255, extent=(0, width, height, 0))
        cut.imshow(field.detail.of(grey), cmap="gray", vmin=0, vmax=255, interpolation="nearest")
        away = "" if label == "truth" else f"   RMS difference to truth {field.away_from_truth(image):.2f}"
        whole.set_title(label, loc="left", fontsize=11, fontweight="bold", pad=5)
        whole.set_title(away, loc="right", fontsize=9, color=INK, pad=5)
        whole.set_anchor("S")  # a field that is not square lies next to its detail
        cut.set_anchor("N")
        _frame(whole, field.detail)
        _bare(cut, FRAME)
        _bare(whole, None)


def _frame(axis: "Axes", detail: Window) -> None:
    from matplotlib.patches import Rectangle

    corner = (detail.left, detail.top)
    axis.add_patch(Rectangle(corner, detail.width, detail.height, fill=False, edgecolor=FRAME, linewidth=1.3))


def _bare(axis: "Axes", colour: str | None) -> None:
    axis.set_xticks([])
    axis.set_yticks([])
    axis.grid(visible=False)
    for spine in axis.spines.values():
        spine.set_visible(colour is not None)
        spine.set_color(colour or FAINT)
        spine.set_linewidth(1.6)


def _png(figure: "Figure") -> bytes:
    stream = io.BytesIO()
    figure.savefig(stream, format="png", pil_kwargs={"compress_level": 3})
    return stream.getvalue()
