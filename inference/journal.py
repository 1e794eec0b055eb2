"""Files that are whole or absent, and journals that survive a kill.

Owns the order of writes that makes a result safe: temporary file in the same folder, flush, fsync,
rename, fsync of the folder; and the append-only journal of JSON lines, each fsynced before anybody is
told that the thing it speaks of exists. Knows nothing of what is written. All rooms use it (decision
record 0002).
"""

import errno
import json
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

__all__ = ["Journal", "atomic_path", "read_journal", "write_atomic"]


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Give a temporary path that becomes `path` when the block ends without an error.

    The temporary file lies in the same folder, so that the rename is atomic; it is removed when the block
    fails, so that a full disk leaves no half file behind.
    """
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.partial")
    try:
        yield temporary
        with temporary.open("rb+") as stream:
            os.fsync(stream.fileno())
        temporary.replace(path)
    except BaseException:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise
    _sync_folder(path.parent)


def write_atomic(path: Path, content: str | bytes) -> None:
    """Write a whole file so that a reader sees the old content or the new, never a part."""
    raw = content.encode() if isinstance(content, str) else content
    with atomic_path(path) as temporary:
        temporary.write_bytes(raw)


def _sync_folder(folder: Path) -> None:
    """Make a rename durable. Windows has no such call and orders its own metadata."""
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class Journal:
    """An append-only file of JSON lines; `append` returns only when the line is on the disk.

    A torn last line (a kill in mid-write) is cut off on opening, so that the next line starts clean.
    """

    def __init__(self, path: Path) -> None:
        existed = path.exists()
        self._stream = path.open("ab", buffering=0)  # a buffer would keep what a full disk refused
        try:
            if existed:
                self._stream.truncate(_whole_length(path))
            else:
                _sync_folder(path.parent)
        except BaseException:
            self._stream.close()
            raise

    def append(self, line: dict[str, Any], *, sync: bool = True) -> None:
        """Append one line and fsync it; raises OSError (a full disk), the file then being as it was.

        Parameters
        ----------
        sync
            False leaves the fsync to `sync`, which one thread may wait for while another one appends.
        """
        raw = json.dumps(line, allow_nan=False, separators=(",", ":")).encode() + b"\n"
        start = self._stream.tell()
        try:
            if self._stream.write(raw) != len(raw):  # what a nearly full disk does
                raise OSError(errno.ENOSPC, "no room for a whole line", self._stream.name)
            if sync:
                self.sync()
        except OSError:
            self._stream.truncate(start)
            raise

    def sync(self) -> None:
        """Return when all that was appended so far is on the disk; raises OSError."""
        os.fsync(self._stream.fileno())

    def close(self) -> None:
        """Close the file; a second call does nothing."""
        self._stream.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def read_journal(path: Path) -> list[dict[str, Any]]:
    """Return the whole lines of a journal; a torn last line does not exist, a missing file has none."""
    if not path.exists():
        return []
    raw = path.read_bytes()
    whole = raw[: raw.rfind(b"\n") + 1]
    return [json.loads(line) for line in whole.splitlines() if line]


def _whole_length(path: Path) -> int:
    return path.read_bytes().rfind(b"\n") + 1
