"""What `sharpscope view` shows: a worker's stream, a recording, scan, pair set, run, or a demo's folder.

Owns the recognition of a target, and where its frames and its tabs come from. Knows no page and no server:
`inference.viewer` has them.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Self

from configs.document import WrongInputError
from inference.recovery import HEADER

if TYPE_CHECKING:
    import socket

    from inference.viewer.controls import Controls
    from inference.viewer.panel import Panel
    from inference.viewer.server import ViewerServer
    from inference.viewer.source import Source

__all__ = ["Doorway", "Shown", "open_viewer", "recording_in", "shown"]


@dataclass(frozen=True, slots=True)
class Doorway:
    """Where browsers find the page."""

    host: str = "127.0.0.1"
    """Beyond loopback a token is needed, and made."""
    port: int = 8765
    """0 takes a free one."""
    token: str | None = field(default=None, repr=False)

    @classmethod
    def of(cls, host: str, port: int, token_file: Path | None) -> Self:
        """Read the token of a file; raises WrongInputError when there is none in it."""
        if token_file is None:
            return cls(host, port)
        try:
            return cls(host, port, token_file.read_text(encoding="utf-8").strip())
        except (OSError, UnicodeDecodeError) as error:
            raise WrongInputError(f"{token_file}: no token can be read there ({error})") from error


@dataclass(frozen=True, slots=True)
class Shown:
    """What the page shows."""

    source: "Source"
    panels: "tuple[Panel, ...]" = ()


@contextmanager
def shown(target: str, keys: Path | None = None) -> Iterator[Shown]:
    """Open what a target names while the block runs.

    Parameters
    ----------
    target
        A folder, or the address of a worker.
    keys
        The client's key folder, for a worker beyond this machine.

    Raises
    ------
    WrongInputError
        It is nothing that can be shown.
    """
    with ExitStack() as stack:
        if "://" in target:
            from inference.worker_source import WorkerSource

            yield Shown(stack.enter_context(WorkerSource(target, keys)))
            return
        folder = Path(target)
        recording = recording_in(folder)
        if recording is None:
            yield Shown(_no_frames(folder), _panels_of(folder))
            return
        from inference.viewer.recording_source import RecordingSource

        source = stack.enter_context(RecordingSource(recording))
        yield Shown(source, () if recording == folder else _panels_of(folder))


def recording_in(folder: Path) -> Path | None:
    """Return the recording that a folder is, or the only one directly below it; None without one."""
    if (folder / HEADER).is_file():
        return folder
    found = sorted(child.parent for child in folder.glob(f"*/{HEADER}"))
    if len(found) > 1:
        names = ", ".join(path.name for path in found)
        msg = f"{folder} holds {len(found)} recordings ({names}); give one of them"
        raise WrongInputError(msg)
    return found[0] if found else None


def _panels_of(folder: Path) -> "tuple[Panel, ...]":
    from sharpscope.panels import panels_of

    return panels_of(folder)


def _no_frames(folder: Path) -> "Source":
    """Return a source of nothing, where there are tabs alone."""
    from inference.viewer.screen import Screen
    from inference.viewer.source import SourceStatus

    return Screen(folder.resolve().name, status=lambda: SourceStatus(live=False, state="no frames here"))


def open_viewer(
    doorway: Doorway, what: Shown, controls: "Controls | None" = None, door: "socket.socket | None" = None
) -> "ViewerServer":
    """Serve the page until it is closed; a context manager.

    Parameters
    ----------
    door
        A socket that listens already.
    """
    from inference.viewer.export_routes import export_routes
    from inference.viewer.server import ViewerServer

    return ViewerServer(
        what.source, controls, what.panels, doorway.host, doorway.port, doorway.token,
        routes=export_routes(what.source), door=door,
    )  # fmt: skip
