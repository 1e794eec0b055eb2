"""Trains TIRF to SIM on the virtual stand and measures what the model makes of pits it never saw.

    python bench/training_tirf_sim.py [--json] [--write bench/results/training-tirf-sim.md]
        [--minutes 10] [--plan YAML] [--frames 200] [--folder DIR]

Fields of 512 x 512 px of clathrin pits and of beads, nine striped exposures each, become a pair set (low is
the mean of the nine, high their reconstruction) that trains the preset `tirf_sim_quick` for `--minutes`. All
figures come from specimens of seeds that no training field has. `input` is the mean of the nine,
`reconstruction` what structured illumination makes of them.

- width: a 2D Gaussian is fitted to spots that stand alone in scattered beads, picked in the reconstruction,
  at the same places of input (on the camera's own pixels), output and reconstruction; the median.
- pairs: two pits 150 nm apart, too small to show a ring, at places that are known. Two peaks are told apart
  as `training.evaluation.spots.peaks_between` says; of the pairs that the reconstruction tells apart, how
  many the output does, too.
- single pits of that kind: split where there is a second peak within 300 nm.
- one uniform exposure in the place of the nine, with the light of all nine, of three and of one of them, its
  counts divided by its light. No bound: the model was trained on means of nine.
- time-lapse: pits that neither move nor bleach. Of each that stands alone, the mean of 3 x 3 px over the
  frames, less a straight line, its standard deviation over its mean; the median over the pits. The
  reconstruction is given its best chance: stripes estimated once, from the mean of all frames.

Everything is simulated.
"""

import argparse
import os
import platform
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
import numpy as np
import tifffile
from output import bench_parser, publish
from scipy.signal import detrend
from training_confocal_sted import placed, trained

from acquisition.virtual import ClathrinPits, ScatteredBeads, load
from inference.engine import Engine, load_engine
from training.evaluation.spots import fit_spots, isolated_spots, peaks_between, split_spots
from training.pairing.build import pair_sim_folder
from training.pairing.pairs import Optics
from training.pairing.structured_illumination import SimOptics, estimate_stripes, reconstruct
from training.settings import load_training_plan

mpl.use("Agg")
import matplotlib.pyplot as plt

if TYPE_CHECKING:
    from pymmcore_plus import CMMCorePlus

    from acquisition.virtual.specimen import PointSource

STAND, CHANNEL, EXPOSURES, OFFSET_COUNTS = "tirf_sim", "GFP", 9, 100.0
SIDE_PX, PIXEL_UM, FINE_UM = 512, 0.065, 0.0325
OPTICS = Optics(low_pixel_size_um=PIXEL_UM, low_numerical_aperture=1.49, emission_nm={CHANNEL: 525.0})
SIM_OPTICS = SimOptics(PIXEL_UM, 1.49, 525.0)
TRAINING_FIELDS = {"pits": 10, "crowded pits": 6, "beads": 4}
TRAINING_SEED, UNSEEN_SEED, UNSEEN_FIELDS = 100, 900, 4
WEIGHT, WEIGHT_SPREAD = 40.0, 0.3
"""Of a small pit or a bead: as the stand's own pits have."""
UNSEEN_PER_UM2 = 0.25
PAIR_UM, SPACING_UM, SPLIT_UM = 0.15, 1.6, 0.3
SPOT_COUNTS = 250.0
"""Least height of a spot in the reconstruction, smoothed by a pixel."""
WINDOW_PX, COARSE_WINDOW_PX = 19, 11
DOSES = {"1": ("as nine of nine", 9.0), "1/3": ("as three of nine", 3.0), "1/9": ("as one of nine", 1.0)}
"""Light of one uniform exposure over that of the nine: the wheel's label, and the light over one of nine."""
LAPSE_SIDE_PX = 192
WIDTH_BOUND, PAIRS_BOUND, SPLIT_BOUND, FLICKER_BOUND = 0.65, 0.70, 0.02, 1.2
Images = dict[str, np.ndarray]


def stand(source: "PointSource", seed: int, side_px: int = SIDE_PX) -> "CMMCorePlus":
    """Return a core at a specimen."""
    core = load(STAND, seed=seed, source=source, camera_shape_yx=(side_px, side_px))
    core.setConfig("Objective", "100X")
    core.setConfig("Channel", CHANNEL)
    return core


