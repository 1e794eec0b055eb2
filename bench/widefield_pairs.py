"""Pairs of the virtual wide-field stand, through the whole chain from the scan to the gate.

What the training benches learn from and are scored on. The test pairs get the noise-free image that only a
virtual microscope knows. Every figure that comes of it is simulated.
"""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from acquisition.area import Area, HighTiles, RegionGrid
from acquisition.plan import Experiment, load_experiment
from acquisition.scan import run_scan
from acquisition.virtual import load, stand_of
from training.pairing.build import pair_scan
from training.pairing.pairs import PairRecord, PairSet
from training.pairing.truth import attach_truth

if TYPE_CHECKING:
    from acquisition.virtual.specimen import PointSource

__all__ = ["CHANNELS", "SPACING_UM", "widefield_pairs"]

CHANNELS = ("FITC", "DAPI", "Texas Red")
SPACING_UM = 340.0
"""Between the centres of regions."""


def widefield_pairs(folder: Path, rows: int, columns: int, *, source: "PointSource | None" = None) -> PairSet:
    """Scan and pair the shipped experiment (its imperfections on) over so many regions.

    Parameters
    ----------
    folder
        Gets `scan` and `pairs`; where the pairs are there already, they are taken.
    source
        What lies on the stage, centred under the regions; the stand's own cells by default.
    """
    if (folder / "pairs").exists():
        return PairSet.open(folder / "pairs")
    shipped = load_experiment("virtual_widefield")
    area = Area(
        regions=RegionGrid(rows=rows, columns=columns, spacing_um=SPACING_UM),
        high_tiles=HighTiles(rows=2, columns=2, overlap=0.1),
    )
    experiment = shipped.model_copy(update={"area": area})
    stand_choice = experiment.microscope
    core = load(
        "widefield",
        seed=stand_choice.seed,
        camera_shape_yx=stand_choice.camera_shape_yx,
        source=source,
        **stand_choice.imperfections,
    )
    summary = run_scan(experiment, core, folder / "scan")
    pairs = pair_scan(folder / "scan", folder / "pairs")
    stand, fields = stand_of(core), summary.folder.fields()
    for record in [pair for pair in pairs.index.pairs if pair.accepted and pair.split == "test"]:
        here = [field for field in fields if field.region == record.region]
        (low,) = [field for field in here if field.state == "low"]
        focus_um = float(np.mean([field.focus_um for field in here if field.state == "high"]))
        image = stand.high_image_on_low_grid(
            record.channel, (low.stage_x_um, low.stage_y_um), focus_um, _exposure_ms(experiment, record)
        )
        background = pairs.index.normalisation[record.channel].high.background - stand.sensor.offset_counts
        attach_truth(pairs, record, image, background=background)
    return PairSet.open(folder / "pairs")


def _exposure_ms(experiment: Experiment, record: PairRecord) -> float:
    return experiment.channel(record.channel).exposure_ms["high"]
