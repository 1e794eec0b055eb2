"""The camera and the light: exposes, restarts a camera that hangs, and makes it dark.

Owns how long an exposure is waited for. Knows no stage and no focus drive; with `acquisition.microscope`
and `acquisition.hardware_focus` the only file that calls MMCore's camelCase.
"""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

import numpy as np
from pymmcore_plus import DeviceType, PropertyType

from acquisition.patience import PatienceError, within
from acquisition.retries import DEVICE_ERRORS, OnRetry, Retry

if TYPE_CHECKING:
    from pymmcore_plus import CMMCorePlus

__all__ = ["Camera"]

CountImage = np.ndarray[Any, np.dtype[np.uint16]]


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

    def frame_shape_yx(self) -> tuple[int, int]:
        """Return the shape of the frames that `snap` gives."""
        return (self._core.getImageHeight(), self._core.getImageWidth())

    def binning(self) -> int:
        """Return how many pixels of the chip make one of a frame, along each side."""
        value = self._core.getProperty(self._core.getCameraDevice(), "Binning")
        return int(value.split("x")[0])  # some adapters say 2x2

    def largest_count(self) -> int:
        """Return the count at which a pixel is saturated."""
        return int(2 ** self._core.getImageBitDepth() - 1)

    def snap(self, exposure_ms: float) -> CountImage:
        """Return one exposure, (Y, X) uint16, which the caller owns.

        A failure that comes once (a lost USB packet) is tried again; a camera that hangs is loaded anew
        first.

        Raises
        ------
        PatienceError
            It hangs again, or cannot be loaded anew.
        RuntimeError
            It failed twice.
        """
        try:
            self._expose(exposure_ms)
        except DEVICE_ERRORS as error:
            self._on_retry(Retry("camera", " ".join(str(error).split()), exposure_ms))
            if isinstance(error, PatienceError):
                self._restart()
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

    def _restart(self) -> None:
        """Unload the camera's device and load it again, with the properties and region that it had."""
        within(
            self._patience_s,
            self._reload,
            f"the camera hangs and could not be loaded anew within {self._patience_s:g} s; end this program, "
            "switch the camera off and on, and continue with --resume",
        )

    def _reload(self) -> None:
        core, label = self._core, self._core.getCameraDevice()
        library, name = core.getDeviceLibrary(label), core.getDeviceName(label)
        hub = core.getParentLabel(label)
        before = [p for p in core.iterProperties(device_label=label, as_object=True) if not p.isReadOnly()]
        settings = {p.name: (p.value, p.isPreInit()) for p in before if p.type() is not PropertyType.Undef}
        roi = core.getROI()
        core.unloadDevice(label)
        core.loadDevice(label, library, name)
        if hub:
            core.setParentLabel(label, hub)
        self._apply(label, {name: value for name, (value, before_init) in settings.items() if before_init})
        core.initializeDevice(label)
        core.setCameraDevice(label)
        self._apply(
            label, {name: value for name, (value, before_init) in settings.items() if not before_init}
        )
        core.setROI(*roi)

    def _apply(self, label: str, settings: dict[str, str]) -> None:
        for name, value in settings.items():
            with suppress(*DEVICE_ERRORS):  # a property that is an action, or that others decide
                self._core.setProperty(label, name, value)

    @contextmanager
    def central_roi(self, side_px: int) -> Iterator[None]:
        """Read only the middle of the camera inside the block, for quick focus exposures."""
        x, y, width, height = self._core.getROI()
        side_x, side_y = min(side_px, width), min(side_px, height)
        self._core.setROI(x + (width - side_x) // 2, y + (height - side_y) // 2, side_x, side_y)
        try:
            yield
        finally:
            self._core.clearROI()
            if list(self._core.getROI()) != [x, y, width, height]:  # the scan reads a part of the chip
                self._core.setROI(x, y, width, height)

    def go_dark(self) -> list[str]:
        """Stop exposing and close every shutter; returns the labels of those that do not read closed."""
        core = self._core
        if core.isSequenceRunning():
            core.stopSequenceAcquisition()
        core.setAutoShutter(True)  # from here on, light falls during exposures only
        open_still: list[str] = []
        for shutter in core.getLoadedDevicesOfType(DeviceType.Shutter):
            with suppress(*DEVICE_ERRORS):
                core.setShutterOpen(shutter, False)
                core.waitForDevice(shutter)
                if not core.getShutterOpen(shutter):
                    continue
            open_still.append(shutter)
        return open_still
