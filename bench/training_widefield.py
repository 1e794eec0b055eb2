"""Trains wide-field 10x to 20x on the virtual stand and scores what the model makes of what it never saw.

    python bench/training_widefield.py [--minutes 10] [--channels FITC DAPI "Texas Red"] [--plan YAML]
        [--folder DIR] [--without-beads] [--json] [--write bench/results/training-widefield.md]

The shipped scan, over three rows of five regions, goes through the whole chain (imperfections on). Each
channel trains the preset `widefield_quick` for `--minutes`; scores are means over the test regions against
the noise-free 20x image (METHOD, "How this project scores an image"), Lucy-Richardson at its best on each.

Beads. A Gaussian is fitted to beads that stand alone, picked in the noise-free 20x image of a seed that no
training saw, at the same places of input, output and 20x image; the median width. `cells` is the FITC model
of above, `cells and beads` one trained for the same time on a scan whose last row of regions holds beads.

Everything is simulated.
"""

import argparse
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from cells_and_beads import BEADS, CellsAndBeads
from output import bench_parser, publish
from training_confocal_sted import trained
from widefield_pairs import CHANNELS, SPACING_UM, widefield_pairs

from acquisition.virtual import EndothelialCells, ScatteredBeads, load, stand_of
from inference.engine import Engine, load_engine
from inference.preprocess import upsample
from training.evaluation.evaluate import Evaluation, evaluate
from training.evaluation.figures import NotMeasured
from training.evaluation.restorations import LABELS
from training.evaluation.spots import fit_spots, isolated_spots
from training.pairing.pairs import PairSet
from training.settings import TrainingPlan, load_training_plan

ROWS, COLUMNS = 3, 5
TRAINING_SEED, UNSEEN_SEED, UNSEEN_FIELDS = 7, 900, 4
LOW_PIXEL_UM, EXPOSURE_MS = 0.65, {"low": 800.0, "high": 400.0}
WINDOW_PX = 15
"""About four times the input's width: the window of a fit holds some background."""
SPOT_COUNTS = 300.0
COLUMNS = ("psnr_db", "ssim", "slope", "rsp", "spectrum_error_db", "spots_invented", "filaments_invented")
MARGIN_DB, SSIM_BOUND, WIDTH_BOUND, TRAINED_WIDTH_BOUND = 6.0, 0.97, 0.25, 0.10


def bead_widths(engine: Engine) -> dict[str, float]:
    """Return median widths in um of beads that no training saw, and how many could not be fitted."""
    found: dict[str, list[np.ndarray]] = {}
    for seed in range(UNSEEN_SEED, UNSEEN_SEED + UNSEEN_FIELDS):
        core = load("widefield", seed=seed, source=ScatteredBeads(seed, **BEADS), camera_shape_yx=(512, 512))
        core.setConfig("Objective", "10X")
        core.setConfig("Channel", "FITC")
        core.setExposure(EXPOSURE_MS["low"])
        core.waitForSystem()
        core.snapImage()
        low = core.getImage()
        high = stand_of(core).high_image_on_low_grid("FITC", (0.0, 0.0), 0.0, EXPOSURE_MS["high"])
        images = {
            "input": upsample(low.astype(np.float32), 2),
            "output": engine.enhance(low, pixel_size_um=LOW_PIXEL_UM, channel="FITC").image,
            "20x": high,
        }
        above = {name: image.astype(np.float64) - np.median(image) for name, image in images.items()}
        places = isolated_spots(above["20x"], WINDOW_PX, least_height=SPOT_COUNTS)
        for name, image in above.items():
            found.setdefault(name, []).append(LOW_PIXEL_UM / 2 * fit_spots(image, places, WINDOW_PX))
    joined = {name: np.concatenate(parts) for name, parts in found.items()}
    figures = {f"fwhm_{name}_um": float(np.nanmedian(widths)) for name, widths in joined.items()}
    unfitted = float(np.isnan(joined["output"]).mean())
    return {"beads": float(joined["20x"].size), "unfitted_output": unfitted, **figures}


def scores_of(evaluation: Evaluation) -> dict[str, dict[str, float | None]]:
    """Return the mean figures of every image, None where one cannot be had."""
    means = {row: {name: evaluation.mean(row, name) for name in COLUMNS} for row in evaluation.methods}
    return {
        row: {name: None if isinstance(figure, NotMeasured) else figure for name, figure in found.items()}
        for row, found in means.items()
    }


def with_beads(folder: Path) -> PairSet:
    """Scan and pair cells whose last row of regions is beads."""
    source = CellsAndBeads(
        EndothelialCells(TRAINING_SEED),
        ScatteredBeads(TRAINING_SEED, **BEADS),
        border_y_um=(ROWS / 2 - 1) * SPACING_UM,
    )
    return widefield_pairs(folder, ROWS, COLUMNS, source=source)