def striped(core: "CMMCorePlus") -> np.ndarray:
    """Return nine striped exposures, (9, Y, X) counts."""
    core.setConfig("Modality", "SIM")
    frames = []
    for pattern in range(EXPOSURES):
        core.setState("Pattern", pattern)
        core.waitForSystem()
        core.snapImage()
        frames.append(core.getImage())
    return np.stack(frames)


def uniform(core: "CMMCorePlus", dose: str) -> np.ndarray:
    """Return one uniform exposure, (Y, X) counts, as bright as one of the nine would be."""
    label, light = DOSES[dose]
    core.setConfig("Modality", "TIRF")
    core.setConfig("Dose", label)
    core.waitForSystem()
    core.snapImage()
    return (core.getImage() - OFFSET_COUNTS) / light + OFFSET_COUNTS


def pit_pairs(folder: Path) -> Path:
    """Simulate and pair the training fields."""
    raw, pairs = folder / "raw", folder / "pairs"
    raw.mkdir(parents=True)
    sources = {
        "pits": ClathrinPits(TRAINING_SEED),
        "crowded pits": ClathrinPits(TRAINING_SEED + 1, per_um2=1.5),
        "beads": ScatteredBeads(TRAINING_SEED + 2, 1.0, WEIGHT, WEIGHT_SPREAD),
    }
    for name, source in sources.items():
        core = stand(source, TRAINING_SEED)
        for number in range(TRAINING_FIELDS[name]):
            core.setXYPosition(1.1 * SIDE_PX * PIXEL_UM * number, 0.0)
            core.waitForSystem()
            tifffile.imwrite(raw / f"{name.replace(' ', '_')}_{number:02d}.tif", striped(core))
    built = pair_sim_folder(raw, pairs, optics=OPTICS, channel=CHANNEL)
    left_out = [pair.reason for pair in built.index.pairs if not pair.accepted]
    print(f"{len(built.index.pairs)} pairs, {len(left_out)} left out {set(left_out) or ''}", flush=True)
    return pairs


def enhanced(engine: Engine, image: np.ndarray) -> np.ndarray:
    """Return an image as the model serves it; one that does not fit the model is an error."""
    return engine.enhance(image, pixel_size_um=PIXEL_UM, channel=CHANNEL).image


def above(image: np.ndarray) -> np.ndarray:
    """Return an image above its background."""
    return image.astype(np.float64) - np.median(image)


def sharpened(frames: np.ndarray) -> np.ndarray:
    """Return the reconstruction of nine exposures above the background."""
    counts = frames.astype(np.float64) - np.median(frames)
    return above(reconstruct(counts, SIM_OPTICS))


def four(engine: Engine, source: "PointSource", seed: int) -> tuple[Images, np.ndarray]:
    """Return outputs (of the mean, of single exposures) with the reconstruction, and the input."""
    core = stand(source, seed)
    frames = striped(core)
    mean = frames.mean(axis=0)
    fine = {"output": above(enhanced(engine, mean)), "reconstruction": sharpened(frames)}
    for dose in DOSES:
        fine[f"output, one exposure at {dose}"] = above(enhanced(engine, uniform(core, dose)))
    return fine, above(mean)


def gathered(
    engine: Engine, source_of: Callable[[int], Any], judge: Callable[[Any, Images, np.ndarray], Images]
) -> Images:
    """Return what a judge says of all unseen fields, by image."""
    found: dict[str, list[np.ndarray]] = {}
    for seed in range(UNSEEN_SEED, UNSEEN_SEED + UNSEEN_FIELDS):
        field = source_of(seed)
        fine, coarse = four(engine, getattr(field, "source", field), seed)
        for name, values in judge(field, fine, coarse).items():
            found.setdefault(name, []).append(values)
    return {name: np.concatenate(parts) for name, parts in found.items()}


def judged_widths(_: Any, fine: Images, coarse: np.ndarray) -> Images:  # noqa: ANN401 - a specimen
    """Return the widths in nm of spots that stand alone, by image."""
    places = isolated_spots(fine["reconstruction"], WINDOW_PX, least_height=SPOT_COUNTS)
    widths = {name: 1e3 * FINE_UM * fit_spots(image, places, WINDOW_PX) for name, image in fine.items()}
    widths["input"] = 1e3 * PIXEL_UM * fit_spots(coarse, (places + 0.5) / 2 - 0.5, COARSE_WINDOW_PX)
    return widths


