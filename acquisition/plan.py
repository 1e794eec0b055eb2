"""What an experiment file says: microscope, imaging states, channels, focus, limits, time-lapse.

Owns the format of an EXPERIMENT.yaml. Knows no devices and makes no sequences (`acquisition.sequences` does):
a file comes in, frozen models go out.
"""

from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, Field, model_validator

from acquisition.area import Area, StageWindow, with_files_read
from acquisition.manifest import ImagingState
from configs.document import WrongInputError, read_yaml

__all__ = [
    "ChannelSettings",
    "Experiment",
    "FocusPlan",
    "MicroscopeChoice",
    "MotionRules",
    "NamedPosition",
    "QualityLimits",
    "StateSettings",
    "TimeLapse",
    "load_experiment",
]

_PositiveRanges = dict[ImagingState, Annotated[float, Field(gt=0)]]


class _Model(BaseModel, frozen=True, extra="forbid", allow_inf_nan=False):
    """A part of the file; an unknown key is an error."""


class MicroscopeChoice(_Model):
    """Which microscope: a Micro-Manager configuration, or a virtual stand."""

    cfg: str | None = None
    """Path or bare name of a `.cfg`."""
    virtual: str | None = None
    """Name of a virtual stand, such as ``widefield``."""
    seed: int = Field(default=7, ge=0)
    """Of the virtual stand's specimen."""
    imperfections: dict[str, Any] = {}
    """Of the virtual stand, which checks them."""
    camera_shape_yx: tuple[int, int] = (512, 512)
    """Of the virtual stand's camera."""
    real_time: bool = False
    """Whether the virtual stand takes its time."""
    replay: int = Field(default=0, ge=0)
    """Frames of a sequence that the virtual stand renders before it begins and then replays at the camera's
    pace; 0 renders every frame."""
    camera_pixel_um: float = Field(default=6.5, gt=0)

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        if (self.cfg is None) == (self.virtual is None):
            msg = "name either a Micro-Manager 'cfg' or a 'virtual' stand, not both and not neither"
            raise ValueError(msg)
        return self

    @property
    def name(self) -> str:
        """How a manifest names the microscope."""
        return f"virtual {self.virtual}" if self.virtual else str(self.cfg)


class StateSettings(_Model):
    """An imaging state: what brings the microscope into it, and what it then is."""

    presets: dict[str, str]
    """Config groups and their presets, set in this order (``Objective: 10X``)."""
    objective: str
    magnification: float = Field(gt=0)
    numerical_aperture: float = Field(gt=0, lt=1.7)
    immersion: str = "air"
    pixel_size_um: float | None = Field(default=None, gt=0)
    """None takes what the microscope's `.cfg` says of the objective; one that contradicts it is refused."""
    focus_window_um: tuple[float, float]
    """Where the focus drive may go with this objective, absolute; every move is checked against it."""

    @property
    def pixel_um(self) -> float:
        """The pixel size, once it is settled (`acquisition.preparation`)."""
        if self.pixel_size_um is None:
            raise WrongInputError(f"no pixel size is known for {self.objective}; give pixel_size_um")
        return self.pixel_size_um

    @model_validator(mode="after")
    def _window_ascends(self) -> Self:
        if not self.focus_window_um[0] < self.focus_window_um[1]:
            msg = f"focus_window_um must be [lower, upper]; got {list(self.focus_window_um)}"
            raise ValueError(msg)
        return self


class ChannelSettings(_Model):
    """A fluorescence channel."""

    name: str
    group: str = "Channel"
    preset: str | None = None
    """In the config group; the channel's name where it is left out."""
    emission_nm: float = Field(gt=200, lt=2000)
    exposure_ms: dict[ImagingState, Annotated[float, Field(gt=0)]]

    @property
    def config(self) -> str:
        """The preset in the config group."""
        return self.preset or self.name


class FocusPlan(_Model):
    """How the plane of best focus is found at every stage position."""

    channel: str
    start_um: float
    """Where the low objective's first search begins."""
    parfocal_offset_um: float = 0.0
    """The high objective's best focus minus the low one's, as far as it is known."""
    parfocal_uncertainty_um: float | None = Field(default=None, gt=0)
    """Its standard deviation; None where the first high field is searched as widely as the first low one."""
    withdraw_um: float
    """Where the focus drive stands while the objective turns; inside both windows."""
    search_range_um: _PositiveRanges = {"low": 25.0, "high": 25.0}
    """Half range of a search where the focus map knows nothing yet."""
    track_range_um: _PositiveRanges = {"low": 6.0, "high": 3.0}
    """Half range of a search where the plane is roughly known, in a calibration."""
    roi_px: int = Field(default=512, ge=32)
    """Side of the middle of the camera that focus exposures read."""
    exposures: int = Field(default=12, ge=5)
    """An autofocus is given as much light as the field's images take, divided among so many exposures; most
    need no more than that."""
    method: Literal["software", "hardware"] = "software"
    """``hardware`` holds the plane that was found at the first field with the core's autofocus device."""
    every_field: bool = False
    """Whether fields are focused whose plane the focus map knows to a tenth of the depth of field."""
    largest_correction_um: float = Field(default=40.0, gt=0)
    """A plane that lies farther from where the focus map expects it is not believed."""
    towards_sample: Literal[-1, 1] | None = None
    """Whether larger positions of the drive bring the objective nearer (1) or take it away (-1); None asks
    the `.cfg` (FocusDirection)."""


