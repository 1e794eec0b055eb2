"""Puts the virtual microscope together: Micro-Manager's demo devices and a camera that renders the stand.

The one file that touches pymmcore-plus's unified core (`UniMMCore`, experimental upstream). Owns what stands
between Micro-Manager and the stand: reading device positions, exposing, binning, region of interest, live
sequences. Knows no physics.
"""

import threading
import time
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from pymmcore_plus.experimental.unicore import CameraDevice, UniMMCore

import configs
from acquisition.microscope import release_at_exit
from acquisition.virtual.cells import EndothelialCells
from acquisition.virtual.imperfections import Imperfections
from acquisition.virtual.sensor import Sensor
from acquisition.virtual.specimen import PointSource, Specimen
from acquisition.virtual.stand import Frame, Roi, Stand
from configs.document import WrongInputError

if TYPE_CHECKING:
    from numpy.typing import DTypeLike
    from pymmcore_plus import CMMCorePlus

    from acquisition.plan import Experiment

__all__ = ["from_experiment", "load", "stand_of"]

FloatImage = np.ndarray[Any, np.dtype[np.float32]]

_CAMERA = "Camera"
_STANDS = {"widefield": "demo.cfg"}
"""Stands by name, and the .cfg of each."""
_BINNINGS = (1, 2, 4)
_WAIT_SLICE_S = 0.02
_SEQUENCE_BUFFER_MB = 128
"""MMCore would take 1 GB."""
_SIMULATED_STAGE_SPEED_UM_PER_MS = 1e7
"""So fast that DemoCamera's stage, which takes its time, arrives at once."""


def load(
    name: str = "widefield",
    *,
    seed: int = 7,
    real_time: bool = False,
    camera_shape_yx: tuple[int, int] = (512, 512),
    source: PointSource | None = None,
    sensor: Sensor | None = None,
    **imperfections: Any,  # noqa: ANN401 - checked by the Imperfections model
) -> "CMMCorePlus":
    """Return a Micro-Manager core that drives a virtual microscope.

    Parameters
    ----------
    name
        The stand; so far ``widefield``.
    seed
        Fixes the specimen, the imperfections' random parts and the noise of the n-th exposure.
    real_time
        Whether exposures and stage moves take their time; else an exposure costs its rendering only.
    camera_shape_yx
        Pixels of the camera.
    source
        What lies on the stage; cells by default.
    sensor
        The camera chip; overrides `camera_shape_yx`.
    imperfections
        The fields of `Imperfections`, all zero by default.

    Raises
    ------
    WrongInputError
        There is no such stand or no such imperfection.

    Examples
    --------
    >>> core = load("widefield", seed=7, parfocal_offset_um=3.0)
    >>> core.setConfig("Objective", "20X"); core.setConfig("Channel", "FITC")
    >>> core.snapImage(); image = core.getImage()
    """
    if name not in _STANDS:
        raise WrongInputError(f"virtual microscope '{name}' does not exist; there is: {', '.join(_STANDS)}")
    stand = Stand(
        Specimen(source or EndothelialCells(seed)),
        sensor or Sensor(camera_shape_yx),
        Imperfections.of(**imperfections),
        seed,
    )
    core = _VirtualCore(stand, real_time=real_time)
    core.loadSystemConfiguration(Path(configs.__file__).with_name(_STANDS[name]))
    core.install_camera()
    release_at_exit(core)
    return core


def from_experiment(experiment: "Experiment") -> "CMMCorePlus":
    """Return the virtual microscope that an experiment file asks for; raises WrongInputError."""
    choice = experiment.microscope
    if choice.virtual is None:
        raise WrongInputError(f"the experiment asks for the microscope {choice.name}, not for a virtual one")
    imperfections = Imperfections.of(**choice.imperfections)
    return load(
        choice.virtual,
        seed=choice.seed,
        real_time=choice.real_time,
        sensor=Sensor(choice.camera_shape_yx, pixel_um=choice.camera_pixel_um),
        **imperfections.model_dump(),
    )


def stand_of(core: "CMMCorePlus") -> Stand:
    """Return the stand behind a core that `load` gave: the truth of every image that it takes."""
    if not isinstance(core, _VirtualCore):
        raise WrongInputError(
            f"{core!r} is no virtual microscope; only one that virtual.load gave knows a truth"
        )
    return core.stand


class _VirtualCore(UniMMCore):
    """A core whose camera hears of a stop at once; upstream tells it after the exposure only."""

    def __init__(self, stand: Stand, *, real_time: bool) -> None:
        super().__init__()
        self.stand = stand
        self._real_time = real_time
        self._camera = _VirtualCamera(stand, real_time=real_time)

    def install_camera(self) -> None:
        """Put the rendering camera in the place of the configuration's."""
        self._camera.watch(self)
        self.loadPyDevice(_CAMERA, self._camera)
        self.initializeDevice(_CAMERA)
        self.setCameraDevice(_CAMERA)
        self.setCircularBufferMemoryFootprint(_SEQUENCE_BUFFER_MB)
        if not self._real_time:
            self.setProperty(self.getXYStageDevice(), "Velocity", _SIMULATED_STAGE_SPEED_UM_PER_MS)

    def stopSequenceAcquisition(self, cameraLabel: str | None = None) -> None:
        """Stop the camera, in mid-exposure if need be."""
        self._camera.stop()
        if cameraLabel is None:
            super().stopSequenceAcquisition()
        else:
            super().stopSequenceAcquisition(cameraLabel)


