"""A worker whose engine costs nothing, for the benches of all that surrounds an engine.

    python bench/null_engine.py

Prints its address and serves. The image that it answers with was there before; with room for it in shared
memory, whatever stands there is the answer.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from inference.preprocess import Photometry
from inference.service import serve

__all__ = ["ANSWER_BYTES", "SIDE", "NullEngine"]

SIDE = 1024
ANSWER_BYTES = 4 * SIDE * SIDE
Image = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True, slots=True)
class Nothing:
    """An answer."""

    image: Image
    pixel_size_um: float | None = None
    out_of_domain: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    shows_raw: bool = False
    photometry: Photometry = field(default_factory=lambda: Photometry(0.0, 1.0))


class NullEngine:
    """Answers at once, at the input's size."""

    name = "nothing"
    model_hash = "00" * 32
    factor = 1
    channel = None
    under_way = 1

    def __init__(self) -> None:
        self._image = np.zeros((SIDE, SIDE), np.float32)

    def begin(self, image: Image, out: Image | None = None, **_facts: object) -> Callable[[], Nothing]:
        """Return an answer that is there already."""
        answer = Nothing(self._image[: image.shape[0], : image.shape[1]] if out is None else out)
        return lambda: answer


if __name__ == "__main__":
    serve([NullEngine()], "tcp://127.0.0.1:*", on_ready=lambda address: print(address, flush=True))
