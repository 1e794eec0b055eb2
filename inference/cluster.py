"""Hands pieces to an existing Dask cluster: one process a worker, each with an engine of its own.

Dask gives a piece of a worker that died to another; what comes back is journalled here. Workers see the
model, the source and the output under the same paths. Needs the extra ``sharpscope[cluster]``.
"""

from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from configs.document import WrongInputError
from inference.backends import Device
from inference.chunk_plan import Piece
from inference.chunk_work import Found, Job, Task, describe, on_worker
from inference.model_package import ModelPackage

__all__ = ["Cluster"]

CONNECT_TIMEOUT_S = 10
PIECES_PER_THREAD = 2
"""Under way for each thread of the cluster, so that none waits for the next piece."""


class Cluster:
    """A connection to a scheduler; a context manager.

    Parameters
    ----------
    address
        Of the scheduler, for example ``tcp://10.0.0.1:8786``.
    model
        Path of the package, as the workers see it.
    package
        The same, read.

    Raises
    ------
    WrongInputError
        Dask is not installed, nobody answers, or there is no worker.
    """

    def __init__(self, address: str, model: Path, package: ModelPackage, device: Device = "auto") -> None:
        self._dask = _distributed()
        self._package = package
        self._model = str(model.resolve())
        self._device = device
        try:
            self._client = self._dask.Client(address, timeout=CONNECT_TIMEOUT_S, set_as_default=False)
        except (OSError, ValueError, TimeoutError) as error:
            msg = f"no Dask scheduler answers at {address} ({_one_line(error)}); start 'dask scheduler' first"
            raise WrongInputError(msg) from error
        try:
            self._client.wait_for_workers(1, timeout=CONNECT_TIMEOUT_S)
            submitted = self._client.submit(describe, self._model, package.model_hash, device, pure=False)
            self._description = str(self._result(submitted))
        except self._dask.TimeoutError as error:
            self._client.close()
            msg = f"the scheduler at {address} has no worker; start 'dask worker {address} --nthreads 1'"
            raise WrongInputError(msg) from error
        except BaseException:
            self._client.close()
            raise

    @property
    def description(self) -> str:
        """Name the backend of a worker; one that has another refuses to work."""
        return self._description

    def results(self, task: Task, job: Job, pieces: Iterable[Piece]) -> Iterator[tuple[Piece, Found]]:
        """Do pieces as workers are free; those under way are bounded."""
        left = iter(pieces)
        under_way = {self._submit(task, job, piece): piece for piece in islice(left, self._room())}
        if not under_way:
            return
        finished = self._dask.as_completed(under_way, loop=self._client.loop)
        try:
            for future in finished:
                piece = under_way.pop(future)
                found: Found = tuple(self._result(future))
                for following in islice(left, max(0, self._room() - len(under_way))):
                    another = self._submit(task, job, following)
                    under_way[another] = following
                    finished.add(another)
                yield piece, found
        finally:
            self._client.cancel(list(under_way))

    def _submit(self, task: Task, job: Job, piece: Piece) -> Any:  # noqa: ANN401  distributed has no types
        model = self._model, self._package.model_hash, self._device, self._description
        return self._client.submit(on_worker, *model, task, job, piece, pure=False)

    def _room(self) -> int:
        return PIECES_PER_THREAD * max(1, int(sum(self._client.nthreads().values())))

    def _result(self, future: Any) -> Any:  # noqa: ANN401  distributed has no types
        try:
            return future.result()
        except self._dask.scheduler.KilledWorker as error:
            msg = f"a chunk ended several workers, one after the other ({_one_line(error)}); see their logs"
            raise RuntimeError(msg) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._client.close()


def _distributed() -> Any:  # noqa: ANN401  distributed has no types
    try:
        import distributed
        import distributed.scheduler
    except ImportError as error:
        msg = "--scheduler needs Dask; install it with: pip install 'sharpscope[cluster]'"
        raise WrongInputError(msg) from error
    return distributed


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]
