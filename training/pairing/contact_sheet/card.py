"""The card of one pair in the contact sheet: its pictures, figures and names as HTML.

Owns the markup and the style of a card. Every picture lies in the page once; the flicker and the arrows refer
to it. Knows nothing of which pairs are shown, nor of files.
"""

import base64
import html
from dataclasses import dataclass

import numpy as np

from training.pairing.contact_sheet.pictures import (
    Arrows,
    ByteImage,
    PairPictures,
    Window,
    jpeg,
    overlay,
    scale_bar,
)
from training.pairing.pairs import PairRecord

__all__ = ["CARD_STYLE", "CardSize", "card", "escaped", "figures", "picture"]

COMPACT_BELOW_PX = 150
"""Cells of such a width let all pictures of a pair stand in one row."""
ARROW_HEAD_SHARE = 0.02
"""Of the width of the field."""

CARD_STYLE = """
.card { border: 1px solid #d5d5d5; border-radius: 8px; padding: .8rem 1rem 1rem; margin: 1rem 0;
  content-visibility: auto; contain-intrinsic-size: auto 700px; }
.card header { display: flex; flex-wrap: wrap; gap: .3rem .6rem; align-items: baseline; }
.card h4 { font: 600 1rem/1.4 ui-monospace, Menlo, Consolas, monospace; margin: 0; overflow-wrap: anywhere; }
.chip { font-size: .8rem; border: 1px solid #bbb; border-radius: 1rem; padding: 0 .6rem; color: #333; }
.reason { margin: .3rem 0 0; padding: .3rem .6rem; border-left: 4px solid #b3006b; background: #fbeef6; }
.note { margin: .3rem 0 0; color: #555; font-size: .9rem; }
.strip { display: grid; grid-template-columns: repeat(auto-fill, var(--cell)); gap: .5rem .6rem;
  margin-top: .6rem; }
.strip figure { margin: 0; }
.strip svg { display: block; width: 100%; height: auto; background: #000; }
.cut .frame { overflow: hidden; display: flex; justify-content: center; background: #000; }
.cut svg { flex: none; width: auto; }
.strip figcaption { font-size: .85rem; color: #444; margin-top: .15rem; line-height: 1.35; }
.strip text { fill: #fff; stroke: #000; paint-order: stroke; font-family: system-ui, sans-serif; }
.facts { margin: 0; display: grid; grid-template-columns: auto 1fr; gap: .05rem .7rem; font-size: .9rem;
  align-content: start; }
.facts dt { color: #555; } .facts dd { margin: 0; text-align: right; white-space: nowrap;
  font-variant-numeric: tabular-nums; }
.compact { contain-intrinsic-size: auto 260px; }
.compact .pictures { display: grid; grid-template-columns: repeat(auto-fill, var(--cell)); gap: .5rem .6rem;
  margin-top: .5rem; }
.compact .strip { display: contents; }
.compact .place, .compact .facts { grid-column: 1 / -1; order: 1; margin: 0; }
.compact .facts { display: flex; flex-wrap: wrap; gap: 0 .4rem; font-size: .85rem; }
.compact .facts dd { margin-right: 1rem; }
.certain, .doubtful { fill: none; stroke: #ffd000; stroke-linejoin: round; stroke-linecap: round; }
.doubtful { opacity: .38; }
.turn { animation: turn .5s step-end infinite; }
@keyframes turn { 0% { opacity: 1; } 50% { opacity: 0; } }
#pause:checked ~ main .turn { animation: none; opacity: 0; }
#pause:checked ~ main .flicker:hover .turn, #pause:checked ~ main .flicker:focus .turn { opacity: 1; }
@media (prefers-reduced-motion: reduce) {
  .turn { animation: none; opacity: 0; }
  .flicker:hover .turn, .flicker:focus .turn { opacity: 1; }
}
@media (min-width: 1100px) { .facts { min-width: 250px; } }
@media (max-width: 620px) {
  .card { padding: .6rem; }
  .strip { grid-template-columns: repeat(2, minmax(0, 1fr)); }
  .facts { grid-column: 1 / -1; }
}
@media print {
  .card { break-inside: avoid; content-visibility: visible; border-color: #999; }
  .strip { grid-template-columns: repeat(4, minmax(0, 1fr)); gap: 2mm; }
  .strip.cut svg { width: 100%; height: auto; }
  .strip figcaption, .facts { font-size: 7pt; } .facts { gap: 0 1mm; }
  .moving { display: none; }
  svg, .reason { print-color-adjust: exact; -webkit-print-color-adjust: exact; }
}
"""


@dataclass(frozen=True, slots=True)
class CardSize:
    """How large the pictures of a card are; smaller ones where there are many cards."""

    cell_px: int
    """Width of a picture on the page, and side of the cut."""
    whole_px: int
    """Longer side of the whole field's picture as stored, so that it can be zoomed into."""
    quality: int
    """Of the JPEGs."""
    expected_bytes: int
    """What a card of it takes in the page, a little more than micrographs do; noise takes twice as much."""


