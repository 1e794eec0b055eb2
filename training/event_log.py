"""A run's curves and pictures as TensorBoard reads them: event files in the run folder.

Owns the tags and how often a picture is kept. TensorBoard itself is the reader's to install; writing needs
tensorboardX alone (0.7 MB, no dependencies but ours). Knows no training.
"""

from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from training.run_history import GENERATOR_TERMS

if TYPE_CHECKING:
    from tensorboardX import SummaryWriter

__all__ = ["EventLog"]

LOSSES = ("validation", "discriminator")
FLUSH_S = 5
GROWTH_BETWEEN_PICTURES = 1.05
"""Pictures are kept at iterations that grow by this factor: about 140 from iteration 100 to 100,000."""


class EventLog:
    """Event files of one run; a context manager. Takes 1 to 2 s to open, the import of tensorboardX.

    Parameters
    ----------
    folder
        Of the event files; made when missing.
    resumed_at
        Iteration from which a run goes on, 0 for a new one: what earlier event files say of later iterations
        is hidden by TensorBoard.
    """

    def __init__(self, folder: Path, resumed_at: int) -> None:
        self._folder = folder
        self._writer = _open(folder, resumed_at)
        self._next_picture = 0.0

    def go_back(self, iteration: int) -> None:
        """Have TensorBoard forget what came after an iteration."""
        self._writer.close()
        self._writer = _open(self._folder, iteration)
        self._next_picture = min(self._next_picture, iteration)

    def scalars(self, line: dict[str, float]) -> None:
        """Write one line of a history."""
        iteration = int(line["iteration"])
        for name, value in line.items():
            if name != "iteration":
                self._writer.add_scalar(_tag(name), value, iteration)

    def pictures(self, iteration: int, images: dict[str, np.ndarray[Any, np.dtype[np.uint8]]]) -> None:
        """Write pictures (Y, X) by tag, where the iteration has grown enough since the last."""
        if iteration < self._next_picture:
            return
        self._next_picture = iteration * GROWTH_BETWEEN_PICTURES
        for name, image in images.items():
            self._writer.add_image(name, image, iteration, dataformats="HW")

    def close(self) -> None:
        """Write what is left and close the file."""
        self._writer.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _open(folder: Path, resumed_at: int) -> "SummaryWriter":
    from tensorboardX import SummaryWriter

    # Files of the same second would have the same name without a suffix, and TensorBoard reads them by name.
    suffix = f".{sum(1 for _ in folder.glob('events.*')):04d}"
    purge = resumed_at + 1 if resumed_at else None
    return SummaryWriter(str(folder), purge_step=purge, flush_secs=FLUSH_S, filename_suffix=suffix)


def _tag(name: str) -> str:
    """Return where TensorBoard shows a quantity: generator terms together, the rest by itself."""
    group = "generator" if name in GENERATOR_TERMS else "loss" if name in LOSSES else "run"
    return f"{group}/{name}"
