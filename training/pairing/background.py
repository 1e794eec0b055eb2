"""The background of a channel and imaging state: the counts of a region without objects.

Owns one robust estimate for a whole set, fed frame by frame so that memory does not grow with the frames.
Knows no files and no alignment.

The region without objects (METHOD, preprocessing step 1) is found, not given: every frame is cut into
blocks of 16 x 16 px, and the darkest blocks of the whole set are taken. Their plain minimum would lie
below the background by the noise of a block mean, so the estimate is the median of the blocks that lie
within that noise of the darkest ones. It assumes that somewhere in the set there is a place without an
object; where there is none, the estimate is the dimmest haze and lies too high.
"""

import numpy as np

from training.pairing.sampling import FloatArray, Image, block_view
from training.pairing.thinning import Thinned

__all__ = ["BackgroundEstimator", "estimate_background"]

BLOCK_PX = 16
DARKEST_FRACTION = 0.005
NOISE_SPAN = 6.0
"""The darkest half percent of the block means of a pure background spans about 3 of its noise; the median
of what lies within 6 of that floor is the middle of the distribution."""
KEPT_PER_FRAME = 512
KEPT_FRAMES = 256
"""Evenly spaced, of however many there are."""


class BackgroundEstimator:
    """Collects block means of frames and gives the background of all of them together."""

    def __init__(self) -> None:
        self._darkest: Thinned[tuple[FloatArray, FloatArray]] = Thinned(KEPT_FRAMES)

    def add(self, frame: Image) -> None:
        """Take the darkest blocks of one frame, (Y, X) counts, into account."""
        self._darkest.offer(lambda: _darkest_blocks(frame))

    def estimate(self) -> float:
        """Return the background in counts.

        Raises
        ------
        ValueError
            When no frame was added.
        """
        if not self._darkest.kept:
            msg = "no frame was added, so there is no background; add at least one"
            raise ValueError(msg)
        means, deviations = (np.concatenate(part) for part in zip(*self._darkest.kept, strict=True))
        floor = np.quantile(means, DARKEST_FRACTION)
        darkest = means <= floor
        noise = max(float(np.median(deviations[darkest])), 1e-6) / BLOCK_PX  # of a block mean
        region = means[means <= floor + NOISE_SPAN * noise]
        return float(np.median(region))


def _darkest_blocks(frame: Image) -> tuple[FloatArray, FloatArray]:
    """Return means and noise of the darkest blocks of a frame, (N,) each."""
    blocks = block_view(frame, min(BLOCK_PX, *frame.shape)).astype(np.float32)  # (N, pixels)
    means = blocks.mean(axis=1, dtype=np.float32)
    darkest = np.argsort(means, kind="stable")[:KEPT_PER_FRAME]
    # Neighbour differences measure noise even where the background itself is not flat.
    steps = np.diff(blocks[darkest], axis=1)
    deviations = np.median(np.abs(steps), axis=1) / (0.6745 * np.sqrt(2.0))
    return means[darkest], deviations.astype(np.float32)


def estimate_background(frames: list[Image]) -> float:
    """Return the background of frames of one channel and state, (Y, X) counts each."""
    estimator = BackgroundEstimator()
    for frame in frames:
        estimator.add(frame)
    return estimator.estimate()
