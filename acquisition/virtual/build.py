"""Puts the virtual microscope together: Micro-Manager's demo devices and a camera that renders the stand.

Owns the core, a subclass of pymmcore-plus's unified core (`UniMMCore`, experimental upstream): what a stage's
moves mean to the camera, and the faults of stage, focus drive and turret. Knows no physics.
"""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError
from pymmcore_plus import DeviceType
from pymmcore_plus.experimental.unicore import UniMMCore

import configs
from acquisition.micro_manager import release_at_exit
from acquisition.virtual.camera import VirtualCamera
from acquisition.virtual.designs import Design, design_named
from acquisition.virtual.faults import Faults, FaultSchedule
from acquisition.virtual.focus_lock import FocusLock
from acquisition.virtual.imperfections import Imperfections
from acquisition.virtual.micrograph import Micrograph
from acquisition.virtual.sensor import Sensor
from acquisition.virtual.specimen import DrawnSpecimen, PointSource, Specimen
from acquisition.virtual.stand import Stand
from configs.document import WrongInputError

if TYPE_CHECKING:
    from pymmcore_plus import CMMCorePlus

    from acquisition.plan import MicroscopeChoice

__all__ = ["faults_of", "from_choice", "load", "stand_of", "stand_time_s"]

_CAMERA = "Camera"
_SEQUENCE_BUFFER_MB = 128
"""MMCore would take 1 GB."""
_SIMULATED_STAGE_SPEED_UM_PER_MS = 1e7
"""So fast that DemoCamera's stage, which takes its time, arrives at once."""
_SHARE_OF_A_LIE = 0.9
_FOCUS_JUMP_UM = 15.0


def load(
    name: str = "widefield",
    *,
    seed: int = 7,
    real_time: bool = False,
    camera_shape_yx: tuple[int, int] | None = None,
    source: PointSource | None = None,
    specimen: Micrograph | Specimen | None = None,
    sensor: Sensor | None = None,
    replay: int = 0,
    **departures: Any,  # noqa: ANN401 - checked by the Imperfections and Faults models
) -> "CMMCorePlus":
    """Return a Micro-Manager core that drives a virtual microscope.

    Parameters
    ----------
    name
        The stand: ``widefield``, ``confocal_sted`` or ``tirf_sim``.
    seed
        Fixes the specimen, the imperfections' random parts and the noise of the n-th exposure.
    real_time
        Whether exposures and stage moves take their time; else an exposure costs its rendering only.
    camera_shape_yx
        Pixels of the camera; the stand's own by default.
    source
        What is drawn on the stage; the stand's own kind of cells by default.
    specimen
        What lies on the stage, where it is not drawn: a `Micrograph`, or your own on a grid of the stand's
        pitch. Overrides `source`.
    sensor
        The camera chip; overrides `camera_shape_yx`.
    replay
        So many frames of a sequence are rendered before it begins; then they come again and again, at exactly
        the exposure's pace, so that rendering leaves the cores alone. 0 renders every frame.
    departures
        The fields of `Imperfections` and of `Faults`, all zero by default but for those that the stand is
        known for (`Design.imperfections`).

    Raises
    ------
    WrongInputError
        There is no such stand, imperfection or fault, or seed or replay are negative.

    Examples
    --------
    >>> core = load("widefield", seed=7, parfocal_offset_um=3.0)
    >>> core.setConfig("Objective", "20X"); core.setConfig("Channel", "FITC")
    >>> core.snapImage(); image = core.getImage()
    """
    design = design_named(name)
    imperfections, faults = _departures(design, departures)
    chip = sensor or design.sensor.of_shape(camera_shape_yx)
    if min(seed, replay) < 0:
        raise WrongInputError(f"seed and replay must not be negative; got {seed} and {replay}")
    if isinstance(specimen, Micrograph):
        specimen = specimen.on_grid(design.pitch_um)
    drawn = specimen or DrawnSpecimen(source or design.specimen(seed), design.pitch_um)
    core = _VirtualCore(
        Stand(design, drawn, chip, imperfections, seed),
        FaultSchedule(faults, seed),
        real_time=real_time,
        replay=replay,
    )
    core.loadSystemConfiguration(Path(configs.__file__).with_name(design.cfg))
    core.install_camera()
    release_at_exit(core)
    return core


