"""Times the virtual microscope: frames a second, a new area, memory over a scan of 2 x 2 mm.

    python bench/virtual_microscope.py [--json] [--write bench/results/virtual-microscope.md] [--scan-mm 2]

Each time is the median of several; beside it stands that of a bare 1024 x 1024 Poisson draw of the same run,
so that a slow machine shows.
"""

import argparse
import json
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import psutil

from acquisition.virtual import load

CHANNEL = {"widefield": "FITC", "confocal_sted": "Crimson", "tirf_sim": "GFP"}


def median_ms(step: Callable[[int], object], rounds: int) -> float:
    """Return the median time of a step, which is told its number."""
    times = []
    for number in range(rounds):
        began = time.perf_counter()
        step(number)
        times.append(1e3 * (time.perf_counter() - began))
    return statistics.median(times)


def peer_ms() -> float:
    """Return the time of numpy's own Poisson draw of a megapixel."""
    rng, light = np.random.default_rng(0), np.full((1024, 1024), 600.0)
    return median_ms(lambda _: rng.poisson(light), 7)


def seen_before_ms() -> float:
    """Return the time of a 1024 x 1024 frame where the stage comes back to places it has been."""
    core = load("widefield", camera_shape_yx=(1024, 1024))
    core.setExposure(800)

    def visit(number: int) -> None:
        core.setXYPosition(700.0 * (number % 2), 0.0)
        core.waitForSystem()
        core.snapImage()

    for number in range(2):
        visit(number)
    return median_ms(visit, 12)


def new_area_ms() -> float:
    """Return the time of a 1024 x 1024 frame of a new area, 10x, three planes."""
    core = load("widefield", camera_shape_yx=(1024, 1024))
    core.snapImage()

    def visit(number: int) -> None:
        core.setXYPosition(900.0 * (number + 1), 5000.0)
        core.waitForSystem()
        core.snapImage()

    return median_ms(visit, 5)


def tirf_ms() -> float:
    """Return the time of a 512 x 512 TIRF frame with every pit moving."""
    core = load("tirf_sim", camera_shape_yx=(512, 512))
    core.setConfig("Modality", "TIRF")
    core.setExposure(30)
    for _ in range(3):
        core.snapImage()
    return median_ms(lambda _: core.snapImage(), 40)


def modality_ms(name: str, modality: str) -> float:
    """Return the time of a 512 x 512 frame of a place seen before."""
    core = load(name, camera_shape_yx=(512, 512))
    core.setConfig("Modality", modality)
    core.snapImage()
    return median_ms(lambda _: core.snapImage(), 8)


def scan_memory_gb(side_mm: float) -> float:
    """Return the most memory that a scan in 20x fields of three channels takes."""
    core, process, peak = load("widefield", camera_shape_yx=(1024, 1024)), psutil.Process(), 0
    core.setConfig("Objective", "20X")
    step_um = 1024 * 0.325 * 0.9
    for x_um in np.arange(0, side_mm * 1000, step_um):
        for y_um in np.arange(0, side_mm * 1000, step_um):
            core.setXYPosition(float(x_um), float(y_um))
            core.waitForSystem()
            for channel in ("FITC", "DAPI", "Texas Red"):
                core.setConfig("Channel", channel)
                core.snapImage()
                peak = max(peak, process.memory_info().rss)
    return peak / 1e9


def main() -> None:
    """Run and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", action="store_true", help="print one JSON line last")
    parser.add_argument("--write", type=Path, help="also write the table to this file")
    parser.add_argument(
        "--scan-mm", type=float, default=2.0, help="side of the scanned square; 0 leaves it out"
    )
    arguments = parser.parse_args()
    memory = (
        {"scan_memory_gb": scan_memory_gb(arguments.scan_mm)} if arguments.scan_mm else {}
    )  # first: alone
    figures = {
        **memory,
        "poisson_megapixel_ms": peer_ms(),
        "seen_before_1024_ms": seen_before_ms(),
        "new_area_1024_ms": new_area_ms(),
        "tirf_moving_512_ms": tirf_ms(),
        "sim_moving_512_ms": modality_ms("tirf_sim", "SIM"),
        "sted_512_ms": modality_ms("confocal_sted", "STED"),
    }
    peer = figures["poisson_megapixel_ms"]
    rows = [
        ("numpy's Poisson draw, 1024 x 1024 (peer)", "poisson_megapixel_ms", "-"),
        ("wide-field 1024 x 1024, seen before", "seen_before_1024_ms", "40 ms"),
        ("wide-field 1024 x 1024, new area, 10x, three planes", "new_area_1024_ms", "1500 ms"),
        ("TIRF 512 x 512, all pits moving", "tirf_moving_512_ms", "33 ms"),
        ("SIM 512 x 512, all pits moving, one exposure", "sim_moving_512_ms", "-"),
        ("STED 512 x 512, seen before", "sted_512_ms", "-"),
    ]
    lines = ["| frame | median (ms) | over the peer | at most |", "|---|---|---|---|"]
    lines += [
        f"| {name} | {figures[key]:.1f} | {figures[key] / peer:.2f} | {most} |" for name, key, most in rows
    ]
    if arguments.scan_mm:
        area = f"{arguments.scan_mm:g} x {arguments.scan_mm:g} mm"
        peak = f"{figures['scan_memory_gb']:.2f} GB at the peak (at most 1.5)"
        lines += ["", f"Scan of {area}, 20x, three channels: {peak}."]
    text = "\n".join(lines)
    print(text)
    if arguments.write:
        machine = f"{platform.machine()}, {psutil.cpu_count()} CPUs, Python {platform.python_version()}"
        arguments.write.parent.mkdir(parents=True, exist_ok=True)
        arguments.write.write_text(
            f"# The virtual microscope's speed\n\n{machine}\n\n{text}\n", encoding="utf-8"
        )
    if arguments.json:
        print(json.dumps({name: round(value, 3) for name, value in figures.items()}))


if __name__ == "__main__":
    main()
