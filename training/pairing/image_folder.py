"""Folders of image files: which images lie in one, and which of two folders belong together.

Owns names alone; reads no pixel.
"""

import re
from itertools import takewhile
from pathlib import Path

from configs.document import WrongInputError

__all__ = ["folder_images", "matched_images"]

SUFFIXES = {".tif", ".tiff", ".png"}
_BREAKS = (r"(?<=[ _.\-])|(?=[ _.\-])", r"(?<=[ _.\-])|(?=[ _.\-])|(?<=\D)(?=\d)|(?<=\d)(?=\D)")
"""Where a name may be cut: at a separator, or else between letters and digits too. Never inside a word or a
number: of `LR_01` and `LR_02` the 0 belongs to the number."""


def matched_images(low: Path, high: Path) -> dict[str, tuple[Path, Path]]:
    """Return the pairs (low, high) of two folders by the part of their names that both share.

    Names that differ are matched without what all names of their folder begin and end with, if all then have
    a partner.

    Raises
    ------
    WrongInputError
        A folder is missing or empty, or a file has no partner.
    """
    lows, highs = folder_images(low), folder_images(high)
    ways = [(lows, highs)] + [(_bared(lows, breaks), _bared(highs, breaks)) for breaks in _BREAKS]
    here, there = max(ways, key=lambda way: len(way[0].keys() & way[1].keys()))  # the first of the best
    for folder, other, alone in (
        (low, high, [here[name] for name in here.keys() - there.keys()]),
        (high, low, [there[name] for name in there.keys() - here.keys()]),
    ):
        if alone:
            name = _stem(min(alone))
            msg = f"{folder} has '{name}' and {other} has not; give both folders the same file names"
            raise WrongInputError(msg + (f" ({len(alone)} do not match)" if len(alone) > 1 else ""))
    return {name: (here[name], there[name]) for name in here}


def _bared(images: dict[str, Path], breaks: str) -> dict[str, Path]:
    """Return images by their stem without the parts that all stems of the folder begin and end with."""
    parts = {stem: [part for part in re.split(breaks, stem) if part] for stem in images}
    first = _shared(list(parts.values()))
    ends = [list(reversed(split[first:])) for split in parts.values()]
    last = _shared(ends)
    bared = {"".join(split[first : len(split) - last]): images[stem] for stem, split in parts.items()}
    return bared if len(images) > 1 and "" not in bared else images


def _shared(names: list[list[str]]) -> int:
    """Return how many parts all names begin with."""
    return len(list(takewhile(lambda column: len(set(column)) == 1, zip(*names, strict=False))))


def folder_images(folder: Path) -> dict[str, Path]:
    """Return the images of a folder by their stem; raises WrongInputError where there is none."""
    if not folder.is_dir():
        msg = f"{folder} is not a folder; give one that holds TIFF or PNG images"
        raise WrongInputError(msg)
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() not in SUFFIXES or path.name.startswith("."):
            continue
        stem = _stem(path)
        if stem in found:
            msg = f"{folder} has both {found[stem].name} and {path.name}; keep one of them"
            raise WrongInputError(msg)
        found[stem] = path
    if not found:
        msg = f"{folder} holds no image; give a folder with files that end in {', '.join(sorted(SUFFIXES))}"
        raise WrongInputError(msg)
    return found


def _stem(path: Path) -> str:
    return path.name.split(".ome.")[0] if ".ome." in path.name else path.stem
