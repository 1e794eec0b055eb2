"""What `sharpscope scan --dry-run` says."""

from typing import Any

from acquisition.estimate import ScanEstimate
from sharpscope.console import print_table

__all__ = ["show_estimate"]


def show_estimate(estimate: ScanEstimate) -> dict[str, Any]:
    """Print what a scan will take; returns the figures of the JSON line."""
    figures = {
        "regions": estimate.regions,
        "fields_low": estimate.fields["low"],
        "fields_high": estimate.fields["high"],
        "objective_turns": estimate.objective_turns,
        "imaging_light_s": round(estimate.imaging_light_s, 1),
        "focus_light_s": round(estimate.focus_light_s, 1),
        "light_per_region_s": round(estimate.light_per_region_s, 2),
        "exposure_s": round(estimate.exposure_s, 1),
        "disk_gb": round(estimate.disk_bytes / 1e9, 3),
        "stage_x_um": list(estimate.stage_x_um),
        "stage_y_um": list(estimate.stage_y_um),
    }
    notes = {
        "focus_light_s": "if every field is searched from far; tracked focus takes less",
        "exposure_s": "exposures alone; moves, settling and readout come on top",
        "light_per_region_s": "images and focus together",
    }
    rows = [[name, str(value), notes.get(name, "")] for name, value in figures.items()]
    print_table("dry run: nothing moved", ["", "", ""], rows)
    return figures
