"""The virtual stand: what the camera would see, and the truth behind it.

Owns the way from device positions to expected photo-electrons: where the frame lies in the specimen, how
the optics blur it, how the pixels integrate it. Knows no Micro-Manager and adds no noise. Tests and the
demo ask it for the truth; the virtual camera asks it for every exposure.

Frame of reference: stage position (X, Y) puts specimen point (X, Y) at the centre of the low objective's
frame; x runs along columns and y along rows. Pixel k covers [k p, (k + 1) p].
"""

from dataclasses import dataclass
from threading import RLock
from typing import TYPE_CHECKING, Any

import numpy as np

from acquisition.virtual.cells import CHROMATIN, F_ACTIN, MICROTUBULES
from acquisition.virtual.imperfections import Distortion, Imperfections, StageError
from acquisition.virtual.rendering import Renderer, View
from acquisition.virtual.sensor import Sensor
from acquisition.virtual.specimen import Specimen

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["CHANNELS", "OBJECTIVES", "Channel", "Frame", "Objective", "Stand"]

FloatArray = np.ndarray[Any, np.dtype[np.floating[Any]]]
FloatImage = np.ndarray[Any, np.dtype[np.float32]]
Roi = tuple[int, int, int, int]
"""(x, y, width, height) in camera pixels, as Micro-Manager states it."""


@dataclass(frozen=True, slots=True)
class Objective:
    """A dry objective."""

    name: str
    magnification: float
    numerical_aperture: float


@dataclass(frozen=True, slots=True)
class Channel:
    """A filter set with the stain it excites."""

    name: str
    stain: str
    emission_nm: float
    electrons_per_ms: float
    """Detected electrons per unit of fluorophore and ms, at an aperture of 1."""
    background_per_um2: float
    """Autofluorescence, in units of fluorophore."""


OBJECTIVES = {
    "10X": Objective("10X", magnification=10, numerical_aperture=0.4),
    "20X": Objective("20X", magnification=20, numerical_aperture=0.75),
}
CHANNELS = {
    "DAPI": Channel("DAPI", CHROMATIN, 447.0, electrons_per_ms=150.0, background_per_um2=0.05),
    "FITC": Channel("FITC", MICROTUBULES, 522.0, electrons_per_ms=9.0, background_per_um2=0.06),
    "Texas Red": Channel("Texas Red", F_ACTIN, 624.0, electrons_per_ms=18.0, background_per_um2=0.06),
}


@dataclass(frozen=True, slots=True)
class Frame:
    """Everything that decides what an exposure shows."""

    objective: str
    channel: str
    stage_xy_um: tuple[float, float]
    """As the stage reports it, which is where it was sent."""
    focus_um: float
    roi: Roi | None = None


