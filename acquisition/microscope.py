"""The only file that moves and exposes a microscope: every call of MMCore's camelCase stands here.

Owns safety. The focus drive moves through `move_focus` alone, which checks the absolute window of the
objective in use, and reads back where the drive went. The objective turns only after the focus drive was
withdrawn and read back. Knows no plan of a scan, no focus score and no files.
"""

import atexit
import logging
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pymmcore_plus
from pymmcore_plus import CMMCorePlus, find_micromanager

import configs
from configs.document import WrongInputError

if TYPE_CHECKING:
    from pathlib import Path

    from acquisition.plan import StateSettings

__all__ = ["FocusWindowError", "Microscope", "MicroscopeError", "load_cfg", "release_at_exit"]

CountImage = np.ndarray[Any, np.dtype[np.uint16]]
Affine = tuple[float, float, float, float, float, float]

FOCUS_TOLERANCE_UM = 0.3
STAGE_TOLERANCE_UM = 2.0
_PIXEL_SIZE_TOLERANCE = 0.02
_EXIT_PATIENCE_S = 5.0


class MicroscopeError(RuntimeError):
    """A device did not do as it was told; the message says which, and what was asked of it."""


class FocusWindowError(MicroscopeError):
    """A move of the focus drive was refused, since it leaves the objective's window. Nothing moved."""

    def __init__(self, asked_um: float, window_um: tuple[float, float], objective: str) -> None:
        self.asked_um = asked_um
        self.window_um = window_um
        low, high = window_um
        super().__init__(
            f"focus drive was asked to go to {asked_um:.2f} um, but with objective {objective} it may move "
            f"from {low:g} to {high:g} um only; correct the focus plan or the window (focus_window_um)"
        )


def adapter_folder() -> str | None:
    """Return where Micro-Manager's device adapters were found, or None."""
    return find_micromanager()


def load_cfg(name: "str | Path") -> CMMCorePlus:
    """Return a core with a Micro-Manager configuration loaded.

    Parameters
    ----------
    name
        A path, or the bare name of a ready-made `.cfg`.

    Raises
    ------
    WrongInputError
        There is no such file, or a device in it cannot be loaded.
    """
    try:
        path = configs.find(name)
    except FileNotFoundError as error:
        raise WrongInputError(str(error)) from error
    if pymmcore_plus.find_micromanager() is None:
        msg = "no Micro-Manager device adapters found; install Micro-Manager, or the package mm-test-adapters"
        raise WrongInputError(msg)
    core = CMMCorePlus()
    try:
        core.loadSystemConfiguration(path)
    except (RuntimeError, OSError) as error:  # OSError: an adapter that is not there
        reason = " ".join(str(error).split())
        msg = f"{path}: Micro-Manager cannot load it ({reason}); check devices and adapters"
        raise WrongInputError(msg) from error
    release_at_exit(core)
    return core


def release_at_exit(core: CMMCorePlus) -> None:
    """See to it that leaving the interpreter is quiet, whatever the core is doing then.

    MMCore calls back into Python from threads of its own. One that does so while the interpreter is being
    torn down aborts the process, so the hook ends what runs and cuts the callbacks first.
    """
    reference = weakref.ref(core)
    # `atexit` comes too late for an MDA: the interpreter first waits for its thread, which by then can
    # start no workers. This is the hook that concurrent.futures uses; it has no public name.
    register = getattr(threading, "_register_atexit", atexit.register)
    register(lambda: _release(reference()))


def _release(core: CMMCorePlus | None) -> None:
    if core is None:
        return
    if core.mda.is_running():
        logging.getLogger("pymmcore-plus").setLevel(logging.ERROR)  # it would warn that the MDA was cancelled
        ended = threading.Event()
        core.mda.events.sequenceFinished.connect(lambda *_: ended.set())
        core.mda.cancel()
        ended.wait(_EXIT_PATIENCE_S)
    if core.isSequenceRunning():
        core.stopSequenceAcquisition()
    super(CMMCorePlus, core).registerCallback(None)  # CMMCorePlus forbids it; MMCore needs it


