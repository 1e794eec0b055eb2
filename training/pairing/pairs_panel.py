"""The panel of a pair set: which pairs there are, how good they are, and why others were left out.

Owns the JSON of counts and pairs, and which picture has which name. A pair set appears whole; one that is
made anew is read again, and until then the one before is shown. Pictures are made when they are asked for.
Satisfies `inference.viewer.panel.Panel`.
"""

from pathlib import Path
from threading import RLock
from typing import Any, get_args

import numpy as np
import tifffile

from configs.document import WrongInputError
from inference.viewer.kept import Kept
from inference.viewer.thumbnail import KEPT_BYTES, png, reduced, signed_png
from training.pairing.contact_sheet.pictures import overlay, stretched_alike, textured_window
from training.pairing.contact_sheet.summary import kind_of_reason
from training.pairing.pairs import INDEX, FloatImage, PairRecord, PairSet, Split

__all__ = ["PairsPanel"]

WHOLE_PX, DETAIL_PX = 224, 256
"""Longer side of a whole field's picture; side of the detail, which is shown pixel for pixel."""
PICTURES = ("low", "high", "difference", "detail_low", "detail_high", "detail_difference", "detail_overlay")


class PairsPanel:
    """A pair set on the page; safe for several threads.

    Parameters
    ----------
    folder
        That `sharpscope pair` wrote; raises WrongInputError when it is none.
    name
        In the URL, where a page has several of the kind.
    """

    def __init__(self, folder: Path, name: str = "pairs") -> None:
        self.name = name
        self._path = folder
        called = folder.absolute().name
        self.title = "Pairs" if called == "pairs" else f"Pairs {called}"
        self._lock = RLock()
        self._cache: Kept[bytes] = Kept(KEPT_BYTES)
        self._stamp = _stamp(folder)
        self._read(PairSet.open(folder))

    def version(self) -> str:
        """Return what changes when the set was made anew."""
        with self._lock:
            self._follow()
            return self._stamp

    def content(self) -> dict[str, Any]:
        """Return the whole panel as JSON; `kind` is "pairs", shifts are in pixels of the high image."""
        with self._lock:
            self._follow()
            index = self._pair_set.index
            return {
                "kind": "pairs",
                "folder": self._path.absolute().name,
                "factor": index.factor,
                "alignment": index.alignment,
                "pixel_size_um": index.optics.high_pixel_size_um,
                "channels": list(dict.fromkeys(pair.channel for pair in index.pairs)),
                "splits": list(get_args(Split)),
                "counts": _counts(index.pairs),
                "left_out_because": _reasons(index.pairs),
                "pairs": [_pair(number, pair, self._stamp) for number, pair in enumerate(index.pairs)],
            }

    def picture(self, name: str) -> bytes:
        """Return one of `PICTURES` of a pair as PNG; KeyError where the set has none of that name."""
        with self._lock:
            self._follow()
            pair, kind = self._pictures[name]
            pair_set = self._pair_set
        return self._cache.get(name, lambda: _picture(pair_set, pair, kind))

    def _follow(self) -> None:
        """Read a set that took the place of the one before; while it does, none is there."""
        stamp = _stamp(self._path)
        if stamp in ("", self._stamp):
            return
        try:
            pair_set = PairSet.open(self._path)
        except WrongInputError:  # another version, or gone in this moment: the one before is kept
            return
        self._stamp = stamp
        self._read(pair_set)

    def _read(self, pair_set: PairSet) -> None:
        self._pair_set = pair_set
        self._pictures = {
            f"{_stem(number, self._stamp)}_{kind}": (pair, kind)
            for number, pair in enumerate(pair_set.index.pairs)
            for kind in PICTURES
        }


def _stamp(folder: Path) -> str:
    try:
        facts = (folder / INDEX).stat()
    except OSError:
        return ""
    return f"{facts.st_mtime_ns:x}.{facts.st_size:x}"


