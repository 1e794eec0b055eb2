"""Faults on demand: what breaks at a real stand at three in the morning.

Owns which faults there are and when they happen. What then goes wrong is the camera's and the core's matter
(`acquisition.virtual.camera`, `acquisition.virtual.build`). All are off by default.
"""

from collections import Counter
from typing import Annotated, Literal

import numpy as np
from pydantic import BaseModel, Field

__all__ = ["FaultName", "FaultSchedule", "Faults"]

FaultName = Literal[
    "snap_fails",
    "camera_stalls",
    "buffer_overflows",
    "stage_lies",
    "stage_times_out",
    "turret_sticks",
    "focus_jumps",
    "focus_lock_slips",
    "shutter_sticks",
    "camera_hangs",
]

When = (
    Annotated[float, Field(ge=0, le=1)]
    | Annotated[tuple[Annotated[int, Field(ge=0)], ...], Field(min_length=1)]
)
"""A chance for each call, or which calls, counted from 0."""


class Faults(BaseModel, frozen=True, extra="forbid"):
    """What goes wrong, and when. Zero, the default, is never."""

    snap_fails: When = 0.0
    """An exposure of a snap raises RuntimeError."""
    camera_stalls: When = 0.0
    """An exposure never ends: a snap raises after a while, a sequence delivers nothing more."""
    buffer_overflows: When = 0.0
    """A frame of a sequence finds MMCore's sequence buffer full, which ends the sequence."""
    stage_lies: When = 0.0
    """The XY stage says that it has arrived, but stopped at nine tenths of the way."""
    stage_times_out: When = 0.0
    """The XY stage is busy for good after a move, and waiting for it raises; the next move frees it."""
    turret_sticks: When = 0.0
    """The objective turret stays where it was, and says so only when asked."""
    focus_jumps: When = 0.0
    """The focus drive ends 15 um above where it was sent, and says so only when asked."""
    focus_lock_slips: When = 0.0
    """The hardware autofocus loses hold as the stage moves, and says so only when asked."""
    shutter_sticks: When = 0.0
    """After a move of the stage no light comes, until the stage moves again."""
    camera_hangs: When = 0.0
    """A snap neither ends nor fails, until the camera's device is unloaded."""


class FaultSchedule:
    """Says of each call whether its fault happens now.

    Parameters
    ----------
    seed
        Fixes the calls that a chance picks.
    """

    def __init__(self, faults: Faults, seed: int) -> None:
        self._faults = faults
        self._random = np.random.default_rng([seed, 84])
        self._calls: Counter[FaultName] = Counter()
        self.happened: Counter[FaultName] = Counter()
        """How often each fault has happened: the truth for tests."""

    def happens(self, name: FaultName) -> bool:
        """Count one more call, and say whether this fault strikes it."""
        when: float | tuple[int, ...] = getattr(self._faults, name)
        call = self._calls[name]
        self._calls[name] += 1
        strikes = call in when if isinstance(when, tuple) else bool(when) and self._random.random() < when
        if strikes:
            self.happened[name] += 1
        return bool(strikes)
