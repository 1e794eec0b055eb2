"""A hardware autofocus, where the microscope has one: the device that holds the drive on a surface.

Owns its switching, with read-back. It must be off before the focus drive is withdrawn, or it drives after
it; who withdraws sees to that (`acquisition.microscope`).
"""

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pymmcore_plus import CMMCorePlus

__all__ = ["HardwareFocus", "LockLostError"]

_POLL_S = 0.02


class LockLostError(RuntimeError):
    """The hardware autofocus did not lock, or does not switch off."""


class HardwareFocus:
    """The core's autofocus device.

    Parameters
    ----------
    patience_s
        How long it may take to lock.
    """

    def __init__(self, core: "CMMCorePlus", patience_s: float) -> None:
        self._core = core
        self._patience_s = patience_s

    @property
    def present(self) -> bool:
        """Whether the core has such a device."""
        return bool(self._core.getAutoFocusDevice())

    @property
    def on(self) -> bool:
        """Whether it is switched on."""
        return self.present and bool(self._core.isContinuousFocusEnabled())

    def lock(self) -> None:
        """Hold the surface below the present position; raises LockLostError when it does not lock."""
        self._core.enableContinuousFocus(True)
        try:
            self.wait()
        except LockLostError:
            self.release()  # or it goes on hunting for a surface
            raise

    def wait(self) -> None:
        """Wait until the surface is held, after a move of the stage for instance; raises LockLostError."""
        end_s = time.monotonic() + self._patience_s
        while not (self._core.isContinuousFocusEnabled() and self._core.isContinuousFocusLocked()):
            if time.monotonic() > end_s:
                msg = f"hardware autofocus '{self._core.getAutoFocusDevice()}' does not lock"
                raise LockLostError(f"{msg} within {self._patience_s:g} s; nothing to hold on to, or too far")
            time.sleep(_POLL_S)

    def release(self) -> None:
        """Switch it off and read that back; raises LockLostError when it stays on."""
        if not self.on:
            return
        self._core.enableContinuousFocus(False)
        if self.on:
            label = self._core.getAutoFocusDevice()
            raise LockLostError(
                f"hardware autofocus '{label}' does not switch off; the drive stays where it is"
            )
