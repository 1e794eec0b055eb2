"""The panel of a scan folder, finished or still being written: what the page shows of it.

Owns the JSON of progress, stage map, focus curves and fields, and which picture has which name. Follows the
journal, so that a look costs what is new; pictures are made when they are asked for. Writes nothing, and
needs no microscope. Satisfies `inference.viewer.panel.Panel`.
"""

from datetime import datetime
from pathlib import Path
from threading import RLock
from typing import Any, get_args

import tifffile
from pydantic import ValidationError

from acquisition.manifest import (
    JOURNAL,
    FieldKey,
    FieldRecord,
    FocusRecord,
    ImagingState,
    ScanFolder,
)
from acquisition.planned_fields import PlannedFields, frame_shape_of_plan, outline_um, planned_fields
from acquisition.scan_chronicle import ScanChronicle
from acquisition.scan_records import read_record
from inference.journal_follower import JournalFollower
from inference.viewer.kept import Kept
from inference.viewer.thumbnail import KEPT_BYTES, grey_png

__all__ = ["ScanPanel"]

STATES: tuple[ImagingState, ...] = get_args(ImagingState)
PICTURE_PX = {"small": 160, "large": 512}
"""Longer side of a field's pictures, by the end of their names."""


class ScanPanel:
    """A scan folder on the page; safe for several threads.

    Parameters
    ----------
    folder
        That `sharpscope scan` wrote or is writing; raises WrongInputError when it is none.
    name
        In the URL, where a page has several of the kind.
    """

    def __init__(self, folder: Path, name: str = "scan") -> None:
        self.name = name
        self._folder = ScanFolder.open(folder)
        called = folder.absolute().name
        self.title = "Scan" if called == "scan" else f"Scan {called}"
        self._journal = JournalFollower(folder / JOURNAL)
        self._lock = RLock()
        self._cache: Kept[bytes] = Kept(KEPT_BYTES)
        self._shape_yx = frame_shape_of_plan(self._folder.manifest)
        self._planned = planned_fields(self._folder.manifest, self._shape_yx)
        self._shape_is_seen = False
        self._begin()

    def version(self) -> str:
        """Return what changes with every line of the journal."""
        with self._lock:
            self._follow()
            return f"{self._folder.manifest.run_id[:8]}.{self._journal.mark}"

    def content(self) -> dict[str, Any]:
        """Return the whole panel as JSON; `kind` is "scan", lengths are um, times ISO 8601."""
        with self._lock:
            self._follow()
            fields = self._fields()
            manifest = self._folder.manifest
            return {
                "kind": "scan",
                "folder": self._folder.path.absolute().name,
                "microscope": manifest.microscope,
                "channels": [channel.name for channel in manifest.channels],
                "objectives": {state: manifest.objectives[state].name for state in STATES},
                "progress": self._progress(fields),
                "outlines_um": self._outlines(),
                "y_downwards": manifest.objectives["low"].pixel_size_affine[4] > 0,
                "next": self._next(),
                "latest_focus": _name(self._latest_plane()),
                "fields": fields,
            }

    def picture(self, name: str) -> bytes:
        """Return a field's channel as PNG; KeyError where the scan has none of that name."""
        with self._lock:
            self._follow()
            field, channel, longest_px = self._pictures[name]
        return self._cache.get(name, lambda: self._thumbnail(name, field, channel, longest_px))

    # ---- following -----------------------------------------------------------------------------------

    def _begin(self) -> None:
        self._chronicle = ScanChronicle()
        self._known: dict[FieldKey, dict[str, Any]] = {}
        self._pictures: dict[str, tuple[FieldRecord, int, int]] = {}
        self._foreign = 0

    def _follow(self) -> None:
        news = self._journal.news()
        if news.from_start:
            self._begin()
        for line in news.lines:
            try:
                record = read_record(line)
            except ValidationError:  # of another version, or damaged
                self._foreign += 1
                continue
            key = self._chronicle.enter(record)
            if key is not None:
                self._known.pop(key, None)
            if isinstance(record, FieldRecord):
                self._name_pictures(record)
        if not self._shape_is_seen and self._chronicle.fields:
            self._see_shape(next(iter(self._chronicle.fields.values())))

    def _see_shape(self, field: FieldRecord) -> None:
        """Take the size of a frame from the first field: a real camera's stands nowhere else."""
        try:
            with tifffile.TiffFile(self._folder.path / field.file) as tiff:
                height, width = tiff.pages.first.shape[-2:]
        except (OSError, ValueError, IndexError):  # moved away; the plan's is kept
            return
        self._shape_is_seen = True
        if self._shape_yx != (height, width):
            self._shape_yx = (height, width)
            self._planned = planned_fields(self._folder.manifest, self._shape_yx)
            self._known.clear()

    # ---- what is shown -------------------------------------------------------------------------------

    def _fields(self) -> list[dict[str, Any]]:
        """Return every field that is planned or in the journal; only those of new lines are made anew."""
        chronicle = self._chronicle
        offset_xy_um = self._high_offset_um(self._planned)
        told = {**chronicle.planes, **chronicle.holes, **chronicle.fields}
        fields = []
        for key in dict.fromkeys([*self._planned.places_um, *told]):
            if key in told and key not in self._known:
                self._known[key] = self._told(key)
            place = self._planned.places_um.get(key)
            fields.append(self._known.get(key) or _planned(key, place, offset_xy_um))
        return fields

    def _told(self, key: FieldKey) -> dict[str, Any]:
        """Return what is known of a field that the journal speaks of."""
        chronicle = self._chronicle
        plane = chronicle.planes.get(key)
        facts = _planned(key, self._planned.places_um.get(key), (0.0, 0.0))
        if plane is not None:
            facts["focus"] = _focus(plane)
            if plane.stage_x_um is not None and plane.stage_y_um is not None:
                facts |= {"x_um": round(plane.stage_x_um, 3), "y_um": round(plane.stage_y_um, 3)}
        if (field := chronicle.fields.get(key)) is not None:
            return facts | self._committed(field)
        if (hole := chronicle.holes.get(key)) is not None:
            return facts | {"status": "hole", "reason": hole.reason}
        return facts

    def _committed(self, field: FieldRecord) -> dict[str, Any]:
        """Return what a committed field adds."""
        quality = field.quality
        registration = quality.registration if quality is not None else None
        return {
            "status": "flagged" if field.flags else "done",
            "x_um": round(field.stage_x_um, 3),
            "y_um": round(field.stage_y_um, 3),
            "focus_um": round(field.focus_um, 3),
            "take": field.take,
            "time": _iso(field.time),
            "flags": field.flags,
            "file": field.file,
            "pictures": self._picture_names(field),
            "sharpness": _rounded(quality.sharpness_ratio) if quality is not None else None,
            "saturated": max(quality.saturated_fraction, default=0.0) if quality is not None else None,
            "correlation": _rounded(registration.correlation) if registration is not None else None,
        }

    def _picture_names(self, field: FieldRecord) -> list[str]:
        """Return what a field's pictures are called, by channel, without their sizes."""
        channels = range(len(self._folder.manifest.channels))
        return [f"{_name(field)}_take{field.take}_channel{channel}" for channel in channels]

    def _name_pictures(self, field: FieldRecord) -> None:
        for channel, name in enumerate(self._picture_names(field)):
            for size, longest_px in PICTURE_PX.items():
                self._pictures[f"{name}_{size}"] = (field, channel, longest_px)

    def _progress(self, fields: list[dict[str, Any]]) -> dict[str, Any]:
        chronicle = self._chronicle
        counts = dict.fromkeys(("planned", "done", "flagged", "hole"), 0)
        for field in fields:
            counts[field["status"]] += 1
        left = [field["state"] for field in fields if field["status"] == "planned"]
        left_s = chronicle.left_s(left)
        durations = [time for times in chronicle.durations_s.values() for time in times]
        return {
            "planned": len(self._planned.places_um) or None,
            "done": counts["done"] + counts["flagged"],
            "flagged": counts["flagged"],
            "holes": counts["hole"],
            "left": counts["planned"],
            "left_s": round(left_s, 1) if left_s is not None else None,
            "longest_field_s": round(max(durations), 1) if durations else None,
            "started": _iso(chronicle.started),
            "latest": _iso(chronicle.latest),
            "plan_unknown_because": self._planned.unknown_because,
            "unreadable_lines": self._journal.unreadable + self._foreign,
        }

    def _next(self) -> str | None:
        """Return the field in work, else the first that is neither taken nor given up."""
        chronicle = self._chronicle
        if chronicle.in_work is not None:
            return _name(chronicle.in_work)
        settled = chronicle.fields.keys() | chronicle.holes.keys()
        left = (key for key in self._planned.places_um if key not in settled)
        return _name(next(left, None))

    def _latest_plane(self) -> FocusRecord | None:
        """Return the latest autofocus that has a curve, else the latest."""
        with_curve = (plane for plane in reversed(self._chronicle.planes.values()) if plane.curve)
        latest = self._chronicle.latest_plane
        return latest if latest is None or latest.curve else next(with_curve, latest)

    def _high_offset_um(self, planned: PlannedFields) -> tuple[float, float]:
        """Return how far high fields lie from where the plan says: a calibration that the plan only names."""
        for key, field in reversed(self._chronicle.fields.items()):
            if key[1] == "high" and key in planned.places_um:
                x_um, y_um = planned.places_um[key]
                return (field.stage_x_um - x_um, field.stage_y_um - y_um)
        return (0.0, 0.0)

    def _outlines(self) -> dict[str, list[tuple[float, float]]] | None:
        if self._shape_yx is None:
            return None
        return {state: outline_um(self._folder.manifest, state, self._shape_yx) for state in STATES}

    def _thumbnail(self, name: str, field: FieldRecord, channel: int, longest_px: int) -> bytes:
        if Path(field.file).name != field.file:  # somebody's journal that points out of its folder
            raise KeyError(f"{name}: {field.file} lies outside the scan folder")
        try:
            return grey_png(self._folder.read_field(field)[channel], longest_px)
        except (OSError, ValueError, IndexError) as error:
            raise KeyError(f"{name}: {field.file} cannot be read ({error})") from error


