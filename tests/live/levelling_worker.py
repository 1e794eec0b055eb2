"""A worker process whose engine takes the light of a stream's first frame off each: `... BIND SECONDS`."""

import sys

import numpy as np
from fake_worker import Enlarged, NearestEngine

from inference.preprocess import Photometry
from inference.service import serve


class LevellingEngine(NearestEngine):
    name = "levelling"
    factor = 1

    def enhance(self, image, *, pixel_size_um, photometry, **_facts):
        self._pause.wait(self._seconds)  # the engine's time; nothing is awaited here
        light = photometry or Photometry(float(image.mean()), 1.0)
        levelled = image.astype(np.float32) - np.float32(light.background)
        return Enlarged(levelled, pixel_size_um, (), light, self.warnings)


if __name__ == "__main__":
    engine = LevellingEngine(float(sys.argv[2]))
    serve([engine], sys.argv[1], on_ready=lambda address: print(address, flush=True))
