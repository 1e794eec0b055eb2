"""A model on what it was not made for: the generalisation tests of the paper, as one table.

    python bench/cross_use.py MODEL [--fields 4] [--micrograph cells.tif] [--json]
        [--write bench/results/cross-use.md]

MODEL is a wide-field FITC model of the virtual stand (`bench/training_widefield.py --folder DIR` leaves one
in DIR/FITC/model.zip). It is applied to images of the stand that differ in one thing each from what it
learned, with their own normalisation, and scored against the noise-free 20x image of the same. `--micrograph`
puts a real image (0.1625 um a pixel) under the stand. Everything is simulated.
"""

import argparse
import tempfile
from pathlib import Path
from typing import Any

import tifffile
from aligned_pairs import Taken, aligned_pairs
from cells_and_beads import BEADS
from output import bench_parser, publish

from acquisition.virtual import HistoneNuclei, Micrograph, ScatteredBeads
from inference.engine import load_engine
from training.evaluation.cross_use import OtherUse, cross_use
from training.evaluation.evaluate import Evaluation
from training.evaluation.figures import NotMeasured

SEED = 417
"""Of cells that no training of the benches has."""
USES: dict[str, Taken] = {
    "as trained": Taken(seed=SEED),
    "DAPI": Taken("DAPI", SEED),
    "Texas Red": Taken("Texas Red", SEED),
    "beads": Taken(seed=SEED, source=ScatteredBeads(SEED, **BEADS)),
    "nuclei of another cell line": Taken("DAPI", SEED, source=HistoneNuclei(SEED)),
    "a quarter of the light": Taken(seed=SEED, light=0.25),
    "a twentieth of the light": Taken(seed=SEED, light=0.05),
    "5 um out of focus": Taken(seed=SEED, defocus_um=5.0),
    "10 um out of focus": Taken(seed=SEED, defocus_um=10.0),
    "20x/0.75 binned, instead of 10x/0.4": Taken(seed=SEED, low_objective="20X"),
}
COLUMNS = {
    "psnr_db": 2,
    "ssim": 4,
    "slope": 3,
    "spots_invented": 4,
    "filaments_invented": 4,
    "filaments_missed": 4,
}
ROWS = {"enhanced": "network", "richardson_lucy_best": "Lucy-Richardson", "bilinear": "input"}
MICROGRAPH_PIXEL_UM = 0.1625


def measure(arguments: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Simulate every use and score the model on it."""
    uses = dict(USES)
    if arguments.micrograph:
        specimen = Micrograph(tifffile.imread(arguments.micrograph), MICROGRAPH_PIXEL_UM)
        uses["a real micrograph as specimen"] = Taken(seed=SEED, specimen=specimen)
    engine = load_engine(arguments.model, "cpu")
    named = []
    for number, (label, taken) in enumerate(uses.items()):
        fields = 1 if taken.specimen is not None else arguments.fields  # a micrograph lies there once
        aligned_pairs(folder / str(number), fields, taken)
        named.append(OtherUse(label, folder / str(number), taken.channel))
    return {label: _figures(found) for label, found in cross_use(engine, named).items()}


def _figures(evaluation: Evaluation) -> dict[str, dict[str, float | None]]:
    found = {row: {name: evaluation.mean(row, name) for name in COLUMNS} for row in ROWS}
    return {
        row: {name: None if isinstance(figure, NotMeasured) else figure for name, figure in figures.items()}
        for row, figures in found.items()
    }


def table(figures: dict[str, Any]) -> str:
    """Return the figures as a table in Markdown, with whether the network still helps."""
    lines = [f"| use | image | {' | '.join(COLUMNS)} | network best by SSIM |"]
    lines.append("|---" * (3 + len(COLUMNS)) + "|")
    for label, found in figures.items():
        best = max(ROWS, key=lambda row, found=found: found[row]["ssim"] or 0.0)
        for row, name in ROWS.items():
            cells = " | ".join(_cell(found[row][column], digits) for column, digits in COLUMNS.items())
            verdict = ("yes" if best == row else "NO") if row == "enhanced" else ""
            lines.append(f"| {label} | {name} | {cells} | {verdict} |")
    return "\n".join(lines)


def _cell(figure: float | None, digits: int) -> str:
    return "-" if figure is None else f"{figure:.{digits}f}"


def main() -> None:
    """Run and print."""
    parser = bench_parser(__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("--fields", type=int, default=4, help="of each use")
    parser.add_argument("--micrograph", type=Path, help="a real image as one more specimen")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        figures = measure(arguments, Path(folder))
    text = f"{table(figures)}\n\n{arguments.fields} fields of 1024 x 1024 px each, simulated."
    publish(arguments, "A wide-field FITC model on other images", text, figures)


if __name__ == "__main__":
    main()
