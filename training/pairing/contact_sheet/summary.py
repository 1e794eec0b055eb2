"""What the contact sheet says before it shows pairs: counts, distributions, and how the pictures are read.

Owns these tables and the legend as HTML. Records and one example come in; knows no files.
"""

import re
from collections import Counter
from collections.abc import Callable, Sequence
from typing import get_args

import numpy as np

from training.pairing.contact_sheet.card import escaped, picture
from training.pairing.contact_sheet.pictures import (
    CERTAIN_PX,
    ByteImage,
    PairPictures,
    overlay,
    textured_window,
)
from training.pairing.pairs import PairRecord, SignalToNoise, Split

__all__ = [
    "SUMMARY_STYLE",
    "counts_table",
    "distribution_tables",
    "kind_of_reason",
    "legend",
    "reasons_list",
    "shifted_overlay",
]

EXAMPLE_SHIFTS_PX = (0, 1, 3)
EXAMPLE_PX, ENLARGED = 100, 2
MOST_BINS, HISTOGRAM_PX = 24, 72

HOW_TO_READ = {
    "Overlay": """Low is <b class="g">green</b>, high is <b class="m">magenta</b>; where both show the same,
it is white or grey. High is sharper, so a fine structure has a magenta core in a green halo: that is well if
the halo lies <em>evenly all round</em>. A fringe that is <b class="g">green</b> on one side and
<b class="m">magenta</b> on the other is misalignment.""",
    "Flicker": """Low and high in turn, each a quarter of a second: what sharpens in place is aligned, what
<em>jumps</em> is not. While it is paused, or where the system asks for less motion, high is shown; point at
the picture to see low.""",
    "Arrows": f"""How the high image was bent: from a place to where the high image showed it as acquired,
without the shift that all have in common, longer by the factor below the picture. Solid where the images say
it (standard deviation up to {CERTAIN_PX:g} px), faint where they do not. A good field is smooth; solid arrows
that cross or swirl around one place have followed noise.""",
    "Scale": """Low and high are shown by the same window, the mean of their 1st to 99.8th percentiles (each
by its own where they differ more than twofold). Whole fields are reduced and do not show a shift of a pixel;
the framed details at 100 % do.""",
}
"""What to look at, as HTML."""

SUMMARY_STYLE = """
.scroll { overflow-x: auto; }
.columns { display: flex; flex-wrap: wrap; gap: 0 1.4rem; align-items: flex-start; }
.columns > div { max-width: 100%; } .columns h3 { margin-top: .6rem; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; margin: .4rem 0; }
table { font-size: .92rem; }
td, th { padding: .2rem .4rem; border-bottom: 1px solid #e4e4e4; text-align: right; vertical-align: middle; }
th { font-weight: 600; } td:first-child, th:first-child, .left { text-align: left; }
.histogram { display: block; fill: #5b3a8c; }
.legend { display: flex; flex-wrap: wrap; gap: 1rem 1.6rem; align-items: flex-start; }
.legend > div { flex: 1 1 24rem; } .legend ul { margin: .2rem 0; padding-left: 1.2rem; }
.legend li { margin: .25rem 0; }
.examples { display: flex; flex-wrap: wrap; gap: .6rem; flex: 0 1 auto !important; }
.examples figure { margin: 0; width: 188px; } .examples img { display: block; max-width: 100%; height: auto; }
.examples figcaption { font-size: .85rem; color: #444; line-height: 1.35; margin-top: .15rem; }
.g { color: #007a00; font-weight: 600; } .m { color: #b3006b; font-weight: 600; }
@media (max-width: 620px) { td, th { padding: .2rem .3rem; } .histogram { width: 40px; }
  .examples figure { flex: 1 1 5rem; width: auto; } }
@media print { .columns > div, .examples { break-inside: avoid; } }
"""

_Figure = Callable[[PairRecord], float | None]
FIGURES: dict[str, tuple[_Figure, str]] = {
    "residual (px)": (lambda pair: pair.residual_px, ".3f"),
    "NCC before": (lambda pair: pair.ncc_before, ".3f"),
    "NCC after": (lambda pair: pair.ncc_after, ".3f"),
    "deform. RMS (px)": (lambda pair: pair.deformation_rms_px, ".2f"),
    "SNR low": (lambda pair: _noise(pair).low, ".1f"),
    "SNR high": (lambda pair: _noise(pair).high, ".1f"),
}
"""Name to how it is read from a record and written."""


def _noise(pair: PairRecord) -> SignalToNoise:
    return pair.signal_to_noise or SignalToNoise()


def counts_table(pairs: Sequence[PairRecord]) -> str:
    """Return how many pairs of each channel went where."""
    splits: tuple[Split, ...] = get_args(Split)
    channels = list(dict.fromkeys(pair.channel for pair in pairs))
    rows = []
    for channel in [*channels, None] if len(channels) > 1 else channels:
        chosen = [pair for pair in pairs if channel is None or pair.channel == channel]
        taken = Counter(pair.split for pair in chosen if pair.accepted)
        accepted = sum(taken.values())
        cells = [*(taken[split] for split in splits), accepted, len(chosen) - accepted]
        rows.append(["all channels" if channel is None else channel, *map(str, cells)])
    return _table(["channel", *splits, "accepted", "left out"], rows)


