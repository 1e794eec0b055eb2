"""Draws the pictures of docs/virtual_microscope.md: every specimen in every modality, PSF profiles, SIM.

python bench/virtual_pictures.py [-o docs/virtual_microscope]
"""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

import matplotlib as mpl
import numpy as np

from acquisition.virtual import (
    ClathrinPits,
    EndothelialCells,
    HistoneNuclei,
    ScatteredBeads,
    load,
)
from acquisition.virtual.designs import CONFOCAL_STED
from acquisition.virtual.optics import point_spread
from training.pairing.structured_illumination import SimOptics, reconstruct

mpl.use("Agg")
import matplotlib.pyplot as plt

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from pymmcore_plus import CMMCorePlus

EXPOSURE_MS = {"DAPI": 60, "FITC": 800, "Texas Red": 350, "Crimson": 1000, "GFP": 20}


def camera_frame(core: "CMMCorePlus", objective: str, modality: str, channel: str) -> np.ndarray:
    """Return one exposure."""
    core.setConfig("Objective", objective)
    if "Modality" in core.getAvailableConfigGroups():
        core.setConfig("Modality", modality)
    core.setConfig("Channel", channel)
    core.setExposure(EXPOSURE_MS[channel])
    core.waitForSystem()
    core.snapImage()
    return core.getImage().astype(float)


def sim_image(core: "CMMCorePlus") -> np.ndarray:
    """Return the reconstruction of nine exposures."""
    frames = []
    for number in range(9):
        core.setProperty("Pattern", "State", number)
        frames.append(camera_frame(core, "100X", "SIM", "GFP") - 100)
    return reconstruct(np.stack(frames), SimOptics(0.065, 1.49, 525.0))


def show(axes: "Axes", image: np.ndarray, title: str, pixel_um: float, bar_um: float) -> None:
    """Draw an image with its title and a scale bar."""
    low, high = np.percentile(image, (1, 99.8))
    axes.imshow(image, cmap="gray", vmin=low, vmax=max(high, low + 1))
    axes.set_title(title, fontsize=10)
    axes.set_axis_off()
    height, width = image.shape
    length = bar_um / pixel_um
    y, x = 0.94 * height, 0.95 * width
    axes.plot([x - length, x], [y, y], color="white", linewidth=3, solid_capstyle="butt")
    axes.text(x - length / 2, y - 0.025 * height, f"{bar_um:g} µm", color="white", ha="center", fontsize=8)


def widefield_picture(path: Path) -> None:
    """Draw the cells' three stains at 10x and 20x, the same 100 um."""
    core = load("widefield", seed=7, source=EndothelialCells(7))
    figure, axes = plt.subplots(2, 3, figsize=(10.5, 7.2))
    for column, channel in enumerate(("DAPI", "FITC", "Texas Red")):
        for row, (objective, side_px, pixel_um) in enumerate((("10X", 154, 0.65), ("20X", 308, 0.325))):
            image = camera_frame(core, objective, "Widefield", channel)
            start = (512 - side_px) // 2
            part = image[start : start + side_px, start : start + side_px]
            aperture = {"10X": "10x/0.40", "20X": "20x/0.75"}[objective]
            show(axes[row, column], part, f"{channel}, {aperture}", pixel_um, 20)
    save(figure, path)


def scanned_picture(path: Path) -> None:
    """Draw nuclei and beads, confocal and STED."""
    figure, axes = plt.subplots(2, 2, figsize=(7.4, 7.8))
    for row, (name, source) in enumerate(
        (("histone", HistoneNuclei(3)), ("beads", ScatteredBeads(3, 2.0, 80.0)))
    ):
        core = load("confocal_sted", seed=3, source=source, camera_shape_yx=(400, 400))
        if name == "histone":
            core.setXYPosition(-1.0, -4.0)
        for column, modality in enumerate(("Confocal", "STED")):
            image = camera_frame(core, "100X", modality, "Crimson")
            show(axes[row, column], image, f"{name}, {modality}", 0.03, 2)
    save(figure, path)


def tirf_picture(path: Path) -> None:
    """Draw pits in uniform light at three doses and as a SIM reconstruction."""
    core = load("tirf_sim", seed=5, source=ClathrinPits(5, per_um2=1.2), camera_shape_yx=(160, 160))
    figure, axes = plt.subplots(1, 4, figsize=(13, 3.6))
    for column, dose in enumerate(("as one of nine", "as nine of nine")):
        core.setConfig("Dose", dose)
        image = camera_frame(core, "100X", "TIRF", "GFP")
        show(axes[column], image, f"TIRF, dose {dose}", 0.065, 2)
    stripes = camera_frame(core, "100X", "SIM", "GFP")
    show(axes[2], stripes, "SIM, one of nine exposures", 0.065, 2)
    show(axes[3], np.maximum(sim_image(core), 0), "SIM, reconstructed", 0.0325, 2)
    save(figure, path)


def profiles_picture(path: Path) -> None:
    """Draw the point spread functions along a radius."""
    figure, axes = plt.subplots(1, 2, figsize=(10, 3.6))
    radius_um = np.linspace(0, 2, 400)
    for name, aperture in (("10x/0.40", 0.4), ("20x/0.75", 0.75)):
        for defocus_um, style in ((0.0, "-"), (2.0, "--")):
            spread = point_spread(radius_um, aperture, 522.0, defocus_um)
            label = f"{name}, {'in focus' if not defocus_um else '2 µm out of focus'}"
            axes[0].plot(
                radius_um, spread / point_spread(np.zeros(1), aperture, 522.0)[0], style, label=label
            )
    fine_um = np.linspace(0, 0.5, 300)
    for modality, ideal in (("Confocal", False), ("STED", False), ("Confocal", True), ("STED", True)):
        truth = dict.fromkeys(CONFOCAL_STED.imperfections, 0.0) if ideal else CONFOCAL_STED.imperfections
        blur = CONFOCAL_STED.blur(
            "100X",
            "Crimson",
            modality,
            underfill=truth["excitation_underfill"],
            spherical_waves=truth["spherical_aberration_waves"],
        )
        spread = blur.spread(fine_um)  # type: ignore[attr-defined] # a Scanner
        label = f"{modality}, {'ideal' if ideal else 'default'} stand"
        axes[1].plot(fine_um, spread / spread[0], "--" if ideal else "-", label=label)
    for axis in axes:
        axis.set_xlabel("radius (µm)")
        axis.set_ylabel("relative intensity")
        axis.legend(fontsize=8)
        axis.spines[["top", "right"]].set_visible(False)
    save(figure, path)


def save(figure: "plt.Figure", path: Path) -> None:
    """Write a figure."""
    figure.tight_layout()
    figure.savefig(path, dpi=75)
    plt.close(figure)
    print(path)


def main() -> None:
    """Draw them all."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("-o", "--output", type=Path, default=Path("docs/virtual_microscope"))
    folder = parser.parse_args().output
    folder.mkdir(parents=True, exist_ok=True)
    widefield_picture(folder / "widefield.png")
    scanned_picture(folder / "confocal_sted.png")
    tirf_picture(folder / "tirf_sim.png")
    profiles_picture(folder / "profiles.png")


if __name__ == "__main__":
    main()
