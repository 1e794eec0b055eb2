"""What the labels of the stand's wheels mean for the light: modality, dose and pattern. Knows no camera."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from acquisition.virtual.stand import Stand
from acquisition.virtual.structured_light import EXPOSURES

if TYPE_CHECKING:
    from pymmcore_plus import CMMCorePlus

__all__ = ["light_path", "named"]


def light_path(core: "CMMCorePlus", stand: Stand) -> tuple[str, float, int] | None:
    """Return the modality, the relative dose and the first pattern that the wheels stand for.

    None where a wheel stands at a place without a label, which lets no light through.
    """
    design = stand.design
    modality = named(core.getStateLabel("Modality"), design.modalities)
    if modality is None or not design.doses:
        return None if modality is None else (modality, 1.0, 0)
    dose, pattern = design.doses.get(core.getStateLabel("Dose")), core.getState("Pattern")
    if dose is None or pattern >= EXPOSURES:
        return None
    return modality, 1.0 if design.modalities[modality].stripes else dose, pattern


def named(label: str, names: Mapping[str, object]) -> str | None:
    """Return the stand's name that a device label begins with (`FITC 522/24` is `FITC`)."""
    return next((name for name in names if label.startswith(name)), None)