def reasons_list(pairs: Sequence[PairRecord]) -> str:
    """Return how often pairs were left out for which kind of reason, the most frequent first."""
    kinds = Counter(kind_of_reason(pair.reason or "no reason given") for pair in pairs if not pair.accepted)
    if not kinds:
        return "<p>No pair was left out.</p>"
    lines = "".join(f"<li>{count} × {escaped(kind)}</li>" for kind, count in kinds.most_common())
    return f'<div><p><b>Left out because</b></p><ul class="lines">{lines}</ul></div>'


def kind_of_reason(reason: str) -> str:
    """Return a reason without its numbers."""
    head = re.split(r"[:(]", reason, maxsplit=1)[0]
    return re.sub(r"\s*\d+(\.\d+)?", "", head).strip() or reason


def distribution_tables(pairs: Sequence[PairRecord]) -> str:
    """Return the spread of each figure over the accepted pairs, a table for each channel."""
    tables = [
        f"<div><h3>{escaped(channel)}, {len(chosen)} pairs</h3>{_distribution(chosen, channel)}</div>"
        for channel in dict.fromkeys(pair.channel for pair in pairs)
        if (chosen := [pair for pair in pairs if pair.accepted and pair.channel == channel])
    ]
    return f'<div class="columns">{"".join(tables)}</div>' if tables else "<p>No pair was accepted.</p>"


def _distribution(pairs: Sequence[PairRecord], channel: str) -> str:
    rows = []
    for name, (read, form) in FIGURES.items():
        values = [value for value in map(read, pairs) if value is not None and np.isfinite(value)]
        if values:
            spread = (f"{value:{form}}" for value in (min(values), float(np.median(values)), max(values)))
            rows.append([name, *spread, histogram(values, f"{name}, {channel}")])
    return _table(["", "least", "median", "largest", "spread"], rows, last_is_html=True)


def histogram(values: Sequence[float], what: str) -> str:
    """Return a histogram from the least to the largest value as a small drawing."""
    bins = int(np.clip(2 * np.sqrt(len(values)), 4, MOST_BINS))
    counts = np.histogram(values, bins=bins)[0]
    step = HISTOGRAM_PX / bins
    bars = "".join(
        f'<rect x="{step * k:.1f}" y="{20 - height:.1f}" width="{step - 1:.1f}" height="{height:.1f}"/>'
        for k, height in enumerate(18 * counts / counts.max())
        if height
    )
    axis = f'<rect y="20" width="{HISTOGRAM_PX}" height="1" opacity=".4"/>'
    size = f'width="{HISTOGRAM_PX}" height="21" role="img" aria-label="{escaped(f"histogram of {what}")}"'
    return f'<svg class="histogram" {size}>{bars}{axis}</svg>'


def _table(header: Sequence[str], rows: Sequence[Sequence[str]], last_is_html: bool = False) -> str:
    head = "".join(f'<th scope="col">{escaped(cell)}</th>' for cell in header)
    lines = []
    for row in rows:
        cells = [escaped(cell) for cell in row[:-1]] + [row[-1] if last_is_html else escaped(row[-1])]
        lines.append("<tr>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>")
    body = f"<thead><tr>{head}</tr></thead><tbody>{''.join(lines)}</tbody>"
    return f'<div class="scroll"><table>{body}</table></div>'


def legend(example: PairPictures | None) -> str:
    """Return how the pictures are read, shown on a pair of the set whose high image is moved on purpose."""
    words = "".join(f"<li><b>{name}.</b> {text}</li>" for name, text in HOW_TO_READ.items())
    words = f"<div><ul>{words}</ul></div>"
    return f'<div class="legend">{words}{_examples(example)}</div>'


def _examples(example: PairPictures | None) -> str:
    if example is None or min(example.low_cut.shape) < EXAMPLE_PX:
        return ""
    place = textured_window(example.low_cut, example.high_cut, EXAMPLE_PX)
    low, high = place.of(example.low_cut), place.of(example.high_cut)
    shown = []
    for shift in EXAMPLE_SHIFTS_PX:
        words = f"high moved {shift} px to the right on purpose" if shift else "the best pair, as registered"
        image = shifted_overlay(low, high, shift, max(EXAMPLE_SHIFTS_PX))
        image = image.repeat(ENLARGED, axis=0).repeat(ENLARGED, axis=1)
        drawing = picture(image, f"overlay, enlarged, {words}")
        shown.append(f"<figure>{drawing}<figcaption>{words} ({100 * ENLARGED} %)</figcaption></figure>")
    return f'<div class="examples">{"".join(shown)}</div>'


def shifted_overlay(low: ByteImage, high: ByteImage, shift_px: int, margin_px: int) -> ByteImage:
    """Return the overlay with high moved to the right, without a margin of so many pixels left and right."""
    width = low.shape[1] - 2 * margin_px
    begin = margin_px - shift_px
    return overlay(low[:, margin_px : margin_px + width], high[:, begin : begin + width])
