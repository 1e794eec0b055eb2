"""What an experiment file says: microscope, imaging states, channels, focus, area, time-lapse.

Owns the format of an EXPERIMENT.yaml. Knows no devices and makes no sequences (`acquisition.sequences` does):
a file comes in, frozen models go out.
"""

from pathlib import Path
from typing import Annotated, Any, Literal, Self

import numpy as np
from pydantic import BaseModel, Field, model_validator

from acquisition.manifest import ImagingState
from acquisition.position_list import read_positions
from configs.document import read_yaml

__all__ = [
    "Area",
    "ChannelSettings",
    "Experiment",
    "FocusPlan",
    "MicroscopeChoice",
    "Outline",
    "StageWindow",
    "StateSettings",
    "TimeLapse",
    "load_experiment",
    "serpentine",
]

_PositiveRanges = dict[ImagingState, Annotated[float, Field(gt=0)]]


class _Model(BaseModel, frozen=True, extra="forbid"):
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
    pixel_size_um: float = Field(gt=0)
    focus_window_um: tuple[float, float]
    """Where the focus drive may go with this objective, absolute; every move is checked against it."""

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
    withdraw_um: float
    """Where the focus drive stands while the objective turns; inside both windows."""
    search_range_um: _PositiveRanges = {"low": 25.0, "high": 25.0}
    """Half range of a search that knows little."""
    track_range_um: _PositiveRanges = {"low": 6.0, "high": 3.0}
    """Half range where a neighbour's plane is known."""
    roi_px: int = Field(default=512, ge=32)
    """Side of the middle of the camera that focus exposures read."""
    exposures: int = Field(default=12, ge=5)
    """An autofocus is given as much light as the field's images take, divided among so many exposures; most
    need no more than that."""


class RegionGrid(_Model):
    """Regions on a rectangular grid."""

    rows: int = Field(ge=1)
    columns: int = Field(ge=1)
    spacing_um: float = Field(gt=0)
    centre_xy_um: tuple[float, float] = (0.0, 0.0)

    def positions_um(self) -> list[tuple[float, float]]:
        """Return the centres in the order of visiting: to and fro, so that the stage never goes far."""
        return serpentine(self.rows, self.columns, (self.spacing_um, self.spacing_um), self.centre_xy_um)


class Outline(_Model):
    """Regions wherever their centre lies inside a polygon; four corners make a rectangle."""

    corners_um: list[tuple[float, float]] = Field(min_length=3)
    """(x, y) of the polygon's corners, in either sense of turning."""
    spacing_um: float = Field(gt=0)

    @model_validator(mode="after")
    def _holds_a_region(self) -> Self:
        if not self.positions_um():
            msg = f"no region fits: the outline is narrower than spacing_um ({self.spacing_um:g}) everywhere"
            raise ValueError(msg)
        return self

    def positions_um(self) -> list[tuple[float, float]]:
        """Return the centres inside, in the order of visiting: to and fro."""
        from skimage.measure import points_in_poly  # takes a while to import

        low, high = np.min(self.corners_um, axis=0), np.max(self.corners_um, axis=0)
        columns, rows = (max(1, int(side // self.spacing_um)) for side in high - low)
        centre_x_um, centre_y_um = (float(middle) for middle in (low + high) / 2)
        nodes = serpentine(rows, columns, (self.spacing_um, self.spacing_um), (centre_x_um, centre_y_um))
        inside = points_in_poly(nodes, self.corners_um)
        return [node for node, within in zip(nodes, inside, strict=True) if within]


class StageWindow(_Model):
    """Where the stage may go, absolute."""

    x_um: tuple[float, float]
    y_um: tuple[float, float]

    @model_validator(mode="after")
    def _ascends(self) -> Self:
        for name, (low, high) in (("x_um", self.x_um), ("y_um", self.y_um)):
            if not low < high:
                raise ValueError(f"stage_window_um.{name} must be [lower, upper]; got [{low:g}, {high:g}]")
        return self


class HighTiles(_Model):
    """The high fields that cover one region."""

    rows: int = Field(default=2, ge=1)
    columns: int = Field(default=2, ge=1)
    overlap: float = Field(default=0.1, ge=0, lt=0.9)


class Area(_Model):
    """Where the scan goes. A region is one low field and the high tiles inside it."""

    regions: RegionGrid | None = None
    positions: list[tuple[float, float]] | None = None
    outline: Outline | None = None
    positions_file: Path | None = None
    """A Micro-Manager position list (`.pos`); `load_experiment` reads it into `positions`."""
    high_tiles: HighTiles = HighTiles()

    @model_validator(mode="after")
    def _one_of_them(self) -> Self:
        given = [self.regions, self.positions, self.outline, self.positions_file]
        if sum(bool(one) for one in given) != 1:
            msg = (
                "give exactly one of 'regions' (rows, columns, spacing_um), 'positions', "
                "'outline' (corners_um, spacing_um) and 'positions_file'"
            )
            raise ValueError(msg)
        return self

    def centres_um(self) -> list[tuple[float, float]]:
        """Return the regions' centres in the order of visiting."""
        if self.positions:
            return list(self.positions)
        shape = self.outline or self.regions
        return shape.positions_um() if shape else []


class TimeLapse(_Model):
    """A series of frames at one place."""

    frames: int = Field(ge=1)
    interval_s: float = Field(ge=0)
    state: ImagingState = "low"
    channel: str


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

    @model_validator(mode="after")
    def _names_agree(self) -> Self:
        if set(self.states) != {"low", "high"}:
            raise ValueError("states must be exactly 'low' and 'high'")
        names = [channel.name for channel in self.channels]
        if len(set(names)) < len(names):
            raise ValueError(f"channels: names must differ; got {names}")
        asked = [self.focus.channel] + ([self.time_lapse.channel] if self.time_lapse else [])
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
    area = experiment.area
    if area is None or area.positions_file is None:
        return experiment
    listed = area.positions_file
    path = listed if listed.is_absolute() else Path(name).parent / listed
    known = area.model_copy(update={"positions": read_positions(path), "positions_file": None})
    return experiment.model_copy(update={"area": known})


def serpentine(
    rows: int, columns: int, step_xy_um: tuple[float, float], centre_xy_um: tuple[float, float]
) -> list[tuple[float, float]]:
    """Return the nodes of a grid around a centre, (x, y), row by row, every second row backwards."""
    nodes = []
    for row in range(rows):
        along = range(columns) if row % 2 == 0 else reversed(range(columns))
        for column in along:
            x_um = centre_xy_um[0] + (column - (columns - 1) / 2) * step_xy_um[0]
            y_um = centre_xy_um[1] + (row - (rows - 1) / 2) * step_xy_um[1]
            nodes.append((x_um, y_um))
    return nodes
