"""Serves a model that was replaced on disk, while frames go on: the new one is loaded beside the old.

Owns the look at the files, which are those that the operator named, and the rule that a package that cannot
be loaded changes nothing. The file is to be replaced by a rename, as training does. Knows no worker and no
network: engines are loaded and swapped by what is handed in.
"""

import logging
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Generic, Self, TypeVar

from inference.engine_like import EngineLike

__all__ = ["ModelWatch"]

logger = logging.getLogger(__name__)

INTERVAL_S = 1.0
Loaded = TypeVar("Loaded", bound=EngineLike)
Stamp = tuple[int, int, int]


class ModelWatch(Generic[Loaded]):
    """Looks after model packages until it is closed.

    Parameters
    ----------
    paths
        Of the packages, files or folders; loaded now.
    load
        Loads a package. What it raises later is logged, and the old model goes on.
    """

    def __init__(
        self, paths: Sequence[Path], load: Callable[[Path], Loaded], interval_s: float = INTERVAL_S
    ) -> None:
        # Stamped first: what is replaced while it is loaded is loaded again.
        self._watched = {path: (_stamp(path), load(path)) for path in paths}
        self._load = load
        self._interval_s = interval_s
        self._closed = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def engines(self) -> list[Loaded]:
        """The engines of now, in the order of the packages."""
        return [engine for _, engine in self._watched.values()]

    def start(self, swap: Callable[[EngineLike, EngineLike], None]) -> None:
        """Begin to look; `swap` is called with the old and the new engine, in a thread of the watch."""
        # A daemon: a package that takes minutes to load must not keep the process from ending.
        self._thread = threading.Thread(target=self._run, args=(swap,), name="sharpscope-models", daemon=True)
        self._thread.start()

    def close(self, timeout_s: float = 1.0) -> None:
        """Look no more."""
        self._closed.set()
        if self._thread is not None:
            self._thread.join(timeout_s)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _run(self, swap: Callable[[EngineLike, EngineLike], None]) -> None:
        while not self._closed.wait(self._interval_s):
            for path, (before, engine) in list(self._watched.items()):
                now = _stamp(path)
                if now is not None and now != before:
                    self._watched[path] = (now, self._swapped(path, engine, swap))

    def _swapped(self, path: Path, old: Loaded, swap: Callable[[EngineLike, EngineLike], None]) -> Loaded:
        try:
            new = self._load(path)
        except Exception as error:  # whatever is wrong with the new package, the old model serves
            logger.error("%s was replaced and cannot be loaded (%s); %s serves on", path, error, old.name)
            return old
        if new.model_hash == old.model_hash:
            return old
        swap(old, new)
        logger.info("%s (%s) serves instead of %s", new.name, new.model_hash[:12], old.model_hash[:12])
        return new


def _stamp(path: Path) -> Stamp | None:
    """Return what changes when a package is replaced; None while there is none."""
    try:
        status = (path / "rdf.yaml" if path.is_dir() else path).stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino
