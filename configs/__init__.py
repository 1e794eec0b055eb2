"""Ready-made experiment files, training presets and Micro-Manager configurations, found by bare name.

This package owns the lookup of a file by its name and nothing else: it imports no other room and knows
no format. A name comes in, a path goes out.
"""

from pathlib import Path

__all__ = ["find", "names"]

_FOLDER = Path(__file__).parent
_SUFFIXES = (".yaml", ".yml", ".cfg")


def find(name: str | Path, folder: str = "") -> Path:
    """Return the path of a configuration file.

    Parameters
    ----------
    name
        A path of one's own, which wins where it exists, or the bare name of a ready-made file, with or
        without its suffix (``virtual_widefield``, ``demo.cfg``).
    folder
        The subfolder of ``configs/`` in which bare names are looked up (``training``).

    Raises
    ------
    FileNotFoundError
        When there is neither; the message lists the ready-made names.
    """
    own = Path(name)
    if own.is_file():
        return own
    for suffix in ("", *_SUFFIXES):
        shipped = _FOLDER / folder / f"{name}{suffix}"
        if own.parent == Path() and shipped.is_file():
            return shipped
    ready_made = ", ".join(names(folder))
    msg = f"{name}: no such file, and no ready-made configuration of that name (there are: {ready_made})"
    raise FileNotFoundError(msg)


def names(folder: str = "") -> list[str]:
    """Return the bare names of the ready-made files of one folder, sorted."""
    return sorted(path.stem for path in (_FOLDER / folder).iterdir() if path.suffix in _SUFFIXES)
