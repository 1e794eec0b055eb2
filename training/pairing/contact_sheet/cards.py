"""The cards of a contact sheet: how large they are, so that the page stays small, and what replaces them.

Owns the sizes and the count of bytes. Reads the pairs, one at a time. Knows nothing of the order of the page.
"""

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Self

from training.pairing.contact_sheet.card import CardSize, card, escaped
from training.pairing.contact_sheet.pictures import PairPictures, picture_pair
from training.pairing.pairs import PairRecord, PairSet

__all__ = ["LARGEST", "Cards", "card_size", "read_pictures"]

PAGE_BYTES = 45_000_000
"""Cards beyond it are written without pictures."""
SIZES = (
    CardSize(cell_px=256, whole_px=384, quality=85, expected_bytes=260_000),
    CardSize(cell_px=192, whole_px=240, quality=80, expected_bytes=120_000),
    CardSize(cell_px=128, whole_px=144, quality=72, expected_bytes=55_000),
)
LARGEST = SIZES[0]
UNREADABLE = (OSError, ValueError, LookupError, TypeError, struct.error)
"""What reading a missing, cut-off or foreign TIFF raises."""


def card_size(count: int, budget_bytes: float) -> CardSize:
    """Return the largest size at which so many cards stay within the budget; the smallest if none does."""
    fitting = (size for size in SIZES if count * size.expected_bytes <= budget_bytes)
    return next(fitting, SIZES[-1])


def read_pictures(pair_set: PairSet, pair: PairRecord, size: CardSize) -> PairPictures | str:
    """Return the pictures of a pair, or why there are none; nothing else that it holds stays in memory."""
    if not (pair_set.path / pair.file).is_file():
        return (
            "no picture: the pair was not written" if not pair.accepted else "no picture: the file is missing"
        )
    try:
        low, high = pair_set.read(pair)
    except UNREADABLE as error:
        return f"no picture: the file cannot be read ({type(error).__name__}: {error})"
    try:
        deformation = pair_set.read_deformation(pair)
    except UNREADABLE:
        deformation = None  # the card says that there is none to show
    return picture_pair(
        low, high, deformation, pair.origin_yx_px, whole_px=size.whole_px, cut_px=size.cell_px
    )


@dataclass(slots=True)
class Cards:
    """Makes the cards of a page and counts what they take."""

    pair_set: PairSet
    accepted_size: CardSize
    accepted_to_come: int
    left_out_size: CardSize
    left_out_to_come: int
    """Those whose files exist."""
    made: int = 0
    spent_bytes: int = 0

    @classmethod
    def plan(cls, pair_set: PairSet, accepted: int, left_out: Sequence[PairRecord]) -> Self:
        """Choose the sizes: what so many accepted pairs leave of the page is for the others."""
        written = sum((pair_set.path / pair.file).is_file() for pair in left_out)
        size = card_size(accepted, PAGE_BYTES / 2)
        rest = PAGE_BYTES - accepted * size.expected_bytes
        return cls(pair_set, size, accepted, card_size(written, rest), written)

    def words(self) -> str:
        """Say what is done to keep the page small."""
        text = "Pictures are JPEGs; the pairs themselves lie in the set as TIFFs, which Fiji opens."
        count, side_px = self.left_out_to_come, self.left_out_size.cell_px
        if side_px == self.accepted_size.cell_px:
            return text
        return (
            f"{text} To keep the page below {PAGE_BYTES / 1e6:.0f} MB, the pictures of the {count} left-out "
            f"pairs are smaller: details of {side_px} px or less."
        )

    def section(self, title: str, pairs: Sequence[PairRecord]) -> Iterator[str]:
        """Yield the cards of some pairs; those without pictures follow as lines."""
        yield f"<h3>{escaped(title)}</h3>" if title else ""
        if title and not pairs:
            yield '<p class="quiet">None.</p>'
        lines = []
        for pair in pairs:
            text = self._card(pair)
            if text.startswith("<li>"):
                lines.append(text)
            else:
                yield text
        if lines:
            yield f'<ul class="lines">{"".join(lines)}</ul>'

    def _card(self, pair: PairRecord) -> str:
        """Return the card of a pair, or a line where it has no pictures."""
        size = self._size(pair)
        if self.spent_bytes > PAGE_BYTES:
            return _line(pair, f"no picture: the page would exceed {PAGE_BYTES / 1e6:.0f} MB")
        pictures = read_pictures(self.pair_set, pair, size)
        if isinstance(pictures, str):
            return _line(pair, pictures)
        self.made += 1
        text = card(self.made, pair, pictures, size, self.pair_set.index.optics.high_pixel_size_um)
        self.spent_bytes += len(text)
        return text

    def _size(self, pair: PairRecord) -> CardSize:
        """Return the size of the next card; smaller than planned where earlier ones took more than that."""
        if pair.accepted:
            self.accepted_to_come -= 1
            return self.accepted_size
        rest = PAGE_BYTES - self.spent_bytes - self.accepted_to_come * self.accepted_size.expected_bytes
        size = card_size(self.left_out_to_come, rest)
        if size.cell_px < self.left_out_size.cell_px:
            self.left_out_size = size
        self.left_out_to_come -= (self.pair_set.path / pair.file).is_file()
        return self.left_out_size


def _line(pair: PairRecord, why: str) -> str:
    said = "" if pair.accepted else f": {pair.reason or 'no reason given'}"
    place = f"region {pair.region}, {pair.split}"
    return (
        f"<li><b>{escaped(pair.file)}</b> ({escaped(place)}){escaped(said)} "
        f'<span class="quiet">({escaped(why)})</span></li>'
    )
