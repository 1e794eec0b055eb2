"""The one writer of a recording: a lock in its folder, held while frames are written or images trimmed.

The operating system lets go of it when a process ends, however it ends. Readers take none. Knows nothing of
what is written.
"""

from pathlib import Path

from filelock import FileLock, Timeout

from configs.document import WrongInputError

__all__ = ["lock_recording"]

LOCK = ".lock"


def lock_recording(path: Path) -> FileLock:
    """Return a held lock on a recording's folder; any thread may release it.

    Raises
    ------
    WrongInputError
        Another process, or another recorder of this one, writes the recording.
    """
    lock = FileLock(path / LOCK, timeout=0, mode=0o666, thread_local=False)
    try:
        lock.acquire()
    except Timeout as error:
        msg = f"{path} is being written by another process; wait for it"
        raise WrongInputError(msg) from error
    return lock
