"""A worker process with an engine that only enlarges.

`fake_worker.py BIND SECONDS [--keys FOLDER] [MOST_PIXEL_BYTES]`
"""

import sys
import threading
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from inference.keys import WorkerKeys
from inference.preprocess import Photometry
from inference.protocol import WireLimits
from inference.service import serve


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
        self.frames = 0

    def begin(self, image, *, out=None, **facts):
        result = self.enhance(image, **facts)
        if out is not None:
            out[...] = result.image
            result = replace(result, image=out)
        return lambda: result

    def enhance(self, image, *, pixel_size_um, photometry, **_facts):
        self.frames += 1
        self._pause.wait(self._seconds)  # the engine's time; nothing is awaited here
        enlarged = image.astype(np.float32).repeat(2, axis=0).repeat(2, axis=1)
        size_um = None if pixel_size_um is None else pixel_size_um / 2
        light = photometry or Photometry(float(image.min()), 1.0)
        return Enlarged(enlarged, size_um, (), light, self.warnings)


if __name__ == "__main__":
    engine = NearestEngine(float(sys.argv[2]))
    rest = sys.argv[3:]
    keys = WorkerKeys.read(Path(rest[1])) if rest[:1] == ["--keys"] else None
    sizes = rest[2:] if keys else rest
    limits = WireLimits(most_pixel_bytes=int(sizes[0])) if sizes else None
    serve(
        [engine], sys.argv[1], limits=limits, on_ready=lambda address: print(address, flush=True), keys=keys
    )