class _VirtualCamera(CameraDevice):
    """Renders what the positions of the other devices imply."""

    def __init__(self, stand: Stand, *, real_time: bool) -> None:
        super().__init__()
        self._stand = stand
        self._real_time = real_time
        self._core: Callable[[], CMMCorePlus | None] = lambda: None
        self._exposure_ms = 100.0
        self._binning = 1
        self._roi: Roi | None = None
        self._stopped = threading.Event()
        self._rng = np.random.default_rng([stand.seed, 79])
        self._last: tuple[Frame, float, FloatImage] | None = None
        self.set_property_allowed_values("Binning", _BINNINGS)

    def watch(self, core: "CMMCorePlus") -> None:
        """Read positions from this core; a weak reference, since a strong one would keep the core alive."""
        self._core = weakref.ref(core)

    def stop(self) -> None:
        """End a running sequence without waiting for its exposure."""
        self._stopped.set()

    def shutdown(self) -> None:
        """Stop, as the core is going away."""
        self.stop()

    def get_exposure(self) -> float:
        """Return the exposure time in ms."""
        return self._exposure_ms

    def set_exposure(self, exposure: float) -> None:
        """Set the exposure time in ms."""
        self._exposure_ms = float(exposure)

    def get_binning(self) -> int:
        """Return how many pixels are summed along each side."""
        return self._binning

    def set_binning(self, value: int) -> None:
        """Set the binning, which clears the region of interest, as on real cameras."""
        self._binning = int(value)
        self._roi = None

    def dtype(self) -> "DTypeLike":
        """Return the type of the counts."""
        return np.uint16

    def shape(self) -> tuple[int, int]:
        """Return (height, width) of the region of interest."""
        _, _, width, height = self.get_roi()
        return (height, width)

    def get_roi(self) -> Roi:
        """Return (x, y, width, height) in binned pixels."""
        height, width = self._stand.sensor.shape_yx
        return self._roi or (0, 0, width // self._binning, height // self._binning)

    def set_roi(self, x: int, y: int, width: int, height: int) -> None:
        """Set the region of interest in binned pixels; raises ValueError when it leaves the chip."""
        full_height, full_width = (length // self._binning for length in self._stand.sensor.shape_yx)
        inside = 0 <= x < x + width <= full_width and 0 <= y < y + height <= full_height
        if not inside:
            roi = (x, y, width, height)
            raise ValueError(f"region of interest {roi} leaves the camera's {full_width} x {full_height} px")
        self._roi = (x, y, width, height)

    def clear_roi(self) -> None:
        """Use the whole chip."""
        self._roi = None

    def start_sequence(
        self, n: int | None, get_buffer: "Callable[[Sequence[int], DTypeLike], np.ndarray[Any, Any]]"
    ) -> Iterator[Mapping[str, Any]]:
        """Expose n frames, or frames until stopped; a snap is a sequence of one."""
        self._stopped.clear()  # here and not in the generator, which begins later, in another thread
        return self._frames(n, get_buffer)

    def _frames(
        self, n: int | None, get_buffer: "Callable[[Sequence[int], DTypeLike], np.ndarray[Any, Any]]"
    ) -> Iterator[Mapping[str, Any]]:
        taken = 0
        while n is None or taken < n:
            began = time.perf_counter()
            image = self._expose()
            if self._real_time and not self._wait_until(began + self._exposure_ms * 1e-3):
                return
            get_buffer(image.shape, image.dtype)[:] = image
            taken += 1
            yield {}

    def _wait_until(self, end_s: float) -> bool:
        """Wait in slices for the end of an exposure; False when the sequence was stopped or the core died."""
        while (left_s := end_s - time.perf_counter()) > 0:
            if self._stopped.wait(min(left_s, _WAIT_SLICE_S)) or self._core() is None:
                return False
        return True

    def _expose(self) -> np.ndarray[Any, np.dtype[np.uint16]]:
        frame = self._frame()
        if frame is None:
            electrons = np.zeros(self.shape(), dtype=np.float32)
        elif self._last is not None and self._last[:2] == (frame, self._exposure_ms):
            electrons = self._last[2]  # nothing moved: live mode renders once
        else:
            electrons = self._binned(self._stand.expected_electrons(frame, self._exposure_ms))
            self._last = (frame, self._exposure_ms, electrons)
        return self._stand.sensor.expose(electrons, self._rng)

    def _frame(self) -> Frame | None:
        """Read the devices; None when no light reaches the camera."""
        core = self._core()
        if core is None or not (core.getAutoShutter() or core.getShutterOpen()):
            return None
        objective = _named(core.getStateLabel("Objective"), self._stand.objectives)
        excitation = _named(core.getStateLabel("Excitation"), self._stand.channels)
        emission = _named(core.getStateLabel("Emission"), self._stand.channels)
        if objective is None or excitation is None or excitation != emission:
            return None
        x, y, width, height = (edge * self._binning for edge in self.get_roi())
        stage_x_um, stage_y_um = core.getXYPosition()
        return Frame(objective, emission, (stage_x_um, stage_y_um), core.getPosition(), (x, y, width, height))

    def _binned(self, image: FloatImage) -> FloatImage:
        if self._binning == 1:
            return image
        height, width = (length // self._binning for length in image.shape)
        blocks = image.reshape(height, self._binning, width, self._binning)
        return np.asarray(blocks.sum(axis=(1, 3)))  # (height, width)


def _named(label: str, names: Mapping[str, object]) -> str | None:
    """Return the stand's name that a device label begins with (`FITC 522/24` is `FITC`)."""
    return next((name for name in names if label.startswith(name)), None)
