"""What the discriminator is for: the output's spectrum with it and without it, at equal training time.

    python bench/discriminator.py [--minutes 3] [--seeds 0 1 2] [--plan widefield_quick] [--pairs DIR]
        [--picture docs/discriminator.png] [--json] [--write bench/results/discriminator.md]

Each seed trains the plan twice on the same pairs (FITC, `bench/widefield_pairs.py`): as it is, and without
the adversarial term. Outputs of the test regions, fitted linearly to the noise-free 20x image, are compared
with it between the low camera's finest frequency (0.25 cycles a high pixel) and the high one's (0.5):

- spectrum: mean distance of the power from the truth's, dB (`training.evaluation.spectrum`);
- FRC: mean Fourier ring correlation with the truth over the same band, and the finest detail on which both
  agree (where the curve falls below 1/7; 2 px, the finest that pixels show, where it never does).

The paper's Supplementary Fig. 4 makes this point with confocal and STED. Everything is simulated.
"""

import argparse
import tempfile
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from output import bench_parser, publish
from widefield_pairs import widefield_pairs

from training.evaluation.metrics import fit_to_truth
from training.evaluation.not_measurable import NotMeasurableError
from training.evaluation.ring_correlation import (
    ONE_SEVENTH,
    RingCorrelation,
    resolution_px,
    ring_correlation,
)
from training.evaluation.spectrum import high_frequency_error_db, power_spectrum
from training.pairing.pairs import PairSet
from training.settings import TrainingPlan, load_training_plan
from training.trainer import Trainer
from training.validation import enhanced_plane

mpl.use("Agg")
import matplotlib.pyplot as plt

LOW_PER_PX, HIGH_PER_PX = 0.25, 0.5
KINDS = {"with": True, "without": False}
COLOURS = {"truth": "#000000", "input": "#999999", "with": "#D55E00", "without": "#0072B2"}
Image = np.ndarray


def truths_of(pairs: PairSet, channel: str) -> list[tuple[Image, Image]]:
    """Return (low, noise-free high) of the test pairs, both on the network's scale."""
    scale = np.float32(pairs.index.normalisation[channel].high.scale)
    found = []
    for record in pairs.select("test", channel):
        truth = pairs.read_truth(record)
        assert truth is not None, "the bench's own pairs have a noise-free truth"
        found.append((pairs.read(record)[0], truth * scale))
    return found


def outputs_of(plan: TrainingPlan, pairs: PairSet) -> tuple[list[Image], int]:
    """Train and return the test outputs, and the iterations."""
    with tempfile.TemporaryDirectory() as folder:
        result = Trainer(plan, pairs, Path(folder)).run()
        generator = Trainer.best_of(Path(folder))
    lows = [low for low, _ in truths_of(pairs, plan.channel)]
    return [enhanced_plane(generator, low, plan.generator.step) for low in lows], result.iterations


def figures_of(images: list[Image], truths: list[Image]) -> dict[str, float]:
    """Return the mean distance of the spectra and the mean correlation in the band."""
    errors, agreements, details = [], [], []
    for image, truth in zip(images, truths, strict=True):
        fitted = fit_to_truth(image, truth)
        errors.append(high_frequency_error_db(fitted, truth, LOW_PER_PX, HIGH_PER_PX))
        curve = ring_correlation(fitted, truth)
        band = (curve.frequency_per_px >= LOW_PER_PX) & (curve.frequency_per_px <= HIGH_PER_PX)
        agreements.append(curve.correlation[band].mean())
        details.append(finest_detail_px(curve))
    means = [float(np.mean(values)) for values in (errors, agreements, details)]
    return dict(zip(("spectrum_error_db", "frc", "detail_px"), means, strict=True))


def finest_detail_px(curve: RingCorrelation) -> float:
    """Return the detail on which both images agree, px."""
    try:
        return resolution_px(curve)
    except NotMeasurableError:
        if curve.correlation[-1] < ONE_SEVENTH:
            raise
        return 1 / HIGH_PER_PX  # they agree to the last ring


