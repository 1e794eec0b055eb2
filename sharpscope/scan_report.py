"""What `sharpscope scan` says: beforehand with `--dry-run`, and at its end."""

from typing import Any

from acquisition.estimate import ScanEstimate
from acquisition.manifest import ExtraLightRecord, FocusRecord
from acquisition.scan import ScanSummary
from sharpscope.console import print_table, say

__all__ = ["show_estimate", "show_summary"]


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


def show_summary(summary: ScanSummary) -> dict[str, Any]:
    """Print what a scan gave, every hole and every flag; returns the figures of the JSON line."""
    lines = summary.folder.lines()
    planes = [line for line in lines if isinstance(line, FocusRecord)]
    extra_ms = sum(line.light_ms for line in lines if isinstance(line, ExtraLightRecord))
    for hole in summary.holes:
        say(f"hole: region {hole.region}, {hole.state} tile {hole.tile}: {hole.reason}")
    for field in summary.flagged:
        say(f"flagged: {field.file}: {'; '.join(field.flags)}")
    say(f"{summary.committed_fields} of {summary.planned_fields} fields are in {summary.folder.path}")
    return {
        "fields_planned": summary.planned_fields,
        "fields_committed": summary.committed_fields,
        "holes": len(summary.holes),
        "flagged": len(summary.flagged),
        "focus_searched": sum(plane.method == "searched" and plane.succeeded for plane in planes),
        "focus_predicted": sum(plane.method == "predicted" for plane in planes),
        "focus_failed": sum(not plane.succeeded for plane in planes),
        "focus_light_s": round(sum(plane.light_ms for plane in planes) * 1e-3, 2),
        "extra_light_s": round(extra_ms * 1e-3, 2),
    }
