"""Which panels a folder gives the viewer: a scan, a pair set, a training run, or a demo with all of them.

Owns the recognition of a folder by the file that makes it what it is. Knows nothing of what is shown.
"""

from pathlib import Path
from typing import TYPE_CHECKING

from configs.document import WrongInputError

if TYPE_CHECKING:
    from inference.viewer.panel import Panel

__all__ = ["kind_of", "panels_of"]

_KINDS = {"manifest.json": "scan", "pairs.json": "pairs", "training.json": "training"}
"""The file that makes a folder what it is."""


def kind_of(folder: Path) -> str | None:
    """Return "scan", "pairs" or "training", None where a folder is none of them."""
    return next((kind for file, kind in _KINDS.items() if (folder / file).is_file()), None)


def panels_of(folder: Path) -> "tuple[Panel, ...]":
    """Return a panel for what the folder is, or one for each such folder directly below it.

    Raises
    ------
    WrongInputError
        There is no such folder, it holds nothing to show, or what it holds is of another version.
    """
    if not folder.is_dir():
        raise WrongInputError(f"{folder} is not a folder; give a scan folder, a pair set or a training run")
    if (kind := kind_of(folder)) is not None:
        return (_panel(kind, folder, kind),)
    found = [(kind, child) for child in sorted(folder.iterdir()) if (kind := _kind_below(child)) is not None]
    if not found:
        files = ", ".join(_KINDS)
        msg = (
            f"{folder} holds nothing to show (none of {files}, here or one folder below); give a scan "
            "folder, a pair set, a training run, or the output folder of 'sharpscope demo'"
        )
        raise WrongInputError(msg)
    panels = []
    for kind in _KINDS.values():
        folders = [child for of_kind, child in found if of_kind == kind]
        for number, child in enumerate(folders, start=1):
            panels.append(_panel(kind, child, kind if number == 1 else f"{kind}-{number}"))
    return tuple(panels)


def _kind_below(child: Path) -> str | None:
    """Return what a folder inside is; a hidden one is somebody's unfinished work."""
    return None if child.name.startswith(".") else kind_of(child)


def _panel(kind: str, folder: Path, name: str) -> "Panel":
    if kind == "scan":
        from acquisition.scan_panel import ScanPanel

        return ScanPanel(folder, name)
    if kind == "pairs":
        from training.pairing.pairs_panel import PairsPanel

        return PairsPanel(folder, name)
    from training.run_panel import TrainingPanel

    return TrainingPanel(folder, name)
