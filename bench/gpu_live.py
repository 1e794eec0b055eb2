"""Camera to worker to client on an NVIDIA GPU: TIRF at 30 frames/s for ten minutes, and what each frame took.

    python bench/gpu_live.py [--minutes 10] [--rate 30] [--json] [--write bench/results/gpu-live.md]

The virtual TIRF stand replays 64 rendered frames of 512 x 512 px at the camera's pace, in hardware-sequenced
acquisition; a worker process enhances them with the paper's network to 1024 x 1024. The camera numbers its
frames, so that a missing one shows; each place of the ring must be answered by the same bytes every time.
Latency is from the moment that the frame leaves the core to its enhanced image in this process. Nothing goes
to the disk: 18,000 enhanced frames are 75 GB. `--rehearsal` runs it with a small network on the CPU.
"""

import subprocess
import sys
import time
import zlib
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import useq
from output import bench_parser, publish
from paper_network import package_of

from acquisition.live import LiveEnhancer, LiveFrame
from acquisition.time_lapse import run_time_lapse
from acquisition.virtual import load
from inference.client import ClientSettings
from inference.generator import GeneratorPlan
from inference.model_package import ModelPackage

RING, SIDE_PX, PIXEL_SIZE_UM = 64, 512, 0.065
WORKER_START_S = 240.0


def tirf_package(plan: GeneratorPlan, weights: Path | None, *, onnx: bool) -> ModelPackage:
    """Return a network as a model for the TIRF stand."""
    package = package_of(plan, weights, onnx=onnx)
    facts = {"channel": "GFP", "low_pixel_size_um": PIXEL_SIZE_UM, "high_pixel_size_um": PIXEL_SIZE_UM / 2}
    card = package.card.model_copy(update={**facts, "low_numerical_aperture": None})
    return ModelPackage(
        package.name, package.model_hash, card, package.onnx, package.safetensors,
        package.test_input, package.test_output,
    )  # fmt: skip


def serve_network(rehearsal: bool, weights: Path | None) -> None:
    """Be the worker."""
    from inference.engine import STREAMED_PX, Engine
    from inference.service import serve

    if rehearsal:
        from inference.backends import open_backend

        package = tirf_package(GeneratorPlan(base_width=4, levels=1, shuffle=2), None, onnx=True)
        engine = Engine(package, open_backend(package, "cpu"))
    else:
        from inference.backends.cuda_backend import CudaBackend

        package = tirf_package(GeneratorPlan(), weights, onnx=False)
        engine = Engine(package, CudaBackend(package, compiled=True), guarded_px=STREAMED_PX)
    engine.enhance(np.full((SIDE_PX, SIDE_PX), 500, np.uint16), pixel_size_um=PIXEL_SIZE_UM, channel="GFP")
    serve([engine], "tcp://127.0.0.1:*", on_ready=lambda address: print(address, flush=True))


@dataclass
class Listener:
    """What came back, in the order in which it came."""

    numbers: list[int] = field(default_factory=list)
    latency_ms: list[float] = field(default_factory=list)
    engine_ms: list[float] = field(default_factory=list)
    answers: dict[int, set[int]] = field(default_factory=dict)
    """Checksums of the enhanced images of each place of the ring."""
    ended: Counter[str] = field(default_factory=Counter)

    def enhanced(self, image: np.ndarray, frame: LiveFrame) -> None:
        """Take an enhanced frame."""
        assert frame.result is not None
        self.numbers.append(frame.number)
        self.latency_ms.append(frame.result.latency_ms)
        self.engine_ms.append(frame.result.engine_ms)
        self.answers.setdefault(frame.number % RING, set()).add(zlib.crc32(image))

    def minutes(self, frames: int) -> Callable[[int, int], None]:
        """Return what prints a line for each so many frames: ten minutes are long to wait without a word."""
        told = [0]

        def tell(done: int, _planned: int) -> None:
            if done // frames > told[0]:
                told[0] = done // frames
                latest = _percentiles(np.array(self.latency_ms[-frames:]))
                print(f"minute {told[0]}: {done} frames, latency {latest} ms", file=sys.stderr, flush=True)

        return tell

    def lost(self, _frame: LiveFrame, reason: str) -> None:
        """Take a frame that was not enhanced."""
        self.ended[reason] += 1