def judged_pairs(field: Any, fine: Images, coarse: np.ndarray) -> Images:  # noqa: ANN401 - Placed
    """Return which pairs are told apart, by image."""
    told = {name: peaks_between(image, field.first_yx_px, field.second_yx_px) for name, image in fine.items()}
    first, second = ((places + 0.5) / 2 - 0.5 for places in (field.first_yx_px, field.second_yx_px))
    return told | {"input": peaks_between(coarse, first, second)}


def judged_singles(field: Any, fine: Images, coarse: np.ndarray) -> Images:  # noqa: ANN401 - Placed
    """Return which single pits are split, by image."""
    torn = {name: split_spots(image, field.first_yx_px, SPLIT_UM / FINE_UM) for name, image in fine.items()}
    return torn | {"input": split_spots(coarse, (field.first_yx_px + 0.5) / 2 - 0.5, SPLIT_UM / PIXEL_UM)}


def still_figures(engine: Engine) -> dict[str, dict[str, float]]:
    """Return widths, pairs told apart and pits split, by image."""
    side_um = SIDE_PX * PIXEL_UM

    def at_places(distance_um: float, seed: int) -> Any:  # noqa: ANN401 - Placed
        return placed(seed + 50, distance_um, side_um, FINE_UM, SPACING_UM, WEIGHT)

    widths = gathered(
        engine, lambda seed: ScatteredBeads(seed, UNSEEN_PER_UM2, WEIGHT, WEIGHT_SPREAD), judged_widths
    )
    told = gathered(engine, lambda seed: at_places(PAIR_UM, seed), judged_pairs)
    torn = gathered(engine, lambda seed: at_places(0.0, seed + 50), judged_singles)
    by_truth = told["reconstruction"]
    return {
        name: {
            "spots": float(widths[name].size),
            "pairs": float(by_truth.size),
            "singles": float(torn[name].size),
            "fwhm_nm": float(np.nanmedian(widths[name])),
            "unfitted": float(np.isnan(widths[name]).mean()),
            "pairs_told": float(told[name].mean()),
            "pairs_told_as_truth": float(told[name][by_truth].mean()),
            "singles_split": float(torn[name].mean()),
        }
        for name in widths
    }


