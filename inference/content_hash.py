"""Names what a file or a folder holds by its SHA-256, read in pieces. Knows no format."""

import hashlib
from pathlib import Path

__all__ = ["file_sha256", "folder_sha256"]


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def folder_sha256(folder: Path) -> str:
    """Return one SHA-256 for all files below a folder: of their names in order, each with its own hash."""
    whole = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        whole.update(f"{path.relative_to(folder).as_posix()}\n{file_sha256(path)}\n".encode())
    return whole.hexdigest()
