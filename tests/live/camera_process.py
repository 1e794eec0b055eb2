"""Records a TIRF time-lapse at camera speed until it is killed: `python camera_process.py DIR WORKER`.

Prints "ready" when the camera starts, then the number of each frame that the core has from the camera.
"""

import os
import sys
from pathlib import Path

import useq

from acquisition.live import LiveEnhancer
from acquisition.virtual import load
from acquisition.virtual.camera import VirtualCamera

FRAMES = 10_000


class WatchedCamera(VirtualCamera):
    """Says what it has handed over: the core asks for the next frame when it has the one before."""

    def _frames(self, n, get_buffer, *, snap):
        for number, tags in enumerate(super()._frames(n, get_buffer, snap=snap)):
            yield tags
            os.write(1, f"{number}\n".encode())


if __name__ == "__main__":
    import acquisition.virtual.build as build

    build.VirtualCamera = WatchedCamera
    core = load("tirf_sim", replay=16)
    core.setExposure(1000 / 30)
    sequence = useq.MDASequence(channels=["GFP"], time_plan={"interval": 0, "loops": FRAMES})
    with LiveEnhancer(core, sys.argv[2], Path(sys.argv[1]), "preview") as live:
        core.mda.events.sequenceStarted.connect(lambda *_: os.write(1, b"ready\n"))
        core.run_mda(sequence, block=True)
        live.close(patience_s=0)
