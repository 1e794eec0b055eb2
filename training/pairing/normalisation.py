"""One factor per channel and imaging state for a whole set.

Owns the choice of the factors. METHOD (preprocessing step 6) leaves open whether each image or the set is
scaled; here it is the set, or intensities would lose their meaning.

`high.scale` brings the 99.9th percentile of all training pairs' high images to 255. `low.scale` is then not
another percentile: a sharp image has brighter peaks than a blurred one of the same light, so two percentiles
would teach the network to change the amount of light. It is set so that low and high agree in their flux:
over areas much larger than either point-spread function both show the same light, whatever the exposure.
The network's output divided by `low.scale` is therefore in the low image's counts, with slope 1.
"""

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from inference.preprocess import FULL_SCALE
from training.pairing.pairs import ChannelNormalisation, Linear
from training.pairing.sampling import FloatArray, Image, block_mean

__all__ = ["BRIGHT_PERCENTILE", "KEPT_VALUES", "FluxSample", "choose_normalisation", "sample_flux"]

BRIGHT_PERCENTILE = 99.9
BLOCK_LOW_PX = 32
"""Side of the areas whose flux is compared, several times the width of both point-spread functions."""
KEPT_VALUES = 50_000
"""Of each pair's high image, evenly spaced, for the percentile of the set."""
KEPT_SHARE = 0.98
"""The areas that fit worst (debris, a bleached spot) do not vote. A share, not a number of deviations: most
areas may be empty, and their small noise would brand every cell an outlier."""
TRIMMING_ROUNDS = 2


@dataclass(frozen=True, slots=True)
class FluxSample:
    """What one pair contributes to the factors of its channel, in counts."""

    high_values: FloatArray
    low_means: FloatArray
    high_means: FloatArray
    """Means of the same areas, in the order of `low_means`."""


def sample_flux(low: FloatArray, high: FloatArray, factor: int, blur_px: float) -> FluxSample:
    """Sample an aligned pair.

    Parameters
    ----------
    low
        (Y, X) counts, the low frame cropped to the pair.
    high
        (factor * Y, factor * X) counts.
    blur_px
        Gaussian sigma that gives the high image the low one's bandwidth, so that as much light leaks out of
        an area in both.
    """
    step = max(1, high.size // KEPT_VALUES)
    side = min(BLOCK_LOW_PX, *low.shape)
    return FluxSample(
        high.ravel()[::step].copy(),
        block_mean(low, side).ravel(),
        block_mean(ndimage.gaussian_filter(high, blur_px), side * factor).ravel(),
    )


def choose_normalisation(
    samples: list[FluxSample], low_background: float, high_background: float
) -> ChannelNormalisation:
    """Return the factors of one channel from the samples of its training pairs."""
    values = np.concatenate([sample.high_values for sample in samples])
    bright = float(np.percentile(values, BRIGHT_PERCENTILE)) - high_background
    high_scale = FULL_SCALE / max(bright, 1e-6)
    low_means = np.concatenate([sample.low_means for sample in samples]).astype(np.float64)
    high_means = np.concatenate([sample.high_means for sample in samples]).astype(np.float64)
    ratio = _flux_ratio(low_means, high_means)
    return ChannelNormalisation(
        low=Linear(background=low_background, scale=high_scale * ratio),
        high=Linear(background=high_background, scale=high_scale),
    )


def _flux_ratio(low: Image, high: Image) -> float:
    """Return high counts per low count: the slope of a line through the areas, errors in both allowed for.

    The line has an offset of its own, so that an error of either background does not tilt it.
    """
    keep = np.ones(low.shape, dtype=bool)
    slope = _slope(low, high)
    for _ in range(TRIMMING_ROUNDS):
        misfit = high - slope * low
        distance = np.abs(misfit - np.median(misfit))
        keep = distance <= np.quantile(distance, KEPT_SHARE)
        slope = _slope(low[keep], high[keep])
    return slope


def _slope(low: Image, high: Image) -> float:
    """Return the reduced major axis: symmetric in low and high, so that noise in low does not flatten it."""
    x, y = low - low.mean(), high - high.mean()
    slope = float(np.sqrt(np.dot(y, y) / max(float(np.dot(x, x)), 1e-30)))
    return slope if np.isfinite(slope) and slope > 0 else 1.0
