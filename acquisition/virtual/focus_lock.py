"""A virtual hardware autofocus: holds the focus drive at its distance from the sample.

Owns when it holds, and when it loses hold. Where the sample lies comes in, where the drive should go comes
out.
"""

from acquisition.virtual.faults import FaultSchedule

__all__ = ["FocusLock"]

_CAPTURES_UM = 60.0
"""From the sample's plane, within which there is something to hold."""


class FocusLock:
    """Follows the sample while it is on."""

    def __init__(self, faults: FaultSchedule) -> None:
        self._faults = faults
        self._distance_um: float | None = None
        self._slipped = False

    @property
    def on(self) -> bool:
        """Whether it is switched on."""
        return self._distance_um is not None

    @property
    def holds(self) -> bool:
        """Whether it is on and has something to hold."""
        return self._distance_um is not None and not self._slipped and abs(self._distance_um) < _CAPTURES_UM

    def switch_on(self, distance_um: float) -> None:
        """Hold the drive at this distance from the sample's plane of best focus."""
        self._slipped, self._distance_um = False, distance_um

    def switch_off(self) -> None:
        """Hold nothing."""
        self._distance_um = None

    def jolt(self) -> None:
        """Let the stage start a move, which may cost the hold."""
        if self.on and self._faults.happens("focus_lock_slips"):
            self._slipped = True

    def wanted_um(self, sample_um: float) -> float | None:
        """Return where the drive should be for a sample there; None where nothing is held."""
        return sample_um + self._distance_um if self._distance_um is not None and self.holds else None
