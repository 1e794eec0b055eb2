"""Exclusive locks: one controller a microscope, one writer a scan folder.

Owns where the locks lie. The operating system lets go of them when a process ends, however it ends.
"""

import hashlib
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from configs.document import WrongInputError

__all__ = ["lock_folder", "lock_microscope"]


def lock_microscope(cfg: Path) -> FileLock:
    """Return a held lock on the microscope of a configuration; one process may take it more than once.

    Raises
    ------
    WrongInputError
        Another program drives it.
    """
    digest = hashlib.sha256(str(cfg.resolve()).encode()).hexdigest()[:16]
    path = Path(tempfile.gettempdir()) / f"sharpscope-microscope-{digest}.lock"
    msg = f"{cfg}: another sharpscope drives this microscope; end it first"
    return _held(path, msg, singleton=True)


@contextmanager
def lock_folder(folder: Path) -> Iterator[None]:
    """Hold a scan folder while the block runs.

    Raises
    ------
    WrongInputError
        Somebody else writes to it.
    """
    lock = _held(folder / ".lock", f"{folder}: another scan writes to this folder; end it first")
    try:
        yield
    finally:
        lock.release()


def _held(path: Path, complaint: str, *, singleton: bool = False) -> FileLock:
    lock = FileLock(path, timeout=0, mode=0o666, is_singleton=singleton)
    try:
        lock.acquire()
    except Timeout as error:
        raise WrongInputError(complaint) from error
    return lock