def from_choice(choice: "MicroscopeChoice") -> "CMMCorePlus":
    """Return the virtual microscope that an experiment file asks for; raises WrongInputError."""
    if choice.virtual is None:
        raise WrongInputError(f"the experiment asks for the microscope {choice.name}, not for a virtual one")
    chip = design_named(choice.virtual).sensor
    return load(
        choice.virtual,
        seed=choice.seed,
        real_time=choice.real_time,
        replay=choice.replay,
        sensor=replace(chip, shape_yx=choice.camera_shape_yx, pixel_um=choice.camera_pixel_um),
        **choice.imperfections,
    )


def stand_of(core: "CMMCorePlus") -> Stand:
    """Return the stand behind a core that `load` gave: the truth of every image that it takes."""
    return _virtual(core).stand


def faults_of(core: "CMMCorePlus") -> FaultSchedule:
    """Return which faults have happened so far to a core that `load` gave."""
    return _virtual(core).faults


def stand_time_s(core: "CMMCorePlus") -> float:
    """Return the time at the stand behind a core that `load` gave: the time that drift goes by."""
    return _virtual(core).stand_time_s


def _virtual(core: "CMMCorePlus") -> "_VirtualCore":
    if not isinstance(core, _VirtualCore):
        raise WrongInputError(
            f"{core!r} is no virtual microscope; only one that virtual.load gave knows a truth"
        )
    return core


def _departures(design: Design, given: dict[str, Any]) -> tuple[Imperfections, Faults]:
    """Return what is not ideal and what breaks; raises WrongInputError that names the first wrong one."""
    known = [*Imperfections.model_fields, *Faults.model_fields]
    for name in given:
        if name not in known:
            listed = ", ".join(known)
            msg = f"'{name}' is neither an imperfection nor a fault of the virtual stand; there is: {listed}"
            raise WrongInputError(msg)
    faults = {name: value for name, value in given.items() if name in Faults.model_fields}
    rest = {name: value for name, value in given.items() if name not in faults}
    imperfections = Imperfections.of(**{**design.imperfections, **rest})
    for channel in (*imperfections.lateral_chromatic_um, *imperfections.axial_chromatic_um):
        if channel not in design.channels:
            msg = f"chromatic shift of '{channel}': the stand's channels are {', '.join(design.channels)}"
            raise WrongInputError(msg)
    try:
        return imperfections, Faults(**faults)
    except ValidationError as error:
        first = error.errors()[0]
        msg = f"fault '{first['loc'][0]}': {first['msg']}; give a chance from 0 to 1, or a tuple of calls"
        raise WrongInputError(msg) from error


