"""The interactive comparison of images as HTML: panels side by side with linked zoom, swipe and blink.

Owns the markup, which is a static row of panels by itself: so it prints, and so it reads without a script.
`viewer.js` makes it interactive, `viewer.css` styles it, and the page brings both. Every picture lies in the
page once. Knows nothing of methods and figures.
"""

import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from training.evaluation.report.error_map import MapColours, colours_of
from training.evaluation.report.intensity_window import ByteImage, Image, window_of
from training.evaluation.report.png_source import RENDERINGS, Rendering, png_source
from training.pairing.contact_sheet.pictures import scale_bar

__all__ = ["ShownField", "viewer"]

BUDGET_BYTES = 24_000_000
FEWEST_COLUMNS, MOST_COLUMNS = 3, 5
"""Of the panels on paper."""
ENHANCED, TRUTH = "enhanced", "truth"
"""How the labels of such images begin, in small letters."""


@dataclass(frozen=True, slots=True)
class ShownField:
    """One field of view, as every method shows it."""

    title: str
    """Such as "FITC, region 5, median field (SSIM 0.962)"."""
    images: Mapping[str, Image]
    """Label to (Y, X) of any real type, all on the same grid."""
    error_maps: Mapping[str, Image]
    """Label to (Y, X), signed or not. Labels that begin with the same word share the range of colours."""
    pixel_size_um: float | None
    """Of the grid, for the scale bar; None draws it in pixels."""
    composite: bool = False
    """The images are colours already, (Y, X, 3) uint8."""

    @property
    def truth(self) -> str:
        """The label of the image that gives all their window: the truth, or else the last one."""
        labels = list(self.images)
        return next((label for label in labels if label.lower().startswith(TRUTH)), labels[-1])


@dataclass(frozen=True, slots=True)
class _Panel:
    """One picture of a field, 8-bit."""

    label: str
    picture: ByteImage
    colours: MapColours | None = None
    """Of a map of errors."""


@dataclass(frozen=True, slots=True)
class _Row:
    """The panels of a field, and what is to be said of them."""

    field: ShownField
    panels: Sequence[_Panel]
    words: str


def viewer(fields: Sequence[ShownField], *, budget_bytes: int = BUDGET_BYTES) -> str:
    """Return a comparison of the images of one or more fields.

    The images of a field are all shown by one window, that of its truth (1st to 99.8th percentile), and the
    page says so.

    Parameters
    ----------
    fields
        The first one is shown first.
    budget_bytes
        Beyond it the pictures are stored in fewer grey levels, then smaller, and the page says so.

    Raises
    ------
    ValueError
        Of no field, a field without images, and images that are not on one grid.
    """
    if not fields:
        msg = "a viewer needs at least one field"
        raise ValueError(msg)
    rows = [_row(field) for field in fields]
    for rendering in RENDERINGS:
        page = "".join(_field(row, rendering) for row in rows)
        if len(page) <= budget_bytes:
            break
    return f'<div class="viewer">{page}</div>'


def _row(field: ShownField) -> _Row:
    _check(field)
    colours = colours_of(field.error_maps)
    maps = [
        _Panel(label, colours[label].indices(one), colours[label]) for label, one in field.error_maps.items()
    ]
    if field.composite:
        panels = [_Panel(label, image) for label, image in field.images.items()]
        words = "The colours of all images are composed in the same way."
    else:
        window = window_of(field.images[field.truth])
        panels = [_Panel(label, window.stretch(image)) for label, image in field.images.items()]
        words = (
            f"All images are shown by one window, from {window.black:.4g} (black) to {window.white:.4g} "
            f"(white): the 1st to 99.8th percentile of “{field.truth}”."
        )
    if maps:
        words += " Maps of one kind share one range of colours; what lies beyond has the colour of its end."
    return _Row(field, [*panels, *maps], words)


def _check(field: ShownField) -> None:
    if not field.images:
        msg = f"the field '{field.title}' has no image"
        raise ValueError(msg)
    grid = next(iter(field.images.values())).shape[:2]
    dimensions = 3 if field.composite else 2
    for label, image in field.images.items():
        if image.shape[:2] != grid or image.ndim != dimensions:
            msg = f"'{label}' of '{field.title}' is {image.shape}, expected {dimensions} axes on {grid}"
            raise ValueError(msg)
    for label, error_map in field.error_maps.items():
        if error_map.shape != grid:
            msg = f"the map '{label}' of '{field.title}' is {error_map.shape}, expected {grid}"
            raise ValueError(msg)


def _field(row: _Row, rendering: Rendering) -> str:
    """Return the static row of panels of one field."""
    field = row.field
    height, width = (side // rendering.reduction for side in row.panels[0].picture.shape[:2])
    pixel, unit = (1.0, "px") if field.pixel_size_um is None else (field.pixel_size_um, "µm")
    pixel *= rendering.reduction
    bar = _bar(width, pixel, unit)
    panels = "".join(_figure(panel, rendering, bar, field.title) for panel in row.panels)
    scale = f'data-pixel="{pixel:.10g}" data-unit="{unit}"'
    columns = min(max(len(row.panels), FEWEST_COLUMNS), MOST_COLUMNS)
    return (
        f'<section class="field" {scale} style="--shape:{width}/{height};--columns:{columns}">'
        f'<h3>{html.escape(field.title)}</h3><div class="panels">{panels}</div>'
        f'<p class="window">{html.escape(f"{row.words} {rendering.words()}")}</p></section>'
    )


def _figure(panel: _Panel, rendering: Rendering, bar: str, title: str) -> str:
    label = html.escape(panel.label)
    name = "label enhanced" if panel.label.lower().startswith(ENHANCED) else "label"
    source = png_source(rendering.of(panel.picture), None if panel.colours is None else panel.colours.palette)
    image = f'<img alt="{label}: {html.escape(title)}" src="{source}">'
    kind = "image" if panel.colours is None else "map"
    frame = f'<div class="frame">{image}<span class="{name}">{label}</span>{bar}</div>'
    return f'<figure class="panel {kind}">{frame}{_colour_bar(panel.colours)}</figure>'


def _bar(width_px: int, pixel_size: float, unit: str) -> str:
    length_px, label = scale_bar(width_px, pixel_size, unit)
    return f'<span class="bar whole" style="width:{100 * length_px / width_px:.3f}%"><b>{label}</b></span>'


def _colour_bar(colours: MapColours | None) -> str:
    if colours is None:
        return ""
    strip = f'<i style="background:{colours.gradient}"></i>'
    return f'<figcaption class="colours">{colours.low:.3g}{strip}{colours.high:.3g}</figcaption>'
