"""Looks at every frame and at what became of it, and says in words what no training frame was like.

A warning does not refuse: the image is shown, and the warning travels with it. What makes a model the wrong
one is refused elsewhere (`inference.domain`). The guard knows what the package's card states and skips what
an older card does not. What it cannot see: invention finer than the frame's resolution.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from inference.appearance import PERIODS_PX, appearance, cosines
from inference.artifact_score import artifact_score
from inference.domain import bright_level
from inference.model_package import GuardLimits, ServingCard
from inference.preprocess import Photometry, normalise
from inference.saturation import LARGEST_SATURATED_FRACTION, saturated_fraction
from inference.signal_to_noise import signal_and_noise

__all__ = ["FrameGuard", "SeenFrame", "not_finite"]

WIDENING = 1.0
"""The range of the training frames is widened by as much again on either side. Fields of the same specimen
stay inside; on the virtual microscope defocus and foreign specimens lie several ranges outside."""
LEAST_RANGE = 0.05
"""Of a logarithm: a training set of a few equal frames does not forbid the smallest difference."""
MOST_UNEXPLAINED = 0.95
"""Whatever the training: an image that explains less than a tenth of its frame's variance is named."""
NOISE_FACTOR = 2.0
"""Signal to noise below half the training's worst, or above twice its best, is named."""
NOISE_PIXELS = 65_536
"""That its signal to noise is measured on, in rows evenly spread."""

Image = np.ndarray[Any, np.dtype[Any]]
FloatImage = np.ndarray[Any, np.dtype[np.float32]]


@dataclass(frozen=True, slots=True)
class SeenFrame:
    """What was found in a frame, for the judgement of its enhanced image."""

    warnings: tuple[str, ...]
    noise: float
    """In counts; 0 where it cannot be measured."""
    window: tuple[slice, slice]
    """Of the frame's pixels, what was looked at."""
    spectrum: FloatImage | None
    """Cosine series of the window; None where the frame is too small for the card's limits, or the card has
    none."""


