"""The page's own files, as the package brings them: a table, so that no path is ever put together.

Found as package resources, wherever the package is installed. Knows no HTTP but the types of the files.
"""

from collections.abc import Iterator
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import PurePosixPath
from typing import Self

__all__ = ["MEDIA_TYPES", "PageFiles"]

MEDIA_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".svg": "image/svg+xml",
    ".png": "image/png",
    ".ico": "image/x-icon",
}
"""Stated here: what a system's registry says of .js differs, and a module of another type is not run."""


class PageFiles:
    """The files below `static/` that were there at the start, by their names with forward slashes."""

    def __init__(self, files: dict[str, Traversable]) -> None:
        self._files = files

    @classmethod
    def of_package(cls) -> Self:
        """Find them."""
        return cls(dict(_below(resources.files("inference.viewer") / "static", "")))

    def read(self, name: str) -> tuple[bytes, str]:
        """Return a file's content and its media type; raises KeyError when there is no such file."""
        return self._files[name].read_bytes(), MEDIA_TYPES[PurePosixPath(name).suffix]


def _below(folder: Traversable, before: str) -> Iterator[tuple[str, Traversable]]:
    for entry in folder.iterdir():
        if entry.is_dir():
            yield from _below(entry, f"{before}{entry.name}/")
        elif PurePosixPath(entry.name).suffix in MEDIA_TYPES:
            yield before + entry.name, entry