def run(minutes: float, rate: float, worker: str, pid: int) -> dict[str, Any]:
    """Run the camera and return the figures."""
    core = load("tirf_sim", replay=RING, camera_shape_yx=(SIDE_PX, SIDE_PX))
    core.setExposure(1000 / rate)
    frames = round(60 * minutes * rate)
    heard = Listener()
    process = psutil.Process(pid)
    settings = ClientSettings(silence_limit_s=60.0, progress_limit_s=60.0)
    with LiveEnhancer(core, worker, settings=settings) as live:
        live.enhanced.connect(heard.enhanced)
        live.failed.connect(heard.lost)
        live.dropped.connect(heard.lost)
        live.wait_ready(WORKER_START_S)
        began_mb, began_s = process.memory_info().rss / 1e6, time.perf_counter()
        sequence = useq.MDASequence(channels=["GFP"], time_plan={"interval": 0, "loops": frames})
        report = run_time_lapse(core, sequence, live, heard.minutes(round(60 * rate)))
        taken_s = time.perf_counter() - began_s
        status = report.status
    latency, engine = np.array(heard.latency_ms), np.array(heard.engine_ms)
    minute = round(60 * rate)
    return {
        "minutes": minutes, "rate": rate, "frames": frames, "finish": report.finish_reason,
        "taken": status.frames_in, "missed": status.missed, "enhanced": status.enhanced,
        "not_enhanced": dict(heard.ended), "in_order": heard.numbers == list(range(frames)),
        "same_answers": all(len(found) == 1 for found in heard.answers.values()), "seconds": taken_s,
        "latency_ms": _percentiles(latency), "engine_ms": _percentiles(engine),
        "first_minute_ms": _percentiles(latency[:minute]), "last_minute_ms": _percentiles(latency[-minute:]),
        "worker_mb": (began_mb, process.memory_info().rss / 1e6),
    }  # fmt: skip


def _percentiles(times_ms: np.ndarray) -> list[float]:
    return [float(value) for value in np.percentile(times_ms, (50, 95, 99, 100))]


def table(figures: dict[str, Any], card: str) -> str:
    """Return the figures as a table in Markdown."""
    whole = figures["enhanced"] == figures["frames"] and figures["in_order"] and not figures["missed"]
    lines = [
        f"{card}; TIRF {SIDE_PX} x {SIDE_PX} at {figures['rate']:g} frames/s for {figures['minutes']:g} min "
        f"(simulated camera), enhanced to {2 * SIDE_PX} x {2 * SIDE_PX}.",
        "",
        "| | median | 95 % | 99 % | largest |",
        "|---|---|---|---|---|",
    ]
    rows = {
        "camera to client (ms)": "latency_ms", "in the first minute": "first_minute_ms",
        "in the last minute": "last_minute_ms", "of it in the engine (ms)": "engine_ms",
    }  # fmt: skip
    lines += [
        f"| {name} | " + " | ".join(f"{v:.1f}" for v in figures[key]) + " |" for name, key in rows.items()
    ]
    verdict = "none lost, in order" if whole else "NOT WHOLE"
    before_mb, after_mb = figures["worker_mb"]
    lines += [
        "",
        f"{figures['enhanced']} of {figures['frames']} frames enhanced in {figures['seconds']:.1f} s, "
        f"{figures['missed']} missed by the camera's numbers: {verdict}. "
        f"The same frame gave the same bytes each time: {'yes' if figures['same_answers'] else 'NO'}. "
        f"The worker's memory: {before_mb:.0f} MB before, {after_mb:.0f} MB after.",
    ]  # fmt: skip
    if figures["not_enhanced"]:
        lines.append(f"Not enhanced: {figures['not_enhanced']}.")
    return "\n".join(lines)


def _card(rehearsal: bool) -> str:
    if rehearsal:
        return "Rehearsal on the CPU, a small network"
    import torch

    return f"{torch.cuda.get_device_name()}, torch {torch.__version__}, the paper's network"


def main() -> int:
    """Run and print."""
    parser = bench_parser(__doc__)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--rate", type=float, default=30.0, help="frames a second")
    parser.add_argument("--weights", type=Path, help="best.safetensors of a run of the paper's network")
    parser.add_argument("--rehearsal", action="store_true")
    parser.add_argument("--be-worker", action="store_true")
    arguments = parser.parse_args()
    if arguments.be_worker:
        serve_network(arguments.rehearsal, arguments.weights)
        return 0
    command = [sys.executable, str(Path(__file__).resolve()), "--be-worker"]
    command += ["--rehearsal"] if arguments.rehearsal else []
    command += ["--weights", str(arguments.weights)] if arguments.weights else []
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as worker:
        try:
            assert worker.stdout is not None
            address = worker.stdout.readline().strip()
            figures = run(arguments.minutes, arguments.rate, address, worker.pid)
        finally:
            worker.terminate()
    publish(arguments, "TIRF live on a GPU", table(figures, _card(arguments.rehearsal)), figures)
    return 0 if figures["in_order"] and figures["enhanced"] == figures["frames"] else 1


if __name__ == "__main__":
    sys.exit(main())
