"""Training on an NVIDIA GPU: iterations a second of the paper's preset, beside the paper's own 1.4.

    python bench/gpu_training.py [--presets widefield widefield_quick] [--json]
        [--write bench/results/gpu-training.md]

Each preset is trained for some seconds in each way, patches drawn, sent and learned from as `train`
does; iterations a second are counted after the first ones, which choose kernels and compile. The paper's
figure (Wang et al. 2019) is 1.4 iterations a second for 24 patches of 64 px on two GPUs of 2018. Synthetic
pairs; the speed does not depend on what they show. Needs torch with CUDA, numpy, pydantic and PyYAML.
"""

import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from output import bench_parser, publish

from training.losses import weights_for_shares
from training.networks import Networks
from training.patches import Patches, prefetched
from training.settings import load_training_plan

PAPER_ITERATIONS_A_S = 1.4
SECONDS, WARM_UP = 4.0, 30
SIDE_PX, PAIRS = 512, 4
VARIANTS: dict[str, dict[str, Any]] = {
    "float32": {"precision": "float32"},
    "bfloat16": {"precision": "bfloat16"},
    "bfloat16, compiled": {"precision": "bfloat16", "compile": True},
}


@dataclass(frozen=True)
class Noise:
    """A pair that shows nothing."""

    low: np.ndarray
    high: np.ndarray


def speed(preset: str, changes: dict[str, Any]) -> dict[str, float]:
    """Return iterations a second, and what part of the time was spent waiting for patches."""
    plan = load_training_plan(preset).model_copy(update=changes)
    random = np.random.default_rng(0)
    planes = [random.uniform(0, 255, (2, SIDE_PX, SIDE_PX)).astype(np.float32) for _ in range(PAIRS)]
    patches = Patches([Noise(*pair) for pair in planes], plan.patch_px, 0, count=plan.batch)
    networks = Networks(plan, torch.device("cuda"))
    count, began, waited = 0, 0.0, 0.0
    with prefetched(patches, 0, 0) as supply:
        while count < WARM_UP or time.perf_counter() - began < SECONDS:
            batch = [torch.from_numpy(side).pin_memory() for side in supply.take()]
            low, high = (side.to("cuda", non_blocking=True) for side in batch)
            terms = networks.update(low, high, weights_for_shares(plan.loss, {}), count)
            count += 1
            if count % 20 == 0:
                terms["mse"].item()  # as the trainer does when it looks at the terms
            if count == WARM_UP:
                torch.cuda.synchronize()
                began, waited = time.perf_counter(), supply.waited_s
        torch.cuda.synchronize()
        seconds = time.perf_counter() - began
    return {
        "iterations_a_s": (count - WARM_UP) / seconds,
        "waiting": (supply.waited_s - waited) / seconds,
        "memory_gb": torch.cuda.max_memory_allocated() / 1e9,
    }


def table(lines: list[dict[str, Any]]) -> str:
    """Return the figures as a table in Markdown."""
    text = [
        f"{torch.cuda.get_device_name()}, torch {torch.__version__}; the paper: "
        f"{PAPER_ITERATIONS_A_S} iterations/s with the preset `widefield`.",
        "",
        "| preset | variant | iterations/s | times the paper's | waiting for patches (%) | GPU memory (GB) |",
        "|---" * 6 + "|",
    ]
    for line in lines:
        times = (
            f"{line['iterations_a_s'] / PAPER_ITERATIONS_A_S:.0f}" if line["preset"] == "widefield" else ""
        )
        text.append(
            f"| {line['preset']} | {line['variant']} | {line['iterations_a_s']:.1f} | {times} "
            f"| {100 * line['waiting']:.1f} | {line['memory_gb']:.1f} |"
        )
    return "\n".join(text)


def main() -> None:
    """Run and print."""
    parser = bench_parser(__doc__)
    parser.add_argument("--presets", nargs="+", default=["widefield", "widefield_quick"])
    arguments = parser.parse_args()
    lines = []
    for preset in arguments.presets:
        for variant, changes in VARIANTS.items():
            torch.cuda.reset_peak_memory_stats()
            lines.append({"preset": preset, "variant": variant, **speed(preset, changes)})
            print(lines[-1], flush=True)
    publish(arguments, "Training on a GPU", table(lines), lines)


if __name__ == "__main__":
    main()
