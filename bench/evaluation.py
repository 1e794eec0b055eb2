"""Times a whole evaluation: 100 test fields of 1024 x 1024 px with all measurements and all baselines.

    python bench/evaluation.py [--fields 100] [--json] [--write bench/results/evaluation.md]

The fields are cells of the virtual wide-field stand as its optics show them, both images noisy, the truth
free of noise; the model is an untrained one of the preset `widefield_quick`, which costs what a trained one
does. Lucy-Richardson's one setting is searched before the clock starts. Bound: ten minutes on two cores.
"""

import os
import platform
import tempfile
import time
from pathlib import Path

import torch
from aligned_pairs import Taken, aligned_pairs
from output import bench_parser, publish

from inference.engine import load_engine
from inference.generator import build_generator
from training.evaluation.evaluate import evaluate_network
from training.evaluation.restorations import Restorations
from training.export import ModelSource, export_package
from training.pairing.pairs import PairSet
from training.settings import load_training_plan

BOUND_S_PER_FIELD = 6.0


def untrained(pairs: PairSet, path: Path) -> Path:
    """Write a package of the quick preset's generator as it is before training."""
    torch.manual_seed(0)
    plan = load_training_plan("widefield_quick")
    generator = build_generator(plan.generator).eval()
    # The guard's statistics are of training images: here of the one that is left.
    (left,) = pairs.select("validation", plan.channel)
    both = [left.model_copy(update={"split": "train"}), left]
    trained_on = PairSet(pairs.path, pairs.index.model_copy(update={"pairs": both}))
    return export_package(ModelSource(generator, plan, trained_on, {}, {}), path)


def measure(folder: Path, fields: int) -> dict[str, float]:
    """Simulate, and time the evaluation."""
    pairs = aligned_pairs(folder / "pairs", fields, Taken(), validation=1)
    engine = load_engine(untrained(pairs, folder / "model.zip"), "cpu")
    records = pairs.select("test", "FITC")
    first = pairs.read(records[0])
    restorations = Restorations.of(pairs.index, "FITC").searched([first])
    wall, cpu = time.perf_counter(), time.process_time()
    evaluation = evaluate_network(engine, pairs, records, restorations)
    seconds = time.perf_counter() - wall
    measured = sum(len(m.figures) for field in evaluation.fields for m in field.measured.values())
    return {
        "fields": float(fields),
        "wall_s": seconds,
        "cpu_s": time.process_time() - cpu,
        "images": float(sum(len(field.measured) for field in evaluation.fields)),
        "figures": float(measured),
    }


def table(figures: dict[str, float]) -> str:
    """Return the figures as a table in Markdown."""
    fields, wall_s, cpu_s = (figures[name] for name in ("fields", "wall_s", "cpu_s"))
    holds = "yes" if wall_s <= BOUND_S_PER_FIELD * fields else "NO"
    return "\n".join(
        [
            f"| evaluation of {fields:.0f} fields, 1024 x 1024 | | a field | bound | holds |",
            "|---|---|---|---|---|",
            f"| wall time (s) | {wall_s:.0f} | {wall_s / fields:.2f} | {BOUND_S_PER_FIELD:g} | {holds} |",
            f"| processor time (s) | {cpu_s:.0f} | {cpu_s / fields:.2f} | | |",
            f"| images measured | {figures['images']:.0f} | | | |",
            f"| figures | {figures['figures']:.0f} | | | |",
        ]
    )


def main() -> None:
    """Run and print."""
    parser = bench_parser(__doc__)
    parser.add_argument("--fields", type=int, default=100)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        figures = measure(Path(folder), arguments.fields)
    text = f"{table(figures)}\n\n{platform.machine()}, {os.cpu_count()} cores, fields side by side."
    publish(arguments, "A whole evaluation", text, figures)


if __name__ == "__main__":
    main()
