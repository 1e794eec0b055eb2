"""From the camera to the eye: how late a frame is drawn in a page, and whether those who look cost anything.

    python bench/screen.py [--seconds 20] [--rounds 3] [--minutes 30] [--json]
                           [--write bench/results/screen.md]

The virtual TIRF stand replays 64 frames at 10 frames/s, recorded by `LiveEnhancer` with previews of a worker
in a process of its own; `LiveScreen` and `ViewerServer` show them to headless Chromiums, all on this
machine's cores. In turn, as often as `--rounds` says: nobody looks, one page, two. A frame counts as drawn
when the server has heard of it; what the page says itself (from the packing of the frame back to its capture,
and from its arrival to its drawing) leaves the way between them out. The first second is warming up.

With `--minutes` a page stays open first, and is looked at as `open_page.py` has it.
"""

import argparse
import os
import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import useq
from chromium import Chromium
from live import RING, engine_of, gaps, network, served
from open_page import grow, growth_table
from output import bench_parser, publish
from paper_network import operations
from screen_notes import PAGE_NOTES, TIMES, noting, times_of

from acquisition.live import LiveEnhancer
from acquisition.live_controller import LiveController
from acquisition.time_lapse import run_time_lapse
from acquisition.virtual import load
from inference.recording import Recording
from inference.viewer.server import ViewerServer
from sharpscope.live_screen import LiveScreen

if TYPE_CHECKING:
    from pymmcore_plus import CMMCorePlus

RATE = 10.0
OVER_ENGINE_MS = 150.0
SLOWER_LIMIT = 1.1
"""The recorder's times with two pages over those with none."""
PERCENTILES = (50, 95, 99)
ALONE_FRAMES = 20


@dataclass(frozen=True, slots=True)
class Case:
    """A network and a camera."""

    preset: str
    side: int

    def words(self) -> str:
        """Return it for the table."""
        gflop = operations(network(self.preset), (2 * self.side, 2 * self.side)) / 1e9
        return f"`{self.preset}`, {gflop:.1f} GFLOP, {self.side} to {2 * self.side} px"


CASES = (Case("small", 512), Case("tirf_sim_live", 256))
"""A camera of 512 x 512 px with a network that holds 10 frames/s at it, and the live preset's network with an
image of 512 x 512 px: at four times that it takes more than two cores give."""
TURNS = ((0, 0), (0, 1), (0, 2), (1, 1))
"""Case and pages."""
RECORDER = {
    "put_ms_p50": "the recorder takes a frame, median",
    "put_ms_p99": "the recorder takes a frame, p99",
    "stored_ms_p50": "from there to the disk, median",
    "stored_ms_p99": "from there to the disk, p99",
}


def camera(side: int) -> "CMMCorePlus":
    """Return a core whose camera replays at the rate."""
    core = load("tirf_sim", replay=RING, camera_shape_yx=(side, side))
    core.setExposure(1e3 / RATE)
    core.snapImage()
    return core


def engine_alone_ms(case: Case, core: "CMMCorePlus") -> float:
    """Return the median of what a frame takes in the engine, in this process and with nothing beside it."""
    engine, taken_ms = engine_of(case.preset), []
    for _ in range(ALONE_FRAMES):
        began = time.perf_counter()
        engine.enhance(core.getImage(), pixel_size_um=None, channel="GFP", allow_out_of_domain=True)
        taken_ms.append(1e3 * (time.perf_counter() - began))
    return float(np.median(taken_ms))


def stretch(core: "CMMCorePlus", address: str, pages: int, frames: int) -> dict[str, Any]:
    """Record and show so many frames to so many pages; returns what was noted."""
    sequence = useq.MDASequence(channels=["GFP"], time_plan={"interval": 0, "loops": frames})
    with noting() as notes, tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        path = Path(folder) / "recording"
        live = stack.enter_context(LiveEnhancer(core, address, path, "preview", allow_out_of_domain=True))
        live.wait_ready(60)
        live.enhanced.connect(notes.enhanced)
        shown = stack.enter_context(LiveScreen(live, "bench"))
        server = stack.enter_context(ViewerServer(shown.screen, LiveController(core, live), port=0))
        opened = [stack.enter_context(Chromium(server.url, PAGE_NOTES)) for _ in range(pages)]
        for page in opened:
            page.wait("document.body?.dataset.connection === 'open'")
        status = run_time_lapse(core, sequence, live).status
        said = [note for page in opened for note in page.ask("drawNotes")]
        stack.close()
        return {
            "recorded": status.recorded, "gaps": gaps(Recording.open(path)) + status.missed,
            "enhanced": status.enhanced, "put_ms": notes.put_ms, "stored_ms": notes.stored_ms,
            "drawn": len(notes.drawn_ns), "skipped": sum(notes.skipped.values()),
            "times": times_of(notes, said),
        }  # fmt: skip


