"""Focuses many times on the virtual wide-field stand with all its imperfections, and says how well it went.

    python bench/autofocus.py [--json] [--write bench/results/autofocus.md] [--focuses 200] [--scores]

Four specimens, both objectives, starts anywhere within 30 um. The reference is the plane at which the
noise-free image of the same middle of the field is sharpest. A field counts as one with signal where its
score in focus stands out by more than `SIGNAL` (see there). With `--scores`, the same searches once with each
focus score.
"""

import json
import statistics
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from output import bench_parser, publish

from acquisition.autofocus import FocusFailedError, SweepRange, sweep
from acquisition.focus_score import SCORES, gradient_energy
from acquisition.virtual import EndothelialCells, Frame, ScatteredBeads, Sensor, Stand, load, stand_of
from acquisition.virtual.optics import depth_of_field_um

IMPERFECTIONS = {
    "sample_height_um": 4.0,
    "sample_tilt_um_per_mm": (1.5, -1.0),
    "sample_waviness_um": 2.0,
    "parfocal_offset_um": 6.0,
    "parcentric_offset_um": (2.5, -1.8),
    "stage_error_um": 0.5,
    "stage_backlash_um": 1.0,
    "camera_rotation_deg": 0.5,
    "distortion_px": 1.8,
    "low_distortion_px": 0.8,
    "lateral_chromatic_um": {"Texas Red": (0.3, -0.2), "DAPI": (-0.2, 0.1)},
    "axial_chromatic_um": {"Texas Red": 0.4, "DAPI": -0.5},
    "vignetting": 0.2,
    "background_gradient": (0.1, -0.1),
    "bleaching_per_s": 0.002,
    "drift_um_per_min": (0.05, 0.03, 0.05),
}
SENSOR = Sensor(gain_spread=0.01, hot_pixel_fraction=1e-4)
SPECIMENS: dict[str, Callable[[], Any]] = {
    "dense cells": lambda: EndothelialCells(7),
    "sparse cells": lambda: EndothelialCells(7, occupancy=0.15),
    "bead field": lambda: ScatteredBeads(7, per_um2=0.004, weight=60.0),
    "nearly empty": lambda: EndothelialCells(7, occupancy=0.01),
}
FOCUS_MS = {"10X": 100.0, "20X": 50.0}
"""A twelfth of METHOD's exposures in all three channels together, so that twelve cost no more light than
those."""
ROI_PX = 512
START_UM = 30.0
AWAY_UM = 40.0
SIGNAL = 30.0
"""Of the score in focus above that out of focus, over what noise alone gives it in one exposure: below, a
field has nothing to focus on."""


@dataclass(frozen=True)
class Outcome:
    """One focus."""

    specimen: str
    objective: str
    has_signal: bool
    error_um: float | None
    """None where it reported failure."""
    exposures: int

    @property
    def quarter_depth_um(self) -> float:
        """The bound."""
        aperture, magnification = {"10X": (0.4, 10.0), "20X": (0.75, 20.0)}[self.objective]
        return depth_of_field_um(aperture, magnification) / 4

    @property
    def right(self) -> bool:
        """Whether it landed within a quarter of the depth of field."""
        return self.error_um is not None and abs(self.error_um) <= self.quarter_depth_um


def reference(stand: Stand, objective: str, place: tuple[float, float], time_s: float) -> tuple[float, float]:
    """Return the sharpest noise-free plane of the middle of the field, and how far its score stands out."""
    start = (512 - ROI_PX) // 2
    guess = stand.best_focus_um(objective, place, channel="FITC", time_s=time_s)

    def seen(plane_um: float) -> np.ndarray:
        frame = Frame(objective, "FITC", place, plane_um, (start, start, ROI_PX, ROI_PX), time_s=time_s)
        return stand.expected_electrons(frame, FOCUS_MS[objective])

    step_um = {"10X": 0.6, "20X": 0.25}[objective]
    planes = guess + step_um * np.arange(-10, 11)  # the cells are up to 4 um thick
    scores = [gradient_energy(seen(plane), 1.0).value for plane in planes]
    best = int(np.argmax(scores))
    near = slice(max(best - 2, 0), best + 3)
    curvature, slope, _ = np.polyfit(planes[near] - planes[best], np.log(scores[near]), 2)
    sharp, blurred = seen(planes[best]), seen(planes[best] + AWAY_UM)
    noise = gradient_energy(Sensor(sharp.shape).expose(sharp, np.random.default_rng(0)), 1.0).noise
    rise = gradient_energy(sharp, 1.0).value - gradient_energy(blurred, 1.0).value
    return float(planes[best] - slope / (2 * curvature)), rise / noise


