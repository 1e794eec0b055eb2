"""Colour composites of channels, each stain in its colour.

Owns which colour a channel has: F-actin (Texas Red) magenta, microtubules (FITC) green, nuclei (DAPI) blue.
Magenta and green are told apart by the colour-blind, and where both are, it is white. Pure functions of
arrays.
"""

from collections.abc import Iterable, Mapping

import numpy as np

from training.evaluation.report.intensity_window import ByteImage, Image, IntensityWindow, window_of

__all__ = ["channel_colours", "composite", "windows_of"]

Colour = tuple[int, int, int]
"""Red, green and blue, 0 to 255."""

MAGENTA, GREEN, BLUE, GREY = (255, 0, 255), (0, 255, 0), (0, 0, 255), (255, 255, 255)
STAINS: dict[str, Colour] = {"texasred": MAGENTA, "fitc": GREEN, "dapi": BLUE}
"""By the channel's name in small letters, without blanks and marks."""


def channel_colours(channels: Iterable[str]) -> dict[str, Colour]:
    """Return the colour of each channel.

    A stain that is known has its own. The others take, in order, what is left of magenta, green and blue, and
    grey thereafter; a single channel of an unknown stain is grey.
    """
    names = list(channels)
    known = {name: STAINS[_plain(name)] for name in names if _plain(name) in STAINS}
    left = [colour for colour in (MAGENTA, GREEN, BLUE) if colour not in known.values() and len(names) > 1]
    return {name: known[name] if name in known else left.pop(0) if left else GREY for name in names}


def windows_of(channels: Mapping[str, Image]) -> dict[str, IntensityWindow]:
    """Return the window of each channel: take the truth's for every image of a field."""
    return {name: window_of(image) for name, image in channels.items()}


def composite(
    channels: Mapping[str, Image], windows: Mapping[str, IntensityWindow] | None = None
) -> ByteImage:
    """Return the channels in their colours, added up.

    Parameters
    ----------
    channels
        Name to image (Y, X), all on the same grid.
    windows
        Of each channel, as `windows_of` returns; by default each channel's own.

    Returns
    -------
    ByteImage
        (Y, X, 3) red, green and blue. What exceeds 255 is 255.

    Raises
    ------
    ValueError
        Of no channel, or of channels that differ in shape.
    """
    shapes = {image.shape for image in channels.values()}
    if len(shapes) != 1:
        msg = f"a composite takes channels of one shape (Y, X), got {sorted(shapes) or 'no channel'}"
        raise ValueError(msg)
    windows = windows_of(channels) if windows is None else windows
    total = np.zeros((*shapes.pop(), 3), np.float32)
    for name, colour in channel_colours(channels).items():
        grey = windows[name].stretch(channels[name])
        total += grey[..., np.newaxis] * (np.array(colour, np.float32) / 255)  # (Y, X, 3)
    return np.asarray(np.minimum(np.rint(total), 255), dtype=np.uint8)


def _plain(name: str) -> str:
    return "".join(letter for letter in name.lower() if letter.isalnum())
