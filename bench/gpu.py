"""Inference on an NVIDIA GPU: the paper's network beside the card's own matrix products, then the service.

    python bench/gpu.py [--weights RUN/best.safetensors] [--side 1024] [--json] [--write bench/results/gpu.md]

In one run: the card's bfloat16 rate (8192 x 8192 x 8192 products of random numbers, the median), the
network's time on the device by events (a replayed graph, layers fused and not), frames a second of the engine
from array to array (one at a time, and two under way), and of the whole service, client to worker to client,
the worker a process of its own. Needs torch with CUDA, numpy, scipy, pydantic, safetensors, PyYAML, psutil
and pyzmq.
"""

import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from output import bench_parser, publish
from paper_network import operations, package_of

from inference.backends.cuda_backend import CudaBackend
from inference.backends.precision_gate import LARGEST_ERROR, error_of
from inference.client import ClientSettings, WorkerClient
from inference.engine import STREAMED_PX, Engine
from inference.generator import GeneratorPlan

PLAN = GeneratorPlan()
SECONDS = 3.0
MATRIX = 8192
RATE_BOUND, SERVICE_BOUND = 0.50, 0.90

SERVE = """
import sys
sys.path.insert(0, "bench")
from pathlib import Path
from gpu import engine_of
from inference.service import serve
weights = Path(sys.argv[1]) if sys.argv[1] else None
serve([engine_of(weights)], "tcp://127.0.0.1:*", on_ready=lambda address: print(address, flush=True))
"""


def engine_of(weights: Path | None) -> Engine:
    """Return the paper's network on the GPU, as `sharpscope serve` has it."""
    package = package_of(PLAN, weights)
    return Engine(package, CudaBackend(package, compiled=True), guarded_px=STREAMED_PX)


def device_seconds(work: Callable[[], object], seconds: float = 1.0) -> float:
    """Return the median time of a piece of work on the device, from events around each repetition."""
    for _ in range(5):
        work()
    torch.cuda.synchronize()
    times: list[float] = []
    began = time.perf_counter()
    while time.perf_counter() - began < seconds:
        events = [
            (torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)) for _ in range(10)
        ]
        for start, end in events:
            start.record()
            work()
            end.record()
        torch.cuda.synchronize()
        times += [start.elapsed_time(end) / 1000 for start, end in events]
    return float(np.median(times))


def matrix_rate() -> float:
    """Return the card's bfloat16 operations a second in large matrix products."""
    a, b = (torch.randn(MATRIX, MATRIX, device="cuda", dtype=torch.bfloat16) for _ in "ab")
    return 2 * MATRIX**3 / device_seconds(lambda: a @ b)


def network_seconds(backend: CudaBackend, frame: np.ndarray, side: int) -> float:
    """Return what one frame costs on the device, everything between the copies included."""
    slot = backend.slots(frame, 2, (side, side))[0]
    return device_seconds(slot.graph.replay)


def frames_a_second(engine: Engine, frames: list[np.ndarray], under_way: int) -> float:
    """Return frames a second from array to array, so many begun before the first is waited for."""
    waiting: deque[Callable[[], Any]] = deque()
    count, began = 0, 0.0
    while True:
        waiting.append(engine.begin(frames[count % len(frames)], pixel_size_um=0.65, channel="FITC"))
        if len(waiting) >= under_way:
            waiting.popleft()()
        count += 1
        if count == 20:
            began, first = time.perf_counter(), count
        if count > 20 and time.perf_counter() - began > SECONDS:
            return (count - first) / (time.perf_counter() - began)


