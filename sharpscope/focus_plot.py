"""A picture of how a scan was focused: the sample's shape, and every curve.

Owns the picture only; what it shows stands in the scan folder's journal.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from acquisition.manifest import FocusRecord, ImagingState, ScanFolder

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["plot_focus"]

_STATES: tuple[ImagingState, ...] = ("low", "high")
_MARKERS = {"searched": "o", "predicted": "s", "hardware": "^"}
_FAILED = "tab:red"


def plot_focus(folder: ScanFolder, path: Path) -> None:
    """Write a PNG: the planes of both imaging states over the stage, and the focus curves around them."""
    from matplotlib.figure import Figure  # takes a while to import

    records = [line for line in folder.lines() if isinstance(line, FocusRecord)]
    figure = Figure(figsize=(11, 8), layout="constrained", dpi=120)
    axes: Any = figure.subplots(2, 2)
    for row, state in zip(axes, _STATES, strict=True):
        of_state = [record for record in records if record.state == state]
        _draw_map(figure, row[0], of_state)
        _draw_curves(row[1], of_state)
        name = folder.manifest.objectives[state].name
        row[0].set_title(f"{state} ({name}): plane of best focus (um)")
        row[1].set_title(f"{state} ({name}): focus curves")
    figure.savefig(path)


def _draw_map(figure: "Figure", axes: "Axes", records: list[FocusRecord]) -> None:
    """Draw the planes as colours over the stage, a marker for each way of finding them."""
    from matplotlib.colors import Normalize

    placed = [record for record in records if record.succeeded and record.stage_x_um is not None]
    planes = [record.focus_um for record in placed if record.focus_um is not None]
    axes.set(xlabel="stage x (um)", ylabel="stage y (um)", aspect="equal")
    axes.margins(0.15)
    if not planes:
        axes.text(0.5, 0.5, "no field was in focus", transform=axes.transAxes, ha="center")
        return
    colours = Normalize(min(planes), max(planes))
    shown: Any = None
    for method, marker in _MARKERS.items():
        found = [record for record in placed if record.method == method]
        if found:
            x, y, z = np.array([(r.stage_x_um, r.stage_y_um, r.focus_um) for r in found], dtype=float).T
            shown = axes.scatter(
                x, y, c=z, marker=marker, s=55, label=f"{method} ({len(found)})", norm=colours
            )
    figure.colorbar(shown, ax=axes, shrink=0.8)
    axes.legend(fontsize="small", loc="upper left", bbox_to_anchor=(0, -0.2), ncols=3, frameon=False)


def _draw_curves(axes: "Axes", records: list[FocusRecord]) -> None:
    """Draw every curve around its plane, on the scale of its best score; failed ones in red."""
    axes.set(xlabel="drive position minus plane (um)", ylabel="score / best score", ylim=(0, 1.05))
    searched = [record for record in records if record.curve]
    failed = [record for record in searched if not record.succeeded]
    for record in searched:
        positions, scores = np.array(sorted(record.curve)).T
        middle = record.focus_um if record.focus_um is not None else positions.mean()
        colour, weight = ("tab:blue", 0.35) if record.succeeded else (_FAILED, 0.8)
        axes.plot(
            positions - middle, scores / max(scores.max(), 1e-12), "o-", c=colour, alpha=weight, ms=3, lw=1
        )
    axes.axvline(0, color="0.6", lw=0.8)
    axes.text(
        0.02,
        0.96,
        f"{len(searched) - len(failed)} found" + (f", {len(failed)} failed (red)" if failed else ""),
        transform=axes.transAxes,
        va="top",
    )
