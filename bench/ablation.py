"""What came after the paper, one change at a time, at equal training time on the virtual wide-field stand.

    python bench/ablation.py [--minutes 3] [--seeds 0] [--only NAME ...] [--json] [--write docs/ablation.md]

Every variant is `configs/training/widefield_quick.yaml` with one change, trained for the same wall time on
the same pairs (FITC, `bench/widefield_pairs.py`) and scored on test regions against the noise-free truth. The
variants run one after the other on both cores; start it on a quiet machine.
"""

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from output import bench_parser, publish
from widefield_pairs import widefield_pairs

from training.evaluation.deconvolution_search import (
    best_richardson_lucy,
)
from training.evaluation.metrics import score
from training.evaluation.point_spread import effective_psf
from training.pairing.pairs import PairSet
from training.settings import TrainingPlan, load_training_plan
from training.trainer import Trainer
from training.validation import enhanced_plane

VARIANTS: dict[str, dict[str, Any]] = {
    "quick preset": {},
    "without the discriminator": {"loss": {"adversarial": False}},
    "the paper's shares, 5 % each": {"loss": {"mse_share": 0.05, "ssim_share": 0.05}},
    "average of the generator, 0.999": {"average": 0.999},
    "constant learning rate": {"decay": "constant"},
    "hinge": {"loss": {"gan": "hinge"}},
    "relativistic": {"loss": {"gan": "relativistic"}},
    "R1 penalty": {"discriminator": {"r1_weight": 1.0}},
    "spectral norm": {"discriminator": {"spectral_norm": True}},
    "Fourier term": {"loss": {"fourier_weight": 0.5}},
    "on the high grid, as the paper": {"generator": {"shuffle": 1, "levels": 2, "base_width": 16}},
    "channel attention": {"generator": {"kind": "attention", "levels": 2, "base_width": 32}},
    "float32": {"precision": "float32"},
    "live preset": {"generator": {"kind": "unet", "base_width": 16, "levels": 3}},
    "base width 8, three levels, on the high grid": {
        "generator": {"kind": "unet", "base_width": 8, "levels": 3, "shuffle": 1}
    },
}


def plan_of(changes: dict[str, Any], minutes: float, seed: int) -> TrainingPlan:
    """Return the quick preset with one change."""
    document = load_training_plan("widefield_quick").model_dump()
    for name, value in changes.items():
        document[name] = document[name] | value if isinstance(value, dict) else value
    return TrainingPlan.model_validate(document | {"minutes": minutes, "seed": seed})


def scores(pairs: PairSet, run: Path, plan: TrainingPlan) -> tuple[float, float]:
    """Return mean PSNR and SSIM over the test pairs."""
    generator, found = Trainer.best_of(run), []
    for record in pairs.select("test", plan.channel):
        low, acquired = pairs.read(record)
        truth = pairs.read_truth(record)
        found.append(
            score(enhanced_plane(generator, low, plan.generator.step), acquired if truth is None else truth)
        )
    return float(np.mean([s.psnr_db for s in found])), float(np.mean([s.ssim for s in found]))


def baseline(pairs: PairSet, channel: str) -> tuple[float, float]:
    """Return the same of Lucy-Richardson at its best."""
    optics, found = pairs.index.optics, []
    psf = effective_psf(
        optics.low_numerical_aperture or 0.0, optics.emission_nm[channel], optics.high_pixel_size_um or 0.0, 2
    )
    for record in pairs.select("test", channel):
        low, acquired = pairs.read(record)
        truth = pairs.read_truth(record)
        known = acquired if truth is None else truth
        found.append(score(best_richardson_lucy(low, known, psf).image, known))
    return float(np.mean([s.psnr_db for s in found])), float(np.mean([s.ssim for s in found]))


def measure(pairs: PairSet, names: list[str], minutes: float, seeds: list[int]) -> list[dict[str, Any]]:
    """Train every variant and score it."""
    lines: list[dict[str, Any]] = []
    psnr_db, ssim = baseline(pairs, "FITC")
    lines.append({"variant": "Lucy-Richardson at its best", "psnr_db": psnr_db, "ssim": ssim})
    for name in names:
        for seed in seeds:
            plan = plan_of(VARIANTS[name], minutes, seed)
            with tempfile.TemporaryDirectory() as folder:
                result = Trainer(plan, pairs, Path(folder)).run()
                psnr_db, ssim = scores(pairs, Path(folder), plan)
            lines.append(
                {
                    "variant": name,
                    "seed": seed,
                    "psnr_db": psnr_db,
                    "ssim": ssim,
                    "iterations": result.iterations,
                    "parameters": result.parameters,
                }
            )
            print(lines[-1], flush=True)
    return lines


def table(lines: list[dict[str, Any]]) -> str:
    """Return the figures as a table in Markdown."""
    text = ["| variant | seed | PSNR (dB) | SSIM | iterations | parameters |", "|---|" + "---|" * 5]
    for line in lines:
        text.append(
            f"| {line['variant']} | {line.get('seed', '')} | {line['psnr_db']:.2f} | {line['ssim']:.4f} "
            f"| {line.get('iterations', '')} | {line.get('parameters', '')} |"
        )
    return "\n".join(text)


def main() -> None:
    """Run and print."""
    parser = bench_parser(__doc__)
    parser.add_argument("--minutes", type=float, default=3.0, help="of training for each variant")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--only", nargs="+", choices=list(VARIANTS), help="these variants alone")
    parser.add_argument("--pairs", type=Path, help="keep scan and pairs in this folder")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        pairs = widefield_pairs(arguments.pairs or Path(folder), rows=2, columns=5)
        lines = measure(pairs, arguments.only or list(VARIANTS), arguments.minutes, arguments.seeds)
    text = f"{table(lines)}\n\n{arguments.minutes:g} minutes of training each, FITC, simulated."
    publish(arguments, "Ablation", text, lines)


if __name__ == "__main__":
    main()