class Stand:
    """Specimen, optics and imperfections together.

    Parameters
    ----------
    specimen
        What lies on the stage.
    sensor
        Gives the frame's shape and the camera pixel.
    imperfections, seed
        What is not ideal, and the seed of what is random about it.
    """

    def __init__(self, specimen: Specimen, sensor: Sensor, imperfections: Imperfections, seed: int) -> None:
        self.specimen = specimen
        self.sensor = sensor
        self.imperfections = imperfections
        self.seed = seed
        self.objectives: Mapping[str, Objective] = OBJECTIVES
        self.channels: Mapping[str, Channel] = CHANNELS
        self.low, self.high = "10X", "20X"
        self._stage_error = StageError(imperfections.stage_error_um, seed)
        self._distortion = Distortion(imperfections.distortion_px, seed)
        self._renderer = Renderer(specimen)
        self._lock = RLock()  # the MDA thread exposes while a test asks for truth

    def pixel_size_um(self, objective: str) -> float:
        """Return the side of a camera pixel in the specimen."""
        return self.sensor.pixel_um / self.objectives[objective].magnification

    def best_focus_um(self, objective: str, stage_xy_um: tuple[float, float]) -> float:
        """Return the focus drive position of the true plane of best focus."""
        truth = self.imperfections
        tilt = sum(
            rise * position * 1e-3
            for rise, position in zip(truth.sample_tilt_um_per_mm, stage_xy_um, strict=True)
        )
        parfocal = truth.parfocal_offset_um if objective == self.high else 0.0
        return truth.sample_height_um + tilt + parfocal

    def centre_xy_um(self, objective: str, stage_xy_um: tuple[float, float]) -> tuple[float, float]:
        """Return the specimen point that a frame's centre truly shows."""
        error = self._stage_error.at(stage_xy_um)
        offset = self.imperfections.parcentric_offset_um if objective == self.high else (0.0, 0.0)
        return (stage_xy_um[0] + error[0] + offset[0], stage_xy_um[1] + error[1] + offset[1])

    def expected_electrons(self, frame: Frame, exposure_ms: float) -> FloatImage:
        """Return the noise-free frame as the camera sees it, background and vignetting included.

        Returns
        -------
        FloatImage
            (Y, X) of the frame's region of interest, float32, photo-electrons.
        """
        x, y, width, height = frame.roi or (0, 0, self.sensor.shape_yx[1], self.sensor.shape_yx[0])
        rows, columns = np.arange(y, y + height) + 0.5, np.arange(x, x + width) + 0.5  # pixel centres
        with self._lock:
            y_um, x_um = self._positions_um(frame, rows, columns)
            fluorophores = self._renderer.image(self._view(frame), y_um, x_um)
        return self._electrons(frame, fluorophores, exposure_ms) * self._light(rows, columns)

    def high_image_on_low_grid(
        self, channel: str, stage_xy_um: tuple[float, float], focus_um: float, exposure_ms: float
    ) -> FloatImage:
        """Return the truth that an enhanced low field is scored against.

        What the high objective's optics would give of the low field at `stage_xy_um`, without noise,
        offset, vignetting or the high objective's own geometry: sampled on the low frame upsampled by the
        ratio of the magnifications, so that its pixels lie exactly on the low ones.

        Parameters
        ----------
        stage_xy_um
            Commanded stage position of the low field.
        focus_um
            Focus drive position of the high fields.
        exposure_ms
            Exposure of the high fields.

        Returns
        -------
        FloatImage
            (2Y, 2X) float32, expected counts above the camera's offset (autofluorescence included).
        """
        factor = self.objectives[self.high].magnification / self.objectives[self.low].magnification
        frame = Frame(self.high, channel, stage_xy_um, focus_um)
        pixel_um = self.pixel_size_um(self.high)
        centre_x, centre_y = self.centre_xy_um(self.low, stage_xy_um)
        y_um, x_um = (
            centre + (np.arange(round(factor * length)) + 0.5 - factor * length / 2) * pixel_um
            for centre, length in zip((centre_y, centre_x), self.sensor.shape_yx, strict=True)
        )
        with self._lock:
            fluorophores = self._renderer.image(self._view(frame), y_um[:, np.newaxis], x_um)
        return self.sensor.expected_counts(self._electrons(frame, fluorophores, exposure_ms))

    def _positions_um(
        self, frame: Frame, rows: FloatArray, columns: FloatArray
    ) -> tuple[FloatArray, FloatArray]:
        """Return where in the specimen (y, x) the centres of camera pixels look; broadcastable."""
        centre_x, centre_y = self.centre_xy_um(frame.objective, frame.stage_xy_um)
        pixel_um = self.pixel_size_um(frame.objective)
        y_px, x_px = (position - length / 2 for position, length in self._along(rows[:, np.newaxis], columns))
        if frame.objective == self.high and self.imperfections.distortion_px:
            v, u = (
                2 * position / length - 1 for position, length in self._along(rows[:, np.newaxis], columns)
            )
            dy, dx = self._distortion.displacement_yx_px(v, u)
            y_px, x_px = y_px + dy, x_px + dx
        return centre_y + y_px * pixel_um, centre_x + x_px * pixel_um

    def _along(self, rows: FloatArray, columns: FloatArray) -> list[tuple[FloatArray, int]]:
        return list(zip((rows, columns), self.sensor.shape_yx, strict=True))

    def _light(self, rows: FloatArray, columns: FloatArray) -> FloatImage:
        """Return the relative illumination of pixels, 1 on the axis."""
        height, width = self.sensor.shape_yx
        v, u = 2 * rows[:, np.newaxis] / height - 1, 2 * columns / width - 1
        return (1 - self.imperfections.vignetting * (u**2 + v**2) / 2).astype(np.float32)

    def _view(self, frame: Frame) -> View:
        objective, channel = self.objectives[frame.objective], self.channels[frame.channel]
        return View(
            stain=channel.stain,
            emission_nm=channel.emission_nm,
            numerical_aperture=objective.numerical_aperture,
            pixel_um=self.pixel_size_um(frame.objective),
            defocus_um=frame.focus_um - self.best_focus_um(frame.objective, frame.stage_xy_um),
        )

    def _electrons(self, frame: Frame, fluorophores: FloatImage, exposure_ms: float) -> FloatImage:
        """Scale by exposure and collected light: a lens collects as the square of its aperture."""
        channel = self.channels[frame.channel]
        aperture = self.objectives[frame.objective].numerical_aperture
        background = channel.background_per_um2 * self.pixel_size_um(frame.objective) ** 2
        scale = channel.electrons_per_ms * exposure_ms * aperture**2
        return (np.maximum(fluorophores, 0) + np.float32(background)) * np.float32(scale)