def measure(arguments: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Train every seed both ways and compare."""
    pairs = widefield_pairs(arguments.pairs or folder, rows=2, columns=5)
    plan = load_training_plan(arguments.plan).model_copy(update={"minutes": arguments.minutes})
    given = truths_of(pairs, plan.channel)
    truths = [truth for _, truth in given]
    lines = [{"kind": "input", **figures_of([low for low, _ in given], truths)}]
    shown = {"truth": truths[0], "input": given[0][0]}
    for seed in arguments.seeds:
        for kind, adversarial in KINDS.items():
            loss = plan.loss.model_copy(update={"adversarial": adversarial})
            images, iterations = outputs_of(plan.model_copy(update={"seed": seed, "loss": loss}), pairs)
            shown.setdefault(kind, images[0])
            found = figures_of(images, truths)
            lines.append({"kind": kind, "seed": seed, "iterations": iterations, **found})
            print(lines[-1], flush=True)
    if arguments.picture:
        draw(shown, arguments.picture)
    return {"minutes": arguments.minutes, "lines": lines}


def draw(images: dict[str, Image], path: Path) -> None:
    """Draw the spectra, as amplitudes over the truth's."""
    figure, (spectra, ratios) = plt.subplots(1, 2, figsize=(10, 4))
    truth = power_spectrum(images["truth"])
    for name, image in images.items():
        curve = power_spectrum(fit_to_truth(image, images["truth"]))
        label = {"with": "with discriminator", "without": "without discriminator"}.get(name, name)
        spectra.semilogy(curve.frequency_per_px, curve.power, color=COLOURS[name], label=label)
        if name != "truth":
            ratio_db = 10 * np.log10(curve.power / truth.power)
            ratios.plot(curve.frequency_per_px, ratio_db, color=COLOURS[name], label=label)
    ratios.axhline(0, color=COLOURS["truth"], linewidth=0.8)
    for axis in (spectra, ratios):
        axis.axvspan(LOW_PER_PX, HIGH_PER_PX, color="#f0f0f0", zorder=0)
        axis.set_xlabel("spatial frequency (cycles per 0.325-um pixel)")
        axis.set_xlim(0, HIGH_PER_PX)
    spectra.set_ylabel("power, radial mean")
    ratios.set_ylabel("power over the truth's (dB)")
    spectra.legend(fontsize=8, frameon=False)
    spectra.set_title("FITC test region, simulated", fontsize=10)
    ratios.set_title("grey: beyond the low camera's finest frequency", fontsize=10)
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    plt.close(figure)


def table(figures: dict[str, Any]) -> str:
    """Return the figures as a table in Markdown, with the verdict of every seed."""
    lines = ["| image | seed | spectrum from the truth's (dB) | mean FRC | finest detail (px) | iterations |"]
    lines.append("|---" * 6 + "|")
    for line in figures["lines"]:
        name = {"with": "with discriminator", "without": "without discriminator"}.get(
            line["kind"], line["kind"]
        )
        lines.append(
            f"| {name} | {line.get('seed', '')} | {line['spectrum_error_db']:.2f} | {line['frc']:.4f} "
            f"| {line['detail_px']:.2f} | {line.get('iterations', '')} |"
        )
    by = {(line["kind"], line.get("seed")): line for line in figures["lines"]}
    seeds = sorted({seed for kind, seed in by if kind == "with"})
    verdicts = {
        "Closer with it": [_less("spectrum_error_db", by, seed) for seed in seeds],
        "mean FRC no lower": [not _less("frc", by, seed) for seed in seeds],
        "detail no coarser": [by["with", s]["detail_px"] <= by["without", s]["detail_px"] for s in seeds],
    }
    text = "; ".join(f"{what}: {sum(found)} of {len(seeds)} seeds" for what, found in verdicts.items())
    return "\n".join([*lines, "", text])


def _less(figure: str, by: dict[Any, dict[str, Any]], seed: int) -> bool:
    return bool(by["with", seed][figure] < by["without", seed][figure])


def main() -> None:
    """Run and print."""
    parser = bench_parser(__doc__)
    parser.add_argument("--minutes", type=float, default=3.0, help="of each training")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--plan", default="widefield_quick")
    parser.add_argument("--pairs", type=Path, help="keep scan and pairs in this folder")
    parser.add_argument("--picture", type=Path, help="draw the spectra of the first seed here")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        figures = measure(arguments, Path(folder))
    how = f"{arguments.plan}, {arguments.minutes:g} minutes of training each, FITC, simulated."
    publish(arguments, "With and without the discriminator", f"{table(figures)}\n\n{how}", figures)


if __name__ == "__main__":
    main()
