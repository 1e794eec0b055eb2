"""How long a scan takes beyond what its devices take: wall time over the devices' own time.

Runs the paired wide-field scan on the virtual stand in real time. The devices' own time is the exposures of
the images, the moves of stage and drive, turret and filters with their settling, and readout, as measured
inside MMCore. What an autofocus search exposes and moves counts against the scan, not for it. The virtual
camera draws each image before it shows it, which no real camera does: where drawing takes longer than the
exposure, the rest is taken off the wall time, and printed.

    python bench/scan_overhead.py --write bench/results/scan-overhead.md
"""

import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from output import bench_parser, publish

import acquisition.focusing
from acquisition.area import Area, HighTiles, RegionGrid
from acquisition.manifest import FocusRecord
from acquisition.microscope import Microscope
from acquisition.plan import Experiment, load_experiment
from acquisition.scan import run_scan
from acquisition.virtual import from_choice

LIMIT = 1.15
CALLS = ("getImage", "setXYPosition", "setPosition", "setConfig", "waitForConfig", "setROI", "clearROI")
LEVEL = {"sample_height_um": 4.0, "sample_tilt_um_per_mm": [1.5, -1.0], "parfocal_offset_um": 6.0}
SAMPLES = {"level, tilted": LEVEL, "hills of 1 um": {**LEVEL, "sample_waviness_um": 1.0}}


class DeviceClock:
    """Adds up the time that devices take, in a search for focus and outside of it."""

    def __init__(self, core: Any) -> None:  # noqa: ANN401 - its calls are replaced by timed ones
        self.spent_s: Counter[str] = Counter()
        self.drawing_s = 0.0
        self._core = core
        self._searching = False
        for name in CALLS:
            setattr(core, name, self._timed(getattr(core, name)))
        self._snap = core.snapImage
        core.snapImage = self._snap_timed

    def _timed(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*arguments: Any) -> Any:  # noqa: ANN401 - whatever MMCore takes and gives
            began = time.perf_counter()
            try:
                return call(*arguments)
            finally:
                self._add("moves and readout", time.perf_counter() - began)

        return timed

    def _snap_timed(self) -> None:
        began, exposure_s = time.perf_counter(), self._core.getExposure() * 1e-3
        self._snap()
        self._add("exposures", exposure_s)
        self.drawing_s += max(time.perf_counter() - began - exposure_s, 0.0)

    def _add(self, what: str, seconds: float) -> None:
        self.spent_s[("focus " if self._searching else "") + what] += seconds

    def watch(self, microscope: type[Microscope], focusing: Any) -> Callable[[], None]:  # noqa: ANN401 - a module
        """Time the waits for drives, and tell searches for focus apart; returns what undoes it."""
        wait_for, search = microscope._wait_for, focusing.search_focus  # noqa: SLF001 - where the scan waits

        def searched(*arguments: Any) -> Any:  # noqa: ANN401 - as search_focus
            self._searching = True
            try:
                return search(*arguments)
            finally:
                self._searching = False

        def undo() -> None:
            microscope._wait_for, focusing.search_focus = wait_for, search  # noqa: SLF001

        microscope._wait_for = self._timed_method(wait_for)  # noqa: SLF001
        focusing.search_focus = searched
        return undo

    def _timed_method(self, method: Callable[..., Any]) -> Callable[..., Any]:
        return lambda owner, *arguments: self._timed(method)(owner, *arguments)


def experiment(regions: int, imperfections: dict[str, Any]) -> Experiment:
    """Return the shipped experiment on some regions in real time."""
    shipped = load_experiment("virtual_widefield")
    choice = shipped.microscope.model_copy(update={"real_time": True, "imperfections": imperfections})
    grid = RegionGrid(rows=2, columns=regions // 2, spacing_um=340.0)
    return shipped.model_copy(
        update={"microscope": choice, "area": Area(regions=grid, high_tiles=HighTiles(rows=2, columns=2))}
    )


def run(regions: int, imperfections: dict[str, Any]) -> dict[str, float]:
    """Scan once, and return the figures."""
    plan = experiment(regions, imperfections)
    core = from_choice(plan.microscope)
    clock = DeviceClock(core)
    undo = clock.watch(Microscope, acquisition.focusing)
    try:
        with tempfile.TemporaryDirectory() as folder:
            began = time.perf_counter()
            summary = run_scan(plan, core, Path(folder) / "scan")
            wall_s = time.perf_counter() - began
            planes = [line for line in summary.folder.lines() if isinstance(line, FocusRecord)]
    finally:
        undo()
    spent = clock.spent_s
    devices_s = spent["exposures"] + spent["moves and readout"]
    focus_s = spent["focus exposures"] + spent["focus moves and readout"]
    return {
        "fields": summary.committed_fields,
        "searched": sum(plane.method == "searched" for plane in planes),
        "wall_s": wall_s,
        "drawing_s": clock.drawing_s,
        "exposures_s": spent["exposures"],
        "devices_s": devices_s,
        "focus_s": focus_s,
        "computing_s": wall_s - clock.drawing_s - devices_s - focus_s,
        "ratio": (wall_s - clock.drawing_s) / devices_s,
    }


def table(figures: dict[str, dict[str, float]]) -> str:
    """Return a row per sample."""
    columns = list(next(iter(figures.values())))
    lines = [f"| sample | {' | '.join(columns)} |", "|---|" + "---|" * len(columns)]
    lines += [
        f"| {sample} | " + " | ".join(f"{row[column]:.4g}" for column in columns) + " |"
        for sample, row in figures.items()
    ]
    return "\n".join(lines)


def main() -> None:
    """Run and print."""
    parser = bench_parser(__doc__)
    parser.add_argument("--regions", type=int, default=16)
    arguments = parser.parse_args()
    figures = {sample: run(arguments.regions, imperfections) for sample, imperfections in SAMPLES.items()}
    text = table(figures) + f"\n\nratio: wall time without drawing, over the devices' own; at most {LIMIT}"
    publish(arguments, "Overhead of a scan, simulated", text, figures)


if __name__ == "__main__":
    main()
