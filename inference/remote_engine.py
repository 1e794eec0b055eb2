"""A running worker as an engine for whole files: planes go out as record frames, one at a time.

Owns the wait for an answer and what is said when there is none. The model is named by the hash of the
caller's own package, so that a worker which serves another one refuses. Knows no files.
"""

import queue
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

from configs.document import WrongInputError
from inference.client import ClientState, EnhancedFrame, FailedFrame, Outcome
from inference.messages import FailureCode, StreamPhotometry
from inference.model_package import ModelPackage
from inference.preprocess import Photometry
from inference.worker_list import checked_workers, open_workers

__all__ = ["RemoteEngine", "RemotelyEnhanced"]

Image = np.ndarray[Any, np.dtype[Any]]

SENT_AS_THEY_ARE = (np.uint8, np.uint16, np.float32)
PATIENCE_S = 20.0
"""How long a worker may be away."""
_OF_THE_CALLER = (FailureCode.OUT_OF_DOMAIN, FailureCode.NO_MODEL)


class RemotelyEnhanced:
    """An answer, with the names that `inference.engine.Enhanced` has."""

    def __init__(self, answer: EnhancedFrame) -> None:
        self.image, self.pixel_size_um = answer.image, answer.pixel_size_um
        self.out_of_domain, self.warnings = answer.out_of_domain, answer.warnings
        self.shows_raw = answer.shows_raw
        self.photometry: Photometry = answer.photometry.photometry()


class RemoteEngine:
    """A worker that serves the model of a package; a context manager.

    Parameters
    ----------
    package
        The model that is meant.
    worker
        Address of the worker, or of several that share the planes.
    keys
        This client's key folder, for workers beyond this machine.
    patience_s
        How long a worker may be away before it is given up.

    Raises
    ------
    WrongInputError
        An address or the keys cannot be used, or nobody answers.
    """

    def __init__(
        self,
        package: ModelPackage,
        worker: str | Sequence[str],
        keys: Path | None = None,
        patience_s: float = PATIENCE_S,
    ) -> None:
        addresses, own_keys = checked_workers(worker, keys)
        self.name, self.model_hash, self.factor = package.name, package.model_hash, package.card.factor
        self._where = " and ".join(addresses)
        self._patience_s = patience_s
        self._outcomes: queue.SimpleQueue[Outcome] = queue.SimpleQueue()
        self._client = open_workers(addresses, self._outcomes.put, keys=own_keys)
        if not self._client.wait_ready(patience_s):
            reason = self._client.status().reason
            self._client.close()
            msg = f"no worker answers at {self._where} ({reason}); start one with 'sharpscope serve MODEL'"
            raise WrongInputError(msg)

    def enhance(
        self,
        image: Image,
        *,
        pixel_size_um: float | None = None,
        channel: str | None = None,
        allow_out_of_domain: bool = False,
        photometry: Photometry | None = None,
    ) -> RemotelyEnhanced:
        """Enhance one (Y, X) image as `inference.engine.Engine.enhance` does.

        Raises
        ------
        WrongInputError
            The worker's model does not fit, or it serves another one.
        RuntimeError
            It failed, or went away and did not come back.
        """
        sequence = self._client.submit(
            image if image.dtype in SENT_AS_THEY_ARE else image.astype(np.float32),
            pixel_size_um=pixel_size_um,
            channel=channel,
            allow_out_of_domain=allow_out_of_domain,
            model=self.model_hash,
            photometry=None if photometry is None else StreamPhotometry.of(photometry, self.model_hash),
            timeout_s=self._patience_s,
        )
        answer = self._answer(sequence)
        if isinstance(answer, EnhancedFrame):
            return RemotelyEnhanced(answer)
        assert isinstance(answer, FailedFrame)  # record frames are never dropped
        said = f"the worker at {self._where} did not enhance it: {answer.reason}"
        raise WrongInputError(said) if answer.code in _OF_THE_CALLER else RuntimeError(said)

    def _answer(self, sequence: int) -> Outcome:
        """Return the outcome of a plane; those of planes that were given up before are not its."""
        patient_until_s = time.monotonic() + self._patience_s
        while True:
            try:
                outcome = self._outcomes.get(timeout=0.2)
            except queue.Empty:
                pass
            else:
                if outcome.source.sequence == sequence:
                    return outcome
                continue
            status = self._client.status()
            if status.state is ClientState.READY:
                patient_until_s = time.monotonic() + self._patience_s
            elif time.monotonic() > patient_until_s:
                msg = f"the worker at {self._where} went away ({status.reason}); run the command again"
                raise RuntimeError(msg)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._client.close()
