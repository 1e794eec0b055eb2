"""A piece of memory that two processes of one machine both see: a file, mapped by both.

Owns where such files lie, how they are named, who may open them, and that none is left behind. The client
makes the file, the worker opens it by name. The name holds 128 random bits and the file belongs to its user
alone, so that whoever opens it has been told of it by a process of the same user. Knows no frames.
"""

import mmap
import os
import re
import secrets
import stat
import tempfile
from contextlib import suppress
from pathlib import Path

__all__ = ["ALIGNMENT", "NAME_PATTERN", "SharedFile", "SharedFileError"]

NAME_PATTERN = r"^sharpscope-[0-9]{1,10}-[0-9a-f]{32}$"
"""The number is the process of its maker, so that what a killed one left can be told and removed."""
ALIGNMENT = 64
"""Offsets are multiples of this, in bytes: a cache line, and more than any pixel."""
MOST_BYTES = 2 * 1024**3
PIECE = bytes(1024**2)


class SharedFileError(Exception):
    """Memory cannot be shared, and why; frames then travel over the socket."""


def folder() -> Path:
    """Return where shared files lie: in memory where the system has such a place."""
    memory = Path("/dev/shm")
    return memory if memory.is_dir() else Path(tempfile.gettempdir())


class SharedFile:
    """A mapped file; use `create` or `open`. Views keep the memory after `remove`."""

    def __init__(self, name: str, descriptor: int, size: int) -> None:
        self.name = name
        self.size = size
        self.view = memoryview(mmap.mmap(descriptor, size))
        """All the bytes."""

    @classmethod
    def create(cls, size: int) -> "SharedFile":
        """Make a file of zeros for this process and one other.

        Raises
        ------
        SharedFileError
            When there is no room for it. It is all taken now: a write to memory that a full disk does not
            have would end the process.
        """
        if not 0 < size <= MOST_BYTES:
            msg = f"{size} bytes are not shared; at most {MOST_BYTES} are"
            raise SharedFileError(msg)
        name = f"sharpscope-{os.getpid()}-{secrets.token_hex(16)}"
        path = folder() / name
        try:
            remove_left_behind()
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o600)
            try:
                for start in range(0, size, len(PIECE)):
                    part = PIECE[: min(len(PIECE), size - start)]
                    if os.write(descriptor, part) != len(part):
                        msg = f"{folder()} has no room for {size} bytes"
                        raise SharedFileError(msg)
                return cls(name, descriptor, size)
            except BaseException:
                with suppress(OSError):
                    path.unlink()
                raise
            finally:
                os.close(descriptor)
        except OSError as error:
            msg = f"{folder()} has no room for {size} bytes ({error})"
            raise SharedFileError(msg) from error

    @classmethod
    def open(cls, name: str, size: int) -> "SharedFile":
        """Open a file that another process of the same user made.

        Raises
        ------
        SharedFileError
            When it is not there, or not such a file of that size.
        """
        if not re.match(NAME_PATTERN, name):
            msg = "that is not the name of a shared file"
            raise SharedFileError(msg)
        flags = os.O_RDWR | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
        try:
            descriptor = os.open(folder() / name, flags)
            try:
                _check_owner(os.fstat(descriptor), size)
                return cls(name, descriptor, size)
            finally:
                os.close(descriptor)
        except (OSError, ValueError) as error:
            msg = f"the shared file cannot be opened ({error})"
            raise SharedFileError(msg) from error

    def part(self, offset: int, size: int) -> memoryview | None:
        """Return some of the bytes; None where they reach beyond the file."""
        return self.view[offset : offset + size] if 0 <= offset <= self.size - size else None

    def remove(self) -> None:
        """Delete the file; who has it open keeps the memory as long as it wants."""
        with suppress(OSError):  # gone already; on Windows, while the other still has it mapped
            (folder() / self.name).unlink()


def remove_left_behind() -> None:
    """Delete the files whose makers are gone, killed in mid-air."""
    for path in folder().glob("sharpscope-*-*"):
        if re.match(NAME_PATTERN, path.name) and not _is_alive(int(path.name.split("-")[1])):
            with suppress(OSError):
                path.unlink()


def _is_alive(process: int) -> bool:
    if os.name != "posix":
        return False  # Windows does not delete what is mapped: trying is harmless
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):  # no process has such a number
        return False
    except OSError:  # another user's
        return True
    return True


def _check_owner(status: os.stat_result, size: int) -> None:
    """Raise SharedFileError for what no process of this user made for this purpose.

    Its maker could still shorten it, which would end this process; so could a signal of the same user.
    """
    if not stat.S_ISREG(status.st_mode) or status.st_size != size or not 0 < size <= MOST_BYTES:
        msg = f"the shared file is not a file of {size} bytes"
        raise SharedFileError(msg)
    if os.name == "posix" and (status.st_uid != os.getuid() or status.st_mode & 0o077):
        msg = "the shared file is not this user's alone"
        raise SharedFileError(msg)
