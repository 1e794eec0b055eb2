"""How a map of errors is coloured: which map of colours, over which range, and the bar that says so.

Maps without a negative value run from dark to bright (inferno), maps of both signs from blue over grey to red
(Moreland's coolwarm); both are even to the eye and told apart by the colour-blind. Pure functions of arrays.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import matplotlib
import numpy as np

from training.evaluation.pictures import HIGH_PERCENTILE
from training.evaluation.report.intensity_window import ByteImage, Image, IntensityWindow

__all__ = ["MapColours", "colours_of"]

ONE_SIGN, BOTH_SIGNS = "inferno", "coolwarm"
STOPS = 9
"""Of the colour bar's gradient."""


@dataclass(frozen=True, slots=True)
class MapColours:
    """The colours of a map."""

    name: str
    """Of the map of colours, as matplotlib has it."""
    low: float
    high: float

    @property
    def palette(self) -> ByteImage:
        """(256, 3), the colours from low to high."""
        colours = matplotlib.colormaps[self.name](np.linspace(0, 1, 256))[:, :3]
        return np.asarray(np.rint(255 * colours), dtype=np.uint8)

    @property
    def gradient(self) -> str:
        """The same as a gradient of CSS, from left to right."""
        stops = self.palette[np.linspace(0, 255, STOPS).astype(int)]
        return f"linear-gradient(90deg, {', '.join('#{:02x}{:02x}{:02x}'.format(*stop) for stop in stops)})"

    def indices(self, error_map: Image) -> ByteImage:
        """Return (Y, X) places in the palette; what is no number counts as no error."""
        known = np.where(np.isfinite(error_map), error_map, 0.0)
        return IntensityWindow(self.low, self.high).stretch(known)


def colours_of(error_maps: Mapping[str, Image]) -> dict[str, MapColours]:
    """Return the colours of each map of a field.

    Maps of one kind share their range, so that they can be compared: those whose labels begin with the same
    word, such as "SQUIRREL error, bicubic" and "SQUIRREL error, ENHANCED". It ends at the 99.8th percentile
    of the strongest of them.
    """
    kinds: dict[str, list[Image]] = {}
    for label, error_map in error_maps.items():
        kinds.setdefault(_kind(label), []).append(error_map)
    colours = {kind: _common(maps) for kind, maps in kinds.items()}
    return {label: colours[_kind(label)] for label in error_maps}


def _kind(label: str) -> str:
    return label.split(maxsplit=1)[0].strip(",:").lower() if label.strip() else ""


def _common(maps: list[Image]) -> MapColours:
    known = [values for one in maps if (values := one[np.isfinite(one)]).size]
    highest = max((float(np.percentile(np.abs(values), HIGH_PERCENTILE)) for values in known), default=0.0)
    highest = highest if highest > 0 else 1.0
    if any((values < 0).any() for values in known):
        return MapColours(BOTH_SIGNS, -highest, highest)
    return MapColours(ONE_SIGN, 0.0, highest)
