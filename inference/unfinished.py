"""An enhanced image that is being made: the folder beside the result that survives a kill.

A folder ``NAME.unfinished`` beside the result ``NAME`` holds::

    plan.json        what is made of what (Undertaking), and what was decided before the first chunk
    journal.jsonl    one fsynced line for each chunk that is on the disk
    image            the OME-Zarr image; it becomes the result when its last chunk is there

What the journal does not name is done again, with the same bytes. Owns the order of these writes, and who may
go on with what. Knows no model and no pixels.
"""

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

from pydantic import BaseModel, ValidationError

from configs.document import WrongInputError
from inference.bulk_result import FORMAT
from inference.chunk_plan import Piece
from inference.exclusive_lock import held_lock, lock_file_of
from inference.journal import Journal, read_journal, write_atomic

__all__ = ["ChannelLight", "Decision", "Ledger", "Undertaking", "Unfinished"]

PLAN, JOURNAL, IMAGE, REPLACED = "plan.json", "journal.jsonl", "image", "replaced"


class Undertaking(BaseModel, frozen=True, extra="forbid"):
    """What is made of what; only the same is gone on with."""

    model_sha256: str
    source_sha256: str
    pixel_size_um: float | None
    device: str
    allow_out_of_domain: bool
    chunk_px: int

    def differs_from(self, other: "Undertaking") -> list[str]:
        """Return the names of what differs."""
        ours, theirs = self.model_dump(), other.model_dump()
        return [name for name, value in ours.items() if theirs[name] != value]


class ChannelLight(BaseModel, frozen=True, extra="forbid"):
    """A channel's map between counts and the network's scale, fixed for the whole series."""

    background: float
    scale: float
    foreign: bool
    """Found from its first plane, since that lies outside the model's domain."""
    bright_counts: float
    """Greatest 99.9th percentile of its planes."""


class Decision(BaseModel, frozen=True, extra="forbid"):
    """What was decided on the whole series before its first chunk."""

    out_of_domain: tuple[str, ...]
    channels: tuple[ChannelLight, ...]
    warnings: tuple[str, ...] = ()
    """What no training frame was like, in the middle of each plane."""


class _Plan(BaseModel, frozen=True, extra="forbid"):
    version: int = 1
    undertaking: Undertaking
    decision: Decision


class Unfinished:
    """The folder of an unfinished image."""

    def __init__(self, output: Path) -> None:
        self.output = output
        self.folder = output.with_name(f"{output.name}.unfinished")

    @property
    def image(self) -> Path:
        """Where the image grows."""
        return self.folder / IMAGE

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Keep every other process of this machine from making the same image while the block runs.

        Raises
        ------
        WrongInputError
            One is at it.
        """
        msg = f"{self.output}: another sharpscope is making it; wait for it, or give another name"
        lock = held_lock(lock_file_of("output", self.output), msg)
        try:
            yield
        finally:
            lock.release()

    def check_free(self, *, overwrite: bool) -> None:
        """Refuse to write over anything but an enhanced image that may be replaced: not over raw data."""
        if not self.output.exists():
            return
        if (self.folder / PLAN).exists() and not self.image.exists():
            shutil.rmtree(self.folder)  # killed when the image had just become the result
        try:
            document = json.loads((self.output / "zarr.json").read_text(encoding="utf-8"))
            ours = document["attributes"]["sharpscope"]["format"] == FORMAT
        except (OSError, ValueError, KeyError, TypeError):
            ours = False
        if not ours:
            msg = f"{self.output} is there already and is no enhanced image; give another name"
            raise WrongInputError(msg)
        if not overwrite:
            msg = f"{self.output} is there already; give another name, or --overwrite"
            raise WrongInputError(msg)

    def decision(self, undertaking: Undertaking, *, overwrite: bool) -> Decision | None:
        """Return what was decided when this same undertaking was begun; None when it must begin.

        Raises
        ------
        WrongInputError
            Something else lies unfinished there, and `overwrite` is not set.
        """
        if not (self.folder / PLAN).exists():
            return None
        try:
            plan = _Plan.model_validate_json((self.folder / PLAN).read_bytes())
            differing = undertaking.differs_from(plan.undertaking)
        except ValidationError:
            plan, differing = None, ["version"]
        if plan and not differing and self.image.is_dir():
            self._clear_locks()
            return plan.decision
        if overwrite or (plan and not self.image.is_dir()):
            return None
        msg = (
            f"{self.folder} is an unfinished image of another undertaking ({', '.join(differing)} differ); "
            "finish it with the command that began it, give another name, or begin anew with --overwrite"
        )
        raise WrongInputError(msg)

    @contextmanager
    def begun(self) -> Iterator[None]:
        """Clear the folder for the image that the block creates; it counts when `commit` was called."""
        (self.folder / PLAN).unlink(missing_ok=True)  # first: what is half deleted is nothing to go on with
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        try:
            yield
        except BaseException:
            if not (self.folder / PLAN).exists():
                shutil.rmtree(self.folder, ignore_errors=True)
            raise

    def commit(self, undertaking: Undertaking, decision: Decision) -> None:
        """Say that the empty image is there and may be gone on with."""
        plan = _Plan(undertaking=undertaking, decision=decision)
        write_atomic(self.folder / PLAN, plan.model_dump_json(indent=2))

    def _clear_locks(self) -> None:
        """Remove the files that chunks were being written to; what is written next would not shorten them."""
        for lock in self.image.rglob("*.__lock"):
            lock.unlink(missing_ok=True)

    def seal(self) -> None:
        """Turn the image into the result; at any moment one of the two, old or new, is whole."""
        if self.output.exists():
            self.output.replace(self.folder / REPLACED)
        self.image.replace(self.output)
        shutil.rmtree(self.folder)


class Ledger:
    """Which pieces of which task are done, and what they found; `note` returns when it is on the disk."""

    def __init__(self, folder: Path) -> None:
        self._found: dict[tuple[str, Piece], tuple[float, ...]] = {
            (str(line["task"]), Piece.of_line(line)): tuple(line.get("found", ()))
            for line in read_journal(folder / JOURNAL)
        }
        self._journal = Journal(folder / JOURNAL)

    def found(self, task: str, piece: Piece) -> tuple[float, ...] | None:
        """Return what a piece found, None when it is not done."""
        return self._found.get((task, piece))

    def note(self, task: str, piece: Piece, found: tuple[float, ...]) -> None:
        """Write that a piece is done; raises OSError (a full disk)."""
        self._journal.append({"task": task, **piece.line(), **({"found": found} if found else {})})
        self._found[task, piece] = found

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._journal.close()
