"""Looks at a whole series before its first chunk is enhanced: what is wrong with it, each channel's light.

Every plane is judged as `inference.domain` judges an image, by percentiles of the whole plane, and its middle
is looked at as `inference.frame_guard` looks at a frame (not at what became of it). Every pixel is looked at
once, so that what is not a number is found before anything is written. Memory holds one window. Knows no
network.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from configs.document import WrongInputError
from inference.domain import (
    BRIGHT_PERCENTILE,
    DARK_PERCENTILE,
    ImageFacts,
    facts_reasons,
    foreign_photometry,
    intensity_reason,
)
from inference.frame_guard import FrameGuard
from inference.model_package import ServingCard
from inference.plane_statistics import Image, percentiles
from inference.unfinished import ChannelLight, Decision
from inference.volume import Volume, windows_of

__all__ = ["survey"]

LOOKED_AT_PX = 1024
"""Side of the middle of each plane that is looked at for warnings: a large image has every kind of place."""
MOST_REASONS = 8
"""In words; of a long time-lapse with the same fault the rest is counted."""


@dataclass(frozen=True, slots=True)
class _Plane:
    dark_counts: float
    bright_counts: float
    reasons: tuple[str, ...]


def survey(volume: Volume, card: ServingCard, pixel_size_um: float | None) -> Decision:
    """Judge every plane and fix the light of every channel.

    Parameters
    ----------
    pixel_size_um
        Of the source; None is unknown.

    Returns
    -------
    Decision
        The light of a channel is the training's; where its first plane is out of domain, its own.

    Raises
    ------
    WrongInputError
        A pixel is not finite, or the pixels are no real numbers; plane and place are named.
    """
    _check_pixels(volume)
    planes: dict[int, list[_Plane]] = {}
    reasons: dict[str, None] = {}  # a set that keeps its order
    warnings: list[str] = []
    guard = FrameGuard(card)
    for index in volume.facts.planes():
        channel = volume.facts.channel_of(index)
        plane = _judge(volume, index, ImageFacts(pixel_size_um, volume.facts.channels[channel]), card)
        planes.setdefault(channel, []).append(plane)
        reasons |= dict.fromkeys(plane.reasons)
        middle = volume.read(index, *(_middle(length) for length in volume.facts.shape_yx))
        seen = guard.look(np.asarray(middle)).warnings
        warnings += [f"plane {index}: {words}" if index else words for words in seen]
    named = tuple(reasons)
    if len(named) > MOST_REASONS:
        named = (*named[:MOST_REASONS], f"{len(named) - MOST_REASONS} more like these")
    return Decision(
        out_of_domain=named,
        channels=tuple(_light(planes[channel], card) for channel in range(len(planes))),
        warnings=tuple(warnings),
    )


def _middle(length: int) -> slice:
    """Return the part of an axis that is looked at for warnings."""
    side = min(length, LOOKED_AT_PX)
    return slice((length - side) // 2, (length - side) // 2 + side)


def _check_pixels(volume: Volume) -> None:
    dtype = volume.facts.dtype
    if dtype.kind not in "uif":
        msg = f"pixels of type {dtype} cannot be enhanced; convert them to an integer or float type"
        raise WrongInputError(msg)
    if 0 in volume.facts.shape:
        msg = f"the input has no pixels (shape {volume.facts.shape}); give an image"
        raise WrongInputError(msg)


def _judge(volume: Volume, index: tuple[int, ...], facts: ImageFacts, card: ServingCard) -> _Plane:
    height, width = volume.facts.shape_yx
    dark, bright = percentiles(
        lambda: _finite_windows(volume, index),
        volume.facts.dtype,
        height * width,
        (DARK_PERCENTILE, BRIGHT_PERCENTILE),
    )
    intensity = intensity_reason(bright - card.background, card)
    return _Plane(dark, bright, (*facts_reasons(facts, card), *([intensity] if intensity else [])))


def _finite_windows(volume: Volume, index: tuple[int, ...]) -> Iterator[Image]:
    for rows, columns in windows_of(volume.facts.shape_yx):
        window = volume.read(index, rows, columns)
        if window.dtype.kind == "f" and not np.isfinite(window).all():
            bad = np.argwhere(~np.isfinite(window))
            y, x = int(rows.start + bad[0][0]), int(columns.start + bad[0][1])
            msg = (
                f"plane {index} of the input: pixel (y {y}, x {x}) is not finite (NaN or infinite), and "
                f"{len(bad) - 1} more near it; mask or replace them first. Nothing was written"
            )
            raise WrongInputError(msg)
        yield window


def _light(planes: list[_Plane], card: ServingCard) -> ChannelLight:
    first = planes[0]
    foreign = bool(first.reasons)
    light = foreign_photometry(first.dark_counts, first.bright_counts, card) if foreign else card.photometry()
    return ChannelLight(
        background=light.background,
        scale=light.scale,
        foreign=foreign,
        bright_counts=max(plane.bright_counts for plane in planes),
    )