def service_rate(weights: Path | None, frames: list[np.ndarray]) -> float:
    """Return frames a second from client to worker to client."""
    command = [sys.executable, "-c", SERVE, str(weights or "")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as worker:
        try:
            assert worker.stdout is not None
            address = worker.stdout.readline().strip()
            arrived: list[float] = []
            settings = ClientSettings(silence_limit_s=120.0, progress_limit_s=120.0)
            with WorkerClient(
                address, lambda _: arrived.append(time.perf_counter()), settings=settings
            ) as client:
                client.wait_ready(120)
                count = 0
                while len(arrived) < 20 or arrived[-1] - arrived[19] < SECONDS:
                    client.submit(
                        frames[count % len(frames)], pixel_size_um=0.65, channel="FITC", timeout_s=120
                    )
                    count += 1
                client.drain(60)
        finally:
            worker.terminate()
    return (len(arrived) - 20) / (arrived[-1] - arrived[19])


def measure(weights: Path | None, side: int) -> dict[str, Any]:
    """Measure everything, in one run."""
    random = np.random.default_rng(0)
    frames = [random.integers(100, 20000, (side // 2, side // 2), dtype=np.uint16) for _ in range(8)]
    needed = operations(PLAN, (side, side))
    figures: dict[str, Any] = {
        "card": torch.cuda.get_device_name(), "torch": torch.__version__, "side": side,
        "gflop": needed / 1e9, "matrix_tflops": matrix_rate() / 1e12, "trained": weights is not None,
    }  # fmt: skip
    package = package_of(PLAN, weights)
    for name, compiled in (("layer by layer", False), ("compiled", True)):
        began = time.perf_counter()
        backend = CudaBackend(package, compiled=compiled)
        backend.slots(frames[0], 2, (side, side))
        ready = time.perf_counter() - began
        seconds = network_seconds(backend, frames[0], side)
        share = needed / seconds / 1e12 / figures["matrix_tflops"]
        figures[name] = {"ms": 1000 * seconds, "share": share, "ready_s": ready}
        print(name, figures[name], flush=True)
    figures["error"] = error_of(package, backend.run)
    engine = Engine(package, backend, guarded_px=STREAMED_PX)
    figures["one_at_a_time"] = frames_a_second(engine, frames, 1)
    figures["two_under_way"] = frames_a_second(engine, frames, 2)
    figures["service"] = service_rate(weights, frames)
    figures["matrix_tflops_after"] = matrix_rate() / 1e12
    return figures


def table(figures: dict[str, Any]) -> str:
    """Return the figures as a table in Markdown."""
    best = figures["compiled"]
    engine = max(figures["one_at_a_time"], figures["two_under_way"])
    lines = [
        f"{figures['card']}, torch {figures['torch']}; the paper's network, {figures['gflop']:.0f} GFLOP for "
        f"{figures['side']} x {figures['side']} px; {'trained' if figures['trained'] else 'random'} weights.",
        "",
        "| | | bound | holds |",
        "|---|---|---|---|",
        f"| matrix products, bfloat16 (TFLOP/s, before and after) | {figures['matrix_tflops']:.0f}, "
        f"{figures['matrix_tflops_after']:.0f} | | |",
    ]
    for name in ("layer by layer", "compiled"):
        found = figures[name]
        lines.append(
            f"| network, {name} (ms a frame; ready after {found['ready_s']:.0f} s) | {found['ms']:.2f} | | |"
        )
    lines += [
        f"| share of the matrix rate | {best['share']:.2f} | {RATE_BOUND} "
        f"| {_verdict(best['share'] >= RATE_BOUND)} |",
        f"| error of bfloat16, of the output's standard deviation | {figures['error']:.4f} | {LARGEST_ERROR} "
        f"| {_verdict(figures['error'] <= LARGEST_ERROR)} |",
        f"| engine, one frame at a time (frames/s) | {figures['one_at_a_time']:.0f} | | |",
        f"| engine, two under way (frames/s) | {figures['two_under_way']:.0f} | | |",
        f"| service (frames/s) | {figures['service']:.0f} | | |",
        f"| service over engine | {figures['service'] / engine:.2f} | {SERVICE_BOUND} "
        f"| {_verdict(figures['service'] / engine >= SERVICE_BOUND)} |",
    ]
    return "\n".join(lines)


def _verdict(holds: bool) -> str:
    return "yes" if holds else "NO"


def main() -> None:
    """Run and print."""
    parser = bench_parser(__doc__)
    parser.add_argument("--weights", type=Path, help="best.safetensors of a run of the paper's network")
    parser.add_argument("--side", type=int, default=1024, help="of the output, px")
    arguments = parser.parse_args()
    figures = measure(arguments.weights, arguments.side)
    publish(arguments, "Inference on a GPU", table(figures), figures)


if __name__ == "__main__":
    main()
