"""Pictures of images for people: panels side by side, each labelled, as PNG.

Owns the look (grey map, label, scale bar) and nothing of metrics. Images come in as arrays, PNG bytes go
out; nothing is written to disk here.
"""

import io
from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

__all__ = ["side_by_side_png"]

Image = np.ndarray[Any, np.dtype[Any]]
PANEL_INCHES = 2.6
LOW_PERCENTILE, HIGH_PERCENTILE = 1.0, 99.8


def side_by_side_png(
    panels: Mapping[str, Image], pixel_size_um: float | None = None, scale_bar_um: float = 10.0
) -> bytes:
    """Draw panels of the same field in one row.

    Parameters
    ----------
    panels
        Label to image (Y, X); all show the same extent, at any pixel size. Each is stretched from its 1st
        to its 99.8th percentile.
    pixel_size_um
        Of the last panel, for the scale bar; None draws none.
    """
    figure = Figure(figsize=(PANEL_INCHES * len(panels), PANEL_INCHES + 0.3), dpi=110)
    FigureCanvasAgg(figure)
    axes = figure.subplots(1, len(panels), squeeze=False)[0]
    for axis, (label, image) in zip(axes, panels.items(), strict=True):
        low, high = np.percentile(image, (LOW_PERCENTILE, HIGH_PERCENTILE))
        axis.imshow(image, cmap="gray", vmin=low, vmax=max(high, low + 1e-6), interpolation="nearest")
        axis.set_title(label, fontsize=9)
        axis.set_axis_off()
    if pixel_size_um is not None:
        _draw_scale_bar(axes[-1], list(panels.values())[-1], pixel_size_um, scale_bar_um)
    figure.subplots_adjust(left=0.005, right=0.995, bottom=0.01, top=0.9, wspace=0.02)
    return _png(figure)


def _draw_scale_bar(axis: Any, image: Image, pixel_size_um: float, scale_bar_um: float) -> None:  # noqa: ANN401 # matplotlib's Axes is untyped here
    height, width = image.shape
    length = scale_bar_um / pixel_size_um
    right, y = 0.95 * width, 0.94 * height
    axis.plot([right - length, right], [y, y], color="white", linewidth=3, solid_capstyle="butt")
    label = f"{scale_bar_um:g} µm"
    axis.text(right - length / 2, y - 0.03 * height, label, color="white", fontsize=8, ha="center")


def _png(figure: Figure) -> bytes:
    stream = io.BytesIO()
    figure.savefig(stream, format="png")
    return stream.getvalue()
