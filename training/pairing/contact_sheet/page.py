"""The contact sheet: one page by which a person judges in two minutes whether the pairs of a set are good.

Owns which pairs are shown (of each channel the best, the worst and every one that was left out) and the
order of the page. Knows nothing of how a pair is drawn. One pair is in memory at a time.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice, zip_longest
from pathlib import Path
from typing import Self

from inference.journal import atomic_path, write_atomic
from training.pairing.contact_sheet.card import CARD_STYLE, escaped
from training.pairing.contact_sheet.cards import LARGEST, Cards, read_pictures
from training.pairing.contact_sheet.overview import ROW_WIDTH, Sample, overview_png
from training.pairing.contact_sheet.summary import (
    SUMMARY_STYLE,
    counts_table,
    distribution_tables,
    legend,
    reasons_list,
)
from training.pairing.pairs import PairRecord, PairSet

__all__ = ["rank", "write_contact_sheet"]

SHOWN = 4
"""Best pairs and worst pairs of each channel."""
STYLE = """
:root { color-scheme: light; }
body { font: 16px/1.5 system-ui, sans-serif; color: #1a1a1a; background: #fff; max-width: 1366px;
  margin: 0 auto; padding: 0 1rem 3rem; }
h1 { font-size: 1.6rem; margin: 1rem 0 .2rem; overflow-wrap: anywhere; }
h2 { font-size: 1.3rem; margin: 2.2rem 0 .4rem; border-bottom: 2px solid #1a1a1a; }
h3 { font-size: 1.05rem; margin: 1.4rem 0 .2rem; }
h2, h3 { scroll-margin-top: 3.2rem; overflow-wrap: anywhere; }
p { margin: .3rem 0; } .quiet { color: #555; font-size: .92rem; overflow-wrap: anywhere; }
#pause { position: absolute; opacity: 0; pointer-events: none; }
.bar { position: sticky; top: 0; z-index: 1; background: #fff; border-bottom: 1px solid #d5d5d5;
  padding: .4rem 0; display: flex; flex-wrap: wrap; gap: .2rem 1.1rem; align-items: center;
  font-size: .95rem; }
.bar a { color: #5b3a8c; } .bar label { cursor: pointer; user-select: none; }
.bar label::before { content: "\\2610\\00a0"; }
#pause:checked + .bar label::before { content: "\\2611\\00a0"; }
#pause:focus-visible + .bar label { outline: 2px solid #5b3a8c; outline-offset: 2px; }
.lines li { margin: .2rem 0; overflow-wrap: anywhere; }
@media print { .bar, #pause { display: none; } body { max-width: none; font-size: 10pt; } }
"""


def write_contact_sheet(pair_set: PairSet, path: Path) -> Path:
    """Write the contact sheet of a pair set, and a still overview beside it.

    Parameters
    ----------
    path
        Of the page, such as `contact_sheet.html`; the overview has the same name and ends in `.png`. Both are
        written whole or not at all.

    Returns
    -------
    Path
        Of the page. It is one file that opens without a network.
    """
    channels = [_Channel.of(pair_set, name) for name in _channels(pair_set)]
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8") as stream:
        for part in _page(pair_set, channels):
            stream.write(part)
    write_atomic(path.with_suffix(".png"), _overview(pair_set, channels))
    return path


def rank(pairs: Sequence[PairRecord]) -> list[PairRecord]:
    """Sort pairs from the best to the worst: by what is left of the shift, then by the correlation."""

    def badness(pair: PairRecord) -> tuple[float, float]:
        return (float("inf") if pair.residual_px is None else pair.residual_px, -pair.ncc_after)

    return sorted(pairs, key=badness)


@dataclass(frozen=True, slots=True)
class _Channel:
    """What is shown of one channel."""

    name: str
    best: list[PairRecord]
    """The best first."""
    worst: list[PairRecord]
    """The worst first; none that is among the best."""
    left_out: list[PairRecord]

    @classmethod
    def of(cls, pair_set: PairSet, name: str) -> Self:
        pairs = [pair for pair in pair_set.index.pairs if pair.channel == name]
        ranked = rank([pair for pair in pairs if pair.accepted])
        best = min(SHOWN, -(-len(ranked) // 2))
        worst = ranked[max(best, len(ranked) - SHOWN) :][::-1]
        return cls(name, ranked[:best], worst, [pair for pair in pairs if not pair.accepted])


def _channels(pair_set: PairSet) -> list[str]:
    return list(dict.fromkeys(pair.channel for pair in pair_set.index.pairs))


def _page(pair_set: PairSet, channels: Sequence[_Channel]) -> Iterator[str]:
    """Yield the page part by part."""
    title = f"Contact sheet of the pair set, {_origin(pair_set)}"
    shown = sum(len(channel.best) + len(channel.worst) for channel in channels)
    cards = Cards.plan(pair_set, shown, [pair for channel in channels for pair in channel.left_out])
    yield (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{escaped(title)}</title>'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<style>{STYLE}{SUMMARY_STYLE}{CARD_STYLE}</style></head><body>"
    )
    yield f'<input type="checkbox" id="pause">{_bar(channels)}<main>'
    yield _summary(pair_set, title)
    best = rank([pair for channel in channels for pair in channel.best])
    example = read_pictures(pair_set, best[0], LARGEST) if best else "no pair"
    yield f'<h2 id="legend">How to read it</h2>{legend(None if isinstance(example, str) else example)}'
    yield f'<p class="quiet">{escaped(cards.words())}</p>'
    for number, channel in enumerate(channels):
        yield f'<h2 id="channel{number}">Channel {escaped(channel.name)}</h2>'
        yield from cards.section("Best pairs", channel.best)
        yield from cards.section("Worst accepted pairs", channel.worst)
        yield f'<h3 id="leftout{number}">Left out: {len(channel.left_out)}</h3>'
        yield from cards.section("", channel.left_out)
    yield "</main></body></html>\n"


def _origin(pair_set: PairSet) -> str:
    run = pair_set.index.run_id
    return f"run {run}" if run is not None else "made from plain folders"


def _bar(channels: Sequence[_Channel]) -> str:
    """Return what stays at the top: the pause of the flicker and the way to the channels."""
    links = "".join(
        f'<a href="#channel{k}">{escaped(channel.name)}</a>'
        + (f'<a href="#leftout{k}">{len(channel.left_out)} left out</a>' if channel.left_out else "")
        for k, channel in enumerate(channels)
    )
    pause = '<label for="pause">pause flicker</label>'
    return f'<nav class="bar">{pause}<a href="#legend">how to read it</a>{links}</nav>'


def _summary(pair_set: PairSet, title: str) -> str:
    index, pairs = pair_set.index, pair_set.index.pairs
    accepted = sum(pair.accepted for pair in pairs)
    optics = index.optics
    known = {
        "pixel": (optics.low_pixel_size_um, optics.high_pixel_size_um, " µm"),
        "NA": (optics.low_numerical_aperture, optics.high_numerical_aperture, ""),
    }
    facts = [optics.modality, f"{index.factor} high pixels along one low pixel"]
    facts += [f"{name} {low:g} → {high:g}{unit}" for name, (low, high, unit) in known.items() if low and high]
    return (
        f"<h1>{escaped(title)}</h1><p><b>{accepted} of {len(pairs)} pairs accepted</b>, "
        f"{len(pairs) - accepted} left out.</p>"
        f'<p class="quiet">{escaped(", ".join(facts))}.</p><div class="columns">'
        f"<div>{counts_table(pairs)}</div>{reasons_list(pairs)}</div>"
        f"<h2>Figures of the accepted pairs</h2>{distribution_tables(pairs)}"
    )


def _overview(pair_set: PairSet, channels: Sequence[_Channel]) -> bytes:
    optics = pair_set.index.optics
    pixel, unit = (1.0, "px") if optics.high_pixel_size_um is None else (optics.high_pixel_size_um, "µm")
    rows = {
        "Best pairs": [channel.best for channel in channels],
        "Worst accepted pairs": [channel.worst for channel in channels],
        "Left out": [channel.left_out for channel in channels],
    }
    pairs = pair_set.index.pairs
    count = f"{sum(pair.accepted for pair in pairs)} of {len(pairs)} pairs accepted"
    samples = {title: list(islice(_samples(pair_set, lists), ROW_WIDTH)) for title, lists in rows.items()}
    return overview_png(f"Pair set, {_origin(pair_set)}: {count}", samples, pixel, unit)


def _samples(pair_set: PairSet, lists: Sequence[list[PairRecord]]) -> Iterator[Sample]:
    """Yield one pair of each channel in turn, those without pictures left out."""
    for pair in (pair for turn in zip_longest(*lists) for pair in turn if pair is not None):
        pictures = read_pictures(pair_set, pair, LARGEST)
        if not isinstance(pictures, str):
            residual = "no residual" if pair.residual_px is None else f"residual {pair.residual_px:.3f} px"
            figures = f"{residual} · NCC {pair.ncc_before:.3f} → {pair.ncc_after:.3f}"
            place = f"{pair.channel}, region {pair.region}, {pair.split}"
            said = place if pair.accepted else pair.reason or "no reason given"
            yield Sample(pair.file, (said, figures), pictures)
