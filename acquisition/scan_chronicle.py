"""What became of the fields of a scan so far: its journal's lines, taken one after the other.

Owns the account that a person at the microscope wants (done, flagged, holes, the field in work, the time
that is left by the time stamps). Knows no files and no plan: records come in, in the order of writing.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from statistics import median

from acquisition.manifest import (
    BeginRecord,
    ExtraLightRecord,
    FieldKey,
    FieldRecord,
    FocusRecord,
    HoleRecord,
    ImagingState,
    Record,
    ResumeRecord,
)

__all__ = ["ScanChronicle"]

_SETTLED_BY = ("field", "program")
"""Who enters the light of a take that gave no field: it was no better, or was interrupted."""
_LATEST = 20
"""Fields by whose durations the time left is told: a stage that has grown slow counts soon."""


@dataclass
class ScanChronicle:
    """The account of one scan folder."""

    fields: dict[FieldKey, FieldRecord] = field(default_factory=dict)
    """The last take of each committed field."""
    holes: dict[FieldKey, HoleRecord] = field(default_factory=dict)
    """Those that no field has filled."""
    planes: dict[FieldKey, FocusRecord] = field(default_factory=dict)
    """The latest autofocus of each field."""
    latest_plane: FocusRecord | None = None
    in_work: FieldKey | None = None
    """Where light is falling now, or was when the scan was interrupted."""
    started: datetime | None = None
    latest: datetime | None = None
    """Time stamp of the last line that has one."""
    durations_s: dict[ImagingState, list[float]] = field(default_factory=lambda: {"low": [], "high": []})
    _before: datetime | None = None
    """When the field before was committed, in this stretch of the scan."""

    def enter(self, record: Record) -> FieldKey | None:
        """Take one line into account; return the field that it concerns."""
        self._note_time(record)
        if isinstance(record, ResumeRecord):
            self._before = record.time
            return None
        if record.region is None or record.state is None or record.tile is None:
            return None
        key = (record.region, record.state, record.tile)
        if isinstance(record, BeginRecord):
            self.in_work = key
        elif isinstance(record, FocusRecord):
            self.planes[key] = self.latest_plane = record
        elif isinstance(record, FieldRecord):
            self._committed(key, record)
        elif isinstance(record, HoleRecord):
            if key not in self.fields:
                self.holes[key] = record
            self._settled(key)
        elif isinstance(record, ExtraLightRecord) and record.device in _SETTLED_BY:
            self._settled(key)
            self._before = record.time
        return key

    def left_s(self, left: Iterable[ImagingState]) -> float | None:
        """Return how long these fields will take, as the latest ones did; None before the first field."""
        typical = {state: median(times) for state, times in self.durations_s.items() if times}
        if not typical:
            return None
        any_state = max(typical.values())
        return sum(typical.get(state, any_state) for state in left)

    def _committed(self, key: FieldKey, record: FieldRecord) -> None:
        known = self.fields.get(key)
        self.fields[key] = record
        self.holes.pop(key, None)
        self._settled(key)
        if known is not None and known.file == record.file:
            return  # judged again; it was not taken again
        if self._before is not None:
            times = self.durations_s[record.state]
            times.append((record.time - self._before).total_seconds())
            del times[:-_LATEST]
        self._before = record.time

    def _settled(self, key: FieldKey) -> None:
        if self.in_work == key:
            self.in_work = None

    def _note_time(self, record: Record) -> None:
        if isinstance(record, BeginRecord | HoleRecord):
            return
        if self.started is None:
            self.started = self._before = record.time
        self.latest = max(self.latest or record.time, record.time)
