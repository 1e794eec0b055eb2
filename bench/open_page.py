"""A page that stays open: whether it, its browser and its server grow.

Frames come at the camera's rate and are not recorded, for half an hour of them would fill a disk. Memory,
elements, listeners, descriptors and threads are read ten times; the first tenth is warming up (the core's
buffer fills). Owns what may grow by how much.
"""

import threading
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import numpy as np
import psutil
from chromium import Chromium

from acquisition.live import LiveEnhancer
from acquisition.live_controller import LiveController
from inference.viewer.server import ViewerServer
from sharpscope.live_screen import LiveScreen

if TYPE_CHECKING:
    from pymmcore_plus import CMMCorePlus

__all__ = ["grow", "growth_table"]

READINGS = 10
MEMORY_GROWTH = 0.05
"""Of the browser's processes, as `soak.py` has it."""
VIEW_MB = 3.0
"""Of the pixels of one view: at one reading it is there, at another it is not."""
MOST_GROWTH: dict[str, float | None] = {
    "JS heap MB": 1.0, "buffers MB": VIEW_MB, "DOM nodes": 10, "listeners": 0, "renderers MB": None,
    "GPU process MB": None, "server MB": 8.0, "server's descriptors": 0, "server's threads": 0,
}  # fmt: skip
"""From the end of warming up to the last reading; None: `MEMORY_GROWTH` of what it was. The server's is that
part of a process that has not loaded torch, as this one has."""


def grow(core: "CMMCorePlus", address: str, minutes: float) -> dict[str, Any]:
    """Keep a page open while the camera runs and the worker at `address` enhances; returns the readings."""
    process, readings = psutil.Process(), []
    with ExitStack() as stack:
        live = stack.enter_context(LiveEnhancer(core, address, None, "preview", allow_out_of_domain=True))
        live.wait_ready(60)
        shown = stack.enter_context(LiveScreen(live, "bench"))
        server = stack.enter_context(ViewerServer(shown.screen, LiveController(core, live), port=0))
        page = stack.enter_context(Chromium(server.url))
        core.startContinuousSequenceAcquisition()
        began_s = time.monotonic()
        for number in range(1, READINGS + 1):
            time.sleep(max(0.0, began_s + 60 * minutes * number / READINGS - time.monotonic()))
            reading = {
                **page.memory(), "server MB": process.memory_info().rss / 1e6,
                "server's descriptors": process.num_fds(), "server's threads": threading.active_count(),
            }  # fmt: skip
            readings.append(reading)
            print(", ".join(f"{name} {value:.1f}" for name, value in reading.items()), flush=True)
        drawn = page.ask("sharpscope.frames_drawn")
        core.stopSequenceAcquisition()
        status = live.status()
    taken, enhanced = status.frames_in, status.enhanced
    return {"minutes": minutes, "readings": readings, "taken": taken, "enhanced": enhanced, "drawn": drawn}


def growth_table(figures: dict[str, Any]) -> list[str]:
    """Return the lines of a page that stays open."""
    minutes, readings = figures["minutes"], figures["readings"]
    hours = np.arange(1, READINGS + 1) * minutes / READINGS / 60
    lines = [
        f"| a page open for {minutes:g} minutes | first | last | slope an hour | most growth | holds |",
        "|---|---|---|---|---|---|",
        f"| frames taken, enhanced, drawn | | {figures['taken']}, {figures['enhanced']}, {figures['drawn']} "
        "| | | |",
    ]
    for name, limit in MOST_GROWTH.items():
        values = [reading[name] for reading in readings]
        slope = float(np.polyfit(hours, values, 1)[0])
        most = MEMORY_GROWTH * values[0] if limit is None else limit
        holds = "yes" if values[-1] - values[0] <= most else "NO"
        lines.append(f"| {name} | {values[0]:.1f} | {values[-1]:.1f} | {slope:+.1f} | {most:.1f} | {holds} |")
    return lines
