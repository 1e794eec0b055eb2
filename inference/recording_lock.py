"""The one writer of a recording: a lock in its folder, held while frames are written or images trimmed.

Readers take none. Knows nothing of what is written.
"""

from pathlib import Path

from filelock import FileLock

from inference.exclusive_lock import held_lock

__all__ = ["lock_recording"]

LOCK = ".lock"


def lock_recording(path: Path) -> FileLock:
    """Return a held lock on a recording's folder; any thread may release it.

    Raises
    ------
    WrongInputError
        Another process, or another recorder of this one, writes the recording.
    """
    return held_lock(path / LOCK, f"{path} is being written by another process; wait for it")
