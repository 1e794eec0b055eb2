"""The whole service beside its bare engine, and the preview class under a flood; on a CPU.

    python bench/worker.py [--seconds 10] [--rounds 3] [--json] [--write bench/results/worker.md]

The network is that of the preset `tirf_sim_live` with random weights, 512 x 512 px out. In turn: the engine
in this process, frame after frame, then the service, client to worker to client, as many record frames under
way as the worker grants. Then preview frames at 60 a second, which no CPU holds: how old they are when they
are shown, and that each is either shown or counted as dropped.
"""

import argparse
import os
import queue
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from output import bench_parser, publish
from paper_network import operations, package_of

from inference.backends import open_backend
from inference.client import DroppedFrame, EnhancedFrame, Outcome, WorkerClient
from inference.engine import Engine
from training.settings import load_training_plan

SIDE = 512
FLOOD_PER_S = 60
SERVICE_BOUND, LIVE_BOUND_PER_S, PREVIEW_BOUND = 0.98, 10.0, 2.0
SERVE = """
import sys
sys.path.insert(0, sys.argv[1])
from worker import live_engine
from inference.service import serve
serve([live_engine()], "tcp://127.0.0.1:*", on_ready=lambda address: print(address, flush=True))
"""


def live_engine() -> Engine:
    """Return the live preset's engine on this CPU."""
    package = package_of(load_training_plan("tirf_sim_live").generator, onnx=True)
    return Engine(package, open_backend(package, "cpu"))


def frames() -> list[np.ndarray]:
    """Return camera frames."""
    random = np.random.default_rng(0)
    return [random.integers(100, 20000, (SIDE // 2, SIDE // 2), dtype=np.uint16) for _ in range(8)]


def engine_seconds(engine: Engine, seconds: float) -> float:
    """Return what a frame takes in the bare engine."""
    given = frames()
    count, began = 0, time.perf_counter()
    while time.perf_counter() - began < seconds:
        engine.enhance(given[count % len(given)], pixel_size_um=0.65, channel="FITC")
        count += 1
    return (time.perf_counter() - began) / count


@contextmanager
def served() -> Iterator[tuple[WorkerClient, "queue.SimpleQueue[Outcome]"]]:
    """Run the worker in a process of its own; give a client and where its outcomes arrive."""
    command = [sys.executable, "-c", SERVE, str(Path(__file__).parent)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            outcomes: queue.SimpleQueue[Outcome] = queue.SimpleQueue()
            with WorkerClient(process.stdout.readline().strip(), outcomes.put) as client:
                client.wait_ready(60)
                yield client, outcomes
        finally:
            process.terminate()


def service_seconds(client: WorkerClient, outcomes: "queue.SimpleQueue[Outcome]", seconds: float) -> float:
    """Return what a record frame takes, many under way."""
    given, arrived, submitted = frames(), 0, 0
    warm_up, began = 12, 0.0
    while True:
        while submitted - arrived < 10:
            client.submit(given[submitted % len(given)], pixel_size_um=0.65, channel="FITC")
            submitted += 1
        assert isinstance(outcomes.get(timeout=60), EnhancedFrame)
        arrived += 1
        if arrived == warm_up:
            began = time.perf_counter()
        if arrived > warm_up and time.perf_counter() - began > seconds:
            taken = (time.perf_counter() - began) / (arrived - warm_up)
            client.drain(60)
            for _ in range(submitted - arrived):
                outcomes.get(timeout=60)
            return taken


def preview(client: WorkerClient, outcomes: "queue.SimpleQueue[Outcome]", seconds: float) -> dict[str, float]:
    """Flood the worker with preview frames."""
    given, submitted, began = frames(), 0, time.perf_counter()
    while (now := time.perf_counter()) - began < seconds:
        client.submit(given[submitted % len(given)], delivery="preview", pixel_size_um=0.65, channel="FITC")
        submitted += 1
        time.sleep(max(0.0, began + submitted / FLOOD_PER_S - now))
    client.drain(60)
    ends = [outcomes.get(timeout=60) for _ in range(submitted)]
    shown = [end.latency_ms for end in ends if isinstance(end, EnhancedFrame)]
    dropped = sum(isinstance(end, DroppedFrame) for end in ends)
    return {
        "submitted": submitted, "shown": len(shown), "dropped": dropped,
        "median_ms": float(np.median(shown)), "p95_ms": float(np.percentile(shown, 95)),
    }  # fmt: skip


def measure(seconds: float, rounds: int) -> dict[str, Any]:
    """Measure both in turn, then flood."""
    engine = live_engine()
    engine_seconds(engine, 1.0)
    alone: list[float] = []
    whole: list[float] = []
    with served() as (client, outcomes):
        for _ in range(rounds):
            alone.append(engine_seconds(engine, seconds))
            whole.append(service_seconds(client, outcomes, seconds))
            print(f"engine {1e3 * alone[-1]:.1f} ms, service {1e3 * whole[-1]:.1f} ms", flush=True)
        flood = preview(client, outcomes, seconds)
    return {
        "backend": engine.backend.description,
        "gflop": operations(load_training_plan("tirf_sim_live").generator, (SIDE, SIDE)) / 1e9,
        "engine_ms": 1e3 * float(np.median(alone)),
        "service_ms": 1e3 * float(np.median(whole)),
        "service_over_engine": float(np.median([a / b for a, b in zip(alone, whole, strict=True)])),
        "flood": flood,
    }


def table(figures: dict[str, Any]) -> str:
    """Return the figures as a table in Markdown."""
    ratio, rate = figures["service_over_engine"], 1e3 / figures["service_ms"]
    flood = figures["flood"]
    age = flood["p95_ms"] / figures["engine_ms"]
    counted = flood["shown"] + flood["dropped"] == flood["submitted"]
    return "\n".join(
        [
            "| | | bound | holds |",
            "|---|---|---|---|",
            f"| engine alone (ms a frame) | {figures['engine_ms']:.1f} | | |",
            f"| service (ms a frame) | {figures['service_ms']:.1f} | | |",
            f"| service over engine, throughput | {ratio:.3f} | {SERVICE_BOUND} "
            f"| {_yes(ratio >= SERVICE_BOUND)} |",
            f"| frames/s through the service | {rate:.1f} | {LIVE_BOUND_PER_S:g} "
            f"| {_yes(rate >= LIVE_BOUND_PER_S)} |",
            f"| preview at {FLOOD_PER_S}/s: age when shown, median (ms) | {flood['median_ms']:.0f} | | |",
            f"| preview: p95 of the age, in engine times | {age:.2f} | {PREVIEW_BOUND:g} "
            f"| {_yes(age <= PREVIEW_BOUND)} |",
            f"| preview: submitted, shown, dropped and counted | {flood['submitted']}, {flood['shown']}, "
            f"{flood['dropped']} | all | {_yes(counted)} |",
            "",
            f"`tirf_sim_live`, {figures['gflop']:.1f} GFLOP for {SIDE} x {SIDE} px, random weights; "
            f"{figures['backend']}; {os.cpu_count()} cores.",
        ]
    )


def _yes(holds: bool) -> str:
    return "yes" if holds else "NO"


def main(arguments: argparse.Namespace) -> None:
    """Run and print."""
    figures = measure(arguments.seconds, arguments.rounds)
    publish(arguments, "The service on a CPU", table(figures), figures)


if __name__ == "__main__":
    parser = bench_parser(__doc__)
    parser.add_argument("--seconds", type=float, default=10.0, help="a way and round")
    parser.add_argument("--rounds", type=int, default=3)
    main(parser.parse_args())
