"""Percentiles of a plane that does not fit into memory, exactly: by histograms of the values' own bits.

Pure. Windows of the plane come in, as often as they are asked for; whole-numbered order statistics come out.
A value's bits, turned so that they sort as the values do, are looked at 16 at a time: one pass finds those of
a camera's counts, two passes a float32's.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

__all__ = ["order_statistics", "percentiles"]

Image = np.ndarray[Any, np.dtype[Any]]
Windows = Callable[[], Iterator[Image]]
"""Gives the windows of a plane anew at each call."""
DIGIT_BITS = 16


def percentiles(windows: Windows, dtype: np.dtype[Any], size: int, percents: Sequence[float]) -> list[float]:
    """Return percentiles as `inference.domain.percentile` finds them in the whole plane.

    Parameters
    ----------
    size
        Pixels of the plane.
    """
    places = [percent / 100 * (size - 1) for percent in percents]
    ranks = sorted({rank for place in places for rank in (math.floor(place), math.ceil(place))})
    value = dict(zip(ranks, order_statistics(windows, dtype, ranks), strict=True))
    found = []
    for place in places:
        below, above = value[math.floor(place)], value[math.ceil(place)]
        found.append(below + (above - below) * (place - math.floor(place)))
    return found


def order_statistics(windows: Windows, dtype: np.dtype[Any], ranks: Sequence[int]) -> list[float]:
    """Return the values at ranks (0 is the least) among all pixels; there must be no NaN."""
    bits = 8 * dtype.itemsize
    left = list(ranks)  # rank among the values that share the digits found so far
    keys = [0] * len(ranks)
    for shift in range(max(0, bits - DIGIT_BITS), -1, -DIGIT_BITS):
        counts = _histograms(windows, set(keys), bits, shift)
        for k, rank in enumerate(left):
            up_to = np.cumsum(counts[keys[k]])
            digit = int(np.searchsorted(up_to, rank, side="right"))
            left[k] = rank - (int(up_to[digit - 1]) if digit else 0)
            keys[k] = keys[k] << min(bits, DIGIT_BITS) | digit
    return [_value(key, dtype) for key in keys]


def _histograms(windows: Windows, prefixes: set[int], bits: int, shift: int) -> dict[int, Image]:
    """Count the digits at `shift` of the values that begin with each prefix."""
    digit_bits = min(bits, DIGIT_BITS)
    counts = {prefix: np.zeros(2**digit_bits, np.int64) for prefix in prefixes}
    for window in windows():
        keys = _sortable(window).ravel()
        digits = keys >> keys.dtype.type(shift) & keys.dtype.type(2**digit_bits - 1)
        for prefix, total in counts.items():
            if shift + digit_bits < bits:
                chosen = digits[keys >> keys.dtype.type(shift + digit_bits) == prefix]
            else:
                chosen = digits
            total += np.bincount(chosen, minlength=2**digit_bits)
    return counts


def _sortable(values: Image) -> Image:
    """Return unsigned whole numbers of the same size that sort as the values do."""
    unsigned = np.dtype(f"u{values.dtype.itemsize}")
    raw: Image = np.ascontiguousarray(values).view(unsigned)
    sign = unsigned.type(1 << (8 * unsigned.itemsize - 1))
    if values.dtype.kind == "u":
        return raw
    if values.dtype.kind == "i":
        return np.asarray(raw ^ sign)
    # Of negative floats the larger bits are the lesser value.
    return np.asarray(np.where(raw & sign, ~raw, raw | sign))


def _value(key: int, dtype: np.dtype[Any]) -> float:
    """Undo `_sortable` for one value."""
    unsigned = np.dtype(f"u{dtype.itemsize}")
    sign = 1 << (8 * unsigned.itemsize - 1)
    if dtype.kind == "i":
        key ^= sign
    elif dtype.kind == "f":
        key = key ^ sign if key & sign else ~key & (2 * sign - 1)
    return float(np.array([key], unsigned).view(dtype)[0])
