"""The engine on a CPU beside the machine's own matrix products, torch layer by layer, and ONNX Runtime.

    python bench/engine.py [--rounds 3] [--json] [--write bench/results/engine.md]

The paper's network (1257 GFLOP for 1024 x 1024 px of output), whole engine: guards, preparation, network and
the way back to counts. All in turn in every round; rates are the best samples of the run, as the bounds say.
Matrix products are torch's, of 4096 x 4096 numbers. Then what an image four times as large and one a quarter
of it cost a pixel, tiles, batches and the memory that was stated beside the one that was taken.
"""

import argparse
import itertools
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import openvino
import psutil
import torch
from output import bench_parser, publish
from paper_network import operations, package_of

from inference.backends.onnxruntime_backend import OnnxRuntimeBackend
from inference.backends.openvino_backend import OpenVinoBackend, has_bfloat16
from inference.backends.precision_gate import LARGEST_ERROR, error_of
from inference.backends.torch_backend import TorchBackend
from inference.engine import Engine
from inference.generator import GeneratorPlan

PLAN = GeneratorPlan()
LIVE = GeneratorPlan(base_width=8, levels=3)
SIDE = 1024
MATRIX = 4096
PRODUCTS = 8
"""In every round: they take as long as one frame, and have as many chances to be undisturbed."""
RATE_BOUND, FP32_OVER_EAGER, BF16_OVER_EAGER = 0.90, 1.6, 3.3
AGREEMENT_BOUND, LARGE_BOUND = 1e-4, 1.15
Work = Callable[[], object]


