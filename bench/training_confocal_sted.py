"""Trains confocal to STED on the virtual stand and measures what the model makes of beads it never saw.

    python bench/training_confocal_sted.py [--json] [--write bench/results/training-confocal-sted.md]
        [--minutes 10] [--nuclei-minutes 5] [--seeds 1 2 3] [--plan YAML] [--nuclei-plan YAML] [--folder DIR]

Beads. Fields of 512 x 512 px, sparse and crowded, drift by some 8 nm between the confocal and the STED image,
are paired by drift alone and train the preset `confocal_sted_beads_quick` for `--minutes`. All figures come
from beads of seeds that no training field has, on a stand that does not drift:

- width: a 2D Gaussian is fitted to spots that stand alone in scattered beads, picked in the STED image
  (METHOD, "What the paper compares"), at the same places of input, output and STED image; the median.
- pairs: two beads 180 nm apart, at places that are known. `training.evaluation.spots.peaks_between` tells two
  peaks apart: one at either place, the lower at least a quarter of the higher, and a dip of at least a tenth.
- single beads at known places: split where there is such a second peak within 360 nm.

In the input, shot noise alone makes peaks at 30-nm pixels: for the last two it is smoothed by 60 nm.

Nuclei. The preset `confocal_sted_nuclei_quick` from nothing for `--nuclei-minutes`, and from the bead model
for a third of the iterations that this took, each with three seeds. The rate falls to the end of either run,
so that the transfer is a whole run of a third of the length, and it holds where its validation loss
reaches the best of the run from nothing. Validation losses are those of `history.jsonl`.

Everything is simulated; the truth is the acquired STED image, with its noise.
"""

import argparse
import inspect
import os
import platform
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
import numpy as np
import tifffile
from output import bench_parser, publish
from scipy.ndimage import gaussian_filter

from acquisition.virtual import HistoneNuclei, ScatteredBeads, load
from acquisition.virtual.specimen import PointCloud
from inference.engine import Engine, load_engine
from inference.journal import read_journal
from training.evaluation.spots import fit_spots, isolated_spots, peaks_between, split_spots
from training.pairing.build import pair_folders
from training.pairing.pairs import Optics
from training.pairing.settings import PairingSettings
from training.run import FinishedRun, train_and_export
from training.settings import TrainingPlan, load_training_plan

mpl.use("Agg")
import matplotlib.pyplot as plt

if TYPE_CHECKING:
    from pymmcore_plus import CMMCorePlus

    from acquisition.virtual.specimen import PointSource

STAND, CHANNEL, STATES = "confocal_sted", "Crimson", {"low": "Confocal", "high": "STED"}
SIDE_PX, PIXEL_UM = 512, 0.03
OPTICS = Optics(
    low_pixel_size_um=PIXEL_UM,
    high_pixel_size_um=PIXEL_UM,
    low_numerical_aperture=1.4,
    high_numerical_aperture=1.4,
    emission_nm={CHANNEL: 645.0},
    modality=STAND,
)
DRIFT_UM_PER_MIN = (0.4, 0.3, 0.0)
DENSITIES_PER_UM2, FIELDS_OF_EACH = (0.3, 1.0, 3.0, 10.0), 6
"""Of the training fields: sparse to so crowded that the confocal image shows no single bead."""
NUCLEI_FIELDS = 16
WEIGHT, WEIGHT_SPREAD = 3.0, 0.3
"""Of a bead: about 230 photo-electrons at the confocal peak, 1070 at the STED one."""
SMOOTHING_PX = 2.0
"""Of the input, before its peaks are counted."""
TRAINING_SEED, UNSEEN_SEED = 100, 900
UNSEEN_FIELDS = 8
UNSEEN_PER_UM2 = 0.5
PAIR_UM, SPACING_UM, SPLIT_UM = 0.18, 1.6, 0.36
SPOT_COUNTS = 90.0 * WEIGHT
"""Least height of a spot in the STED image, smoothed by a pixel."""
IMAGES = ("input", "output", "STED")
WIDTH_BOUND, PAIRS_BOUND, SPLIT_BOUND, TRANSFER_BOUND = 0.10, 0.80, 0.02, 1 / 3