class MotionRules(_Model):
    """What devices are allowed."""

    stage_s: float = Field(default=30.0, gt=0)
    """How long a move of the stage may take."""
    focus_s: float = Field(default=15.0, gt=0)
    """How long a move of the focus drive, or a lock of the hardware autofocus, may take."""
    turret_s: float = Field(default=40.0, gt=0)
    """How long a change of presets may take: objective, filters."""
    camera_s: float = Field(default=20.0, gt=0)
    """How long an exposure may take beyond its own time."""
    withdraw_beyond_um: float = Field(default=3000.0, gt=0)
    """A move of the stage that is longer is made with the focus drive withdrawn."""
    approach_um: float = Field(default=0.0, ge=0)
    """A plane that lies farther from the sample than the drive does is first passed by so much, so that every
    plane is reached towards the sample; for a drive with backlash."""
    failed_fields: int = Field(default=5, ge=1)
    """So many fields in a row that a device fails end the scan: the device is gone, not unlucky."""


class QualityLimits(_Model):
    """What a field must be, or it is taken again, and flagged if that does not help."""

    saturated_fraction: float = Field(default=0.002, ge=0, le=1)
    """Of a channel's pixels."""
    least_sharpness: float = Field(default=0.5, ge=0, lt=1)
    """Sharpness of the image in the focus channel over that of the focus curve's best."""
    largest_shift_um: float = Field(default=20.0, gt=0)
    """By which a high tile may lie elsewhere in the low field than the stage says."""
    least_correlation: float = Field(default=0.4, ge=0, lt=1)
    """Between a high tile and its place in the low field, where there is structure."""
    least_overlap: float = Field(default=0.7, ge=0, le=1)
    """Fraction of a high tile that its low field must cover."""
    takes: int = Field(default=2, ge=1)
    """How often a field is taken at most, holes included."""


class NamedPosition(_Model):
    """A place that a time-lapse visits."""

    name: str
    """Stands with each of its frames."""
    xy_um: tuple[float, float]
    """Stage position."""


class TimeLapse(_Model):
    """A series of frames at one place, or at several in turn."""

    frames: int = Field(ge=1)
    """Of each channel at each place."""
    interval_s: float = Field(ge=0)
    """0 is as fast as it goes: with one channel, one place and focus not kept, at the camera's own pace, by
    hardware-sequenced acquisition."""
    state: ImagingState = "low"
    channel: str | tuple[str, ...]
    """One, or several that are taken one after the other."""
    positions: tuple[NamedPosition, ...] = ()
    """None stays where the stage is."""
    keep_focus: bool = False
    """Whether each visit is brought into focus, as the focus plan says; with several places it always is."""

    @property
    def channels(self) -> tuple[str, ...]:
        """The names of the channels."""
        return (self.channel,) if isinstance(self.channel, str) else self.channel

    @property
    def focused(self) -> bool:
        """Whether each visit is brought into focus."""
        return self.keep_focus or bool(self.positions)

    @model_validator(mode="after")
    def _names_differ(self) -> Self:
        for what, names in (("channel", self.channels), ("positions", [p.name for p in self.positions])):
            if len(set(names)) < len(names) or (what == "channel" and not names):
                raise ValueError(f"time_lapse.{what}: names must differ; got {list(names)}")
        return self


class Experiment(_Model):
    """An experiment file."""

    microscope: MicroscopeChoice
    states: dict[ImagingState, StateSettings]
    channels: list[ChannelSettings] = Field(min_length=1)
    focus: FocusPlan
    area: Area | None = None
    stage_window_um: StageWindow | None = None
    """A plan with a stage position outside is refused."""
    objective_change: Literal["per_scan", "per_region"] = "per_scan"
    """Whether all low fields come first, or each region is finished before the next."""
    time_lapse: TimeLapse | None = None
    motion: MotionRules = MotionRules()
    quality: QualityLimits = QualityLimits()
    calibration: Path | None = None
    """What `sharpscope calibrate` wrote; relative to the experiment file."""

    @model_validator(mode="after")
    def _names_agree(self) -> Self:
        if set(self.states) != {"low", "high"}:
            raise ValueError("states must be exactly 'low' and 'high'")
        names = [channel.name for channel in self.channels]
        if len(set(names)) < len(names):
            raise ValueError(f"channels: names must differ; got {names}")
        asked = [self.focus.channel] + (list(self.time_lapse.channels) if self.time_lapse else [])
        for name in asked:
            if name not in names:
                raise ValueError(f"channel '{name}' is not among the channels: {', '.join(names)}")
        for channel in self.channels:
            if set(channel.exposure_ms) != {"low", "high"}:
                raise ValueError(f"channel '{channel.name}': exposure_ms needs both 'low' and 'high'")
        return self

    @model_validator(mode="after")
    def _focus_moves_allowed(self) -> Self:
        starts = {"low": self.focus.start_um, "high": self.focus.start_um + self.focus.parfocal_offset_um}
        for state, settings in self.states.items():
            low, high = settings.focus_window_um
            for what, position in (("withdraw_um", self.focus.withdraw_um), ("start_um", starts[state])):
                if not low <= position <= high:
                    window = f"focus_window_um of '{state}' ({low:g} to {high:g})"
                    msg = f"focus.{what} (here {position:g}) lies outside {window}"
                    raise ValueError(msg)
        return self

    def channel(self, name: str) -> ChannelSettings:
        """Return a channel by name."""
        return next(channel for channel in self.channels if channel.name == name)


def load_experiment(name: str | Path) -> Experiment:
    """Return an experiment from a path or the bare name of a ready-made file; raises WrongInputError.

    A position list that it names is read now, so that the experiment holds what will be visited.
    """
    experiment = read_yaml(name, Experiment)
    folder = Path(name).parent
    changed: dict[str, Any] = {}
    if experiment.area is not None:
        changed["area"] = with_files_read(experiment.area, folder)
    if experiment.calibration is not None:
        changed["calibration"] = folder / experiment.calibration
    return experiment.model_copy(update=changed)