def measure(seconds: float, rounds: int) -> dict[str, Any]:
    """Record in turn with no page, one and two."""
    stretches: dict[tuple[int, int], list[dict[str, Any]]] = {turn: [] for turn in TURNS}
    cores = [camera(case.side) for case in CASES]
    frames = max(RING + 1, int(seconds * RATE))  # the ring's first turn is what `gaps` compares with
    alone_ms = [engine_alone_ms(case, core) for case, core in zip(CASES, cores, strict=True)]
    with ExitStack() as stack:
        addresses = [stack.enter_context(served(case.preset)) for case in CASES]
        for number, pages in TURNS * rounds:
            made = stretch(cores[number], addresses[number], pages, frames)
            stretches[number, pages].append(made)
            late = made["times"]["over_engine"]
            p95 = f", p95 {np.percentile(late, 95):.0f} ms over the engine" if late else ""
            print(f"{CASES[number].preset}, {pages} pages: {made['recorded']} recorded{p95}", flush=True)
    made_of = {f"{number} {pages}": pooled(stretches[number, pages]) for number, pages in TURNS}
    return {"engine_alone_ms": alone_ms, "turns": made_of}


def pooled(made: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the figures of some stretches together."""
    counts = ("recorded", "gaps", "enhanced", "drawn", "skipped")
    times = {name: [value for each in made for value in each["times"][name]] for name in TIMES}
    # The recorder's tails, stretch by stretch: one bad moment of the disk is not all of them.
    recorder = {
        f"{name}_p{part}": float(np.median([np.percentile(each[name], part) for each in made]))
        for name in ("put_ms", "stored_ms")
        for part in (50, 99)
    }
    return {
        **{name: sum(each[name] for each in made) for name in counts}, **recorder,
        "times": {
            name: [float(value) for value in np.percentile(values, PERCENTILES)]
            for name, values in times.items()
            if values
        },
    }  # fmt: skip


def screen_table(figures: dict[str, Any]) -> list[str]:
    """Return the lines of frame to screen."""
    lines: list[str] = []
    for number, pages in TURNS:
        if not pages:
            continue
        made = figures["turns"][f"{number} {pages}"]
        what = f"{CASES[number].words()}; {pages} page{'s'[: pages - 1]}"
        lines += [f"| {what} | p50 | p95 | p99 | bound (p95) | holds |", "|---|---|---|---|---|---|"]
        for name, words in TIMES.items():
            times = made["times"][name]
            cells = " | ".join(f"{value:.0f}" for value in times)
            is_judged = name == "over_engine"
            bound = f"{OVER_ENGINE_MS:g} | {_yes(times[1] <= OVER_ENGINE_MS)}" if is_judged else "|"
            lines.append(f"| {words} (ms) | {cells} | {bound} |")
        counts = ", ".join(str(made[name]) for name in ("recorded", "enhanced", "drawn", "skipped"))
        alone = figures["engine_alone_ms"][number]
        lines += [
            f"| the engine alone, before all of it (ms) | {alone:.0f} | | | | |",
            f"| frames taken, enhanced, drawn, skipped | {counts} | | | | |",
            "",
        ]
    return lines


def recording_table(turns: dict[str, Any]) -> list[str]:
    """Return the lines of the recording beside it."""
    made = [turns[f"0 {pages}"] for pages in range(3)]
    whole = [(each["recorded"], each["gaps"]) for each in made]
    cells = " | ".join(f"{recorded}, {missing}" for recorded, missing in whole)
    no_gap = not any(missing for _, missing in whole) and len(set(whole)) == 1
    lines = [
        "| the recording, with so many pages | 0 | 1 | 2 | 2 over 0 | bound | holds |",
        "|---|---|---|---|---|---|---|",
        f"| frames recorded, gaps | {cells} | | no gap | {_yes(no_gap)} |",
    ]
    for name, words in RECORDER.items():
        cells = " | ".join(f"{each[name]:.2f}" for each in made)
        ratio = made[2][name] / made[0][name]
        is_judged = name == "stored_ms_p50"
        bound = f"{SLOWER_LIMIT:g} | {_yes(ratio <= SLOWER_LIMIT)}" if is_judged else "|"
        lines.append(f"| {words} (ms) | {cells} | {ratio:.2f} | {bound} |")
    return [*lines, ""]


def _yes(holds: bool) -> str:
    return "yes" if holds else "NO"


def main(arguments: argparse.Namespace) -> None:
    """Run and print."""
    figures: dict[str, Any] = {"load": os.getloadavg()[0]}
    growth: list[str] = []
    lines: list[str] = []
    if arguments.minutes:
        with served(CASES[0].preset) as address:
            figures["growth"] = grow(camera(CASES[0].side), address, arguments.minutes)
        growth = [*growth_table(figures["growth"]), ""]
    if arguments.rounds:
        figures |= measure(arguments.seconds, arguments.rounds)
        lines = [*screen_table(figures), *recording_table(figures["turns"])]
    lines += [
        *growth,
        f"Simulated TIRF at {RATE:g} frames/s, random weights; camera, recorder, viewer, worker and browsers "
        f"on {os.cpu_count()} cores; the machine's load before was {figures['load']:.1f}.",
    ]
    publish(arguments, "Frame to screen", "\n".join(lines), figures)


if __name__ == "__main__":
    parser = bench_parser(__doc__)
    parser.add_argument("--seconds", type=float, default=20.0, help="a stretch")
    parser.add_argument("--rounds", type=int, default=3, help="0: none of it")
    parser.add_argument("--minutes", type=float, default=0.0, help="that a page stays open; 0: none does")
    main(parser.parse_args())
