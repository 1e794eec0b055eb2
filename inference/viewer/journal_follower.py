"""Reads a journal while somebody writes it: each look costs what is new, not what is there.

Owns the place up to which the journal was read. A torn last line waits until it is whole. A writer may take
back its last line (a disk that refused the fsync): the last bytes read are compared at each look, and when
they are gone the journal is read anew. Knows no recorder, no images and no threads; the caller locks.
"""

from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from configs.document import WrongInputError
from inference.recording_lines import JournalLine, parse_json_line

__all__ = ["JournalFollower", "JournalNews"]

LARGEST_LOOK_BYTES = 1 << 20
"""Read at once: a long journal comes in several looks, so that its lines need not be in memory together."""


@dataclass(frozen=True, slots=True)
class JournalNews:
    """What a look found; there may be more while it finds anything."""

    lines: tuple[JournalLine, ...]
    anew: bool = False
    """What was told before is void: these lines are the journal's first."""


class JournalFollower:
    """The lines of one journal, each told once."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = 0
        self._last_line = b""

    def look(self) -> JournalNews:
        """Return whole lines since the last look; none when there is nothing new, or no journal yet.

        Raises
        ------
        WrongInputError
            When a whole line is not one of a recording's journal.
        """
        found = self._new_bytes()
        anew = found is None
        if found is None:
            self._offset, self._last_line = 0, b""
            found = self._new_bytes() or b""
        raw = found.splitlines(keepends=True)
        lines = tuple(self._parse(line) for line in raw if line.strip())
        self._offset += len(found)
        self._last_line = raw[-1] if raw else self._last_line
        return JournalNews(lines, anew)

    def _new_bytes(self) -> bytes | None:
        """Return whole lines that were not read yet, or None when what was read is no longer there."""
        start = self._offset - len(self._last_line)
        try:
            with self._path.open("rb") as journal:
                journal.seek(start)
                found = journal.read(len(self._last_line) + LARGEST_LOOK_BYTES)
        except FileNotFoundError:
            return None if self._offset else b""
        if not found.startswith(self._last_line):
            return None
        return found[len(self._last_line) : found.rfind(b"\n") + 1]

    def _parse(self, raw: bytes) -> JournalLine:
        try:
            return parse_json_line(raw)
        except ValidationError as error:
            msg = f"{self._path} is not a journal of version 1: {error.errors()[0]['msg']}"
            raise WrongInputError(msg) from error