class _VirtualCore(UniMMCore):
    """A core that tells its camera of stops and moves, and whose devices can be made to fail."""

    def __init__(self, stand: Stand, faults: FaultSchedule, *, real_time: bool, replay: int) -> None:
        super().__init__()
        self.stand = stand
        self.faults = faults
        self._real_time = real_time
        self._replay = replay
        self._camera = self._fresh_camera()
        self._stage_hangs = False
        self._focus_lock = FocusLock(faults)

    def install_camera(self) -> None:
        """Put the rendering camera in the place of the configuration's."""
        self._camera.watch(self)
        self.loadPyDevice(_CAMERA, self._camera)
        self.initializeDevice(_CAMERA)
        self.setCameraDevice(_CAMERA)
        self.setCircularBufferMemoryFootprint(_SEQUENCE_BUFFER_MB)
        if not self._real_time:
            self.setProperty(self.getXYStageDevice(), "Velocity", _SIMULATED_STAGE_SPEED_UM_PER_MS)

    def unloadDevice(self, label: str) -> None:
        """Unload a device; of the camera, end what it does."""
        if label == _CAMERA:
            self._camera.stop()
        super().unloadDevice(label)

    def loadDevice(self, label: str, moduleName: str, deviceName: str) -> None:
        """Load a device; of the camera, a fresh one."""
        if label != _CAMERA:
            super().loadDevice(label, moduleName, deviceName)
            return
        self._camera = self._fresh_camera()
        self._camera.watch(self)
        self.loadPyDevice(label, self._camera)

    def _fresh_camera(self) -> VirtualCamera:
        return VirtualCamera(self.stand, self.faults, real_time=self._real_time, replay=self._replay)

    def enableContinuousFocus(self, status: bool) -> None:
        """Switch the hardware autofocus."""
        if status:
            self._focus_lock.switch_on(self.getPosition() - self._sample_um())
        else:
            self._focus_lock.switch_off()

    def isContinuousFocusEnabled(self) -> bool:
        """Say whether the hardware autofocus is on."""
        return self._focus_lock.on

    def isContinuousFocusLocked(self) -> bool:
        """Say whether the hardware autofocus holds the sample."""
        self._follow()
        return self._focus_lock.holds

    def _follow(self) -> None:
        """Let the hardware autofocus act."""
        if self._focus_lock.on and (wanted_um := self._focus_lock.wanted_um(self._sample_um())) is not None:
            self._send_drive(wanted_um)

    def _sample_um(self) -> float:
        objective = self.getStateLabel("Objective")
        named = next(name for name in self.stand.objectives if objective.startswith(name))
        x_um, y_um = self.getXYPosition()
        return self.stand.best_focus_um(named, (x_um, y_um), time_s=self.stand_time_s)

    @property
    def stand_time_s(self) -> float:
        """The stand's time, which drift goes by."""
        return self._camera.now_s()

    def stopSequenceAcquisition(self, cameraLabel: str | None = None) -> None:
        """Stop the camera, in mid-exposure if need be; upstream tells it after the exposure only."""
        self._camera.stop()
        if cameraLabel is None:
            super().stopSequenceAcquisition()
        else:
            super().stopSequenceAcquisition(cameraLabel)

    def isBufferOverflowed(self) -> bool:
        """Say whether frames were lost for want of room."""
        return self._camera.overflowed or super().isBufferOverflowed()

    def getImageBitDepth(self) -> int:
        """Return the bits of a count; upstream knows whole bytes only."""
        return self._camera.get_bit_depth()

    def setXYPosition(self, *args: Any) -> None:  # noqa: ANN401 - as upstream
        """Move the stage; the camera hears from where it arrives (backlash)."""
        *label, x_um, y_um = args
        from_x, from_y = self.getXYPosition()
        share = _SHARE_OF_A_LIE if self.faults.happens("stage_lies") else 1.0
        to_x, to_y = from_x + share * (float(x_um) - from_x), from_y + share * (float(y_um) - from_y)
        upwards_x, upwards_y = self._camera.upwards_xy
        self._camera.upwards_xy = (
            to_x > from_x if to_x != from_x else upwards_x,
            to_y > from_y if to_y != from_y else upwards_y,
        )
        self._stage_hangs = False
        super().setXYPosition(label[0] if label else self.getXYStageDevice(), to_x, to_y)
        self._stage_hangs = self.faults.happens("stage_times_out")
        self._focus_lock.jolt()
        self._camera.dark = self.faults.happens("shutter_sticks")

    def snapImage(self) -> None:
        """Expose once; raises RuntimeError in mid-sequence, as MMCore does."""
        self._refuse_in_sequence("snap")
        self._follow()
        self._current_image_buffer = None  # a snap that fails leaves no older image to be taken for its own
        self._camera.snapping = True
        try:
            super().snapImage()
        finally:
            self._camera.snapping = False

    def startSequenceAcquisition(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 - as upstream
        """Start a finite sequence; raises RuntimeError while another runs."""
        self._refuse_in_sequence("start a sequence")
        super().startSequenceAcquisition(*args, **kwargs)

    def startContinuousSequenceAcquisition(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 - as upstream
        """Start live mode; raises RuntimeError while a sequence runs."""
        self._refuse_in_sequence("start a sequence")
        super().startContinuousSequenceAcquisition(*args, **kwargs)

    def setROI(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 - as upstream
        """Set the region of interest; raises RuntimeError in mid-sequence."""
        self._refuse_in_sequence("set the region of interest")
        super().setROI(*args, **kwargs)

    def _refuse_in_sequence(self, what: str) -> None:
        if self.isSequenceRunning():
            raise RuntimeError(f"Camera: cannot {what} while a sequence is running; stop it first")

    def setRelativeXYPosition(self, *args: Any) -> None:  # noqa: ANN401 - as upstream
        """Move the stage by a distance."""
        *label, dx_um, dy_um = args
        x_um, y_um = self.getXYPosition()
        self.setXYPosition(*label, x_um + dx_um, y_um + dy_um)

    def setPosition(self, *args: Any) -> None:  # noqa: ANN401 - as upstream
        """Move the focus drive."""
        *label, position_um = args
        jump_um = _FOCUS_JUMP_UM if self.faults.happens("focus_jumps") else 0.0
        self._send_drive(float(position_um) + jump_um, *label)

    def _send_drive(self, position_um: float, *label: str) -> None:
        super().setPosition(label[0] if label else self.getFocusDevice(), position_um)

    def setRelativePosition(self, *args: Any) -> None:  # noqa: ANN401 - as upstream
        """Move the focus drive by a distance."""
        *label, distance_um = args
        self.setPosition(*label, self.getPosition(*label) + float(distance_um))

    def setConfig(self, groupName: str, configName: str) -> None:
        """Set a preset; a turret that sticks stays where it was."""
        turns = groupName == "Objective" and self.getCurrentConfig(groupName) != configName
        if not (turns and self.faults.happens("turret_sticks")):
            super().setConfig(groupName, configName)

    def setState(self, stateDeviceLabel: str, state: int) -> None:
        """Turn a wheel."""
        if not self._sticks(stateDeviceLabel, self.getState(stateDeviceLabel) != state):
            super().setState(stateDeviceLabel, state)

    def setStateLabel(self, stateDeviceLabel: str, stateLabel: str) -> None:
        """Turn a wheel to a label."""
        if not self._sticks(stateDeviceLabel, self.getStateLabel(stateDeviceLabel) != stateLabel):
            super().setStateLabel(stateDeviceLabel, stateLabel)

    def setProperty(self, label: str, propName: str, propValue: Any) -> None:  # noqa: ANN401 - as upstream
        """Set a property; the camera's format not in mid-sequence."""
        if label == _CAMERA and propName in ("Binning", "BitDepth"):
            self._refuse_in_sequence(f"set {propName}")
        turned = label == "Objective" and propName in ("Label", "State")
        if not (turned and self._sticks(label, self.getProperty(label, propName) != str(propValue))):
            super().setProperty(label, propName, propValue)

    def _sticks(self, wheel: str, turns: bool) -> bool:
        return wheel == "Objective" and turns and self.faults.happens("turret_sticks")

    def deviceBusy(self, label: str) -> bool:
        """Say whether a device is on its way; a stage that hangs always is."""
        return (self._stage_hangs and label == self.getXYStageDevice()) or super().deviceBusy(label)

    def systemBusy(self) -> bool:
        """Say whether any device is on its way."""
        return self._stage_hangs or super().systemBusy()

    def waitForDevice(self, label: str) -> None:
        """Wait for a device; raises RuntimeError, as MMCore does, for a stage that hangs."""
        if self._stage_hangs and label == self.getXYStageDevice():
            raise RuntimeError(f'Wait for device "{label}" timed out after {self.getTimeoutMs():.0f}ms')
        super().waitForDevice(label)

    def waitForDeviceType(self, devType: int) -> None:
        """Wait for all devices of a type."""
        if self._stage_hangs and devType in (DeviceType.AnyType, DeviceType.XYStage):
            self.waitForDevice(self.getXYStageDevice())
        super().waitForDeviceType(devType)
