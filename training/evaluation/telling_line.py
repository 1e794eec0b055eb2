"""Finds the line along which two neighbouring structures are best seen to be two, to compare images on it.

Chosen in the truth alone, so that no image is favoured. A pure function of one image; the profile itself is
`training.evaluation.line_profile`'s.
"""

from itertools import pairwise
from typing import Any

import numpy as np
from scipy import signal

from training.evaluation.not_measurable import NotMeasurableError, check_image

__all__ = ["telling_line"]

Image = np.ndarray[Any, np.dtype[Any]]
Place = tuple[float, float]

NEAREST_PX, FARTHEST_PX = 3, 12
"""Between the two peaks: what is farther apart every image shows as two."""
BEYOND_PX = 8
"""Of the line, on both sides of the peaks."""
BRIGHT_PERCENTILE = 99.0
LEAST_HEIGHT = 0.25
"""Of the lower peak, in parts of the bright structures' height."""


def telling_line(truth: Image, margin_px: int = 1) -> tuple[Place, Place]:
    """Return both ends (y, x) of a part of a row or a column that crosses two structures.

    Of all neighbouring peaks 3 to 12 px apart, the pair with the deepest dip between them, in counts.

    Parameters
    ----------
    truth
        (Y, X).
    margin_px
        Rows and columns this near the border are passed over.

    Raises
    ------
    NotMeasurableError
        Of an image without two such peaks, and of one that is constant or holds NaN.
    """
    check_image(truth, "the truth")
    level = float(np.median(truth))
    least = LEAST_HEIGHT * (float(np.percentile(truth, BRIGHT_PERCENTILE)) - level)
    along_rows, along_columns = (_deepest(lines - level, least, margin_px) for lines in (truth, truth.T))
    depth, line, start, end = max(along_rows, along_columns)
    if depth <= 0:
        msg = f"no two structures {NEAREST_PX} to {FARTHEST_PX} px apart stand beside each other"
        raise NotMeasurableError(msg)
    if along_rows >= along_columns:
        return (float(line), float(start)), (float(line), float(end))
    return (float(start), float(line)), (float(end), float(line))


def _deepest(lines: Image, least_height: float, margin_px: int) -> tuple[float, int, int, int]:
    """Return the deepest dip of all lines (N, L), the line's number, and the ends of what is shown of it."""
    best = (0.0, 0, 0, 0)
    for number in range(margin_px, len(lines) - margin_px):
        values = lines[number]
        tops, _ = signal.find_peaks(values, height=least_height)
        for place, (first, second) in enumerate(pairwise(tops)):
            if NEAREST_PX <= second - first <= FARTHEST_PX:
                depth = float(min(values[first], values[second]) - values[first : second + 1].min())
                before = tops[place - 1] if place else 0
                after = tops[place + 2] if place + 2 < len(tops) else len(values) - 1
                best = max(best, (depth, number, *_ends(values, (before, first, second, after))))
    return best


def _ends(values: Image, peaks: tuple[int, int, int, int]) -> tuple[int, int]:
    """Return where the line begins and ends: in the dips towards the next peaks, or sooner."""
    before, first, second, after = peaks
    start = max(first - BEYOND_PX, before + int(np.argmin(values[before : first + 1])))
    return start, min(second + BEYOND_PX, second + int(np.argmin(values[second : after + 1])))
