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
from typing import Any

import numpy as np
import torch
from output import bench_parser, publish

from acquisition.virtual import load, stand_of
from inference.engine import load_engine
from inference.generator import build_generator
from inference.preprocess import normalise, prepare
from training.evaluation.evaluate import evaluate_network
from training.evaluation.restorations import Restorations
from training.export import ModelSource, export_package
from training.pairing.pairs import ChannelNormalisation, Linear, Optics, PairRecord, PairSet, PairSetIndex
from training.pairing.truth import attach_truth
from training.settings import load_training_plan

SIDE_PX, SPACING_UM, SEED = 1024, 340.0, 31
LOW, HIGH = Linear(background=100.0, scale=255 / 15000), Linear(background=100.0, scale=255 / 8000)
EXPOSURE_MS = {"10X": 800.0, "20X": 400.0}
BOUND_S_PER_FIELD = 6.0
OPTICS = Optics(
    low_pixel_size_um=0.65,
    high_pixel_size_um=0.325,
    low_numerical_aperture=0.4,
    high_numerical_aperture=0.75,
    emission_nm={"FITC": 522.0},
)


def pair_set(folder: Path, fields: int) -> PairSet:
    """Simulate and write the pairs; the last one is for validation."""
    core = load("widefield", seed=SEED, camera_shape_yx=(SIDE_PX // 2, SIDE_PX // 2))
    core.setConfig("Channel", "FITC")
    core.setConfig("Objective", "10X")
    core.setExposure(EXPOSURE_MS["10X"])
    folder.mkdir(parents=True)
    records, truths, rng = [], {}, np.random.default_rng(SEED)
    for number in range(fields + 1):
        place = (SPACING_UM * (number % 10), SPACING_UM * (number // 10))
        core.setXYPosition(*place)
        core.waitForSystem()
        core.snapImage()
        low = core.getImage()
        truth = stand_of(core).high_image_on_low_grid("FITC", place, 0.0, EXPOSURE_MS["20X"])
        acquired = rng.poisson(truth).astype(np.float32) + HIGH.background
        name = f"region{number:04d}_FITC.ome.tif"
        planes = prepare(low, LOW.photometry(), 2), normalise(acquired, HIGH.photometry())
        PairSet.write_pair(folder / name, *planes, OPTICS.high_pixel_size_um)
        records.append(_record(name, number, "validation" if number == fields else "test"))
        truths[name] = truth
    both = ChannelNormalisation(low=LOW, high=HIGH)
    index = PairSetIndex(run_id="bench", factor=2, optics=OPTICS, normalisation={"FITC": both}, pairs=records)
    pairs = PairSet(folder, index)
    pairs.save_index()
    for record in records[:-1]:
        attach_truth(pairs, record, truths[record.file])
    return pairs


def _record(name: str, region: int, split: Any) -> PairRecord:  # noqa: ANN401 - a Literal
    return PairRecord(
        file=name, channel="FITC", region=region, split=split, accepted=True, sources={},
        origin_yx_px=(0, 0), shift_yx_px=(0.0, 0.0), deformation_rms_px=0.0, ncc_before=1.0, ncc_after=1.0,
    )  # fmt: skip


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
    pairs = pair_set(folder / "pairs", fields)
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
    threads = os.environ.get("OMP_NUM_THREADS", os.cpu_count())
    text = f"{table(figures)}\n\n{platform.machine()}, {os.cpu_count()} cores, {threads} threads of torch."
    publish(arguments, "A whole evaluation", text, figures)


if __name__ == "__main__":
    main()
