"""Tells a device that is broken from a frame that is bad, by the engine errors that the worker meets.

A CUDA error such as an illegal address is sticky: every later call in the process fails, and only a new
process helps. Such an error is known by its name; any other counts as one when it repeats, without one
success between, on frames of different streams: a single stream may simply be one that this model cannot
take. Pure bookkeeping: knows no torch and no sockets; what is to follow is the worker's business.
"""

import re

from inference.messages import Enhanced, Failed, FailureCode, Frame

__all__ = ["BROKEN_AFTER", "DeviceHealth"]

BROKEN_AFTER = 6
"""Engine errors in a row, of at least two streams, that count as a broken device."""
_STICKY = re.compile(
    r"CUDA error|CUDA driver error|cudaError|(CUBLAS|CUDNN)_STATUS_(EXECUTION|INTERNAL)|AcceleratorError"
    r"|device-side assert|HIP error|CL_DEVICE_NOT_AVAILABLE|CL_OUT_OF_RESOURCES"
)
_OF_THE_FRAME = ("ValueError", "TypeError", "WrongInputError", "MemoryError", "OutOfMemoryError")
"""Errors that say something of a frame, not of the device; memory comes back when the frame is gone."""


class DeviceHealth:
    """What the engine's errors so far say of the device."""

    def __init__(self) -> None:
        self._in_a_row = 0
        self._streams: set[tuple[str, str | None]] = set()
        self.broken: str | None = None
        """The error that showed it; None while the device is well."""

    def judge(self, frame: Frame, header: Enhanced | Failed) -> Enhanced | Failed:
        """Take in an answer and return the one to send: a broken device's fault is not the frame's."""
        if isinstance(header, Enhanced):
            self._in_a_row = 0
            self._streams.clear()
            return header
        if header.code is not FailureCode.ENGINE_ERROR:
            return header
        self._look_at((frame.session, frame.channel), header)
        if self.broken is None:
            return header
        reason = f"the worker's device is broken: {header.reason}"[:2000]
        return header.model_copy(update={"code": FailureCode.SHUTTING_DOWN, "reason": reason})

    def _look_at(self, stream: tuple[str, str | None], failed: Failed) -> None:
        kind = failed.reason.partition(":")[0]
        if kind in _OF_THE_FRAME:
            return
        self._in_a_row += 1
        self._streams.add(stream)
        repeats = self._in_a_row >= BROKEN_AFTER and len(self._streams) > 1
        if self.broken is None and (repeats or _STICKY.search(failed.reason)):
            self.broken = failed.reason
