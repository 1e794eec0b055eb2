"""A virtual hardware autofocus: holds the focus drive at its distance from the sample.

Owns when it holds, and when it loses hold. Where the sample lies and how the drive moves is handed in.
"""

from collections.abc import Callable

from acquisition.virtual.faults import FaultSchedule

__all__ = ["FocusLock"]

_CAPTURES_UM = 60.0
"""From the sample's plane, within which there is something to hold."""


class FocusLock:
    """Follows the sample while it is on.

    Parameters
    ----------
    sample_um
        Gives where the drive would be in best focus now.
    drive_um, drive_to
        Give and set where it is.
    """

    def __init__(
        self,
        sample_um: Callable[[], float],
        drive_um: Callable[[], float],
        drive_to: Callable[[float], None],
        faults: FaultSchedule,
    ) -> None:
        self._sample_um, self._drive_um, self._drive_to = sample_um, drive_um, drive_to
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

    def switch(self, on: bool) -> None:
        """Switch it on, at the present distance, or off."""
        self._slipped = False
        self._distance_um = self._drive_um() - self._sample_um() if on else None

    def jolt(self) -> None:
        """Let the stage start a move, which may cost the hold."""
        if self.on and self._faults.happens("focus_lock_slips"):
            self._slipped = True

    def follow(self) -> None:
        """Let it act."""
        if self._distance_um is not None and self.holds:
            self._drive_to(self._sample_um() + self._distance_um)