def measure(arguments: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Scan, pair, train and measure."""
    plan = load_training_plan(arguments.plan).model_copy(update={"minutes": arguments.minutes})
    pairs = widefield_pairs(folder, ROWS, COLUMNS)
    figures: dict[str, Any] = {"minutes": arguments.minutes, "channels": {}, "beads": {}}
    for channel in arguments.channels:
        engine = _trained(plan, channel, pairs, folder / channel.replace(" ", "_"))
        evaluation = evaluate(engine, pairs)
        figures["channels"][channel] = {"fields": len(evaluation.fields), **scores_of(evaluation)}
        print(channel, figures["channels"][channel], flush=True)
        if channel == "FITC" and not arguments.without_beads:
            figures["beads"]["cells"] = bead_widths(engine)
            print(figures["beads"], flush=True)
    if not arguments.without_beads:
        engine = _trained(plan, "FITC", with_beads(folder / "beads"), folder / "FITC_and_beads")
        figures["beads"]["cells and beads"] = bead_widths(engine)
    return figures


def _trained(plan: TrainingPlan, channel: str, pairs: PairSet, folder: Path) -> Engine:
    named = plan.model_copy(update={"channel": channel, "name": f"widefield {channel} quick"})
    return load_engine(trained(named, pairs.path, folder).model, "cpu")


def rows(figures: dict[str, Any]) -> Iterator[tuple[str, str, str, bool | None]]:
    """Return what has a bound: what, how much, the bound, and whether it holds (None: no bound)."""
    for channel, found in figures["channels"].items():
        model, rival, given = found["enhanced"], found["richardson_lucy_best"], found["bilinear"]
        margin, bound = model["psnr_db"] - rival["psnr_db"], channel == "FITC"
        yield (
            f"{channel}, PSNR over Lucy-Richardson (dB)",
            f"{margin:+.2f}",
            f"at least {MARGIN_DB:g}" if bound else "",
            margin >= MARGIN_DB if bound else None,
        )
        yield (
            f"{channel}, SSIM",
            f"{model['ssim']:.4f}",
            f"at least {SSIM_BOUND}" if bound else "",
            model["ssim"] >= SSIM_BOUND if bound else None,
        )
        ordered = model["ssim"] > rival["ssim"] > given["ssim"]
        says = "as the paper's" if ordered else "not as the paper's"
        yield f"{channel}, order by SSIM: network, Lucy-Richardson, input", says, "the paper's", ordered
    for name, found in figures["beads"].items():
        width = found["fwhm_output_um"] / found["fwhm_20x_um"] - 1
        bound = WIDTH_BOUND if name == "cells" else TRAINED_WIDTH_BOUND
        yield (
            f"beads, FWHM of the output over the 20x image's, model of {name} (%)",
            f"{100 * width:+.1f}",
            f"within {100 * bound:.0f}",
            abs(width) <= bound,
        )


def table(figures: dict[str, Any]) -> str:
    """Return the figures as tables in Markdown."""
    verdict = {True: "yes", False: "NO", None: ""}
    lines = ["| wide-field, simulated | | bound | holds |", "|---|---|---|---|"]
    lines += [f"| {what} | {value} | {bound} | {verdict[ok]} |" for what, value, bound, ok in rows(figures)]
    lines += ["", f"| channel | image | {' | '.join(COLUMNS)} |", "|---" * (2 + len(COLUMNS)) + "|"]
    for channel, found in figures["channels"].items():
        for name, scored in found.items():
            if name != "fields":
                cells = ("-" if scored[c] is None else f"{scored[c]:.4g}" for c in COLUMNS)
                lines.append(f"| {channel} | {LABELS[name]} | {' | '.join(cells)} |")
    lines += [
        "",
        "| model of | beads | input (um) | output (um) | 20x (um) | not fitted (%) |",
        "|---" * 6 + "|",
    ]
    for name, found in figures["beads"].items():
        lines.append(
            f"| {name} | {found['beads']:.0f} | {found['fwhm_input_um']:.3f} | {found['fwhm_output_um']:.3f} "
            f"| {found['fwhm_20x_um']:.3f} | {100 * found['unfitted_output']:.1f} |"
        )
    return "\n".join(lines)


def main() -> None:
    """Run and print."""
    parser = bench_parser(__doc__)
    parser.add_argument("--minutes", type=float, default=10.0, help="of training for each model")
    parser.add_argument("--channels", nargs="+", choices=CHANNELS, default=list(CHANNELS))
    parser.add_argument("--plan", default="widefield_quick")
    parser.add_argument("--without-beads", action="store_true", help="do not measure bead widths")
    parser.add_argument("--folder", type=Path, help="keep scans, pairs and runs here")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        figures = measure(arguments, arguments.folder or Path(temporary))
    text = f"{table(figures)}\n\n{arguments.minutes:g} minutes of training each on two CPU cores, simulated."
    publish(arguments, "Wide-field, trained in minutes, simulated", text, figures)


if __name__ == "__main__":
    main()
