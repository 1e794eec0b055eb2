"""A frame as the viewer shows it: raw, enhanced where there is one, and what must be said of both.

Frozen values. Knows no source, no wire and no page.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

__all__ = ["Plane", "ShownFrame"]


@dataclass(frozen=True, slots=True)
class Plane:
    """Pixels with what is needed to show them."""

    pixels: np.ndarray[Any, np.dtype[Any]]
    """(Y, X), in camera counts: uint8, uint16 or float32. Never changed by anybody."""
    pixel_size_um: float | None = None
    """None where it is unknown."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ShownFrame:
    """A raw frame, with its enhanced image or the reason why there is none; None is unknown."""

    number: int
    """With the session: the frame's id everywhere."""
    index: int
    """Its place in its series."""
    session: str
    raw: Plane
    channel: str | None = None
    position: str | None = None
    enhanced: Plane | None = None
    reason: str | None = None
    """Why there is no enhanced image: "waiting", "dropped: ...", "failed: ..."."""
    model_name: str | None = None
    model_hash: str | None = None
    warnings: tuple[str, ...] = ()
    """What no training frame was like, and where the image does not explain its frame."""
    out_of_domain: tuple[str, ...] = ()
    """Flags; empty inside the model's domain."""
    shows_raw: bool = False
    """The network computed no numbers: the enhanced image is the raw frame, enlarged, and not enhanced."""
    elapsed_ms: float | None = None
    """By the camera, or since the first frame."""
    latency_ms: float | None = None
    """From capture to enhanced image."""
    full_scale: float | None = None
    """Counts at which the camera saturates, 2**bits - 1."""
    captured_ns: int | None = None
    """`time.monotonic_ns` of this machine; only of live frames."""