def _stem(number: int, stamp: str) -> str:
    """Return how a pair's pictures begin: with the set's stamp, so that no cache shows those of another."""
    return f"{stamp}_pair{number:05d}"


def _pair(number: int, pair: PairRecord, stamp: str) -> dict[str, Any]:
    noise = pair.signal_to_noise
    return {
        "number": number,
        "file": pair.file,
        "channel": pair.channel,
        "region": pair.region,
        "split": pair.split,
        "accepted": pair.accepted,
        "reason": pair.reason,
        "notes": pair.notes,
        "pictures": _stem(number, stamp),
        "residual_px": _finite(pair.residual_px),
        "ncc_before": _finite(pair.ncc_before),
        "ncc_after": _finite(pair.ncc_after),
        "deformation_rms_px": _finite(pair.deformation_rms_px),
        "shift_yx_px": [_finite(shift) for shift in pair.shift_yx_px],
        "snr_low": _finite(noise.low) if noise is not None else None,
        "snr_high": _finite(noise.high) if noise is not None else None,
    }


def _finite(value: float | None) -> float | None:
    """Return a figure that JSON can say."""
    return float(f"{value:.4g}") if value is not None and np.isfinite(value) else None


def _counts(pairs: list[PairRecord]) -> list[dict[str, Any]]:
    """Return how many pairs of each channel went where."""
    rows = []
    for channel in dict.fromkeys(pair.channel for pair in pairs):
        chosen = [pair for pair in pairs if pair.channel == channel]
        by_split = {
            split: sum(pair.accepted and pair.split == split for pair in chosen) for split in get_args(Split)
        }
        accepted = sum(by_split.values())
        rows.append(
            {"channel": channel, **by_split, "accepted": accepted, "left_out": len(chosen) - accepted}
        )
    return rows


def _reasons(pairs: list[PairRecord]) -> list[dict[str, Any]]:
    """Return for which kinds of reason pairs were left out, the most frequent first."""
    counted: dict[str, int] = {}
    for pair in pairs:
        if not pair.accepted:
            kind = kind_of_reason(pair.reason or "no reason given")
            counted[kind] = counted.get(kind, 0) + 1
    ordered = sorted(counted.items(), key=lambda entry: -entry[1])
    return [{"reason": reason, "pairs": count} for reason, count in ordered]


def _picture(pair_set: PairSet, pair: PairRecord, kind: str) -> bytes:
    if Path(pair.file).name != pair.file:  # somebody's index that points out of its folder
        raise KeyError(f"{pair.file} lies outside the pair set")
    try:
        low, high = pair_set.read(pair)
    except (OSError, ValueError, IndexError, tifffile.TiffFileError) as error:
        why = "it was left out" if not pair.accepted else str(error)
        raise KeyError(f"{pair.file} has no picture: {why}") from error
    return _drawn(low, high, kind)


def _drawn(low: FloatImage, high: FloatImage, kind: str) -> bytes:
    """Draw one picture of a pair; low and high by one grey window, so that they can be compared."""
    grey_low, grey_high = stretched_alike(low, high)
    difference = high - low
    if kind.startswith("detail_"):
        window = textured_window(grey_low, grey_high, DETAIL_PX)
        rows = slice(window.top, window.top + window.height)
        columns = slice(window.left, window.left + window.width)
        grey_low, grey_high = grey_low[rows, columns], grey_high[rows, columns]
        difference = difference[rows, columns]
    if kind.endswith("difference"):
        return signed_png(difference, WHOLE_PX if kind == "difference" else DETAIL_PX)
    if kind.endswith("overlay"):
        return png(overlay(grey_low, grey_high))
    chosen = grey_low if kind.endswith("low") else grey_high
    whole = reduced(chosen, WHOLE_PX) if kind in ("low", "high") else chosen
    return png(np.asarray(whole, dtype=np.uint8))