def focus_once(core: Any, objective: str, rng: np.random.Generator, name: str, score: Any) -> Outcome:  # noqa: ANN401
    """Focus at a random place from a random start."""
    stand = stand_of(core)
    core.setConfig("Objective", objective)
    x_um, y_um = rng.uniform(-2000, 2000, 2)
    core.setXYPosition(float(x_um), float(y_um))
    core.waitForSystem()
    core.setExposure(FOCUS_MS[objective])
    place = tuple(core.getXYPosition())
    time_s = core._camera._now_s()  # noqa: SLF001 - the stand's time has no other name
    true_um, signal = reference(stand, objective, place, time_s)
    aperture, pixel_um = {"10X": (0.4, 0.65), "20X": (0.75, 0.325)}[objective]
    where = SweepRange(
        start_um=true_um + float(rng.uniform(-START_UM, START_UM)),
        half_range_um=START_UM,
        finest_step_um=0.7 * 4 * Outcome(name, objective, True, None, 0).quarter_depth_um,
        window_um=(-200.0, 200.0),
        blur_px_per_um=aperture / np.sqrt(1 - aperture**2) / pixel_um,
    )
    start = (512 - ROI_PX) // 2
    core.setROI(start, start, ROI_PX, ROI_PX)
    taken: list[float] = []

    def snap() -> np.ndarray:
        core.snapImage()
        taken.append(core.getPosition())
        return core.getImage()

    try:
        found = sweep(core.setPosition, snap, where, score)
    except FocusFailedError:
        return Outcome(name, objective, signal > SIGNAL, None, len(taken))
    finally:
        core.clearROI()
    return Outcome(name, objective, signal > SIGNAL, found.focus_um - true_um, len(taken))


def run(focuses: int, score: Any) -> list[Outcome]:  # noqa: ANN401 - a focus score
    """Focus evenly over specimens and objectives."""
    outcomes = []
    each = -(-focuses // (len(SPECIMENS) * 2))
    for name, source in SPECIMENS.items():
        core = load("widefield", seed=7, source=source(), sensor=SENSOR, **IMPERFECTIONS)
        core.setConfig("Channel", "FITC")
        rng = np.random.default_rng(1)
        for _ in range(each):
            outcomes += [focus_once(core, objective, rng, name, score) for objective in ("10X", "20X")]
    return outcomes


def summary(outcomes: list[Outcome]) -> dict[str, float]:
    """Return the figures that must hold."""
    seen = [outcome for outcome in outcomes if outcome.has_signal]
    landed = [outcome for outcome in outcomes if outcome.error_um is not None]
    return {
        "focuses": len(outcomes),
        "with_signal": len(seen),
        "right_of_those_with_signal": sum(outcome.right for outcome in seen) / len(seen),
        "silently_wrong": sum(not outcome.right for outcome in landed),
        "median_exposures": statistics.median(outcome.exposures for outcome in seen),
    }


def table(outcomes: list[Outcome]) -> str:
    """Return a row per specimen and objective."""
    lines = [
        "| specimen | objective | focuses | signal | right | failure told | wrong | error (um) | exposures |",
        "|---|" + "---|" * 8,
    ]
    for name in SPECIMENS:
        for objective in ("10X", "20X"):
            these = [o for o in outcomes if (o.specimen, o.objective) == (name, objective)]
            errors = [abs(o.error_um) for o in these if o.error_um is not None]
            cells = [
                len(these),
                sum(o.has_signal for o in these),
                sum(o.right for o in these),
                sum(o.error_um is None for o in these),
                sum(o.error_um is not None and not o.right for o in these),
                f"{statistics.median(errors):.2f}" if errors else "-",
                statistics.median(o.exposures for o in these),
            ]
            lines.append(f"| {name} | {objective} | " + " | ".join(str(cell) for cell in cells) + " |")
    return "\n".join(lines)


def main() -> None:
    """Run and print."""
    parser = bench_parser(__doc__)
    parser.add_argument("--focuses", type=int, default=200)
    parser.add_argument("--scores", action="store_true", help="compare the focus scores")
    arguments = parser.parse_args()
    if arguments.scores:
        for name, score in SCORES.items():
            print(name, json.dumps(summary(run(arguments.focuses, score))))
        return
    outcomes = run(arguments.focuses, gradient_energy)
    figures = summary(outcomes)
    text = table(outcomes) + "\n\n" + ", ".join(f"{name} {value:g}" for name, value in figures.items())
    publish(arguments, "Autofocus, simulated", text, figures)


if __name__ == "__main__":
    main()
