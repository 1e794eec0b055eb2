"""What the guards say of good frames and of bad ones: flags in each of many fields, and what looking costs.

    python bench/guards.py MODEL [--fields 100] [--json] [--write bench/results/guards.md]

MODEL is a FITC model of the virtual wide-field stand with guard limits in its card:
`bench/training_widefield.py --folder DIR` leaves one in DIR/FITC/model.zip (where that is older than the
limits, `sharpscope export DIR/FITC -o MODEL`).

The frames show the shipped stand, imperfections on, with specimens of seeds that no training has; each is a
field of its own, in best focus but for a random half micrometre. Good frames are twice as many, of two
specimens; the bad ones are other exposures of the same fields, or other specimens offered as the model's
channel. `refused` are frames that are enhanced only with --allow-out-of-domain; `flagged` are these and those
that carry a warning.

Cost: process time, of all threads, of the guards and of the paper's network on this machine's CPU (float32).
"""

import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from cells_and_beads import BEADS
from output import bench_parser, publish

from acquisition.plan import load_experiment
from acquisition.virtual import HistoneNuclei, ScatteredBeads, load, stand_of
from configs.document import WrongInputError
from inference.domain import ImageFacts, OutOfDomainError, out_of_domain_reasons
from inference.engine import Engine, load_engine
from inference.frame_guard import FrameGuard, not_finite
from inference.generator import build_generator
from inference.preprocess import upsample
from training.settings import load_training_plan

if TYPE_CHECKING:
    from pymmcore_plus import CMMCorePlus

    from acquisition.virtual.specimen import PointSource

PIXEL_UM, CHANNEL, LOW = 0.65, "FITC", "10X"
SPACING_UM, FOCUS_ERROR_UM = 340.0, 0.5
SIDE_PX = 256
"""Of a frame: a quarter of the training's, in which less is averaged."""
COMPARED_FIELDS = 25
SEEDS = (1601, 1602)
"""Of the good specimens; no training of the benches has them."""
GUARDS = {
    "intensity": "intensity",
    "saturated": "saturation",
    "signal to noise": "noise",
    "more": "appearance",
    "less": "appearance",
    "bright parts": "appearance",
    "the enhanced image": "artifact score",
}
"""Which guard a flag comes from, by how it begins."""
COLUMNS = ("intensity", "saturation", "noise", "appearance", "artifact score")
MISMATCHES: dict[str, dict[str, Any]] = {
    "pixel size of the 20x": {"pixel_size_um": 0.325, "channel": CHANNEL},
    "no pixel size": {"channel": CHANNEL},
    "channel DAPI": {"pixel_size_um": PIXEL_UM, "channel": "DAPI"},
}
DEMANDED, ALLOWED = 0.95, 0.01
REPEATS = 20


@dataclass(frozen=True, slots=True)
class Taken:
    """What one exposure of a field is like."""

    light: float = 1.0
    defocus_um: float = 0.0
    channel: str = CHANNEL


GOOD = Taken()
OF_CELLS = {
    "a tenth of the light": Taken(light=0.1),
    "ten times the light": Taken(light=10.0),
    "saturated (five times the light)": Taken(light=5.0),
    "10 um out of focus": Taken(defocus_um=10.0),
}
MORE = {
    "for comparison: half the light": Taken(light=0.5),
    "for comparison: 2 um out of focus": Taken(defocus_um=2.0),
    "for comparison: 5 um out of focus": Taken(defocus_um=5.0),
}