def frame(side: int) -> np.ndarray:
    """Return a camera frame for an output of so many px."""
    random = np.random.default_rng(side)
    return random.integers(100, 20000, (side // 2, side // 2), dtype=np.uint16)


def enhancing(engine: Engine, side: int) -> Work:
    """Return the work of one frame."""
    image = frame(side)
    return lambda: engine.enhance(image, pixel_size_um=0.65, channel="FITC")


def product(dtype: torch.dtype) -> Work:
    """Return the work of one matrix product."""
    a, b = (torch.randn(MATRIX, MATRIX).to(dtype) for _ in "ab")
    return lambda: a @ b


def seconds_of(work: Work) -> float:
    """Return how long a piece of work takes."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


@contextmanager
def peak_memory() -> Iterator[list[int]]:
    """Watch this process: give a list whose one number is by how many bytes it grew at the most."""
    process, stop = psutil.Process(), threading.Event()
    before = process.memory_info().rss
    peak = [0]

    def watch() -> None:
        while not stop.wait(0.01):
            peak[0] = max(peak[0], process.memory_info().rss - before)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield peak
    finally:
        stop.set()
        thread.join()


def measure(rounds: int) -> dict[str, Any]:
    """Measure everything, in turn."""
    package = package_of(PLAN, onnx=True)
    fp32 = Engine(package, OpenVinoBackend(package))
    eager = Engine(package, TorchBackend(package, "cpu"))
    with peak_memory() as taken:
        enhancing(fp32, SIDE)()
    works: dict[str, Work] = {
        "product fp32": product(torch.float32),
        "fp32": enhancing(fp32, SIDE),
        "fp32 512": enhancing(fp32, 512),
        "fp32 2048": enhancing(fp32, 2048),
        "fp32 tiles": enhancing(Engine(package, fp32.backend, (SIDE // 2 + 256) ** 2), SIDE),
        "eager": enhancing(eager, SIDE),
        "ONNX Runtime": enhancing(Engine(package, OnnxRuntimeBackend(package)), SIDE),
    }
    figures: dict[str, Any] = {
        "gflop": operations(PLAN, (SIDE, SIDE)) / 1e9,
        "taken_bytes": taken[0],
        "stated_bytes": fp32.memory_bytes(SIDE**2),
        "disagreement": disagreement(fp32, eager),
    }
    if has_bfloat16():
        bf16 = Engine(package, OpenVinoBackend(package, narrow=True))
        works |= {"product bf16": product(torch.bfloat16), "bf16": enhancing(bf16, SIDE)}
        works["bf16 2048"], works["bf16 512"] = enhancing(bf16, 2048), enhancing(bf16, 512)
        figures["bf16_error"] = error_of(package, bf16.backend.run)
    for name in ("fp32 512", "fp32 2048", "bf16 512", "bf16"):
        if name in works:
            works[name]()  # the first image of a shape plans its memory
    times: dict[str, list[float]] = {name: [] for name in works}
    for _, (name, work) in itertools.product(range(rounds), works.items()):
        times[name] += [seconds_of(work) for _ in range(PRODUCTS if name.startswith("product") else 1)]
        print(f"{name}: {times[name][-1]:.2f} s", flush=True)
    figures["seconds"] = {name: min(each) for name, each in times.items()}
    figures["batch"] = batch_ratio(rounds)
    return figures


def disagreement(one: Engine, other: Engine) -> float:
    """Return the greatest difference of two engines' images, in standard deviations of the output."""
    first, second = (enhancing(engine, 512)() for engine in (one, other))
    return float(np.abs(first.image - second.image).max() / second.image.std())  # type: ignore[attr-defined] # Enhanced


def batch_ratio(rounds: int) -> float:
    """Return what an image of a batch of four costs over one alone, of a network for live use at 512 px."""
    package = package_of(LIVE, onnx=True)
    backend = OpenVinoBackend(package)
    four = np.random.default_rng(0).uniform(0, 255, (4, 1, 512, 512)).astype(np.float32)
    one = four[:1]
    times = [
        (seconds_of(lambda: backend.run(four)) / 4, seconds_of(lambda: backend.run(one)))
        for _ in range(3 * rounds)
    ]
    return float(np.median([of_four / alone for of_four, alone in times]))


def table(figures: dict[str, Any]) -> str:
    """Return the figures as a table in Markdown."""
    seconds = figures["seconds"]
    tflop = figures["gflop"] / 1e3
    lines = [
        "| 1024 x 1024 out, the paper's network | s | GFLOP/s | times torch eager |",
        "|---|---|---|---|",
    ]
    for name in ("eager", "ONNX Runtime", "fp32", "bf16"):
        if name in seconds:
            rate, over = 1e3 * tflop / seconds[name], seconds["eager"] / seconds[name]
            lines.append(f"| {name} | {seconds[name]:.2f} | {rate:.0f} | {over:.2f} |")
    lines += ["", "| | | bound | holds |", "|---|---|---|---|"]
    for name, least in (("fp32", FP32_OVER_EAGER), ("bf16", BF16_OVER_EAGER)):
        if name not in seconds:
            continue
        of_products = 2 * MATRIX**3 / seconds[f"product {name}"]
        share = 1e9 * figures["gflop"] / seconds[name] / of_products
        over = seconds["eager"] / seconds[name]
        growth = seconds[f"{name} 2048"] / seconds[f"{name} 512"] / 16
        lines += [
            f"| {name} of the matrix products' rate ({of_products / 1e9:.0f} GFLOP/s) | {share:.2f} "
            f"| {RATE_BOUND} | {_verdict(share >= RATE_BOUND)} |",
            f"| {name} over torch eager | {over:.2f} | {least} | {_verdict(over >= least)} |",
            f"| {name}: a pixel of 2048 x 2048 over one of 512 x 512 | {growth:.2f} | {LARGE_BOUND} "
            f"| {_verdict(growth <= LARGE_BOUND)} |",
        ]
    error, taken = figures["disagreement"], figures["taken_bytes"] / figures["stated_bytes"]
    lines.append(
        f"| fp32 differs from eager by (standard deviations, the most) | {error:.1e} | {AGREEMENT_BOUND:g} "
        f"| {_verdict(error <= AGREEMENT_BOUND)} |"
    )
    if "bf16_error" in figures:
        error = figures["bf16_error"]
        verdict = _verdict(error <= LARGEST_ERROR)
        lines.append(
            f"| bf16 errs by (standard deviations, RMS; random weights) | {error:.4f} "
            f"| {LARGEST_ERROR} | {verdict} |"
        )
    tiles = seconds["fp32 tiles"] / seconds["fp32"]
    lines += [
        f"| memory taken over memory stated ({figures['stated_bytes'] / 1e9:.2f} GB) | {taken:.2f} | 1 "
        f"| {_verdict(taken <= 1)} |",
        f"| tiles, each with its halo in {SIDE // 2 + 256} px, over the whole image | {tiles:.2f} | | |",
        f"| an image of a batch of four over one alone, live network, 512 px | {figures['batch']:.2f} | | |",
        "",
        f"{os.cpu_count()} cores, OpenVINO {openvino.__version__.split('-')[0]}, torch {torch.__version__}. "
        "Best samples.",
    ]
    return "\n".join(lines)


def _verdict(holds: bool) -> str:
    return "yes" if holds else "NO"


def main(arguments: argparse.Namespace) -> None:
    """Run and print."""
    figures = measure(arguments.rounds)
    publish(arguments, "The engine on a CPU", table(figures), figures)


if __name__ == "__main__":
    parser = bench_parser(__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    main(parser.parse_args())
