"""Calibrates the virtual wide-field stand with its imperfections, and says how far from the truth it lands.

    python bench/calibration.py [--json] [--write bench/results/calibration.md] [--seeds 2]

Each case has the experiment file's camera, states and exposures, and for each seed another specimen and
another stage. `holds` says whether pixel sizes are right within 0.1 %, rotations within 0.02 degrees, the
parcentric offset within 1 um and the parfocal one within 0.5 um. A distorted field has no one pixel size:
that case is shown, and does not count.
"""

import time
from dataclasses import dataclass
from typing import Any

import numpy as np
from output import bench_parser, publish

from acquisition.calibration import Calibration
from acquisition.calibration_run import calibrate
from acquisition.microscope import Microscope
from acquisition.plan import Experiment, load_experiment
from acquisition.virtual import from_choice

SCALE_PERCENT, ROTATION_DEG, PARCENTRIC_UM, PARFOCAL_UM = 0.1, 0.02, 1.0, 0.5
OPTICS: dict[str, Any] = {
    "sample_height_um": 4.0,
    "sample_tilt_um_per_mm": (1.5, -1.0),
    "parfocal_offset_um": 6.0,
    "parcentric_offset_um": (2.5, -1.8),
}
WORN: dict[str, Any] = {**OPTICS, "stage_error_um": 0.5, "stage_backlash_um": 1.0}
DISTORTED = "as 'worn stage', distortion 1.8 px"
CASES: dict[str, dict[str, Any]] = {
    "ideal stage": OPTICS,
    "worn stage": WORN,
    "camera turned by 0.7 deg": {**WORN, "camera_rotation_deg": 0.7},
    "camera turned by 90 deg": {**WORN, "camera_rotation_deg": 90.0},
    "camera mirrored": {**WORN, "camera_mirrored": True},
    "mirrored, turned by -179.3 deg": {**WORN, "camera_mirrored": True, "camera_rotation_deg": -179.3},
    "steep, wavy, uneven light, chromatic": {
        **WORN,
        "camera_rotation_deg": 0.7,
        "sample_tilt_um_per_mm": (4.0, -3.0),
        "sample_waviness_um": 1.0,
        "parfocal_offset_um": -8.0,
        "parcentric_offset_um": (-14.0, 9.0),
        "axial_chromatic_um": {"Texas Red": 0.8, "DAPI": -0.7},
        "vignetting": 0.25,
        "background_gradient": (0.2, -0.1),
    },
    DISTORTED: {**WORN, "distortion_px": 1.8},
}


@dataclass(frozen=True)
class Outcome:
    """One calibration against the stand's truth; errors are measured minus true."""

    case: str
    seed: int
    scale_percent: dict[str, float]
    rotation_deg: dict[str, float]
    mirror_right: bool
    parfocal_um: tuple[float, float]
    """Error and standard error, as the next."""
    parcentric_um: tuple[float, float]
    """Length of the error and of its standard error."""
    channel_focus_um: float
    """Largest error of a channel's focus against the stand's axial chromatic shift."""
    seconds: float

    @property
    def holds(self) -> bool:
        """Whether all figures are within their bounds."""
        return (
            self.mirror_right
            and max(map(abs, self.scale_percent.values())) <= SCALE_PERCENT
            and max(map(abs, self.rotation_deg.values())) <= ROTATION_DEG
            and abs(self.parfocal_um[0]) <= PARFOCAL_UM
            and self.parcentric_um[0] <= PARCENTRIC_UM
        )


def case_of(shipped: Experiment, seed: int, imperfections: dict[str, Any]) -> Experiment:
    """Return the shipped experiment on a stand with these imperfections and no others."""
    choice = shipped.microscope.model_copy(update={"seed": seed, "imperfections": imperfections})
    return shipped.model_copy(update={"microscope": choice})


