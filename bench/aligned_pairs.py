"""Pairs of the virtual wide-field stand without a scan: aligned by construction, truth beside them.

What a bench takes that asks about models or speed and not about the chain that makes pairs. Every figure that
comes of it is simulated.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from acquisition.virtual import load, stand_of
from inference.domain import bright_level
from inference.preprocess import normalise, prepare
from training.pairing.pairs import ChannelNormalisation, Linear, Optics, PairRecord, PairSet, PairSetIndex
from training.pairing.truth import attach_truth

if TYPE_CHECKING:
    from pymmcore_plus import CMMCorePlus

    from acquisition.virtual.specimen import PointSource

__all__ = ["Taken", "aligned_pairs"]

OFFSET_COUNTS = 100.0
SPACING_UM = 340.0
BRIGHT = 200.0
"""What the brightest parts of the first low image become, of 255."""
EXPOSURE_MS = {"FITC": (800.0, 400.0), "DAPI": (60.0, 50.0), "Texas Red": (350.0, 150.0)}
EMISSION_NM = {"FITC": 522.0, "DAPI": 447.0, "Texas Red": 624.0}


@dataclass(frozen=True, slots=True)
class Taken:
    """How the images of a set are taken."""

    channel: str = "FITC"
    seed: int = 31
    source: "PointSource | None" = None
    """The stand's own cells by default."""
    specimen: Any = None
    """A `Micrograph`; overrides `source`."""
    light: float = 1.0
    """Of the low image, over what the experiment gives it."""
    defocus_um: float = 0.0
    """Of the low image."""
    low_objective: str = "10X"
    """20X is binned to the 10x image's pixels."""
    side_px: int = 1024
    """Of a pair."""


def aligned_pairs(folder: Path, fields: int, taken: Taken, *, validation: int = 0) -> PairSet:
    """Simulate so many test fields, and validation fields after them, and write them."""
    core = _core(taken)
    folder.mkdir(parents=True)
    emission = {taken.channel: EMISSION_NM[taken.channel]}
    optics = Optics(
        low_pixel_size_um=0.65, high_pixel_size_um=0.325, low_numerical_aperture=0.4,
        high_numerical_aperture=0.75, emission_nm=emission,
    )  # fmt: skip
    records, truths, both = [], {}, None
    rng = np.random.default_rng(taken.seed)
    for number in range(fields + validation):
        low, truth = _snapped(core, taken, (SPACING_UM * (number % 10), SPACING_UM * (number // 10)))
        acquired = rng.poisson(truth).astype(np.float32) + OFFSET_COUNTS
        both = both or ChannelNormalisation(low=_linear(low), high=_linear(acquired))
        name = f"region{number:04d}_{taken.channel.replace(' ', '_')}.ome.tif"
        planes = prepare(low, both.low.photometry(), 2), normalise(acquired, both.high.photometry())
        PairSet.write_pair(folder / name, *planes, optics.high_pixel_size_um)
        records.append(_record(name, taken.channel, number, "test" if number < fields else "validation"))
        truths[name] = truth
    assert both is not None, "there is a field"
    index = PairSetIndex(
        run_id="bench", factor=2, optics=optics, normalisation={taken.channel: both}, pairs=records
    )
    pairs = PairSet(folder, index)
    pairs.save_index()
    for record in records[:fields]:
        attach_truth(pairs, record, truths[record.file])
    return pairs


def _core(taken: Taken) -> "CMMCorePlus":
    binned = taken.low_objective == "20X"
    side = taken.side_px if binned else taken.side_px // 2
    given = {"source": taken.source, "specimen": taken.specimen}
    core = load("widefield", seed=taken.seed, camera_shape_yx=(side, side), **given)
    core.setConfig("Channel", taken.channel)
    core.setConfig("Objective", taken.low_objective)
    if binned:
        core.setProperty(core.getCameraDevice(), "Binning", "2")
    core.setExposure(EXPOSURE_MS[taken.channel][0] * taken.light)
    core.setPosition(taken.defocus_um)
    return core


def _snapped(
    core: "CMMCorePlus", taken: Taken, place_um: tuple[float, float]
) -> tuple[np.ndarray, np.ndarray]:
    """Return the low image in counts and the noise-free high one on its upsampled grid."""
    core.setXYPosition(*place_um)
    core.waitForSystem()
    core.snapImage()
    stand = stand_of(core)
    if taken.low_objective == "20X":
        truthful = load(
            "widefield", seed=taken.seed, camera_shape_yx=(taken.side_px // 2,) * 2, source=taken.source
        )
        stand = stand_of(truthful)
    truth = stand.high_image_on_low_grid(taken.channel, place_um, 0.0, EXPOSURE_MS[taken.channel][1])
    return core.getImage(), np.asarray(truth)


def _linear(image: np.ndarray) -> Linear:
    return Linear(background=OFFSET_COUNTS, scale=BRIGHT / bright_level(image, OFFSET_COUNTS))


def _record(name: str, channel: str, region: int, split: Any) -> PairRecord:  # noqa: ANN401 - a Literal
    return PairRecord(
        file=name, channel=channel, region=region, split=split, accepted=True, sources={},
        origin_yx_px=(0, 0), shift_yx_px=(0.0, 0.0), deformation_rms_px=0.0, ncc_before=1.0, ncc_after=1.0,
    )  # fmt: skip