class FrameGuard:
    """The guard of one model.

    Parameters
    ----------
    card
        Of the model.
    window_px
        Side of the part in the middle of a frame that is looked at; None looks at all of it. Where frames
        come faster than a processor can look at them whole, a part must do.
    """

    def __init__(self, card: ServingCard, window_px: int | None = None) -> None:
        self._card = card
        self._limits = card.guard
        self._window_px = window_px

    def look(self, frame: Image) -> SeenFrame:
        """Look at a frame (Y, X) in counts, before it is enhanced."""
        window = self._window((frame.shape[0], frame.shape[1]))
        part = frame[window]
        signal, noise = (
            signal_and_noise(part, self._card.background, NOISE_PIXELS) if min(part.shape) > 2 else (0, 0)
        )
        found = [self._saturation(part), self._noisy(signal, noise)]
        limits, spectrum = self._limits, None
        if limits is not None and min(part.shape) >= limits.least_side_px:
            background = self._card.background
            spectrum = cosines(normalise(part, Photometry(background, 1.0)))
            found.append(_strange(appearance(spectrum, bright_level(part, background)), limits))
        return SeenFrame(tuple(words for words in found if words), noise, window, spectrum)

    def judge(self, seen: SeenFrame, enhanced: FloatImage) -> tuple[str, ...]:
        """Return all warnings of a frame once its enhanced image is there.

        Parameters
        ----------
        enhanced
            (factor * Y, factor * X) finite numbers, in counts.
        """
        if self._limits is None or seen.spectrum is None:
            return seen.warnings
        rows, columns = (
            slice(self._card.factor * axis.start, self._card.factor * axis.stop) for axis in seen.window
        )
        found = _unexplained(enhanced[rows, columns], seen, self._limits)
        return (*seen.warnings, *found)

    def _window(self, shape_yx: tuple[int, int]) -> tuple[slice, slice]:
        least = self._limits.least_side_px if self._limits else 0
        sides = [
            length if self._window_px is None else min(length, max(self._window_px, least))
            for length in shape_yx
        ]
        rows, columns = (
            slice((length - side) // 2, (length - side) // 2 + side)
            for length, side in zip(shape_yx, sides, strict=True)
        )
        return rows, columns

    def _saturation(self, part: Image) -> str | None:
        known = self._card.frames
        share = saturated_fraction(part)
        most = LARGEST_SATURATED_FRACTION if known is None else known.saturated_fraction_max
        if share <= most:
            return None
        return f"saturated: {100 * share:.2g} % of the pixels, in training at most {100 * most:.2g} %"

    def _noisy(self, signal: float, noise: float) -> str | None:
        known = self._card.frames
        if known is None or not noise > 0:
            return None
        ratio = signal / noise
        least, most = known.signal_to_noise_min / NOISE_FACTOR, known.signal_to_noise_max * NOISE_FACTOR
        if least <= ratio <= most:
            return None
        return f"signal to noise {ratio:.3g}, but the model knows {least:.3g} to {most:.3g}"


def not_finite(enhanced: FloatImage) -> int:
    """Return how many pixels are NaN or infinite."""
    return int(enhanced.size - np.count_nonzero(np.isfinite(enhanced)))


def _strange(found: np.ndarray[Any, np.dtype[np.float64]], limits: GuardLimits) -> str | None:
    """Return in words by what a frame is least like the training's, None where it is like them."""
    least, most = np.array(limits.appearance_min), np.array(limits.appearance_max)
    width = np.maximum(most - least, LEAST_RANGE)
    outside = np.maximum(least - found, found - most) / width  # in ranges of the training frames
    worst = int(np.argmax(outside))
    if outside[worst] <= WIDENING:
        return None
    more = "more" if found[worst] > most[worst] else "less"
    than = f"than any training frame, by {outside[worst]:.1f} times their range"
    if worst < len(PERIODS_PX):
        return f"{more} detail of {PERIODS_PX[worst]:.1f} px {than}: out of focus, or another specimen"
    if worst == len(PERIODS_PX):
        return f"{more} contrast {than}: another specimen"
    return f"bright parts cover {more} of it {than}: another specimen"


def _unexplained(enhanced: FloatImage, seen: SeenFrame, limits: GuardLimits) -> tuple[str, ...]:
    """Return in words why an enhanced image does not explain its frame."""
    score = None if seen.spectrum is None else artifact_score(enhanced, seen.spectrum, limits.blur_px)
    if score is None:
        return ()
    found = []
    most = _widened(limits.unexplained_min, limits.unexplained_max)[1]
    if limits.noise_share_max:  # no image explains noise: more of it leaves more over
        most *= max(1.0, seen.noise / score.spread / limits.noise_share_max)
    most = min(most, MOST_UNEXPLAINED)
    if score.unexplained > most:
        least_rsp = float(np.sqrt(max(0.0, 1 - most**2)))
        found.append(
            f"the enhanced image does not explain the frame: RSP {score.rsp:.4f}, at least {least_rsp:.4f} "
            f"expected, RSE {score.rse:.4g} counts"
        )
    darkest, brightest = _widened(limits.gain_min, limits.gain_max)
    if not score.gain > 0:
        found.append("the enhanced image is dark where the frame is bright")
    elif not darkest <= score.gain <= brightest:
        found.append(
            f"the enhanced image's contrast is {1 / score.gain:.3g} of the frame's, "
            f"expected {1 / brightest:.3g} to {1 / darkest:.3g}"
        )
    return tuple(found)


def _widened(least: float, most: float) -> tuple[float, float]:
    """Return a range of positive numbers with as much again, and at least a little, on either side."""
    width = WIDENING * max(np.log(most / least), LEAST_RANGE)
    return float(least * np.exp(-width)), float(most * np.exp(width))
