"""Seeing a training run learn: its history, its picture and its TensorBoard files, kept while it runs.

Owns `history.jsonl`, `progress.png` and `tensorboard/` of one run folder and their order on resume. Knows no
network and no schedule: the trainer says what was measured and when a picture is due. What a line says is
`training.run_history`'s, the look is `training.progress_picture`'s.
"""

import json
import os
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

from inference.journal import Journal, read_journal, write_atomic
from training.event_log import EventLog
from training.progress_picture import FixedField, progress_png

__all__ = ["HISTORY", "Monitor", "read_history", "trim_history"]

HISTORY, PICTURE, EVENTS = "history.jsonl", "progress.png", "tensorboard"
EVENT_PICTURE_PX = 320

FloatImage = np.ndarray[Any, np.dtype[np.float32]]


class Monitor:
    """What one run shows of itself; a context manager.

    Opened on a folder with a history, it goes on with its curves: call `trim_history` before.

    Parameters
    ----------
    folder
        The run folder, which is there.
    fixed
        One validation field, low and truth, each (Y, X) float32 on the 0 to 255 scale.
    tensorboard
        Write event files too.
    """

    def __init__(self, folder: Path, fixed: tuple[FloatImage, FloatImage], tensorboard: bool) -> None:
        self._folder = folder
        self._field = FixedField(*fixed)
        self._history: list[dict[str, float]] = read_history(folder)
        with ExitStack() as opened:
            self._journal = opened.enter_context(Journal(folder / HISTORY))
            last = int(self._history[-1]["iteration"]) if self._history else 0
            self._events = opened.enter_context(EventLog(folder / EVENTS, last)) if tensorboard else None
            self._opened = opened.pop_all()

    @property
    def history(self) -> list[dict[str, float]]:
        """All lines, those before a resume included."""
        return list(self._history)

    def record(self, line: dict[str, float]) -> None:
        """Append one line to the history; returns when it is on the disk.

        Takes about a millisecond, which is the fsync. A line no later than the last one means that the run
        was rolled back (the trainer trimmed the file then): what came after is forgotten.

        Parameters
        ----------
        line
            Finite numbers by name: `iteration`, `seconds`, the weighted terms of `GENERATOR_TERMS`,
            `discriminator`, `validation` and whatever else is worth a curve in TensorBoard.
        """
        if self._history and line["iteration"] <= self._history[-1]["iteration"]:
            self._go_back(line["iteration"])
        self._journal.append(line)
        self._history.append(line)
        if self._events is not None:
            self._events.scalars(line)

    def picture(self, iteration: int, output: FloatImage) -> None:
        """Draw `progress.png` anew, whole at every moment.

        Takes 0.3 to 0.6 s on two cores, the first time 1.5 s; twice a minute is plenty.

        Parameters
        ----------
        iteration
            Of the generator that made the output.
        output
            (Y, X) on the 0 to 255 scale: what it makes of the fixed field's low image.
        """
        png = progress_png(self._history, self._field, output, self._folder.resolve().name, iteration)
        write_atomic(self._folder / PICTURE, png)
        if self._events is not None:
            whole, detail = self._field.side_by_side(output, EVENT_PICTURE_PX)
            self._events.pictures(
                iteration, {"input-output-truth/field": whole, "input-output-truth/detail": detail}
            )

    def _go_back(self, iteration: float) -> None:
        self._history = [line for line in self._history if line["iteration"] < iteration]
        trim_history(self._folder, int(iteration) - 1)
        if self._events is not None:
            self._events.go_back(int(iteration) - 1)

    def close(self) -> None:
        """Close all files; a second call does nothing."""
        self._opened.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def read_history(folder: Path) -> list[dict[str, float]]:
    """Return the lines of a run folder's history, none where it has none."""
    return read_journal(folder / HISTORY)


def trim_history(folder: Path, iteration: int) -> None:
    """Drop what a run recorded after the checkpoint that it goes on from, so that nothing stands twice.

    Lines stand in the order of their iterations, so that what is dropped is the end of the file: it is cut
    off in one step, of which a kill leaves all or nothing, and which an open `Monitor` does not mind.
    """
    path = folder / HISTORY
    if not path.exists():
        return
    kept = 0
    with path.open("rb+") as stream:
        for raw in stream:
            if not raw.endswith(b"\n") or json.loads(raw)["iteration"] > iteration:
                break
            kept += len(raw)
        if kept < path.stat().st_size:
            stream.truncate(kept)
            os.fsync(stream.fileno())
