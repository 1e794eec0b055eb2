"""Exclusive locks: one controller a microscope, one writer a scan folder.

Owns where the locks lie.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock

from inference.exclusive_lock import held_lock, lock_file_of

__all__ = ["lock_folder", "lock_microscope"]


def lock_microscope(cfg: Path) -> FileLock:
    """Return a held lock on the microscope of a configuration; one process may take it more than once.

    Raises
    ------
    WrongInputError
        Another program drives it.
    """
    msg = f"{cfg}: another sharpscope drives this microscope; end it first"
    return held_lock(lock_file_of("microscope", cfg), msg, singleton=True)


@contextmanager
def lock_folder(folder: Path) -> Iterator[None]:
    """Hold a scan folder while the block runs.

    Raises
    ------
    WrongInputError
        Somebody else writes to it.
    """
    lock = held_lock(folder / ".lock", f"{folder}: another scan writes to this folder; end it first")
    try:
        yield
    finally:
        lock.release()