@dataclass
class Tally:
    """Flags of one condition."""

    frames: int = 0
    refused: int = 0
    flagged: int = 0
    by: Counter[str] | None = None

    def add(self, engine: Engine, frame: np.ndarray) -> None:
        """Enhance a frame, whatever the guards say, and count what they said."""
        enhanced = engine.enhance(frame, pixel_size_um=PIXEL_UM, channel=CHANNEL, allow_out_of_domain=True)
        self.frames += 1
        self.refused += bool(enhanced.out_of_domain)
        flags = (*enhanced.out_of_domain, *enhanced.warnings)
        self.flagged += bool(flags)
        self.by = (self.by or Counter()) + Counter({_guard_of(flag) for flag in flags})

    def figures(self) -> dict[str, float]:
        """Return shares of the frames, by guard too."""
        by = {name: (self.by or {}).get(name, 0) / self.frames for name in COLUMNS}
        return {
            "frames": self.frames,
            "refused": self.refused / self.frames,
            "flagged": self.flagged / self.frames,
            **by,
        }


def _guard_of(flag: str) -> str:
    return next(guard for begins, guard in GUARDS.items() if flag.startswith(begins))


def measure(engine: Engine, fields: int) -> dict[str, Any]:
    """Image every condition and count."""
    tallies: dict[str, Tally] = {"good frames": Tally()}
    mismatched = dict.fromkeys(MISMATCHES, 0)
    for seed, exposures in zip(SEEDS, (OF_CELLS, {}), strict=True):
        core = _core(seed)
        for place in range(fields):
            compared = MORE if exposures and place < COMPARED_FIELDS else {}
            for label, taken in {"good frames": GOOD, **exposures, **compared}.items():
                frame = _snapped(core, place, taken)
                tallies.setdefault(label, Tally()).add(engine, frame)
                if label == "good frames":
                    for name, facts in MISMATCHES.items():
                        mismatched[name] += _refuses(engine, frame, facts)
    beads = _core(SEEDS[0], ScatteredBeads(SEEDS[0], **BEADS))
    _count(tallies, "beads", engine, beads, fields, GOOD)
    nuclei = _core(SEEDS[0], HistoneNuclei(SEEDS[0]))
    _count(tallies, "nuclei of another cell line", engine, nuclei, fields, Taken(channel="DAPI"))
    actin = "for comparison: the cells' actin"
    few = min(fields, COMPARED_FIELDS)
    _count(tallies, actin, engine, _core(SEEDS[0]), few, Taken(channel="Texas Red"))
    of_mismatched = {name: refused / (2 * fields) for name, refused in mismatched.items()}
    return {
        "conditions": {label: tally.figures() for label, tally in tallies.items()},
        "mismatched": of_mismatched,
        "cost": costs(engine),
    }


def _count(
    tallies: dict[str, Tally], label: str, engine: Engine, core: "CMMCorePlus", fields: int, taken: Taken
) -> None:
    for place in range(fields):
        tallies.setdefault(label, Tally()).add(engine, _snapped(core, place, taken))
    print(label, tallies[label].figures(), flush=True)


def _refuses(engine: Engine, frame: np.ndarray, facts: dict[str, Any]) -> bool:
    try:
        engine.enhance(frame, **facts)
    except OutOfDomainError:
        return True
    return False


def _core(seed: int, source: "PointSource | None" = None) -> "CMMCorePlus":
    shipped = load_experiment("virtual_widefield").microscope
    core = load(
        "widefield", seed=seed, source=source, camera_shape_yx=(SIDE_PX, SIDE_PX), **shipped.imperfections
    )
    core.setConfig("Objective", LOW)
    return core


