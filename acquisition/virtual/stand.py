"""The virtual stand: what the camera would see, and the truth behind it.

Owns the way from device positions to expected photo-electrons: where the frame lies in the specimen, how
the optics blur it, how the pixels integrate it. Knows no Micro-Manager and adds no noise. Tests and the
demo ask it for the truth; the virtual camera asks it for every exposure.

Frame of reference: stage position (X, Y) puts specimen point (X, Y) at the centre of the low objective's
frame; x runs along columns and y along rows. Pixel k covers [k p, (k + 1) p].
"""

from dataclasses import dataclass, replace
from threading import RLock
from typing import Any

import numpy as np

from acquisition.virtual.bleaching import Bleaching
from acquisition.virtual.designs import Design, ImagingState
from acquisition.virtual.imperfections import Distortion, Imperfections, StageError, Waviness
from acquisition.virtual.optics import WideField
from acquisition.virtual.rendering import Blur, Renderer, View
from acquisition.virtual.sensor import Roi, Sensor
from acquisition.virtual.specimen import Specimen
from acquisition.virtual.structured_light import Stripes, stripes_of_exposure

__all__ = ["Frame", "Stand"]

FloatArray = np.ndarray[Any, np.dtype[np.floating[Any]]]
FloatImage = np.ndarray[Any, np.dtype[np.float32]]

_NEVER_DEFOCUSED = 1e9
"""A refractive index in which no depth changes a phase."""


@dataclass(frozen=True, slots=True)
class Frame:
    """Everything that decides what an exposure shows."""

    objective: str
    channel: str
    stage_xy_um: tuple[float, float]
    """As the stage reports it, which is where it was sent."""
    focus_um: float
    roi: Roi | None = None
    modality: str | None = None
    """None is that of the stand's low images."""
    stripes_number: int = 0
    """Which of the nine patterns lights the specimen, where the modality has patterns."""
    light: float = 1.0
    """Dose relative to the modality's usual one."""
    time_s: float = 0.0
    upwards_xy: tuple[bool, bool] = (False, False)
    """Whether the stage arrived in the positive direction, along x and y (for the backlash)."""


