"""What is done to one chunk: read, enhance, write. The same functions serve this process and a cluster's.

Each task is a function of an engine, a job and a piece, and of nothing else; what it writes depends on
nothing else either. Knows no journal and no cluster.
"""

import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np

from configs.document import WrongInputError
from inference.backends import Device
from inference.chunk_plan import ChunkPlan, Piece, source_window
from inference.engine import Engine, load_engine
from inference.enhanced_image import EnhancedImage
from inference.preprocess import Photometry, normalise, prepare, restore
from inference.volume import same_volume

__all__ = ["Executor", "Found", "InThisProcess", "Job", "Task", "describe", "on_worker"]

FloatImage = np.ndarray[Any, np.dtype[np.float32]]
Task = Literal["flux", "enhance", "average"]
Found = tuple[float, ...]
_one_at_a_time = threading.Lock()


@dataclass(frozen=True, slots=True)
class Job:
    """What all pieces of an image have in common."""

    source: str
    """Path that every worker sees."""
    source_sha256: str
    source_stamp: tuple[int, int]
    image: str
    """Path of the image that grows."""
    plan: ChunkPlan
    photometry: tuple[Photometry, ...]
    """Of each channel."""


class Executor(Protocol):
    """Where pieces are worked on."""

    @property
    def description(self) -> str:
        """Name library, device and number format of the network; images of another are not gone on with."""
        ...

    def results(self, task: Task, job: Job, pieces: Iterable[Piece]) -> Iterator[tuple[Piece, Found]]:
        """Do pieces, in any order, and give each with what it found when its chunk is on the disk."""
        ...


class InThisProcess:
    """One piece after the other; the engine takes all cores for each."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    @property
    def description(self) -> str:
        """Name the engine's backend."""
        return self._engine.backend.description

    def results(self, task: Task, job: Job, pieces: Iterable[Piece]) -> Iterator[tuple[Piece, Found]]:
        """Do pieces in their order."""
        for piece in pieces:
            yield piece, TASKS[task](self._engine, job, piece)


def on_worker(
    model: str, model_sha256: str, device: Device, description: str, task: Task, job: Job, piece: Piece
) -> Found:
    """Do a piece in a cluster's worker process, which loads the model once."""
    engine = _engine_of(model, model_sha256, device)
    if engine.backend.description != description:
        msg = (
            f"workers compute differently: {engine.backend.description} here, {description} elsewhere, and "
            "chunks of both would not fit together; give a --device that all have, for example cpu-float32"
        )
        raise WrongInputError(msg)
    with _one_at_a_time:  # a worker of several threads shares the engine
        return TASKS[task](engine, job, piece)


def describe(model: str, model_sha256: str, device: Device) -> str:
    """Return the description of the backend that a worker has."""
    return _engine_of(model, model_sha256, device).backend.description


@lru_cache(maxsize=2)
def _engine_of(model: str, model_sha256: str, device: Device) -> Engine:
    engine = load_engine(model, device)
    if engine.model_hash != model_sha256:
        msg = f"{model} is another model on this worker; let all workers see the same file"
        raise WrongInputError(msg)
    return engine


def _measure_flux(engine: Engine, job: Job, piece: Piece) -> Found:
    """Return the sums of what goes into the network and of what comes out, over a chunk.

    Each as a mean over the pixels, times the pixels of the source.
    """
    factor = engine.factor
    rows, columns = (slice(s.start // factor, s.stop // factor) for s in job.plan.written(piece))
    volume = same_volume(Path(job.source), job.source_stamp)
    light = _light(job, piece)
    flux_in = normalise(volume.read(piece.index, rows, columns), light).sum(dtype=np.float64)
    flux_out = _network_output(engine, job, piece).sum(dtype=np.float64) / factor**2
    return (float(flux_in), float(flux_out)) if np.isfinite(flux_out) else (0.0, 0.0)


def _enhance(engine: Engine, job: Job, piece: Piece) -> Found:
    """Enhance a chunk and write it."""
    counts = restore(_network_output(engine, job, piece), _light(job, piece))
    bad = int(counts.size - np.count_nonzero(np.isfinite(counts)))
    if bad:
        msg = (
            f"plane {piece.index}, chunk (row {piece.row}, column {piece.column}): {bad} pixels that the "
            "network computed are not finite; the chunk is not written. Use another model"
        )
        raise RuntimeError(msg)
    image = EnhancedImage.open(Path(job.image), job.plan)
    image.write(0, piece.index, job.plan.written(piece), counts)
    return ()


def _average(_engine: Engine, job: Job, piece: Piece) -> Found:
    """Write the means of 2 x 2 pixels of the level below; an odd last row or column is repeated."""
    image = EnhancedImage.open(Path(job.image), job.plan)
    fine = image.read(piece.level - 1, piece.index, job.plan.below(piece))
    height, width = fine.shape
    even = np.pad(fine, ((0, height % 2), (0, width % 2)), mode="edge")
    quads = even.reshape(even.shape[0] // 2, 2, even.shape[1] // 2, 2)
    means = quads.mean(axis=(1, 3), dtype=np.float32)
    image.write(piece.level, piece.index, job.plan.written(piece), means)
    return ()


def _network_output(engine: Engine, job: Job, piece: Piece) -> FloatImage:
    """Return a chunk on the network's scale, as it is in the whole image."""
    window = source_window(job.plan, piece, engine.package.card)
    counts = same_volume(Path(job.source), job.source_stamp).read(piece.index, *window.read)
    upsampled = prepare(counts, _light(job, piece), engine.factor)
    return engine.run_network(np.ascontiguousarray(upsampled[window.fed]))[window.keep]


def _light(job: Job, piece: Piece) -> Photometry:
    facts = same_volume(Path(job.source), job.source_stamp).facts
    return job.photometry[facts.channel_of(piece.index)]


TASKS: dict[Task, Callable[[Engine, Job, Piece], Found]] = {
    "flux": _measure_flux,
    "enhance": _enhance,
    "average": _average,
}