def _planned(
    key: FieldKey, place_um: tuple[float, float] | None, offset_xy_um: tuple[float, float]
) -> dict[str, Any]:
    region, state, tile = key
    off_x_um, off_y_um = offset_xy_um if state == "high" else (0.0, 0.0)
    return {
        "key": _name(key),
        "region": region,
        "state": state,
        "tile": tile,
        "status": "planned",
        "x_um": None if place_um is None else round(place_um[0] + off_x_um, 3),
        "y_um": None if place_um is None else round(place_um[1] + off_y_um, 3),
    }


def _focus(plane: FocusRecord) -> dict[str, Any]:
    """Return an autofocus; its curve by position, as two lists."""
    curve = sorted(plane.curve)
    return {
        "succeeded": plane.succeeded,
        "method": plane.method,
        "reason": plane.reason,
        "plane_um": _rounded(plane.focus_um),
        "found_um": _rounded(plane.found_um),
        "expected_um": _rounded(plane.expected_um),
        "uncertainty_um": _rounded(plane.expected_uncertainty_um),
        "light_ms": round(plane.light_ms, 1),
        "time": _iso(plane.time),
        "positions_um": [round(position, 3) for position, _ in curve],
        "scores": [float(f"{score:.4g}") for _, score in curve],
    }


def _name(field: FieldKey | FieldRecord | FocusRecord | None) -> str | None:
    """Return what a field is called in the panel, as its file is."""
    if field is None:
        return None
    region, state, tile = field if isinstance(field, tuple) else (field.region, field.state, field.tile)
    return f"region{region:04d}_{state}_tile{tile:02d}"


def _iso(time: datetime | None) -> str | None:
    return None if time is None else time.isoformat(timespec="milliseconds")


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 3)
