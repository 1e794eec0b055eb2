"""What a microscope's `.cfg` says: config groups, presets, pixel sizes.

Owns the questions to it. Only asks, never moves anything.
"""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from pymmcore_plus import DeviceType

from acquisition.plan import StateSettings
from configs.document import WrongInputError

if TYPE_CHECKING:
    from pymmcore_plus import CMMCorePlus

__all__ = ["Affine", "Configuration", "camera_binning", "pixel_size_of"]

Affine = tuple[float, float, float, float, float, float]
"""Micro-Manager's order: image pixel to stage micrometre, (xx, xy, x0, yx, yy, y0)."""

_Settings = dict[tuple[str, str], str]
"""Value by device and property."""
_PIXEL_SIZE_TOLERANCE = 0.02


class Configuration:
    """The configuration that a core has loaded, and the imaging states that must be in it."""

    def __init__(self, core: "CMMCorePlus", states: Mapping[Any, StateSettings]) -> None:
        self._core = core
        self._states = states

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
            pixel_um = settings.pixel_um
            return (pixel_um, 0.0, 0.0, 0.0, pixel_um, 0.0)
        if pixel_um is None:
            return affine
        configured_um = pixel_size_of(affine)
        if abs(configured_um / pixel_um - 1) > _PIXEL_SIZE_TOLERANCE:
            msg = (
                f"states.{state}.pixel_size_um is {pixel_um:g}, but the microscope's .cfg says "
                f"{configured_um:g} for {settings.objective}; correct the one that is wrong"
            )
            raise WrongInputError(msg)
        return affine

    def binning(self) -> int:
        """Return the camera's binning."""
        return camera_binning(self._core)

    def turret_settings(self, state: str) -> list[tuple[str, str, str]]:
        """Return (device, property, value) of what a state's presets set and its pixel size depends on.

        What the `.cfg` already makes the pixel size depend on, and else all of the state's presets.
        """
        settings = self._settings(self._states[state].presets)
        needed = {
            (device, name)
            for configuration in self._core.getAvailablePixelSizeConfigs()
            for device, name, _ in self._core.getPixelSizeConfigData(configuration)
        }
        chosen = {**settings, **self._with_labels(settings)}
        wanted = {key: value for key, value in chosen.items() if key in needed} or settings
        return [(device, name, value) for (device, name), value in wanted.items()]

    def _configured_affine(self, presets: "Mapping[str, str]") -> Affine | None:
        """Return the affine of the pixel size configuration that the presets' settings fulfil."""
        named = self._settings(presets)
        settings = {**named, **self._with_labels(named)}
        for configuration in self._core.getAvailablePixelSizeConfigs():
            needed = self._core.getPixelSizeConfigData(configuration)
            if all(settings.get((device, name)) == value for device, name, value in needed):
                return self._affine(configuration)
        return None

    def _affine(self, configuration: str) -> Affine | None:
        """Return the affine of a pixel size configuration; None where it gives neither that nor a size."""
        xx, xy, x0, yx, yy, y0 = self._core.getPixelSizeAffineByID(configuration)
        size_um = self._core.getPixelSizeUmByID(configuration)
        binning = camera_binning(self._core)  # the file's numbers are those of the chip's pixels
        if (xx, xy, yx, yy) == (1, 0, 0, 1) or not (xx or xy):  # what the core says when the file gives none
            return (size_um * binning, 0.0, 0.0, 0.0, size_um * binning, 0.0) if size_um else None
        return (xx * binning, xy * binning, x0, yx * binning, yy * binning, y0)

    def _settings(self, presets: Mapping[str, str]) -> _Settings:
        return {
            (str(device), str(name)): str(value)
            for group, preset in presets.items()
            for device, name, value in self._core.getConfigData(group, preset)
        }

    def _with_labels(self, settings: _Settings) -> _Settings:
        """Return the labels of wheels and turrets that presets set by number."""
        return {
            (device, "Label"): str(self._core.getStateLabels(device)[int(value)])
            for (device, name), value in settings.items()
            if name == "State" and self._core.getDeviceType(device) is DeviceType.State
        }


def camera_binning(core: "CMMCorePlus") -> int:
    """Return how many pixels of the chip make one of a frame, along each side."""
    value = str(core.getProperty(core.getCameraDevice(), "Binning"))
    return int(value.split("x")[0])  # some adapters say 2x2


def pixel_size_of(affine: Affine) -> float:
    """Return the side of a pixel, in um, of a map from pixels to stage positions."""
    return float(np.sqrt(abs(affine[0] * affine[4] - affine[1] * affine[3])))


def _listed(names: Iterable[str]) -> str:
    return ", ".join(names) or "none"
