"""What a scan costs, before anything moves: fields, light, time and disk; and whether it fits.

Owns the arithmetic of `sharpscope scan --dry-run`, and the refusal of a plan that leaves the stage's travel
or the disk. Knows no devices: an experiment and the camera's shape come in.
"""

import shutil
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

from acquisition.focus_search import focus_exposure_ms
from acquisition.manifest import ImagingState
from acquisition.plan import Experiment
from acquisition.sequences import fields_of, state_of
from configs.document import WrongInputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    import useq

__all__ = ["ScanEstimate", "check_disk", "estimate_scan"]

_TYPICAL_FOCUS_EXPOSURES = 11
"""Median over 200 searches from up to 30 um away (bench/results/autofocus.md); tracking takes fewer."""
_TIFF_BYTES = 20_000
"""Of metadata in each field's file, at most."""
_SPARE_BYTES = 200_000_000
"""That a disk must have left after a scan: the journal, and what else runs on the machine."""


@dataclass(frozen=True, slots=True)
class ScanEstimate:
    """What a paired scan will take."""

    regions: int
    fields: dict[ImagingState, int]
    objective_turns: int
    """Beside the one that may lead to the first state."""
    imaging_light_s: float
    """Exposures of all channels of all fields together."""
    focus_light_s: float
    """Exposures of a search from far away at every field; tracked focus takes less."""
    light_per_region_s: float
    """What one region of the specimen is exposed to, images and focus together."""
    disk_bytes: int
    stage_x_um: tuple[float, float]
    stage_y_um: tuple[float, float]
    """Between which the stage will go."""

    @property
    def exposure_s(self) -> float:
        """The time that exposures alone take; moves, settling and readout come on top."""
        return self.imaging_light_s + self.focus_light_s


def estimate_scan(
    experiment: Experiment, sequences: "Sequence[useq.MDASequence]", frame_shape_yx: tuple[int, int]
) -> ScanEstimate:
    """Return what a scan costs, that runs these sequences of `paired_scan_sequences`."""
    fields: dict[ImagingState, int] = {"low": 0, "high": 0}
    names = set()
    for sequence in sequences:
        fields[state_of(sequence)] += len(fields_of(sequence))
        names |= {region for region, _ in fields_of(sequence)}
    imaging_ms = {
        state: sum(channel.exposure_ms[state] for channel in experiment.channels) for state in fields
    }
    focus_ms = {state: _TYPICAL_FOCUS_EXPOSURES * focus_exposure_ms(experiment, state) for state in fields}
    imaging_s = sum(count * imaging_ms[state] for state, count in fields.items()) * 1e-3
    focus_s = sum(count * focus_ms[state] for state, count in fields.items()) * 1e-3
    places = [(position.x or 0.0, position.y or 0.0) for s in sequences for position in s.stage_positions]
    pixels = frame_shape_yx[0] * frame_shape_yx[1]
    return ScanEstimate(
        regions=len(names),
        fields=fields,
        objective_turns=sum(state_of(a) != state_of(b) for a, b in pairwise(sequences)),
        imaging_light_s=imaging_s,
        focus_light_s=focus_s,
        light_per_region_s=(imaging_s + focus_s) / max(len(names), 1),
        disk_bytes=sum(fields.values()) * (2 * pixels * len(experiment.channels) + _TIFF_BYTES),
        stage_x_um=(min(x for x, _ in places), max(x for x, _ in places)),
        stage_y_um=(min(y for _, y in places), max(y for _, y in places)),
    )


def check_disk(estimate: ScanEstimate, folder: Path) -> None:
    """Raise WrongInputError when the disk of a folder, which need not exist, has no room for a scan."""
    existing = next(parent for parent in (folder, *folder.absolute().parents) if parent.exists())
    free = shutil.disk_usage(existing).free
    if free < estimate.disk_bytes + _SPARE_BYTES:
        needed = f"{estimate.disk_bytes / 1e9:.2f} GB and {_SPARE_BYTES / 1e9:.1f} GB to spare"
        msg = (
            f"{folder}: the scan needs {needed}, the disk has {free / 1e9:.2f} GB free; make room, or give "
            "another folder"
        )
        raise WrongInputError(msg)
