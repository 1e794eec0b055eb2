"""How frames are to look in an exported picture: which image, which counts are black and white, which colour.

Owns the rules of what can be asked for, and the choice of levels where none are given. Pure values.
"""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

import numpy as np

from configs.document import WrongInputError
from inference.viewer.shown_frame import Plane, ShownFrame

__all__ = ["Look", "Show", "dark_and_bright", "planes_of"]

Show = Literal["raw", "enhanced", "side_by_side"]
ENOUGH_PIXELS = 1 << 18
DARK_PERCENT, BRIGHT_PERCENT = 0.1, 99.9
COLOURS = {
    "grey": "#ffffff",
    "green": "#00ff00",
    "magenta": "#ff00ff",
    "cyan": "#00ffff",
    "yellow": "#ffff00",
    "red": "#ff0000",
    "blue": "#4060ff",
}
RGB = re.compile(r"#[0-9a-fA-F]{6}")


@dataclass(frozen=True, slots=True)
class Look:
    """How frames look; the label ENHANCED with the model and its hash cannot be switched off.

    Raises
    ------
    WrongInputError
        When it cannot be drawn.
    """

    black: float | None = None
    """Counts shown black; None is found over the whole clip."""
    white: float | None = None
    """Counts shown in full colour; None is found over the whole clip."""
    show: Show = "enhanced"
    colour: str = "grey"
    """Of the brightest pixels: one of `COLOURS`, or #rrggbb."""
    scale_bar: bool = True
    time_stamp: bool = True
    gamma: float = 1.0
    """Brightness is the share between black and white to this power."""

    def __post_init__(self) -> None:
        for name, value in (("black", self.black), ("white", self.white), ("gamma", self.gamma)):
            if value is not None and not math.isfinite(value):
                raise WrongInputError(f"{name} is {value}; give a finite number")
        if self.black is not None and self.white is not None and self.white <= self.black:
            raise WrongInputError(f"white ({self.white:g}) is not above black ({self.black:g}); raise white")
        if not 0.05 <= self.gamma <= 20:
            raise WrongInputError(f"gamma is {self.gamma:g}; give one from 0.05 to 20")
        if self.show not in get_args(Show):
            raise WrongInputError(f"show is {self.show!r}; give one of {', '.join(get_args(Show))}")
        if self.colour not in COLOURS and RGB.fullmatch(self.colour) is None:
            names = ", ".join(COLOURS)
            raise WrongInputError(f"colour is {self.colour!r}; give one of {names}, or one such as #00ff00")

    @property
    def brightest_rgb(self) -> tuple[int, int, int]:
        """The colour of the brightest pixels."""
        digits = COLOURS.get(self.colour, self.colour)
        red, green, blue = (int(digits[place : place + 2], 16) for place in (1, 3, 5))
        return red, green, blue

    def with_levels(self, ends: Sequence[tuple[float, float]]) -> "Look":
        """Return the look with black and white for all frames alike: else a clip would flicker.

        Parameters
        ----------
        ends
            What `dark_and_bright` says of a sample of the clip's images.
        """
        black = self.black if self.black is not None else min((dark for dark, _ in ends), default=0.0)
        white = self.white if self.white is not None else max((bright for _, bright in ends), default=1.0)
        if white <= black:  # an image of one value, or a given level beyond all counts
            black, white = (black, black + 1) if self.white is None else (white - 1, white)
        return replace(self, black=black, white=white)


def planes_of(frame: ShownFrame, show: Show) -> list[Plane]:
    """Return the planes of a frame that a look shows and that there are."""
    shown = ([frame.raw] if show != "enhanced" else []) + ([frame.enhanced] if show != "raw" else [])
    return [plane for plane in shown if plane is not None]


def dark_and_bright(pixels: np.ndarray[Any, np.dtype[Any]]) -> tuple[float, float]:
    """Return the counts between which nearly all pixels of an image lie."""
    step = max(1, round((pixels.size / ENOUGH_PIXELS) ** 0.5))
    some = pixels[::step, ::step]
    finite = some[np.isfinite(some)]
    if finite.size == 0:
        return 0.0, 1.0
    dark, bright = np.percentile(finite, (DARK_PERCENT, BRIGHT_PERCENT))
    return float(dark), float(bright)
