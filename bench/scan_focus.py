"""Are the fields of whole scans in focus, searched or on the focus map's word? On the imperfect stand.

Four specimens, with and without hills, both objectives. The reference is that of `bench/autofocus.py`: the
plane at which the noise-free image of the middle of the field is sharpest. A committed field farther from it
than a quarter of the depth of field is silently wrong.

    python bench/scan_focus.py [--json] [--write bench/results/scan-focus.md] [--regions 10]
"""

import argparse
import json
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

from autofocus import FOCUS_MS, IMPERFECTIONS, SENSOR, SIGNAL, SPECIMENS, Outcome, reference

from acquisition.area import Area, HighTiles, RegionGrid
from acquisition.manifest import FieldRecord, FocusRecord
from acquisition.plan import Experiment, load_experiment
from acquisition.scan import run_scan
from acquisition.virtual import load, stand_of

OBJECTIVES = {"low": "10X", "high": "20X"}
HILLS_UM = (0.0, 2.0)


def experiment(regions: int) -> Experiment:
    """Return the shipped experiment in FITC alone, with as much focus light as with all three channels."""
    shipped = load_experiment("virtual_widefield")
    fitc = shipped.channel("FITC")
    focus = shipped.focus.model_copy(update={"exposures": round(fitc.exposure_ms["low"] / FOCUS_MS["10X"])})
    grid = RegionGrid(rows=2, columns=regions // 2, spacing_um=340.0)
    area = Area(regions=grid, high_tiles=HighTiles(rows=2, columns=2))
    return shipped.model_copy(update={"channels": [fitc], "focus": focus, "area": area})


def run(name: str, hills_um: float, regions: int) -> Counter[str]:
    """Scan one specimen and count how its fields came out."""
    core = load(
        "widefield",
        seed=7,
        source=SPECIMENS[name](),
        sensor=SENSOR,
        **{**IMPERFECTIONS, "sample_waviness_um": hills_um, "drift_um_per_min": (0.0, 0.0, 0.0)},
    )
    with tempfile.TemporaryDirectory() as folder:
        summary = run_scan(experiment(regions), core, Path(folder) / "scan")
        fields, lines = summary.folder.fields(), summary.folder.lines()
    methods = {(p.region, p.state, p.tile): p for p in lines if isinstance(p, FocusRecord) and p.succeeded}
    counts: Counter[str] = Counter(holes=len(summary.holes), flagged=len(summary.flagged))
    for field in fields:
        method = methods[field.region, field.state, field.tile].method
        right, signal = judge(core, field)
        counts[method] += 1
        counts[f"{method}, wrong"] += not right and signal > SIGNAL
        counts["wrong where nothing shows"] += not right and signal <= SIGNAL
    return counts


def judge(core: Any, field: FieldRecord) -> tuple[bool, float]:  # noqa: ANN401 - a core
    """Return whether a field is in focus, and how much there is in it to focus on."""
    objective = OBJECTIVES[field.state]
    true_um, signal = reference(stand_of(core), objective, (field.stage_x_um, field.stage_y_um), 0.0)
    quarter_um = Outcome("", objective, True, None, 0).quarter_depth_um
    return abs(field.focus_um - true_um) <= quarter_um, signal


COLUMNS = (
    "searched",
    "searched, wrong",
    "predicted",
    "predicted, wrong",
    "wrong where nothing shows",
    "holes",
    "flagged",
)


def table(results: dict[tuple[str, float], Counter[str]]) -> str:
    """Return a row per scan."""
    lines = [f"| specimen | hills (um) | {' | '.join(COLUMNS)} |", "|---|---|" + "---|" * len(COLUMNS)]
    lines += [
        f"| {name} | {hills:g} | " + " | ".join(str(counts[column]) for column in COLUMNS) + " |"
        for (name, hills), counts in results.items()
    ]
    return "\n".join(lines)


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", action="store_true", help="print one JSON line last")
    parser.add_argument("--write", type=Path, help="also write the table to this file")
    parser.add_argument("--regions", type=int, default=10)
    arguments = parser.parse_args()
    results = {(name, hills): run(name, hills, arguments.regions) for name in SPECIMENS for hills in HILLS_UM}
    text = table(results)
    total: Counter[str] = sum(results.values(), Counter())
    print(text, dict(total), sep="\n\n")
    if arguments.write:
        arguments.write.parent.mkdir(parents=True, exist_ok=True)
        arguments.write.write_text(f"# Focus over whole scans, simulated\n\n{text}\n", encoding="utf-8")
    if arguments.json:
        print(json.dumps(dict(total)))


if __name__ == "__main__":
    main()