def compare(case: str, experiment: Experiment, measured: Calibration, seconds: float) -> Outcome:
    """Return how far a calibration is from the truth."""
    choice = experiment.microscope
    truth = choice.imperfections
    angle_deg = truth.get("camera_rotation_deg", 0.0)
    scale_percent, rotation_deg = {}, {}
    for state, known in measured.states.items():
        pixel_um = choice.camera_pixel_um / known.magnification
        scale_percent[state] = 100 * (known.pixel_size_um / pixel_um - 1)
        rotation_deg[state] = (known.rotation_deg - angle_deg + 180) % 360 - 180
    offsets = zip(measured.parcentric_um, truth["parcentric_offset_um"], strict=True)
    chromatic = truth.get("axial_chromatic_um", {})
    return Outcome(
        case=case,
        seed=choice.seed,
        scale_percent=scale_percent,
        rotation_deg=rotation_deg,
        mirror_right=all(
            known.mirrored == truth.get("camera_mirrored", False) for known in measured.states.values()
        ),
        parfocal_um=(
            measured.parfocal_um.mean - truth["parfocal_offset_um"],
            measured.parfocal_um.standard_error,
        ),
        parcentric_um=(
            float(np.hypot(*[offset.mean - true for offset, true in offsets])),
            float(np.hypot(*[offset.standard_error for offset in measured.parcentric_um])),
        ),
        channel_focus_um=max(
            abs(offset.mean - chromatic.get(name, 0.0))
            for foci in measured.channel_focus_um.values()
            for name, offset in foci.items()
        ),
        seconds=seconds,
    )


def run(seeds: int) -> list[Outcome]:
    """Calibrate every case with every seed."""
    shipped = load_experiment("virtual_widefield")
    outcomes = []
    for number, (case, imperfections) in enumerate(CASES.items()):
        for seed in range(10 * number + 1, 10 * number + 1 + seeds):
            experiment = case_of(shipped, seed, imperfections)
            core = from_choice(experiment.microscope)
            microscope = Microscope.for_experiment(core, experiment)
            began = time.perf_counter()
            measured = calibrate(experiment, microscope)
            outcomes.append(compare(case, experiment, measured, time.perf_counter() - began))
    return outcomes


def table(outcomes: list[Outcome]) -> str:
    """Return a row per calibration."""
    lines = [
        "| case | seed | scale low, high (%) | rotation low, high (deg) | mirror | parfocal (um) "
        "| parcentric (um) | channels (um) | holds | s |",
        "|---|" + "---|" * 9,
    ]
    for one in outcomes:
        cells = [
            one.case,
            str(one.seed),
            ", ".join(f"{error:+.3f}" for error in one.scale_percent.values()),
            ", ".join(f"{error:+.4f}" for error in one.rotation_deg.values()),
            "right" if one.mirror_right else "wrong",
            f"{one.parfocal_um[0]:+.3f} ± {one.parfocal_um[1]:.3f}",
            f"{one.parcentric_um[0]:.3f} ± {one.parcentric_um[1]:.3f}",
            f"{one.channel_focus_um:.2f}",
            "yes" if one.holds else "no",
            f"{one.seconds:.0f}",
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def summary(outcomes: list[Outcome]) -> dict[str, float]:
    """Return the figures that must hold, of the cases without distortion."""
    counted = [one for one in outcomes if one.case != DISTORTED]
    return {
        "calibrations": len(counted),
        "holding": sum(one.holds for one in counted),
        "worst_scale_percent": max(abs(e) for one in counted for e in one.scale_percent.values()),
        "worst_rotation_deg": max(abs(e) for one in counted for e in one.rotation_deg.values()),
        "worst_parfocal_um": max(abs(one.parfocal_um[0]) for one in counted),
        "worst_parcentric_um": max(one.parcentric_um[0] for one in counted),
    }


def main() -> None:
    """Run and print."""
    parser = bench_parser(__doc__)
    parser.add_argument("--seeds", type=int, default=2, help="for each case")
    arguments = parser.parse_args()
    outcomes = run(arguments.seeds)
    figures = summary(outcomes)
    text = table(outcomes) + "\n\n" + ", ".join(f"{name} {value:.4g}" for name, value in figures.items())
    publish(arguments, "Calibration, simulated", text, figures)


if __name__ == "__main__":
    main()
