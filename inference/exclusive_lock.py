"""A lock of the operating system that one program holds, and that goes with the process, however it ends.

Owns how it is taken and the error of whoever comes second. Where a lock lies and what it keeps apart is for
those to say who take it.
"""

import hashlib
import tempfile
from pathlib import Path

from filelock import FileLock, Timeout

from configs.document import WrongInputError

__all__ = ["held_lock", "lock_file_of"]


def held_lock(path: Path, complaint: str, *, singleton: bool = False) -> FileLock:
    """Return a held lock; any thread may release it.

    Parameters
    ----------
    path
        Of the lock's own file.
    complaint
        The error's message where somebody else holds it.
    singleton
        One process may take it more than once.

    Raises
    ------
    WrongInputError
        Somebody else holds it.
    """
    lock = FileLock(path, timeout=0, mode=0o666, is_singleton=singleton, thread_local=False)
    try:
        lock.acquire()
    except Timeout as error:
        raise WrongInputError(complaint) from error
    return lock


def lock_file_of(kind: str, path: Path) -> Path:
    """Return where the lock of a path lies that shall have no file of ours beside it: on this machine."""
    digest = hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:16]
    return Path(tempfile.gettempdir()) / f"sharpscope-{kind}-{digest}.lock"