def card(
    number: int, pair: PairRecord, pictures: PairPictures, size: CardSize, pixel_size_um: float | None
) -> str:
    """Return the card of one pair as an HTML article.

    Parameters
    ----------
    number
        Any that no other card of the page has.
    pixel_size_um
        Of the pair; None draws bars in pixels.
    """
    p = pictures
    pixel, unit = (1.0, "px") if pixel_size_um is None else (pixel_size_um, "µm")
    whole = _Strip(f"w{number}", size.quality, pixel * p.shape_yx[1] / p.low.shape[1], unit)
    cut = _Strip(f"c{number}", size.quality, pixel, unit, at_100_percent=True)
    box = _box(p.window, p.shape_yx, p.low)
    views = whole.views(p.low, p.high, f"whole field of {pair.file}", box) + _arrow_view(whole, p, pair.file)
    cuts = cut.views(p.low_cut, p.high_cut, f"detail of {pair.file}")
    w = p.window
    place = f"Framed detail at 100 %, {w.width} × {w.height} px at x {w.left}, y {w.top}."
    kind = "card compact" if size.cell_px < COMPACT_BELOW_PX else "card"
    return (
        f'<article class="{kind}" style="--cell:{size.cell_px}px" aria-labelledby="t{number}">'
        f"{_heading(number, pair)}"
        f'<div class="pictures"><div class="strip">{views}</div><p class="note place">{place}</p>'
        f'<div class="strip cut">{cuts}{_facts(pair, p)}</div></div></article>\n'
    )


def figures(pair: PairRecord) -> dict[str, str]:
    """Return the figures of a pair in words, without those that are not known."""
    rows = {
        "residual": _known(pair.residual_px, "{:.3f} px"),
        "NCC before → after": f"{pair.ncc_before:.3f} → {pair.ncc_after:.3f}",
        "deformation RMS": f"{pair.deformation_rms_px:.2f} px",
        "shift y, x": "{:.1f}, {:.1f} px".format(*pair.shift_yx_px),
        "specimen": _known(pair.specimen_fraction, "{:.0%}"),
        "least Jacobian": _known(pair.smallest_jacobian, "{:.2f}"),
    }
    if pair.signal_to_noise is not None:
        rows["SNR low"] = _known(pair.signal_to_noise.low, "{:.1f}")
        rows["SNR high"] = _known(pair.signal_to_noise.high, "{:.1f}")
    return {name: value for name, value in rows.items() if value}


def picture(image: ByteImage, alt: str, quality: int = 90) -> str:
    """Return an image element with the picture inside the page."""
    height, width = image.shape[:2]
    return f'<img alt="{escaped(alt)}" width="{width}" height="{height}" src="{_source(image, quality)}">'


def escaped(text: str) -> str:
    """Return text as it may stand in HTML and in an attribute."""
    return html.escape(text, quote=True)


def _source(image: ByteImage, quality: int) -> str:
    return f"data:image/jpeg;base64,{base64.b64encode(jpeg(image, quality)).decode()}"


def _known(value: float | None, form: str) -> str:
    return "" if value is None else form.format(value)


def _heading(number: int, pair: PairRecord) -> str:
    chips = [pair.channel, f"region {pair.region}", pair.split]
    marks = "".join(f'<span class="chip">{escaped(chip)}</span>' for chip in chips)
    reason = (
        ""
        if pair.accepted
        else f'<p class="reason">Left out: {escaped(pair.reason or "no reason given")}</p>'
    )
    notes = "".join(f'<p class="note">Note: {escaped(note)}</p>' for note in pair.notes)
    return f'<header><h4 id="t{number}">{escaped(pair.file)}</h4>{marks}</header>{reason}{notes}'


def _facts(pair: PairRecord, pictures: PairPictures) -> str:
    rows = figures(pair)
    if pictures.arrows is not None:
        rows["mean bend y, x"] = "{:.2f}, {:.2f} px".format(*pictures.arrows.mean_yx_px)
    cells = "".join(f"<dt>{escaped(name)}</dt><dd>{escaped(value)}</dd>" for name, value in rows.items())
    return f'<dl class="facts">{cells}</dl>'


