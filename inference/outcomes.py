"""How a submitted frame ends: enhanced, dropped or failed, never without a word.

Frozen values that the client hands to whoever submitted the frame. Knows no wire and no sockets.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from inference.messages import FailureCode, StreamPhotometry

__all__ = ["DroppedFrame", "EnhancedFrame", "FailedFrame", "FrameId", "Outcome"]


@dataclass(frozen=True, slots=True)
class FrameId:
    """The id of a raw frame, unique among all sessions."""

    session: str
    sequence: int


@dataclass(frozen=True, slots=True)
class EnhancedFrame:
    """An enhanced frame with what must always go with it."""

    source: FrameId
    image: np.ndarray[Any, np.dtype[np.float32]]
    """(factor * Y, factor * X) float32, in the raw frame's counts; read-only."""
    pixel_size_um: float | None
    """Of the enhanced image."""
    channel: str | None
    model_name: str
    model_hash: str
    out_of_domain: tuple[str, ...]
    """Flags; empty inside the model's domain."""
    photometry: StreamPhotometry
    latency_ms: float
    """From the frame's capture to its answer, on the client's clock."""
    engine_ms: float
    """In the engine, on the worker's clock; where two are under way, with the wait for the one before."""
    warnings: tuple[str, ...] = ()
    """What no training frame was like, and where the image does not explain its frame."""
    shows_raw: bool = False
    """The network computed no numbers: the image is the raw frame, enlarged, and not enhanced."""


@dataclass(frozen=True, slots=True)
class DroppedFrame:
    """A preview frame that a newer one superseded."""

    source: FrameId
    superseded_by: int


@dataclass(frozen=True, slots=True)
class FailedFrame:
    """A frame that was not enhanced, and why."""

    source: FrameId
    reason: str
    code: FailureCode | None = None
    """The worker's; None where the frame never got an answer."""


Outcome = EnhancedFrame | DroppedFrame | FailedFrame
