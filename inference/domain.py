"""Decides whether an image lies in the domain a model was trained on, and in words why not.

Pure functions of an image, what is known of it, and the package's card. What these guards cannot see
(invention finer than the input's resolution) the README says plainly.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from inference.model_package import ServingCard
from inference.preprocess import Photometry

__all__ = [
    "BRIGHT_PERCENTILE",
    "DARK_PERCENTILE",
    "ImageFacts",
    "OutOfDomainError",
    "bright_level",
    "estimate_photometry",
    "facts_reasons",
    "foreign_photometry",
    "intensity_reason",
    "out_of_domain_reasons",
    "percentile",
]

PIXEL_SIZE_TOLERANCE = 0.05
NUMERICAL_APERTURE_TOLERANCE = 0.02
INTENSITY_FACTOR = 4.0
"""Brighter or dimmer than the brightest or dimmest training image by more than this is far outside."""
BRIGHT_PERCENTILE = 99.9
DARK_PERCENTILE = 1.0
"""Of a foreign image: a fluorescence image has dark corners."""

Image = np.ndarray[Any, np.dtype[Any]]


class OutOfDomainError(ValueError):
    """A model was asked to enhance what it was not trained for. Carries the reasons, in words."""

    def __init__(self, model_name: str, reasons: tuple[str, ...]) -> None:
        self.model_name = model_name
        self.reasons = reasons
        super().__init__(
            f"out of the domain of model '{model_name}': {'; '.join(reasons)}. "
            "Use a model that fits, or --allow-out-of-domain to apply this one and flag the result"
        )


@dataclass(frozen=True, slots=True)
class ImageFacts:
    """What is known of an image besides its pixels; None is unknown."""

    pixel_size_um: float | None = None
    channel: str | None = None
    numerical_aperture: float | None = None


def bright_level(image: Image, background: float) -> float:
    """Return the 99.9th percentile of an image above the background, in counts."""
    return percentile(image, BRIGHT_PERCENTILE) - background


def percentile(image: Image, percent: float) -> float:
    """Return what `np.percentile` returns, of a camera's counts in an eighth of its time (by a histogram)."""
    if image.dtype not in (np.uint8, np.uint16):
        return float(np.percentile(image, percent))
    place = percent / 100 * (image.size - 1)
    up_to = np.cumsum(np.bincount(image.ravel()))
    below, above = np.searchsorted(up_to, [math.floor(place), math.ceil(place)], side="right")
    return float(below + (above - below) * (place - math.floor(place)))


def out_of_domain_reasons(image: Image, facts: ImageFacts, card: ServingCard) -> tuple[str, ...]:
    """Return why an image is out of domain, one phrase a reason; empty when it is inside.

    Parameters
    ----------
    image
        (Y, X) counts.
    """
    intensity = intensity_reason(bright_level(image, card.background), card)
    return (*facts_reasons(facts, card), *([intensity] if intensity else []))


def facts_reasons(facts: ImageFacts, card: ServingCard) -> tuple[str, ...]:
    """Return why an image is out of domain whatever its pixels are, one phrase a reason."""
    checks = (_pixel_size_reason(facts, card), _channel_reason(facts, card), _aperture_reason(facts, card))
    return tuple(reason for reason in checks if reason)


def _pixel_size_reason(facts: ImageFacts, card: ServingCard) -> str | None:
    expected = card.low_pixel_size_um
    if expected is None:
        return None
    if facts.pixel_size_um is None:
        return f"the image states no pixel size (the model expects {expected:g} um; give --pixel-size-um)"
    if not abs(facts.pixel_size_um / expected - 1) <= PIXEL_SIZE_TOLERANCE:  # NaN too
        return f"pixel size {facts.pixel_size_um:g} um, but the model was trained at {expected:g} um"
    return None


def _channel_reason(facts: ImageFacts, card: ServingCard) -> str | None:
    if facts.channel is None or facts.channel.casefold() == card.channel.casefold():
        return None
    return f"channel '{facts.channel}', but the model was trained on '{card.channel}'"


def _aperture_reason(facts: ImageFacts, card: ServingCard) -> str | None:
    got, expected = facts.numerical_aperture, card.low_numerical_aperture
    if got is None or expected is None or abs(got - expected) <= NUMERICAL_APERTURE_TOLERANCE:
        return None
    return f"numerical aperture {got:g}, but the model was trained at {expected:g}"


def intensity_reason(bright: float, card: ServingCard) -> str | None:
    """Return why an image whose `bright_level` is this, in counts, is out of domain; None inside."""
    least = card.intensity.bright_counts_min / INTENSITY_FACTOR
    most = card.intensity.bright_counts_max * INTENSITY_FACTOR
    if least <= bright <= most:
        return None
    return (
        f"intensity {bright:.4g} counts above the background, but the model knows {least:.4g} to {most:.4g}"
    )


def estimate_photometry(image: Image, card: ServingCard) -> Photometry:
    """Return a background and a scale for a foreign image, from the image itself.

    The training's counts mean nothing for another camera. The background is the image's first percentile
    (a fluorescence image has dark corners), and the bright end is brought to where the training had it.

    Parameters
    ----------
    image
        (Y, X) counts.
    """
    return foreign_photometry(percentile(image, DARK_PERCENTILE), percentile(image, BRIGHT_PERCENTILE), card)


def foreign_photometry(background: float, bright_counts: float, card: ServingCard) -> Photometry:
    """Return what `estimate_photometry` does, of the two percentiles, in counts."""
    bright = bright_counts - background
    scale = card.intensity.bright_network / bright if bright > 0 else 1.0
    return Photometry(background, scale)
