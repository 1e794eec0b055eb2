"""A range of a series' frames as a sequence, each read when it is asked for.

Owns the check of a range. Knows no formats.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import overload

from configs.document import WrongInputError
from inference.viewer.shown_frame import ShownFrame
from inference.viewer.source import Source

__all__ = ["Clip"]


def _go_on() -> None:
    pass


@dataclass(frozen=True, slots=True)
class Clip(Sequence[ShownFrame]):
    """Frames `first` to `last` of a series, both included; use `of`."""

    source: Source
    series: str
    first: int
    last: int
    before_each: Callable[[], None] = _go_on

    @classmethod
    def of(
        cls,
        source: Source,
        series: str | None,
        first: int | None,
        last: int | None,
        before_each: Callable[[], None] = _go_on,
    ) -> "Clip":
        """Choose frames.

        Parameters
        ----------
        series
            None is the only one, or the first.
        first
            Index of the first frame; None is the first one there is.
        last
            Index of the last frame, included; None is the last one there is.
        before_each
            Called before a frame is fetched; what it raises ends whatever is made of the clip.

        Raises
        ------
        WrongInputError
            When there are no such frames.
        """
        lengths = {known.name: known.length for known in source.series() if known.length}
        if not lengths:
            raise WrongInputError(f"{source.title} has no frames yet; nothing can be exported")
        name = next(iter(lengths)) if series is None else series
        if name not in lengths:
            raise WrongInputError(f"there is no series {name!r}; there are {', '.join(map(repr, lengths))}")
        begin = 0 if first is None else first
        end = lengths[name] - 1 if last is None else last
        if not 0 <= begin <= end < lengths[name]:
            msg = f"frames {begin} to {end} are not in {name!r}; it has frames 0 to {lengths[name] - 1}"
            raise WrongInputError(msg)
        return cls(source, name, begin, end, before_each)

    def __len__(self) -> int:
        return self.last - self.first + 1

    @overload
    def __getitem__(self, place: int) -> ShownFrame: ...
    @overload
    def __getitem__(self, place: slice) -> "Sequence[ShownFrame]": ...
    def __getitem__(self, place: int | slice) -> "ShownFrame | Sequence[ShownFrame]":
        if isinstance(place, slice):
            return [self[index] for index in range(*place.indices(len(self)))]
        if not -len(self) <= place < len(self):
            raise IndexError(place)
        self.before_each()
        return self.source.at(self.series, self.first + place % len(self))

    def __iter__(self) -> Iterator[ShownFrame]:
        return (self[place] for place in range(len(self)))