@dataclass(frozen=True, slots=True)
class _Strip:
    """A row of pictures of the same place."""

    name: str
    """Of its pictures, in the page."""
    quality: int
    pixel_size: float
    unit: str
    at_100_percent: bool = False
    """One pixel of the picture is one of the page, however narrow that is."""

    def views(self, low: ByteImage, high: ByteImage, what: str, box: str = "") -> str:
        """Return low, high, overlay and flicker; `what` they show goes into the alternative text."""
        height, width = low.shape
        layers = {
            "low": self._image("l", low) + _bar(width, height, self.pixel_size, self.unit),
            "high": self._image("h", high) + box,
            "overlay": self._image("o", overlay(low, high)) + box,
        }
        shown = [
            self.figure(label, (height, width), content, f"{label}, {what}")
            for label, content in layers.items()
        ]
        return "".join([*shown, self._flicker((height, width), what)])

    def _image(self, mark: str, image: ByteImage) -> str:
        height, width = image.shape[:2]
        source = _source(image, self.quality)
        return f'<image id="{self.name}{mark}" width="{width}" height="{height}" href="{source}"/>'

    def figure(self, caption: str, shape_yx: tuple[int, int], content: str, alt: str) -> str:
        """Return one picture with its caption."""
        drawing = self._drawing(shape_yx, content, alt)
        return f"<figure>{drawing}<figcaption>{escaped(caption)}</figcaption></figure>"

    def _flicker(self, shape_yx: tuple[int, int], what: str) -> str:
        tag = _tag(shape_yx)
        content = (
            f'<use href="#{self.name}h"/>{tag.format("high")}'
            f'<g class="turn"><use href="#{self.name}l"/>{tag.format("low")}</g>'
        )
        drawing = self._drawing(
            shape_yx, content, f"low and high in turn, {what}", 'class="flicker" tabindex="0" '
        )
        return f'<figure class="moving">{drawing}<figcaption>flicker</figcaption></figure>'

    def _drawing(self, shape_yx: tuple[int, int], content: str, alt: str, more: str = "") -> str:
        height, width = shape_yx
        fixed = f'width="{width}" height="{height}" ' if self.at_100_percent else ""
        start = f'<svg {more}{fixed}viewBox="0 0 {width} {height}" role="img" aria-label="{escaped(alt)}">'
        return f'<div class="frame">{start}{content}</svg></div>'


def _arrow_view(strip: _Strip, pictures: PairPictures, file: str) -> str:
    """Return the high image with the arrows over it, or with the word that there are none."""
    high, field = pictures.high, pictures.arrows
    layer = f'<use href="#{strip.name}h" opacity=".75"/>'
    if field is None:
        return strip.figure("no deformation to show", high.shape, layer, f"high, whole field of {file}")
    scale = high.shape[1] / pictures.shape_yx[1]
    paths = _arrow_path(field, False, "doubtful", scale, high) + _arrow_path(
        field, True, "certain", scale, high
    )
    caption = f"arrows {field.magnification} ×, longest {field.largest_px:.2f} px"
    return strip.figure(
        caption, high.shape, layer + paths, f"deformation as arrows over high, whole field of {file}"
    )


def _arrow_path(field: Arrows, certain: bool, name: str, scale: float, high: ByteImage) -> str:
    strokes = field.strokes(certain, ARROW_HEAD_SHARE * high.shape[1] / scale)
    points = [np.round(stroke[:, ::-1] * scale, 1) for stroke in strokes]  # x, y
    lines = "".join("M" + "L".join(f"{x:g} {y:g}" for x, y in stroke) for stroke in points)
    return f'<path class="{name}" stroke-width="{high.shape[1] / 190:.2f}" d="{lines}"/>'


def _box(window: Window, shape_yx: tuple[int, int], picture: ByteImage) -> str:
    """Return the frame of the detail on the whole field's picture."""
    scale = picture.shape[1] / shape_yx[1]
    x, y, w, h = (round(scale * side, 1) for side in (window.left, window.top, window.width, window.height))
    line = f'fill="none" stroke="#fff" stroke-width="{picture.shape[1] / 256:.2f}"'
    return f'<rect x="{x}" y="{y}" width="{w}" height="{h}" {line}/>'


def _bar(width: int, height: int, pixel_size: float, unit: str) -> str:
    """Return the scale bar; in the middle, where a narrow screen does not cut it off."""
    length, label = scale_bar(width, pixel_size, unit)
    size = max(width / 19, 9)
    return (
        f'<rect x="{(width - length) / 2:.1f}" y="{height - 0.045 * width:.1f}" width="{length:.1f}" '
        f'height="{width / 64:.1f}" fill="#fff" stroke="#000" stroke-width=".5"/>'
        f'<text x="{width / 2}" y="{height - 0.065 * width:.1f}" font-size="{size:.1f}" text-anchor="middle" '
        f'stroke-width="{size / 6:.1f}">{escaped(label)}</text>'
    )


def _tag(shape_yx: tuple[int, int]) -> str:
    """Return a word in the middle of the upper border, to be filled in."""
    size = max(shape_yx[1] / 19, 9)
    return (
        f'<text x="{shape_yx[1] / 2}" y="{1.2 * size:.1f}" font-size="{size:.1f}" text-anchor="middle" '
        f'stroke-width="{size / 6:.1f}">{{}}</text>'
    )
