"""The camera and the light: exposes, restarts a camera that hangs, and closes the shutters.

Owns how long an exposure is waited for. Knows no stage and no focus drive; one of the five files that call
MMCore's camelCase (docs/decisions/0011).
"""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from pymmcore_plus import DeviceType

from acquisition.patience import DeviceHangsError, within
from acquisition.retries import DEVICE_ERRORS, OnRetry, Retry

if TYPE_CHECKING:
    from pymmcore_plus import CMMCorePlus

__all__ = ["Camera"]

CountImage = np.ndarray[Any, np.dtype[np.uint16]]


@dataclass(frozen=True, slots=True)
class _Settings:
    """A camera's properties that can be set, as they were when it was well."""

    values: dict[str, str]
    before_initialising: tuple[str, ...]
    others: tuple[str, ...]


class Camera:
    """The core's camera and shutters.

    Parameters
    ----------
    patience_s
        How long an exposure may take beyond its own time.
    on_retry
        Hears of every exposure that is taken a second time.
    """

    def __init__(self, core: "CMMCorePlus", patience_s: float, on_retry: OnRetry) -> None:
        self._core = core
        self._patience_s = patience_s
        self._on_retry = on_retry
        self._label = core.getCameraDevice()
        self._adapter = core.getDeviceLibrary(self._label), core.getDeviceName(self._label)
        self._hub = core.getParentLabel(self._label)
        self._settings = _settings(core, self._label)
        self._roi = core.getROI()

    def frame_shape_yx(self) -> tuple[int, int]:
        """Return the shape of the frames that `snap` gives."""
        return (self._core.getImageHeight(), self._core.getImageWidth())

    def largest_count(self) -> int:
        """Return the count at which a pixel is saturated."""
        return int(2 ** self._core.getImageBitDepth() - 1)

    def snap(self, exposure_ms: float) -> CountImage:
        """Return one exposure, (Y, X) uint16, which the caller owns.

        A failure that comes once (a lost USB packet) is tried again; a camera that hangs is loaded anew
        first.

        Raises
        ------
        DeviceHangsError
            It hangs again, or cannot be loaded anew.
        RuntimeError
            It failed twice.
        """
        try:
            self._expose(exposure_ms)
        except DEVICE_ERRORS as error:
            hangs = isinstance(error, DeviceHangsError)
            light_ms = exposure_ms + (self._patience_s * 1e3 if hangs else 0.0)  # at most: it may stay lit
            self._on_retry(Retry("camera", " ".join(str(error).split()), light_ms))
            if hangs:
                self.restart()
            self._expose(exposure_ms)
        image = np.asarray(self._core.getImage())
        if image.ndim != 2:
            raise RuntimeError(
                f"camera gave an image of shape {image.shape}; a single grey channel is needed"
            )
        return image.astype(np.uint16, casting="safe", copy=True)

    def _expose(self, exposure_ms: float) -> None:
        self._core.setExposure(exposure_ms)
        patience_s = exposure_ms * 1e-3 + self._patience_s
        within(patience_s, self._core.snapImage, f"the camera gave no image within {patience_s:g} s")

    def restart(self) -> None:
        """Unload the camera's device and load it again, with the properties and region that it had."""
        within(
            self._patience_s,
            self._reload,
            f"the camera hangs and could not be loaded anew within {self._patience_s:g} s; end this program, "
            "switch the camera off and on, and continue with --resume",
        )

    def _reload(self) -> None:
        # Nothing here asks the camera while it hangs: its adapter answers nobody until it is unloaded.
        core, label = self._core, self._label
        self.close_shutters()
        core.unloadDevice(label)
        core.loadDevice(label, *self._adapter)
        if self._hub:
            core.setParentLabel(label, self._hub)
        self._apply(self._settings.before_initialising)
        core.initializeDevice(label)
        core.setCameraDevice(label)
        self._apply(self._settings.others)
        core.setROI(*self._roi)

    def _apply(self, names: tuple[str, ...]) -> None:
        values = {name: self._settings.values[name] for name in names}
        for name, value in values.items():
            with suppress(*DEVICE_ERRORS):  # a property that is an action, or that others decide
                self._core.setProperty(self._label, name, value)

    @contextmanager
    def central_roi(self, side_px: int) -> Iterator[None]:
        """Read only the middle of the camera inside the block, for quick focus exposures."""
        x, y, width, height = before = self._core.getROI()
        side_x, side_y = min(side_px, width), min(side_px, height)
        self._set_roi([x + (width - side_x) // 2, y + (height - side_y) // 2, side_x, side_y])
        answers = True
        try:
            yield
        except DeviceHangsError:
            answers = False  # a camera that hangs answers nobody; whoever asks it waits for ever
            raise
        finally:
            if answers:
                self._core.clearROI()
                self._roi = before
                if list(self._core.getROI()) != before:  # the scan reads a part of the chip
                    self._set_roi(before)

    def _set_roi(self, roi: list[int]) -> None:
        self._core.setROI(*roi)
        self._roi = roi

    def stop(self) -> None:
        """End live mode or a sequence, if one runs."""
        if self._core.isSequenceRunning():
            self._core.stopSequenceAcquisition()

    def close_shutters(self) -> list[str]:
        """Close every shutter; returns the labels of those that do not read closed.

        From here on, light falls during exposures only.
        """
        core = self._core
        core.setAutoShutter(True)
        open_still: list[str] = []
        for shutter in core.getLoadedDevicesOfType(DeviceType.Shutter):
            with suppress(*DEVICE_ERRORS):
                core.setShutterOpen(shutter, False)
                core.waitForDevice(shutter)
                if not core.getShutterOpen(shutter):
                    continue
            open_still.append(shutter)
        return open_still


def _settings(core: "CMMCorePlus", label: str) -> _Settings:
    names = [name for name in core.getDevicePropertyNames(label) if not core.isPropertyReadOnly(label, name)]
    early = tuple(name for name in names if core.isPropertyPreInit(label, name))
    return _Settings(
        {name: core.getProperty(label, name) for name in names},
        early,
        tuple(name for name in names if name not in early),
    )