def _snapped(core: "CMMCorePlus", place: int, taken: Taken) -> np.ndarray:
    """Return a frame of the place-th field, with the focus error that belongs to the field."""
    x_um, y_um = SPACING_UM * (place % 10), SPACING_UM * (place // 10)
    error_um = np.random.default_rng(place).uniform(-FOCUS_ERROR_UM, FOCUS_ERROR_UM)
    focus_um = stand_of(core).best_focus_um(LOW, (x_um, y_um), channel=taken.channel)
    core.setConfig("Channel", taken.channel)
    core.setExposure(
        load_experiment("virtual_widefield").channel(taken.channel).exposure_ms["low"] * taken.light
    )
    core.setXYPosition(x_um, y_um)
    core.setPosition(focus_um + error_um + taken.defocus_um)
    core.waitForSystem()
    core.snapImage()
    return core.getImage().copy()


def costs(engine: Engine) -> list[dict[str, float]]:
    """Return what looking at a frame and at its enhanced image costs, beside the paper's network, in ms."""
    rows = []
    frame = _snapped(_core(SEEDS[0]), 0, GOOD)
    network = build_generator(load_training_plan("widefield").generator).eval()
    for shown in (frame, np.tile(frame, (2, 2))):
        enhanced = upsample(shown.astype(np.float32), engine.factor)
        guards_ms = min(_looked(engine, shown, enhanced) for _ in range(REPEATS))
        with torch.inference_mode():
            fed = torch.from_numpy(enhanced)[None, None].contiguous(memory_format=torch.channels_last)
            network_ms = _timed(lambda fed=fed: network(fed))
        rows.append({"output_px": enhanced.shape[0], "guards_ms": guards_ms, "network_ms": network_ms})
    return rows


def _looked(engine: Engine, frame: np.ndarray, enhanced: np.ndarray) -> float:
    card = engine.package.card
    guard = FrameGuard(card)

    def look() -> None:
        out_of_domain_reasons(frame, ImageFacts(PIXEL_UM, CHANNEL), card)
        seen = guard.look(frame)
        not_finite(enhanced)
        guard.judge(seen, enhanced)

    return _timed(look)


def _timed(work: Callable[[], object]) -> float:
    began = time.process_time()
    work()
    return 1e3 * (time.process_time() - began)


def table(figures: dict[str, Any]) -> str:
    """Return the figures as tables in Markdown."""
    return "\n".join(_lines(figures))


def _lines(figures: dict[str, Any]) -> Iterator[str]:
    yield f"| frames of | fields | refused | flagged | holds | {' | '.join(COLUMNS)} |"
    yield "|---" * (5 + len(COLUMNS)) + "|"
    for label, found in figures["conditions"].items():
        shares = " | ".join(f"{100 * found[name]:.1f} %" for name in ("refused", "flagged"))
        by = " | ".join(f"{100 * found[name]:.1f} %" for name in COLUMNS)
        yield f"| {label} | {found['frames']} | {shares} | {_verdict(label, found['flagged'])} | {by} |"
    for label, refused in figures["mismatched"].items():
        frames = figures["conditions"]["good frames"]["frames"]
        verdict = "yes" if refused == 1 else "NO"
        yield f"| good frames, {label} | {frames} | {100 * refused:.1f} % | | {verdict} |{' |' * 5}"
    yield ""
    yield "| output (px) | guards (ms) | paper's network (ms) | guards cost |"
    yield "|---|---|---|---|"
    for row in figures["cost"]:
        share = 100 * row["guards_ms"] / row["network_ms"]
        yield (
            f"| {row['output_px']} x {row['output_px']} | {row['guards_ms']:.1f} | {row['network_ms']:.0f} | "
            f"{share:.2f} % |"
        )


def _verdict(label: str, flagged: float) -> str:
    if label.startswith("for comparison"):
        return ""
    holds = flagged <= ALLOWED if label == "good frames" else flagged >= DEMANDED
    return "yes" if holds else "NO"


def main() -> None:
    """Run and print."""
    parser = bench_parser(__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("--fields", type=int, default=100, help="of each condition")
    arguments = parser.parse_args()
    engine = load_engine(arguments.model, "cpu")
    if engine.package.card.guard is None:
        raise WrongInputError(f"{arguments.model} is older than the guards' limits; export it again")
    figures = measure(engine, arguments.fields)
    text = (
        f"{table(figures)}\n\nGood frames may be flagged in 1 %, the others must be in 95 %; a mismatch is "
        "to be refused every time. By guard: share of the frames; several may flag one frame. Frames of "
        f"{SIDE_PX} x {SIDE_PX} px, simulated. Cost: process time of all threads."
    )
    publish(arguments, "The guards on good and bad frames", text, figures)


if __name__ == "__main__":
    main()