@dataclass(frozen=True)
class PlacedPoints:
    """Points where they are put."""

    x_um: np.ndarray
    y_um: np.ndarray
    weight: np.ndarray
    plane_depths_um: tuple[float, ...] = (0.0,)
    moves: bool = False

    def clouds(
        self, stain: str, low_xy_um: tuple[float, float], high_xy_um: tuple[float, float], time_s: float
    ) -> Iterable[PointCloud]:
        """Return all of them."""
        yield PointCloud(self.x_um, self.y_um, np.zeros(self.x_um.size), self.weight)

    def dissolved(self, stain: str, x_um: np.ndarray, y_um: np.ndarray) -> None:
        """Return nothing: beads are points."""


@dataclass(frozen=True)
class Placed:
    """A field of beads, or of pairs of beads, at places that are known."""

    source: PlacedPoints
    first_yx_px: np.ndarray
    second_yx_px: np.ndarray
    """(N, 2) each; the same of single beads."""


def placed(
    seed: int, distance_um: float, side_um: float, pixel_um: float, spacing_um: float, weight: float
) -> Placed:
    """Return beads (or pairs, where the distance is not 0) far from one another, all over a field.

    `pixel_um` is of the image on which places are stated.
    """
    rng = np.random.default_rng(seed)
    nodes = np.arange(-side_um / 2 + spacing_um, side_um / 2 - 0.75 * spacing_um, spacing_um)
    middle = np.stack(np.meshgrid(nodes, nodes), axis=-1).reshape(-1, 2)  # (N, 2) x, y
    middle = middle + rng.uniform(-0.15, 0.15, middle.shape) * spacing_um
    angle = rng.uniform(0, 2 * np.pi, len(middle))
    half = 0.5 * distance_um * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    brightness = weight * rng.lognormal(0, WEIGHT_SPREAD, len(middle))
    ends = [middle - half, middle + half] if distance_um else [middle]
    points = np.concatenate(ends)
    source = PlacedPoints(points[:, 0], points[:, 1], np.tile(brightness, len(ends)))
    first, second = (((end + side_um / 2) / pixel_um - 0.5)[:, ::-1] for end in (ends[0], ends[-1]))
    return Placed(source, first, second)


def stand(source: "PointSource", seed: int, **departures: Any) -> "CMMCorePlus":  # noqa: ANN401 - as load's
    """Return a core at a specimen."""
    core = load(STAND, seed=seed, source=source, camera_shape_yx=(SIDE_PX, SIDE_PX), **departures)
    core.setConfig("Objective", "100X")
    core.setConfig("Channel", CHANNEL)
    return core


def seen(core: "CMMCorePlus") -> dict[str, np.ndarray]:
    """Return the confocal and the STED image of where the stage is, in counts."""
    images = {}
    for state, modality in STATES.items():
        core.setConfig("Modality", modality)
        core.waitForSystem()
        core.snapImage()
        images[state] = core.getImage()
    return images


def write_fields(source: "PointSource", seed: int, fields: int, folder: Path, name: str) -> None:
    """Take `fields` fields of a specimen and write them to `folder/low` and `folder/high`."""
    core = stand(source, seed, drift_um_per_min=DRIFT_UM_PER_MIN)
    side_um = SIDE_PX * PIXEL_UM
    for number in range(fields):
        core.setXYPosition(1.1 * side_um * number, 0.7 * side_um * (number % 3))
        core.waitForSystem()
        for state, image in seen(core).items():
            (folder / state).mkdir(parents=True, exist_ok=True)
            tifffile.imwrite(folder / state / f"{name}_{number:02d}.tif", image)


def paired(folder: Path) -> Path:
    """Pair `folder/low` with `folder/high`."""
    pairs = folder / "pairs"
    settings = PairingSettings("drift")
    built = pair_folders(folder / "low", folder / "high", 1, pairs, settings, channel=CHANNEL, optics=OPTICS)
    left_out = [pair.reason for pair in built.index.pairs if not pair.accepted]
    print(f"{folder.name}: {len(built.index.pairs)} pairs, {len(left_out)} left out {set(left_out) or ''}")
    return pairs


