"""The folder of a result (a pair set, a stitched area): it appears whole or not at all.

Owns the temporary folder beside the result and the last rename. Knows nothing of what is written.
"""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from configs.document import WrongInputError

__all__ = ["check_free", "replacing"]


def check_free(out: Path, overwrite: bool) -> None:
    """Refuse to write over anything but a pair set that may be replaced."""
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return
    if not (out / "pairs.json").is_file():
        msg = f"{out} exists and is not a pair set; give another folder"
        raise WrongInputError(msg)
    if not overwrite:
        msg = f"{out} already holds a pair set; give another folder, or replace it with --overwrite"
        raise WrongInputError(msg)


@contextmanager
def replacing(out: Path) -> Iterator[Path]:
    """Give a folder beside `out` that takes its place when the block ends without an error."""
    out.parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=f".{out.name}.", suffix=".partial", dir=out.parent))
    try:
        (folder / "staged").mkdir()
        yield folder
        shutil.rmtree(folder / "staged")
        folder.chmod(0o755)  # mkdtemp keeps others out
        if out.exists():
            shutil.rmtree(out)
        folder.replace(out)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