def flicker(engine: Engine, frames: int) -> dict[str, float]:
    """Return by how much static pits flicker in output, reconstruction and input, over their brightness."""
    core = stand(ClathrinPits(UNSEEN_SEED + 300, moving=False), UNSEEN_SEED + 300, LAPSE_SIDE_PX)
    raw = np.stack([striped(core) for _ in range(frames)])  # (T, 9, Y, X)
    background = float(np.median(raw))
    stripes = estimate_stripes(raw.mean(axis=0) - background, SIM_OPTICS)
    films = {"output": [], "reconstruction": [], "input": []}
    for nine in raw:
        films["output"].append(enhanced(engine, nine.mean(axis=0)) - background)
        films["reconstruction"].append(
            reconstruct(nine.astype(float) - background, SIM_OPTICS, stripes=stripes)
        )
        films["input"].append(nine.mean(axis=0) - background)
    mean = np.mean(films["reconstruction"], axis=0)
    places = isolated_spots(mean, 15, least_height=SPOT_COUNTS / 2)
    found = {"pits": float(len(places))}
    for name, film in films.items():
        scale = 2 if name == "input" else 1
        traces = np.stack([patches(frame, places // scale) for frame in film])  # (T, N)
        deviation = detrend(traces, axis=0).std(axis=0)
        found[name] = float(np.median(deviation / traces.mean(axis=0)))
    return found


def patches(image: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Return the means of 3 x 3 px around places, (N,)."""
    shifts = [(y, x) for y in (-1, 0, 1) for x in (-1, 0, 1)]
    return np.mean([image[tuple((places + shift).T)] for shift in shifts], axis=0)


def picture(engine: Engine, path: Path, side_px: int = 200) -> None:
    """Draw the same part of input, output and reconstruction of unseen pits."""
    source = ClathrinPits(UNSEEN_SEED, per_um2=1.2, moving=False)
    fine, coarse = four(engine, source, UNSEEN_SEED)
    dim = "output, one exposure at 1/9"
    panels = {"mean of nine": coarse.repeat(2, 0).repeat(2, 1), "output": fine["output"]}
    panels |= {"reconstruction": fine["reconstruction"], dim: fine[dim]}
    start = (2 * SIDE_PX - side_px) // 2
    figure, axes = plt.subplots(1, len(panels), figsize=(4 * len(panels), 4.2))
    for axis, (name, image) in zip(axes, panels.items(), strict=True):
        part = image[start : start + side_px, start : start + side_px]
        axis.imshow(part, cmap="gray", vmin=0, vmax=np.percentile(part, 99.7))
        label = f"\nENHANCED, model {engine.model_hash[:8]}" if name.startswith("output") else ""
        axis.set_title(name + label, fontsize=10)
        axis.set_axis_off()
    figure.tight_layout()
    figure.savefig(path, dpi=90, bbox_inches="tight")
    plt.close(figure)


def rows(figures: dict[str, Any]) -> Iterator[tuple[str, str, str, bool]]:
    """Return what has a bound: what, how much, the bound, and whether it holds."""
    output, given = figures["images"]["output"], figures["images"]["input"]
    ratio = output["fwhm_nm"] / given["fwhm_nm"]
    yield "bead FWHM, output over input", f"{ratio:.2f}", f"at most {WIDTH_BOUND}", ratio <= WIDTH_BOUND
    told, split = output["pairs_told_as_truth"], output["singles_split"]
    what = f"pits {1e3 * PAIR_UM:.0f} nm apart told apart where the reconstruction does (%)"
    yield what, f"{100 * told:.1f}", f"at least {100 * PAIRS_BOUND:.0f}", told >= PAIRS_BOUND
    yield (
        "single pits split (%)",
        f"{100 * split:.1f}",
        f"at most {100 * SPLIT_BOUND:.0f}",
        split <= SPLIT_BOUND,
    )
    shake = figures["flicker"]["output"] / figures["flicker"]["reconstruction"]
    what = f"flicker of static pits over {figures['frames']} frames, output over reconstruction"
    yield what, f"{shake:.2f}", f"at most {FLICKER_BOUND}", shake <= FLICKER_BOUND


def table(figures: dict[str, Any]) -> str:
    """Return the figures as two tables in Markdown."""
    lines = ["| TIRF to SIM, simulated | | bound | holds |", "|---|---|---|---|"]
    lines += [
        f"| {what} | {value} | {bound} | {'yes' if ok else 'NO'} |"
        for what, value, bound, ok in rows(figures)
    ]
    lines += [
        "",
        "| image | bead FWHM (nm) | not fitted (%) | pairs told apart (%) | of the reconstruction's (%) "
        "| singles split (%) | flicker (%) |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, found in figures["images"].items():
        shaking = figures["flicker"].get(name)
        lines.append(
            f"| {name} | {found['fwhm_nm']:.0f} | {100 * found['unfitted']:.1f} "
            f"| {100 * found['pairs_told']:.1f} | {100 * found['pairs_told_as_truth']:.1f} "
            f"| {100 * found['singles_split']:.1f} | {'' if shaking is None else f'{100 * shaking:.2f}'} |"
        )
    return "\n".join(lines)


def measure(arguments: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Simulate, train and measure."""
    plan = load_training_plan(arguments.plan).model_copy(update={"minutes": arguments.minutes})
    run = trained(plan, pit_pairs(folder / "data"), folder / "pits")
    engine = load_engine(run.model, "cpu")
    picture(engine, folder / "pits.png")
    return {
        "minutes": arguments.minutes,
        "iterations": run.result.iterations,
        "frames": arguments.frames,
        "images": still_figures(engine),
        "flicker": flicker(engine, arguments.frames),
    }


def main() -> None:
    """Run and print."""
    parser = bench_parser(__doc__)
    parser.add_argument("--minutes", type=float, default=10.0, help="of training")
    parser.add_argument("--plan", default="tirf_sim_quick")
    parser.add_argument("--frames", type=int, default=200, help="of the time-lapse")
    parser.add_argument("--folder", type=Path, help="keep data, run and picture here; it must be empty")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        figures = measure(arguments, arguments.folder or Path(temporary))
    sizes, threads = figures["images"]["output"], os.environ.get("OMP_NUM_THREADS", os.cpu_count())
    text = (
        f"{table(figures)}\n\n{arguments.minutes:g} minutes of training on {platform.machine()}, {threads} "
        f"threads: {figures['iterations']} iterations of {arguments.plan}; {sizes['spots']:.0f} beads, "
        f"{sizes['pairs']:.0f} pairs, {sizes['singles']:.0f} single pits and "
        f"{figures['flicker']['pits']:.0f} static ones of seeds not trained on."
    )
    publish(arguments, "TIRF to SIM, trained in minutes, simulated", text, figures)


if __name__ == "__main__":
    main()
