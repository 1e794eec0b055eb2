"""Where a scan goes: regions as a grid, a polygon, a list, wells of a plate, or somebody's useq sequence.

Owns the `area` of an experiment file. A region is one low field of view and the high tiles inside it; its
centre is the stage position that both imaging states share. Knows no pixels and no devices.
"""

from pathlib import Path
from typing import Self

import numpy as np
import useq
import yaml
from pydantic import BaseModel, Field, ValidationError, model_validator

from acquisition.position_list import read_positions
from configs.document import WrongInputError

__all__ = ["Area", "HighTiles", "Outline", "RegionGrid", "StageWindow", "serpentine", "with_files_read"]


class _Model(BaseModel, frozen=True, extra="forbid", allow_inf_nan=False):
    """A part of the file; an unknown key is an error."""


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
    wells: useq.WellPlatePlan | None = None
    """Of a plate: `plate` (``96-well``), `a1_center_xy`, `selected_wells`, `rotation`, `well_points_plan`."""
    positions_file: Path | None = None
    """A Micro-Manager position list (`.pos`); `with_files_read` reads it into `positions`."""
    sequence_file: Path | None = None
    """A `useq.MDASequence` as YAML or JSON, whose stage positions and grids become `positions` likewise."""
    high_tiles: HighTiles = HighTiles()

    @model_validator(mode="after")
    def _one_of_them(self) -> Self:
        names = ("regions", "positions", "outline", "wells", "positions_file", "sequence_file")
        if sum(bool(getattr(self, name)) for name in names) != 1:
            msg = f"give exactly one of {', '.join(names)}"
            raise ValueError(msg)
        return self

    def centres_um(self) -> list[tuple[float, float]]:
        """Return the regions' centres in the order of visiting."""
        if self.positions:
            return list(self.positions)
        if self.wells is not None:
            return [_xy(position) for position in self.wells.image_positions]
        shape = self.outline or self.regions
        return shape.positions_um() if shape else []


def with_files_read(area: Area, folder: Path) -> Area:
    """Return an area with the list that it names read into `positions`.

    Parameters
    ----------
    folder
        In which relative paths are looked up.

    Raises
    ------
    WrongInputError
        The list is missing, is none, or holds no absolute position.
    """
    named = area.positions_file or area.sequence_file
    if named is None:
        return area
    path = named if named.is_absolute() else folder / named
    positions = read_positions(path) if area.positions_file else _positions_of_sequence(path)
    return area.model_copy(update={"positions": positions, "positions_file": None, "sequence_file": None})


def _positions_of_sequence(path: Path) -> list[tuple[float, float]]:
    """Return every place that a useq sequence visits, once each, in its order."""
    try:
        sequence = useq.MDASequence.from_file(path)
        visited = [_xy(event) for event in sequence]
    except FileNotFoundError as error:
        raise WrongInputError(f"{path}: no such sequence file") from error
    except ValidationError as error:
        reason = error.errors()[0]["msg"]
        raise WrongInputError(f"{path}: not a useq.MDASequence ({reason})") from error
    except (OSError, ValueError, TypeError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())
        msg = f"{path}: not a useq.MDASequence with absolute stage positions ({reason})"
        raise WrongInputError(msg) from error
    if not visited:
        raise WrongInputError(f"{path}: the sequence visits no place")
    return list(dict.fromkeys(visited))


def _xy(place: useq.Position | useq.MDAEvent) -> tuple[float, float]:
    x_um, y_um = (place.x_pos, place.y_pos) if isinstance(place, useq.MDAEvent) else (place.x, place.y)
    if x_um is None or y_um is None:
        raise ValueError("a stage position without x and y")
    return (x_um, y_um)


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
