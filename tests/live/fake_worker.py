"""A worker process with an engine that only enlarges: `python fake_worker.py BIND ENGINE_SECONDS`."""

import sys
import threading
from dataclasses import dataclass

import numpy as np

from inference.preprocess import Photometry
from inference.worker import serve


@dataclass(frozen=True)
class Enlarged:
    image: np.ndarray
    pixel_size_um: float | None
    out_of_domain: tuple[str, ...]
    photometry: Photometry
    warnings: tuple[str, ...] = ()
    shows_raw: bool = False


class NearestEngine:
    """Repeats every pixel; a frame's photometry tells how many frames of its stream came before."""

    warnings: tuple[str, ...] = ()
    """Of every frame."""

    name = "nearest"
    model_hash = "ab" * 32
    factor = 2
    channel = None
    under_way = 1

    def __init__(self, seconds: float = 0.0) -> None:
        self._pause = threading.Event()
        self._seconds = seconds

    def begin(self, image, **facts):
        result = self.enhance(image, **facts)
        return lambda: result

    def enhance(self, image, *, pixel_size_um, channel, allow_out_of_domain, photometry):
        self._pause.wait(self._seconds)  # the engine's time; nothing is awaited here
        enlarged = image.astype(np.float32).repeat(2, axis=0).repeat(2, axis=1)
        size_um = None if pixel_size_um is None else pixel_size_um / 2
        light = photometry or Photometry(float(image.min()), 1.0)
        return Enlarged(enlarged, size_um, (), light, self.warnings)


if __name__ == "__main__":
    engine = NearestEngine(float(sys.argv[2]))
    serve([engine], sys.argv[1], on_ready=lambda address: print(address, flush=True))
