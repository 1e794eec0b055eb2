"""What precision and memory layout bring, what loading costs, and whether memory stays flat.

    python bench/training_speed.py [--json] [--write bench/results/training-speed.md] [--presets NAME ...]

The first table: iterations a second of a preset, in blocks of half a second or more, the variants in turn,
medians; "eager fp32" is torch as it comes: float32, channels first. The second: a run of 2,000 iterations of
a small network in a process of its own, its memory after 200 and after 2,000 iterations, and what part of its
time the networks waited for patches. Synthetic pairs; what is measured does not depend on what they show.
"""

import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from output import bench_parser, publish
from pairing import write_folders

from training.losses import Weights
from training.networks import Networks
from training.pairing.build import pair_folders
from training.settings import TrainingPlan, load_training_plan

BLOCK_S, ROUNDS = 0.5, 5
SPEED_BOUND, WAITING_BOUND = 1.6, 0.05
VARIANTS = {
    "eager fp32": ("float32", torch.contiguous_format),
    "fp32, channels last": ("float32", torch.channels_last),
    "bf16, channels last": ("bfloat16", torch.channels_last),
}


def speeds(preset: str) -> list[dict[str, Any]]:
    """Return iterations a second of every variant, measured in turn."""
    plan = load_training_plan(preset)
    random = np.random.default_rng(0)
    shape = (plan.batch, 1, plan.patch_px, plan.patch_px)
    low, high = (torch.from_numpy(random.uniform(0, 255, shape).astype(np.float32)) for _ in "lh")
    networks = {name: _networks(plan, *variant) for name, variant in VARIANTS.items()}
    seconds: dict[str, list[float]] = {name: [] for name in VARIANTS}
    block = 1
    for number in range(ROUNDS + 2):  # the first two warm up, and say how long a block must be
        for name, both in networks.items():
            began = time.perf_counter()
            for iteration in range(block):
                both.update(low, high, Weights.of(plan.loss), iteration)
            seconds[name].append((time.perf_counter() - began) / block)
        block = max(1, round(BLOCK_S / seconds["eager fp32"][-1])) if number else 1
    seconds = {name: taken[2:] for name, taken in seconds.items()}
    slowest = float(np.median(seconds["eager fp32"]))
    return [
        {
            "preset": preset,
            "variant": name,
            "iterations_a_s": 1 / float(np.median(taken)),
            "times_eager_fp32": slowest / float(np.median(taken)),
        }
        for name, taken in seconds.items()
    ]


def _networks(plan: TrainingPlan, precision: str, layout: torch.memory_format) -> Networks:
    both = Networks(plan.model_copy(update={"precision": precision}), torch.device("cpu"))
    for network in (both.generator, both.discriminator):
        network.to(memory_format=layout)
    return both


RUN = """
import json, os, sys
from pathlib import Path
import psutil
from training.pairing.pairs import PairSet
from training.settings import load_training_plan
from training.trainer import Trainer

plan = load_training_plan("widefield_quick").model_copy(update={
    "channel": "channel", "minutes": None, "iterations": 2000, "validate_every": 100, "patch_px": 64,
    "generator": load_training_plan("widefield_quick").generator.model_copy(update={"base_width": 8}),
})
held = []
process = psutil.Process()
trainer = Trainer(plan, PairSet.open(Path(sys.argv[1])), Path(sys.argv[2]))
result = trainer.run(lambda done, total: held.append(process.memory_info().rss))
print(json.dumps({"waited": result.waited_s / result.seconds, "after_200_mb": held[9] / 1e6,
                  "after_2000_mb": held[-1] / 1e6, "seconds": result.seconds}))
"""


def long_run() -> dict[str, float]:
    """Return what a run of 2,000 iterations waited for and held."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_folders(folder, 4)
        pairs = pair_folders(folder / "low", folder / "high", 2, folder / "pairs")
        command = [sys.executable, "-c", RUN, str(pairs.path), str(folder / "run")]
        answer = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    found: dict[str, float] = json.loads(answer.splitlines()[-1])
    return found


def table(lines: list[dict[str, Any]], run: dict[str, float]) -> str:
    """Return both tables in Markdown."""
    text = ["| preset | variant | iterations/s | times eager fp32 |", "|---|---|---|---|"]
    text += [
        f"| {line['preset']} | {line['variant']} | {line['iterations_a_s']:.2f} "
        f"| {line['times_eager_fp32']:.2f} |"
        for line in lines
    ]
    text += [
        "",
        "| 2,000 iterations | waiting for patches (%) | memory after 200 (MB) | after 2,000 (MB) |",
        "|---|---|---|---|",
        f"| {run['seconds']:.0f} s | {100 * run['waited']:.1f} | {run['after_200_mb']:.0f} "
        f"| {run['after_2000_mb']:.0f} |",
        "",
        f"{os.cpu_count()} cores ({platform.machine()}), torch {torch.__version__}. "
        f"Bounds: {SPEED_BOUND} times, {100 * WAITING_BOUND:.0f} % waiting.",
    ]
    return "\n".join(text)


def main() -> None:
    """Run and print."""
    parser = bench_parser(__doc__)
    parser.add_argument("--presets", nargs="+", default=["widefield", "widefield_quick"])
    arguments = parser.parse_args()
    lines, run = [line for preset in arguments.presets for line in speeds(preset)], long_run()
    text = table(lines, run)
    publish(arguments, "Speed of training", text, {"speeds": lines, "run": run})


if __name__ == "__main__":
    main()
