"""Follows a journal that another process may still be writing, without reading it anew each time.

Owns the place up to which a journal was read. Whole lines only: a torn last line does not exist yet. A
journal that was cut or replaced (a training run that was rolled back, a folder that was written over) is read
again from its start. Knows nothing of what the lines say.
"""

import json
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["JournalFollower", "News"]


@dataclass(frozen=True, slots=True)
class News:
    """What a journal holds that was not told before."""

    lines: list[dict[str, Any]]
    from_start: bool
    """Whether the lines replace all that were told before."""


class JournalFollower:
    """Reads what was appended to a journal since the last look.

    Parameters
    ----------
    path
        Of the journal, which need not exist yet.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = 0
        self._last = b""
        self._restarts = 0
        self.unreadable = 0
        """Whole lines that are no JSON object: the file was damaged by somebody."""

    @property
    def mark(self) -> str:
        """Something short that differs when the content does."""
        return f"{self._restarts}.{self._offset}.{zlib.crc32(self._last):08x}"

    def news(self) -> News:
        """Return the whole lines since the last call; a missing file has none."""
        raw = self._read_on()
        from_start = raw is None
        if raw is None:
            self._restarts += 1
            self._offset, self._last, self.unreadable = 0, b"", 0
            raw = self._read_on() or b""
        whole = raw[: raw.rfind(b"\n") + 1]
        if whole:
            self._offset += len(whole)
            self._last = whole[whole.rfind(b"\n", 0, -1) + 1 :]
        return News([line for part in whole.splitlines() if (line := self._parsed(part))], from_start)

    def _read_on(self) -> bytes | None:
        """Return what follows what was read; None where that does not stand there any more."""
        try:
            with self._path.open("rb") as stream:
                stream.seek(self._offset - len(self._last))
                if stream.read(len(self._last)) != self._last:
                    return None
                return stream.read()
        except FileNotFoundError:
            return None if self._offset else b""

    def _parsed(self, raw: bytes) -> dict[str, Any] | None:
        if not raw.strip():
            return None
        try:
            line = json.loads(raw)
        except ValueError:
            line = None
        if isinstance(line, dict):
            return line
        self.unreadable += 1
        return None
