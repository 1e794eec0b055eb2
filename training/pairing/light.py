"""What a whole set says of its light and its camera, by channel and state.

Owns the survey of all frames before any is aligned (background, flat field, bad pixels), and what is done
with its findings. The low frame is left as it was delivered, since serving will be fed the same; so the high
image, freed of its own uneven light, is given the low one's: what the network cannot know, it need not learn
(decision 0012). Knows no alignment.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from inference.preprocess import upsample
from training.pairing.background import BackgroundEstimator
from training.pairing.flat_field import SIDE_BINS, FlatField, FlatFieldEstimator
from training.pairing.gate import acquisition_fault
from training.pairing.hot_pixels import HotPixelFinder, mend
from training.pairing.sampling import FloatArray, Image
from training.pairing.settings import PairingSettings
from training.pairing.sources import Acquisition

__all__ = ["NO_LIGHT", "ChannelLight", "StateLight", "survey"]


@dataclass(frozen=True, slots=True)
class StateLight:
    """One channel of one imaging state."""

    background: float = 0.0
    flat_field: FlatField | None = None
    """None where the light is taken as even."""
    even_because: str | None = None
    """Why it is, where the tiles do not tell."""
    hot: np.ndarray | None = None
    """(Y, X) bool, pixels that are always wrong; None where the frames do not tell."""

    def mended(self, frame: Image) -> Image:
        """Return a frame, (Y, X) counts, with its bad pixels replaced by their neighbours."""
        return frame if self.hot is None or self.hot.shape != frame.shape else mend(frame, self.hot)

    def flattened(self, frame: Image) -> Image:
        """Return a frame as even light would have given it, (Y, X) counts."""
        mended = self.mended(frame)
        if self.flat_field is None:
            return mended
        above = mended.astype(np.float32) - np.float32(self.background)
        return np.asarray(above / self.flat_field.gain(frame.shape) + np.float32(self.background))


@dataclass(frozen=True, slots=True)
class ChannelLight:
    """One channel in both states."""

    low: StateLight = field(default_factory=StateLight)
    high: StateLight = field(default_factory=StateLight)

    def under_low(self, high: FloatArray, shape_low_yx: tuple[int, int], factor: int) -> FloatArray:
        """Return a flattened high image on the upsampled low grid as the low state's light would show it."""
        if self.low.flat_field is None:
            return high
        gain = upsample(self.low.flat_field.gain(shape_low_yx), factor)
        background = np.float32(self.high.background)
        return np.asarray((high - background) * gain + background)


LEAST_SIGNIFICANCE = 2.0
"""Of a flat field, in its own standard errors: one that is not there would cost what a true one gains."""
NO_LIGHT = ChannelLight()
"""Nothing is known, nothing is changed."""


class _Survey:
    """The estimators of one channel and state; those that need one camera stop where the shape changes."""

    def __init__(self) -> None:
        self._background = BackgroundEstimator()
        self._flat, self._hot = FlatFieldEstimator(), HotPixelFinder()
        self._shapes: set[tuple[int, ...]] = set()

    def add(self, frame: Image) -> None:
        self._background.add(frame)
        self._shapes.add(frame.shape)
        if len(self._shapes) == 1 and min(frame.shape) >= SIDE_BINS:
            self._flat.add(frame)
            self._hot.add(frame)

    def light(self, given: float | None, *, flat_field: bool) -> StateLight:
        background = self._background.estimate() if given is None else given
        if len(self._shapes) > 1:
            return StateLight(background, even_because="the frames differ in size")
        if any(min(shape) < SIDE_BINS for shape in self._shapes):
            return StateLight(background, even_because="the frames are too small to tell")
        hot = self._hot.find()
        flat = self._believed(background) if flat_field else "not asked for"
        return StateLight(
            background,
            None if isinstance(flat, str) else flat,
            flat if isinstance(flat, str) else None,
            hot if hot.any() else None,
        )

    def _believed(self, background: float) -> FlatField | str:
        """Return the flat field where it stands out of its own uncertainty, or why the light is even."""
        flat = self._flat.estimate(background)
        if isinstance(flat, str) or flat.deviation > LEAST_SIGNIFICANCE * flat.standard_error:
            return flat
        return (
            f"{flat.tiles} tiles show {100 * flat.deviation:.1f} % RMS, uncertain by "
            f"{100 * flat.standard_error:.1f} %"
        )


def survey(acquisition: Acquisition, settings: PairingSettings) -> dict[str, ChannelLight]:
    """Look at every frame that can be read, and return what they say together, by channel.

    A channel of which no field can be used is missing in the answer.
    """
    lows: dict[str, _Survey] = {}
    highs: dict[str, _Survey] = {}
    for channel, low, tiles in _usable(acquisition, settings):
        lows.setdefault(channel, _Survey()).add(low)
        for tile in tiles:
            highs.setdefault(channel, _Survey()).add(tile)
    return {
        channel: ChannelLight(
            lows[channel].light(settings.low_background, flat_field=settings.flat_field),
            highs[channel].light(settings.high_background, flat_field=settings.flat_field),
        )
        for channel in lows
    }


def _usable(acquisition: Acquisition, settings: PairingSettings) -> Iterator[tuple[str, Image, list[Image]]]:
    """Return channel, low frame and high tiles of every field that was acquired well."""
    for view in acquisition.fields:
        frames = view.frames()
        if isinstance(frames, str):
            continue  # the alignment meets it again and gives the reason
        for k, channel in enumerate(acquisition.channels):
            tiles = [tile[k] for tile in frames.tiles]
            if acquisition_fault(frames.low[k], tiles, settings.limits) is None:
                yield channel, frames.low[k], tiles
