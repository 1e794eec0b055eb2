"""A TIRF time-lapse at camera speed: recorded raw while preview runs, then completed.

    python bench/live.py [--frames 2000] [--rate 30] [--preset NAME] [--json] [--write bench/results/live.md]

The camera of the virtual TIRF stand replays 64 frames of 512 x 512 px at its own pace, in one
hardware-sequenced acquisition. A worker in a process of its own enhances previews (the newest frame wins)
with a small network, or with that of a training preset, random weights; a listener looks at every raw and
enhanced image that it gets. Afterwards `complete` enhances what preview left out, and a sample of the whole
series is compared with the engine offline. What a kill costs is `tests/live/test_live_kill.py`'s matter.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import useq
from output import bench_parser, publish
from paper_network import operations, package_of

from acquisition.live import LiveEnhancer
from acquisition.time_lapse import TimeLapseReport, run_time_lapse
from acquisition.virtual import load
from inference.backends import open_backend
from inference.completion import complete
from inference.engine import Engine
from inference.generator import GeneratorPlan
from inference.recording import Recording
from training.settings import load_training_plan

if TYPE_CHECKING:
    from pymmcore_plus import CMMCorePlus

RING = 64
SIDE = 512
SAMPLE = 50
EQUAL_STD = 1e-4
MOST_SHORT = 2
ASK_S = 0.005
SERVE = """
import sys
sys.path.insert(0, sys.argv[1])
from live import engine_of
from inference.service import serve
serve([engine_of(sys.argv[2])], "tcp://127.0.0.1:*", on_ready=lambda address: print(address, flush=True))
"""


def network(preset: str) -> GeneratorPlan:
    """Return the network of a preset, or a small one."""
    if preset == "small":
        return GeneratorPlan(base_width=4, levels=1, shuffle=2, global_residual=True)
    return load_training_plan(preset).generator


def engine_of(preset: str) -> Engine:
    """Return its engine on this CPU."""
    package = package_of(network(preset), onnx=True)
    return Engine(package, open_backend(package, "cpu"))


@contextmanager
def served(preset: str) -> Iterator[str]:
    """Run a worker in a process of its own; give its address."""
    command = [sys.executable, "-c", SERVE, str(Path(__file__).parent), preset]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield process.stdout.readline().strip()
        finally:
            process.terminate()


class Watcher(threading.Thread):
    """Looks at every image, as a viewer does, and asks again and again what a kill would cost just now."""

    def __init__(self, core: "CMMCorePlus", live: LiveEnhancer) -> None:
        super().__init__(daemon=True)
        self._core, self._live = core, live
        self._over = threading.Event()
        self.short: list[int] = []
        """Frames that the core had from the camera and the journal did not name; rather one too many."""
        self.raw = self.enhanced = 0
        live.raw.connect(self._look_raw)
        live.enhanced.connect(self._look_enhanced)
        self.start()

    def run(self) -> None:
        """Ask until `finish`."""
        assert self._live.recording is not None
        journal, read, frames = self._live.recording / "journal.jsonl", 0, 0
        while not self._over.wait(ASK_S):
            if not journal.exists():
                continue
            with journal.open("rb") as stream:
                stream.seek(read)
                raw = stream.read()
            whole = raw[: raw.rfind(b"\n") + 1]
            read += len(whole)
            frames += whole.count(b'"kind":"frame"')
            had = self._core.getRemainingImageCount() + self._live.status().frames_in
            self.short.append(had - frames)

    def finish(self) -> None:
        """Ask no more."""
        self._over.set()
        self.join()

    def _look_raw(self, image: np.ndarray, _frame: object) -> None:
        self.raw += 1
        np.percentile(image[::4, ::4], (1, 99))

    def _look_enhanced(self, image: np.ndarray, _frame: object) -> None:
        self.enhanced += 1
        np.percentile(image[::8, ::8], (1, 99))


def record(frames: int, rate: float, address: str, path: Path) -> tuple[TimeLapseReport, Watcher, float]:
    """Return what came of the time-lapse, what was seen of it, and how long it took in seconds."""
    core = load("tirf_sim", replay=RING, camera_shape_yx=(SIDE, SIDE))
    core.setExposure(1e3 / rate)
    core.snapImage()
    sequence = useq.MDASequence(channels=["GFP"], time_plan={"interval": 0, "loops": frames})
    with LiveEnhancer(core, address, path, "preview", allow_out_of_domain=True) as live:
        live.wait_ready(60)
        watcher = Watcher(core, live)
        report = run_time_lapse(core, sequence, live)
        watcher.finish()
    elapsed_ms = [line.facts.elapsed_ms or 0.0 for line in Recording.open(path).frames.values()]
    return report, watcher, (elapsed_ms[-1] - elapsed_ms[0]) / 1e3


def gaps(recording: Recording) -> int:
    """Count frames that do not follow the one before, by the camera's number or by the ring's content."""
    numbers = [line.facts.camera_frame for line in recording.frames.values()]
    ring = [recording.read(number) for number in range(RING)]
    wrong = sum(number != place for place, number in enumerate(numbers))
    return wrong + sum(
        not np.array_equal(recording.read(number), ring[number % RING])
        for number in range(RING, len(numbers))
    )


def offline_difference(recording: Recording, preset: str) -> float:
    """Return the largest difference from the engine offline, over the standard deviation of the result."""
    engine = engine_of(preset)
    first = next(iter(recording.enhanced.values()))
    photometry = first.photometry.photometry()
    worst = 0.0
    for number in range(0, len(recording.frames), max(1, len(recording.frames) // SAMPLE)):
        facts = recording.frames[number].facts
        expected = engine.enhance(
            recording.read(number),
            pixel_size_um=facts.pixel_size_um,
            channel=facts.channel,
            allow_out_of_domain=True,
            photometry=photometry,
        ).image
        difference = np.abs(recording.read_enhanced(number) - expected).max()
        worst = max(worst, float(difference / expected.std()))
    return worst


def measure(frames: int, rate: float, preset: str) -> dict[str, Any]:
    """Record, complete, compare."""
    with tempfile.TemporaryDirectory() as folder, served(preset) as address:
        path = Path(folder) / "recording"
        used = os.times()
        report, watcher, seconds = record(frames, rate, address, path)
        now = os.times()
        print(f"recorded {report.status.recorded} of {frames}", flush=True)
        began_s = time.perf_counter()
        added = complete(path, address, allow_out_of_domain=True)
        completed_s = time.perf_counter() - began_s
        recording = Recording.open(path)
        in_order = [line.index for line in (recording.enhanced[n] for n in sorted(recording.enhanced))]
        status, short = report.status, np.array(watcher.short)
        return {
            "frames": frames, "recorded": status.recorded, "missed": status.missed, "gaps": gaps(recording),
            "asked_per_s": rate, "camera_per_s": (frames - 1) / seconds,
            "asked_for_short": len(short), "short_mean": float(short.mean()), "short_most": int(short.max()),
            "raw_seen": watcher.raw, "preview_enhanced": status.enhanced, "preview_dropped": status.dropped,
            "latency_ms_p50": status.latency_ms_p50, "latency_ms_p99": status.latency_ms_p99,
            "own_cpu_share": (now.user + now.system - used.user - used.system) / seconds,
            "completed": added.enhanced, "left": len(added.unenhanced), "completed_s": completed_s,
            "in_order": in_order == list(range(frames)),
            "offline_difference": offline_difference(recording, preset),
        }  # fmt: skip


def table(figures: dict[str, Any], preset: str) -> str:
    """Return the figures as a table in Markdown."""
    f = figures
    whole = f["recorded"] == f["frames"] and not f["gaps"] and not f["missed"]
    all_there = f["preview_enhanced"] + f["completed"] == f["frames"] and not f["left"] and f["in_order"]
    counted = f["preview_enhanced"] + f["preview_dropped"] == f["frames"]
    equal = f["offline_difference"] <= EQUAL_STD
    gflop = operations(network(preset), (2 * SIDE, 2 * SIDE)) / 1e9
    return "\n".join(
        [
            "| | | bound | holds |",
            "|---|---|---|---|",
            f"| frames taken, recorded raw, gaps | {f['frames']}, {f['recorded']}, {f['gaps'] + f['missed']} "
            f"| no gap | {_yes(whole)} |",
            f"| frames/s of the camera | {f['camera_per_s']:.2f} | {f['asked_per_s']:g} "
            f"| {_yes(abs(f['camera_per_s'] / f['asked_per_s'] - 1) < 0.01)} |",
            f"| frames that a kill would have cost, asked {f['asked_for_short']} times: mean, most "
            f"| {f['short_mean']:.2f}, {f['short_most']} | {MOST_SHORT} "
            f"| {_yes(f['short_most'] <= MOST_SHORT)} |",
            f"| preview: enhanced, dropped and counted "
            f"| {f['preview_enhanced']}, {f['preview_dropped']} | all | {_yes(counted)} |",
            f"| preview: age of an enhanced image, median, 99th percentile (ms) | {f['latency_ms_p50']:.0f}, "
            f"{f['latency_ms_p99']:.0f} | | |",
            f"| raw images seen by a listener | {f['raw_seen']} | | |",
            f"| CPU time of the recording process, in cores | {f['own_cpu_share']:.2f} | | |",
            f"| completed afterwards, left, in order | {f['completed']}, {f['left']}, {_yes(f['in_order'])} "
            f"| all | {_yes(all_there)} |",
            f"| completed in (s) | {f['completed_s']:.0f} | | |",
            f"| largest difference from offline, of {SAMPLE} frames (standard deviations) "
            f"| {f['offline_difference']:.1e} | {EQUAL_STD:g} | {_yes(equal)} |",
            "",
            f"Simulated TIRF, {SIDE} x {SIDE} px at {f['asked_per_s']:g} frames/s; network `{preset}`, "
            f"{gflop:.1f} GFLOP a frame, random weights; {os.cpu_count()} cores.",
        ]
    )


def _yes(holds: bool) -> str:
    return "yes" if holds else "NO"


def main(arguments: argparse.Namespace) -> None:
    """Run and print."""
    figures = measure(arguments.frames, arguments.rate, arguments.preset)
    publish(arguments, "A TIRF time-lapse at camera speed", table(figures, arguments.preset), figures)


if __name__ == "__main__":
    parser = bench_parser(__doc__)
    parser.add_argument("--frames", type=int, default=2000)
    parser.add_argument("--rate", type=float, default=30.0, help="frames/s")
    parser.add_argument("--preset", default="small", help="'small', or a training preset: tirf_sim_live")
    main(parser.parse_args())