def bead_pairs(folder: Path) -> Path:
    """Simulate and pair the training fields of beads."""
    for number, density in enumerate(DENSITIES_PER_UM2):
        source = ScatteredBeads(TRAINING_SEED + number, density, WEIGHT, WEIGHT_SPREAD)
        write_fields(source, TRAINING_SEED + number, FIELDS_OF_EACH, folder, f"beads{number}")
    return paired(folder)


def nuclei_pairs(folder: Path) -> Path:
    """Simulate and pair the training fields of nuclei."""
    write_fields(HistoneNuclei(TRAINING_SEED), TRAINING_SEED, NUCLEI_FIELDS, folder, "nuclei")
    return paired(folder)


def enhanced(engine: Engine, image: np.ndarray) -> np.ndarray:
    """Return an image as the model serves it, in counts; one that does not fit the model is an error."""
    return engine.enhance(image, pixel_size_um=PIXEL_UM, channel=CHANNEL).image


def three(engine: Engine, source: "PointSource", seed: int) -> dict[str, np.ndarray]:
    """Return input, output and STED image of a specimen, above the background."""
    images = seen(stand(source, seed))
    counts = {"input": images["low"], "output": enhanced(engine, images["low"]), "STED": images["high"]}
    return {name: image.astype(np.float64) - np.median(image) for name, image in counts.items()}