class Stand:
    """Specimen, optics and imperfections together.

    Parameters
    ----------
    design
        Which kind of stand it is.
    specimen
        What lies on the stage.
    sensor
        Gives the frame's shape and the camera pixel.
    imperfections, seed
        What is not ideal, and the seed of what is random about it.
    """

    def __init__(
        self,
        design: Design,
        specimen: Specimen,
        sensor: Sensor,
        imperfections: Imperfections,
        seed: int,
    ) -> None:
        self.design = design
        self.specimen = specimen
        self.sensor = sensor
        self.imperfections = imperfections
        self.seed = seed
        self.objectives, self.channels = design.objectives, design.channels
        frame_um = min(self.pixel_size_um(name) for name in self.objectives) * min(sensor.shape_yx)
        self.bleaching = Bleaching(imperfections.bleaching_per_s, frame_um)
        self._stage_error = StageError(imperfections.stage_error_um, seed)
        self._waviness = Waviness(imperfections.sample_waviness_um, seed)
        self._distortions = {
            design.high.objective: Distortion(imperfections.distortion_px, seed),
            design.low.objective: Distortion(imperfections.low_distortion_px, seed, objective=1),
        }
        self._renderer = Renderer(specimen)
        self._lock = RLock()  # the MDA thread exposes while a test asks for truth

    @property
    def changes(self) -> bool:
        """Whether the same frame looks different at another time."""
        return self.specimen.moves or any(self.imperfections.drift_um_per_min)

    def pixel_size_um(self, objective: str) -> float:
        """Return the side of a camera pixel in the specimen."""
        return self.sensor.pixel_um / self.objectives[objective].magnification

    def best_focus_um(
        self,
        objective: str,
        stage_xy_um: tuple[float, float],
        *,
        channel: str | None = None,
        time_s: float = 0.0,
    ) -> float:
        """Return the focus drive position of the true plane of best focus."""
        truth = self.imperfections
        tilt = sum(
            rise * position * 1e-3
            for rise, position in zip(truth.sample_tilt_um_per_mm, stage_xy_um, strict=True)
        )
        parfocal = truth.parfocal_offset_um if self._is_high(objective) else 0.0
        axial = truth.axial_chromatic_um.get(channel or "", 0.0)
        drift = truth.drift_um_per_min[2] * time_s / 60
        return truth.sample_height_um + tilt + self._waviness.at(stage_xy_um) + parfocal + axial + drift

    def centre_xy_um(
        self,
        objective: str,
        stage_xy_um: tuple[float, float],
        *,
        channel: str | None = None,
        time_s: float = 0.0,
        upwards_xy: tuple[bool, bool] = (False, False),
    ) -> tuple[float, float]:
        """Return the specimen point that a frame's centre truly shows."""
        truth = self.imperfections
        parcentric = truth.parcentric_offset_um if self._is_high(objective) else (0.0, 0.0)
        chromatic = truth.lateral_chromatic_um.get(channel or "", (0.0, 0.0))
        x, y = (
            sent + missed + offset + shift - truth.stage_backlash_um * upwards - drift * time_s / 60
            for sent, missed, offset, shift, upwards, drift in zip(
                stage_xy_um,
                self._stage_error.at(stage_xy_um),
                parcentric,
                chromatic,
                upwards_xy,
                truth.drift_um_per_min[:2],
                strict=True,
            )
        )
        return (x, y)

    def expected_electrons(self, frame: Frame, exposure_ms: float) -> FloatImage:
        """Return the noise-free frame as the camera sees it, background and vignetting included.

        Returns
        -------
        FloatImage
            (Y, X) of the frame's region of interest, float32, photo-electrons.
        """
        rows, columns = self._pixel_centres(frame.roi)
        with self._lock:
            y_um, x_um = self._positions_um(frame, rows, columns)
            fluorophores = self._renderer.image(self._view(frame), y_um, x_um)
            left = self.bleaching.remaining(self.channels[frame.channel].stain, y_um, x_um)
        if left is not None:
            fluorophores = fluorophores * left
        background = self._background(frame.objective, frame.channel, rows, columns)
        light = self._light_per_fluorophore(frame, exposure_ms)
        seen = np.maximum(fluorophores + background, np.float32(0))
        return np.asarray(seen * light * self._evenness(rows, columns), dtype=np.float32)

    def bleach(self, frame: Frame, exposure_ms: float) -> None:
        """Take from the specimen what the light of one exposure bleaches."""
        y_um, x_um = self._positions_um(frame, *self._pixel_centres(None))
        light = self.design.modalities[frame.modality or self.design.low.modality].light * frame.light
        self.bleaching.expose(self.channels[frame.channel].stain, y_um, x_um, exposure_ms * 1e-3 * light)

    def high_image_on_low_grid(
        self,
        channel: str,
        stage_xy_um: tuple[float, float],
        focus_um: float,
        exposure_ms: float,
        *,
        time_s: float = 0.0,
        upwards_xy: tuple[bool, bool] = (False, False),
    ) -> FloatImage:
        """Return the truth that an enhanced low field is scored against.

        What the high imaging state's optics would give of the low field at `stage_xy_um`, without noise,
        offset, vignetting, bleaching or the high objective's own geometry: sampled on the low frame upsampled
        by the ratio of the magnifications, so that its pixels lie exactly on the low ones. Of structured
        illumination it is the image of an aperture as large as the cut-off that the stripes reach.

        Parameters
        ----------
        stage_xy_um
            Commanded stage position of the low field.
        focus_um
            Focus drive position of the high fields.
        exposure_ms
            Exposure of the high fields.
        time_s, upwards_xy
            Of the low frame; its metadata give `StandTime_s`.

        Returns
        -------
        FloatImage
            (factor * Y, factor * X) float32, expected counts above the offset (autofluorescence included).
        """
        low, high = self.design.low, self.design.high
        factor = round(
            self.objectives[high.objective].magnification / self.objectives[low.objective].magnification
        )
        frame = Frame(
            low.objective,
            channel,
            stage_xy_um,
            focus_um,
            modality=low.modality,
            time_s=time_s,
            upwards_xy=upwards_xy,
        )
        fine = [(np.arange(factor * side) + 0.5) / factor for side in self.sensor.shape_yx]
        y_um, x_um = self._positions_um(frame, fine[0][:, np.newaxis], fine[1])
        seen = replace(frame, objective=high.objective, modality=high.modality)
        view = replace(self._view(seen), blur=self._ideal_blur(high, channel), stripes=None)
        with self._lock:
            fluorophores = self._renderer.image(view, y_um, x_um)
        background = self._background(high.objective, channel, np.zeros(1), np.zeros(1), even=True)
        electrons = np.maximum(fluorophores + background, 0) * self._light_per_fluorophore(seen, exposure_ms)
        return self.sensor.expected_counts(electrons)

    def _is_high(self, objective: str) -> bool:
        """Say whether an objective is the high one of a stand with two."""
        return objective == self.design.high.objective != self.design.low.objective

    def _pixel_centres(self, roi: Roi | None) -> tuple[FloatArray, FloatArray]:
        """Return the rows (Y, 1) and columns (X,) of pixel centres."""
        x, y, width, height = roi or (0, 0, self.sensor.shape_yx[1], self.sensor.shape_yx[0])
        return (np.arange(y, y + height) + 0.5)[:, np.newaxis], np.arange(x, x + width) + 0.5

    def _positions_um(
        self, frame: Frame, rows: FloatArray, columns: FloatArray
    ) -> tuple[FloatArray, FloatArray]:
        """Return where in the specimen (y, x) camera pixels look; (Y, 1) and (X,) unless something bends."""
        centre_x, centre_y = self.centre_xy_um(
            frame.objective,
            frame.stage_xy_um,
            channel=frame.channel,
            time_s=frame.time_s,
            upwards_xy=frame.upwards_xy,
        )
        pixel_um = self.pixel_size_um(frame.objective)
        height, width = self.sensor.shape_yx
        y_px, x_px = rows - height / 2, columns - width / 2
        distortion = self._distortions[frame.objective]
        if distortion.largest_px:
            dy, dx = distortion.displacement_yx_px(2 * y_px / height, 2 * x_px / width)
            y_px, x_px = y_px + dy, x_px + dx
        if self.imperfections.camera_mirrored:
            y_px, x_px = np.broadcast_arrays(y_px, -x_px)  # the renderer's short cut wants ascending pixels
        if self.imperfections.camera_rotation_deg:
            angle = np.deg2rad(self.imperfections.camera_rotation_deg)
            cos, sin = np.cos(angle), np.sin(angle)
            y_px, x_px = sin * x_px + cos * y_px, cos * x_px - sin * y_px
        return centre_y + y_px * pixel_um, centre_x + x_px * pixel_um

    def _background(
        self, objective: str, channel: str, rows: FloatArray, columns: FloatArray, *, even: bool = False
    ) -> FloatImage:
        """Return the autofluorescence of each pixel, in units of fluorophore; broadcastable."""
        mean = self.channels[channel].background_per_um2 * self.pixel_size_um(objective) ** 2
        if even or not any(self.imperfections.background_gradient):
            return np.full(1, mean, dtype=np.float32)
        v, u = self._relative(rows, columns)
        rise_x, rise_y = self.imperfections.background_gradient
        return np.maximum(mean * (1 + rise_x * u + rise_y * v), 0).astype(np.float32)

    def _relative(self, rows: FloatArray, columns: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Return where pixels lie in the frame, -1 to 1 from edge to edge, in y and in x."""
        height, width = self.sensor.shape_yx
        return 2 * rows / height - 1, 2 * columns / width - 1

    def _evenness(self, rows: FloatArray, columns: FloatArray) -> FloatImage:
        """Return the relative illumination of pixels, 1 on the axis."""
        v, u = self._relative(rows, columns)
        return (1 - self.imperfections.vignetting * (u**2 + v**2) / 2).astype(np.float32)

    def _view(self, frame: Frame) -> View:
        modality = frame.modality or self.design.low.modality
        focus_um = self.best_focus_um(
            frame.objective, frame.stage_xy_um, channel=frame.channel, time_s=frame.time_s
        )
        return View(
            stain=self.channels[frame.channel].stain,
            blur=self._blur(ImagingState(frame.objective, modality), frame.channel),
            pixel_um=self.pixel_size_um(frame.objective),
            defocus_um=frame.focus_um - focus_um,
            stripes=self._stripes(frame, modality),
            time_s=frame.time_s,
        )

    def _blur(self, state: ImagingState, channel: str) -> Blur:
        return self.design.blur(
            state.objective,
            channel,
            state.modality,
            underfill=self.imperfections.excitation_underfill,
            spherical_waves=self.imperfections.spherical_aberration_waves,
        )

    def _ideal_blur(self, state: ImagingState, channel: str) -> Blur:
        mode, filters = self.design.modalities[state.modality], self.channels[channel]
        if not mode.stripes:
            return self._blur(state, channel)
        lens = self.objectives[state.objective]
        reached = lens.numerical_aperture + mode.stripe_aperture * filters.emission_nm / filters.excitation_nm
        return WideField(reached, filters.emission_nm, refractive_index=_NEVER_DEFOCUSED)

    def _stripes(self, frame: Frame, modality: str) -> Stripes | None:
        mode = self.design.modalities[modality]
        if not mode.stripes:
            return None
        excitation_nm = self.channels[frame.channel].excitation_nm
        return stripes_of_exposure(
            frame.stripes_number, mode.stripe_aperture, excitation_nm, mode.stripe_depth
        )

    def _light_per_fluorophore(self, frame: Frame, exposure_ms: float) -> np.float32:
        """Return the electrons that a fluorophore gives: a lens collects as the square of its aperture."""
        modality = self.design.modalities[frame.modality or self.design.low.modality]
        aperture = self.objectives[frame.objective].numerical_aperture
        per_ms = self.channels[frame.channel].electrons_per_ms * modality.light * frame.light
        return np.float32(per_ms * exposure_ms * aperture**2)