class Microscope:
    """A core, and what may be done with it in each imaging state.

    Parameters
    ----------
    core
        Any Micro-Manager core with an XY stage, a focus drive and a camera.
    states
        Settings of each imaging state.
    withdraw_um
        Where the focus drive stands while the objective turns.
    """

    def __init__(self, core: CMMCorePlus, states: "Mapping[Any, StateSettings]", withdraw_um: float) -> None:
        self._core = core
        self._states = states
        self._withdraw_um = withdraw_um
        self._state: str | None = None

    @property
    def state(self) -> str | None:
        """The imaging state that `change_state` went to last; None before the first."""
        return self._state

    def frame_shape_yx(self) -> tuple[int, int]:
        """Return the shape of the frames that `snap` gives."""
        return (self._core.getImageHeight(), self._core.getImageWidth())

    def check_presets(self, channels: Iterable[tuple[str, str]]) -> None:
        """Raise WrongInputError that names the first config group or preset which the microscope lacks."""
        states = [preset for settings in self._states.values() for preset in settings.presets.items()]
        for group, preset in [*states, *channels]:
            groups = self._core.getAvailableConfigGroups()
            if group not in groups:
                raise WrongInputError(
                    f"config group '{group}' is not in the microscope's .cfg; it has: {_listed(groups)}"
                )
            presets = self._core.getAvailableConfigs(group)
            if preset not in presets:
                msg = f"preset '{preset}' is not in config group '{group}'; it has: {_listed(presets)}"
                raise WrongInputError(msg)

    def pixel_size_affine(self, state: str) -> Affine:
        """Return the map from image pixels to stage micrometres in a state, without turning to it.

        Raises
        ------
        WrongInputError
            The microscope's .cfg gives the objective another pixel size than the experiment does.
        """
        settings = self._states[state]
        pixel_um = settings.pixel_size_um
        affine = self._configured_affine(settings.presets)
        if affine is None:
            return (pixel_um, 0.0, 0.0, 0.0, pixel_um, 0.0)
        configured_um = float(np.sqrt(abs(affine[0] * affine[4] - affine[1] * affine[3])))
        if abs(configured_um / pixel_um - 1) > _PIXEL_SIZE_TOLERANCE:
            msg = (
                f"states.{state}.pixel_size_um is {pixel_um:g}, but the microscope's .cfg says "
                f"{configured_um:g} for {settings.objective}; correct the one that is wrong"
            )
            raise WrongInputError(msg)
        return affine

    def _configured_affine(self, presets: "Mapping[str, str]") -> Affine | None:
        """Return the affine of the pixel size configuration that the presets' settings fulfil."""
        settings = {
            (device, name): value
            for group, preset in presets.items()
            for device, name, value in self._core.getConfigData(group, preset)
        }
        for configuration in self._core.getAvailablePixelSizeConfigs():
            needed = self._core.getPixelSizeConfigData(configuration)
            if all(settings.get((device, name)) == value for device, name, value in needed):
                xx, xy, x0, yx, yy, y0 = self._core.getPixelSizeAffineByID(configuration)
                return (xx, xy, x0, yx, yy, y0) if xx or xy else None
        return None

    def stage_xy_um(self) -> tuple[float, float]:
        """Return where the stage says that it is."""
        x_um, y_um = self._core.getXYPosition()
        return (x_um, y_um)

    def focus_um(self) -> float:
        """Return where the focus drive says that it is."""
        return float(self._core.getPosition())

    def move_stage(self, x_um: float, y_um: float) -> None:
        """Move the stage and wait; sent twice, if need be. Raises MicroscopeError when it does not arrive."""
        _twice(lambda: self._send_stage(x_um, y_um))

    def _send_stage(self, x_um: float, y_um: float) -> None:
        self._core.setXYPosition(x_um, y_um)
        self._core.waitForDevice(self._core.getXYStageDevice())
        off_um = float(np.hypot(*np.subtract(self.stage_xy_um(), (x_um, y_um))))
        if off_um > STAGE_TOLERANCE_UM:
            msg = f"stage was sent to ({x_um:.1f}, {y_um:.1f}) um and stopped {off_um:.1f} um from there"
            raise MicroscopeError(msg)

    def move_focus(self, focus_um: float) -> None:
        """Move the focus drive and wait.

        Raises
        ------
        FocusWindowError
            The position lies outside the window of the objective in use; the drive did not move.
        MicroscopeError
            The drive did not arrive, or no imaging state was chosen yet.
        """
        if self._state is None:
            raise MicroscopeError("focus drive may not move before an imaging state is chosen (change_state)")
        settings = self._states[self._state]
        low, high = settings.focus_window_um
        if not low <= focus_um <= high:
            raise FocusWindowError(focus_um, settings.focus_window_um, settings.objective)
        self._drive_to(focus_um)

    def change_state(self, state: str) -> None:
        """Turn to another objective, and whatever else the imaging state sets; nothing if already there.

        The focus drive is withdrawn and read back, then the presets are set and read back. It stays
        withdrawn: the approach is the next `move_focus`, checked against the new objective's window.
        """
        if state == self._state:
            return
        settings = self._states[state]
        self._state = None  # until the turret is known to stand, no focus move is allowed
        self._withdraw()
        for group, preset in settings.presets.items():
            _twice(partial(self._set_preset, group, preset))
        self._state = state

    def _set_preset(self, group: str, preset: str) -> None:
        self._core.setConfig(group, preset)
        self._core.waitForConfig(group, preset)
        reached = self._core.getCurrentConfig(group)
        if reached != preset:
            msg = f"'{group}' was set to '{preset}' and reads '{reached}'; focus drive stays withdrawn"
            raise MicroscopeError(msg)

    def select_channel(self, group: str, preset: str) -> None:
        """Set a channel and wait for its filters."""
        self._core.setConfig(group, preset)
        self._core.waitForConfig(group, preset)

    def snap(self, exposure_ms: float) -> CountImage:
        """Return one exposure, (Y, X) uint16, which the caller owns.

        A failure that comes once (a lost USB packet) is tried again.
        """
        self._core.setExposure(exposure_ms)
        _twice(self._core.snapImage)
        image = np.asarray(self._core.getImage())
        if image.ndim != 2:
            msg = f"camera gave an image of shape {image.shape}; a single grey channel is needed"
            raise MicroscopeError(msg)
        return image.astype(np.uint16, casting="safe", copy=True)

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

    def _withdraw(self) -> None:
        self._drive_to(self._withdraw_um)

    def _drive_to(self, focus_um: float) -> None:
        """Move and read back, twice if need be; the one place where the drive is commanded."""
        _twice(lambda: self._send_drive(focus_um))

    def _send_drive(self, focus_um: float) -> None:
        self._core.setPosition(focus_um)
        self._core.waitForDevice(self._core.getFocusDevice())
        reached_um = self.focus_um()
        if abs(reached_um - focus_um) > FOCUS_TOLERANCE_UM:
            msg = f"focus drive was sent to {focus_um:.2f} um and reads {reached_um:.2f} um; check the drive"
            raise MicroscopeError(msg)


def _twice(act: Callable[[], None]) -> None:
    """Do something that a device may fail at once; what it fails at twice is raised."""
    try:
        act()
    except (RuntimeError, OSError):  # MMCore raises RuntimeError for every C++ device
        act()


def _listed(names: Iterable[str]) -> str:
    return ", ".join(names) or "none"