def counted(images: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return images with the input smoothed, so that its peaks are not its noise."""
    return images | {"input": gaussian_filter(images["input"], SMOOTHING_PX)}


def widths(engine: Engine) -> dict[str, float]:
    """Return the median widths of spots that stand alone, in nm."""
    found: dict[str, list[np.ndarray]] = {name: [] for name in IMAGES}
    for seed in range(UNSEEN_SEED, UNSEEN_SEED + UNSEEN_FIELDS):
        images = three(engine, ScatteredBeads(seed, UNSEEN_PER_UM2, WEIGHT, WEIGHT_SPREAD), seed)
        places = isolated_spots(images["STED"], least_height=SPOT_COUNTS)
        for name, image in images.items():
            found[name].append(1e3 * PIXEL_UM * fit_spots(image, places))
    nm = {name: np.concatenate(parts) for name, parts in found.items()}
    figures = {f"fwhm_{name}_nm": float(np.nanmedian(values)) for name, values in nm.items()}
    unfitted = {f"unfitted_{name}": float(np.isnan(values).mean()) for name, values in nm.items()}
    return {"spots": float(len(nm["STED"])), **figures, **unfitted}


def placed_figures(engine: Engine) -> dict[str, float]:
    """Return in how many of 100 pairs two beads are told apart, and how many of 100 beads are split."""
    told: dict[str, list[np.ndarray]] = {name: [] for name in IMAGES}
    torn: dict[str, list[np.ndarray]] = {name: [] for name in IMAGES}
    for seed in range(UNSEEN_SEED + 100, UNSEEN_SEED + 100 + UNSEEN_FIELDS):
        pairs = placed(seed, PAIR_UM, SIDE_PX * PIXEL_UM, PIXEL_UM, SPACING_UM, WEIGHT)
        for name, image in counted(three(engine, pairs.source, seed)).items():
            told[name].append(peaks_between(image, pairs.first_yx_px, pairs.second_yx_px))
        singles = placed(seed + 100, 0.0, SIDE_PX * PIXEL_UM, PIXEL_UM, SPACING_UM, WEIGHT)
        for name, image in counted(three(engine, singles.source, seed)).items():
            torn[name].append(split_spots(image, singles.first_yx_px, SPLIT_UM / PIXEL_UM))
    return {
        "pairs": float(sum(map(len, told["STED"]))),
        **{f"pairs_told_{name}": float(np.concatenate(told[name]).mean()) for name in IMAGES},
        "singles": float(sum(map(len, torn["STED"]))),
        **{f"singles_split_{name}": float(np.concatenate(torn[name]).mean()) for name in IMAGES},
    }


def picture(engine: Engine, source: "PointSource", path: Path, side_px: int = 170) -> None:
    """Draw the same part of input, output and STED image of an unseen specimen."""
    images = three(engine, source, UNSEEN_SEED)
    start = (SIDE_PX - side_px) // 2
    figure, axes = plt.subplots(1, len(images), figsize=(4 * len(images), 4.2))
    for axis, (name, image) in zip(axes, images.items(), strict=True):
        part = image[start : start + side_px, start : start + side_px]
        axis.imshow(part, cmap="gray", vmin=0, vmax=np.percentile(part, 99.7))
        axis.set_title(f"ENHANCED, model {engine.model_hash[:8]}" if name == "output" else name, fontsize=10)
        axis.set_axis_off()
    figure.tight_layout()
    figure.savefig(path, dpi=90, bbox_inches="tight")
    plt.close(figure)


def trained(plan: TrainingPlan, pairs: Path, folder: Path, start: Path | None = None) -> FinishedRun:
    """Train; begin from a model where one is given."""
    began: dict[str, Any] = {} if start is None else {"init": start}
    run = train_and_export(plan, pairs, folder, **began)
    result = run.result
    print(
        f"{folder.name}: {result.iterations} iterations in {result.seconds:.0f} s, best validation loss "
        f"{result.best_validation_loss:.4g} at {result.best_iteration}",
        flush=True,
    )
    return run


def can_transfer() -> bool:
    """Say whether this version's training can begin from a model."""
    return "init" in inspect.signature(train_and_export).parameters


def transfer_figures(
    plan: TrainingPlan, start: Path, pairs: Path, folder: Path, seeds: list[int]
) -> dict[str, float]:
    """Return how a transfer compares with training from nothing: the worst of the seeds."""
    ratios, shares, scratch_losses, transfer_losses = [], [], [], []
    for seed in seeds:
        seeded = plan.model_copy(update={"seed": seed})
        scratch = trained(seeded, pairs, folder / f"nuclei_scratch_{seed}").result
        third = {"iterations": max(1, scratch.iterations // 3), "minutes": None}
        run = trained(seeded.model_copy(update=third), pairs, folder / f"nuclei_transfer_{seed}", start)
        reached = first_at(folder / f"nuclei_transfer_{seed}", scratch.best_validation_loss)
        shares.append(reached / scratch.best_iteration)
        ratios.append(run.result.best_validation_loss / scratch.best_validation_loss)
        scratch_losses.append(scratch.best_validation_loss)
        transfer_losses.append(run.result.best_validation_loss)
    return {
        "nuclei_seeds": float(len(seeds)),
        "nuclei_scratch_loss": float(np.median(scratch_losses)),
        "nuclei_transfer_loss": float(np.median(transfer_losses)),
        "nuclei_worst_loss_ratio": float(max(ratios)),
        "nuclei_worst_iteration_share": float(max(shares)),
    }


def first_at(run: Path, loss: float) -> float:
    """Return the first iteration at which a run validated at a loss or below; infinite if none."""
    lines = read_journal(run / "history.jsonl")
    return min(
        (line["iteration"] for line in lines if line.get("validation", np.inf) <= loss), default=np.inf
    )


def rows(figures: dict[str, float]) -> Iterator[tuple[str, str, str, bool | None]]:
    """Return lines of the table: what, how much, the bound, and whether it holds."""
    width = figures["fwhm_output_nm"] / figures["fwhm_STED_nm"] - 1
    yield "bead FWHM, input (nm)", f"{figures['fwhm_input_nm']:.0f}", "", None
    yield "bead FWHM, STED (nm)", f"{figures['fwhm_STED_nm']:.0f}", "", None
    yield (
        "bead FWHM, output (nm)",
        f"{figures['fwhm_output_nm']:.0f} ({100 * width:+.1f} %)",
        f"within {100 * WIDTH_BOUND:.0f} %",
        abs(width) <= WIDTH_BOUND,
    )
    for name in IMAGES:
        told, split = figures[f"pairs_told_{name}"], figures[f"singles_split_{name}"]
        bound = name == "output"
        yield (
            f"beads {1e3 * PAIR_UM:.0f} nm apart told apart, {name} (%)",
            f"{100 * told:.1f}",
            f"at least {100 * PAIRS_BOUND:.0f}" if bound else "",
            told >= PAIRS_BOUND if bound else None,
        )
        yield (
            f"single beads split, {name} (%)",
            f"{100 * split:.1f}",
            f"at most {100 * SPLIT_BOUND:.0f}" if bound else "",
            split <= SPLIT_BOUND if bound else None,
        )
    if "nuclei_seeds" in figures:
        yield "nuclei, validation loss from nothing", f"{figures['nuclei_scratch_loss']:.4g}", "", None
        yield "nuclei, by transfer in a third", f"{figures['nuclei_transfer_loss']:.4g}", "", None
        ratio, share = figures["nuclei_worst_loss_ratio"], figures["nuclei_worst_iteration_share"]
        yield "transfer's best loss over the other's, worst seed", f"{ratio:.3f}", "at most 1", ratio <= 1
        reached = f"{share:.2f}" if np.isfinite(share) else "not reached"
        yield (
            "iterations to that loss over the other's, worst seed",
            reached,
            f"at most {TRANSFER_BOUND:.2f}",
            share <= TRANSFER_BOUND,
        )


def table(figures: dict[str, float]) -> str:
    """Return the figures as a table in Markdown."""
    verdict = {True: "yes", False: "NO", None: ""}
    lines = ["| confocal to STED, simulated | | bound | holds |", "|---|---|---|---|"]
    lines += [
        f"| {what} | {value} | {bound} | {verdict[holds]} |" for what, value, bound, holds in rows(figures)
    ]
    return "\n".join(lines)


def measure(arguments: argparse.Namespace, folder: Path) -> dict[str, float]:
    """Simulate, train and measure."""
    minutes = {"minutes": arguments.minutes}
    plan = load_training_plan(arguments.plan).model_copy(update=minutes)
    beads = trained(plan, bead_pairs(folder / "beads_data"), folder / "beads")
    engine = load_engine(beads.model, "cpu")
    figures = {
        "minutes": arguments.minutes,
        "bead_iterations": float(beads.result.iterations),
        **widths(engine),
        **placed_figures(engine),
    }
    picture(
        engine,
        ScatteredBeads(UNSEEN_SEED, DENSITIES_PER_UM2[-2], WEIGHT, WEIGHT_SPREAD),
        folder / "beads.png",
    )
    if not arguments.nuclei_minutes:
        return figures
    if not can_transfer():
        print("train_and_export takes no init: nuclei left out")
        return figures
    minutes = {"minutes": arguments.nuclei_minutes}
    plan = load_training_plan(arguments.nuclei_plan).model_copy(update=minutes)
    pairs = nuclei_pairs(folder / "nuclei_data")
    figures |= {"nuclei_minutes": arguments.nuclei_minutes}
    figures |= transfer_figures(plan, beads.model, pairs, folder, arguments.seeds)
    transferred = load_engine(folder / f"nuclei_transfer_{arguments.seeds[0]}" / "model.zip", "cpu")
    picture(transferred, HistoneNuclei(UNSEEN_SEED), folder / "nuclei.png", side_px=400)
    return figures


def main() -> None:
    """Run and print."""
    parser = bench_parser(__doc__)
    parser.add_argument("--minutes", type=float, default=10.0, help="of training on beads")
    parser.add_argument("--nuclei-minutes", type=float, default=5.0, help="from nothing; 0 leaves them out")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3], help="of the trainings on nuclei")
    parser.add_argument("--plan", default="confocal_sted_beads_quick", help="for beads")
    parser.add_argument("--nuclei-plan", default="confocal_sted_nuclei_quick")
    parser.add_argument("--folder", type=Path, help="keep data, runs and pictures here; it must be empty")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        figures = measure(arguments, arguments.folder or Path(temporary))
    threads = os.environ.get("OMP_NUM_THREADS", os.cpu_count())
    note = (
        f"{arguments.minutes:g} minutes of training on {platform.machine()}, {threads} threads: "
        f"{figures['bead_iterations']:.0f} iterations of {arguments.plan}; {figures['spots']:.0f} spots, "
        f"{figures['pairs']:.0f} pairs and {figures['singles']:.0f} single beads of seeds not trained on."
    )
    text = f"{table(figures)}\n\n{note}"
    publish(
        arguments,
        "Confocal to STED, trained in minutes, simulated",
        text,
        {name: value if np.isfinite(value) else None for name, value in figures.items()},
    )


if __name__ == "__main__":
    main()
