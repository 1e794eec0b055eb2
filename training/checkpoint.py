"""Checkpoints: everything a run needs to go on, in one file that is whole or absent, and the one before it.

A checkpoint is a safetensors file; its header carries the scalars as JSON (counters, running means). One
file, renamed into place, cannot be half new and half old; where the newest is damaged all the same (a disk
that lied), the one before is taken. Knows nothing of networks or losses.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor
from torch.optim import Optimizer

from configs.document import WrongInputError
from inference.journal import atomic_path

__all__ = [
    "Checkpoint",
    "DamagedCheckpointError",
    "newest_checkpoint",
    "optimizer_tensors",
    "read_checkpoint",
    "restore_optimizer",
    "write_checkpoint",
    "write_tensors",
]

NEWEST, BEFORE = "checkpoint.safetensors", "checkpoint-before.safetensors"


class DamagedCheckpointError(Exception):
    """A checkpoint is missing or cannot be read. The message says how."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The state of a run."""

    tensors: dict[str, Tensor]
    scalars: dict[str, Any]
    """JSON-able: iteration, elapsed seconds, best loss, running means."""

    def parts(self) -> dict[str, dict[str, Tensor]]:
        """Return the tensors by part (a state dict each): what stands before the first slash."""
        found: dict[str, dict[str, Tensor]] = {}
        for name, value in self.tensors.items():
            part, rest = name.split("/", 1)
            found.setdefault(part, {})[rest] = value
        return found


def write_checkpoint(folder: Path, checkpoint: Checkpoint) -> None:
    """Write a run's newest checkpoint and keep the one before; a kill or a full disk leaves one of them.

    Raises
    ------
    OSError
        The disk refused; it names the file.
    """
    with atomic_path(folder / NEWEST) as temporary:
        write_tensors(temporary, checkpoint.tensors, {"scalars": json.dumps(checkpoint.scalars)})
        if (folder / NEWEST).exists():
            (folder / NEWEST).replace(folder / BEFORE)


def write_tensors(path: Path, tensors: dict[str, Tensor], metadata: dict[str, str] | None = None) -> None:
    """Write a safetensors file; raises OSError, which names the file, when the disk refuses.

    Not by safetensors itself: its error for a full disk is no OSError.
    """
    whole = save({name: value.detach().cpu().contiguous() for name, value in tensors.items()}, metadata)
    try:
        path.write_bytes(whole)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error


def newest_checkpoint(folder: Path) -> tuple[Checkpoint, str | None]:
    """Read the newest checkpoint of a run that can be read, and say what was wrong with a newer one.

    Raises
    ------
    WrongInputError
        There is none.
    """
    try:
        return read_checkpoint(folder / NEWEST), None
    except DamagedCheckpointError as error:
        newest = error
    try:
        return read_checkpoint(folder / BEFORE), f"{newest}; the one before it is taken"
    except DamagedCheckpointError as error:
        msg = f"{folder} cannot be resumed ({newest}; {error}); start the run anew in another folder"
        raise WrongInputError(msg) from error


def read_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint; raises DamagedCheckpointError when there is none or it is damaged."""
    try:
        with safe_open(path, framework="pt") as stored:
            scalars = json.loads(stored.metadata()["scalars"])
            names = stored.keys()
            return Checkpoint({name: stored.get_tensor(name) for name in names}, scalars)
    except (OSError, SafetensorError, KeyError, TypeError, json.JSONDecodeError) as error:
        raise DamagedCheckpointError(f"{path.name} cannot be read: {error}") from error


def optimizer_tensors(prefix: str, optimizer: Optimizer) -> dict[str, Tensor]:
    """Return an optimizer's state as named tensors: prefix/parameter index/quantity."""
    state = optimizer.state_dict()["state"]
    return {f"{prefix}/{i}/{key}": value for i, values in state.items() for key, value in values.items()}


def restore_optimizer(optimizer: Optimizer, part: dict[str, Tensor]) -> None:
    """Put back what `optimizer_tensors` took out.

    In the memory layout of the parameters: a fused optimizer walks both by address, and a file knows no
    layout.
    """
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    state: dict[int, dict[str, Tensor]] = {}
    for name, value in part.items():
        index, key = name.split("/")
        like = parameters[int(index)]
        laid_out = torch.empty_like(like).copy_(value) if value.shape == like.shape else value
        state.setdefault(int(index), {})[key] = laid_out.detach()
    whole = optimizer.state_dict()
    optimizer.load_state_dict({"state": state, "param_groups": whole["param_groups"]})
