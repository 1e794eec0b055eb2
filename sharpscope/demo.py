"""`sharpscope demo`: the whole loop on the virtual microscope, from nothing to a live super-resolved frame.

Scan, pair, train, evaluate on regions that were not trained on, serve in a process of its own, live
time-lapse, report. Every figure is simulated, and the report says so.
"""

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from acquisition.plan import Experiment, load_experiment
from acquisition.scan import ScanSummary, run_scan
from acquisition.time_lapse import TimeLapseReport
from acquisition.virtual import stand_of
from configs.document import WrongInputError
from inference.engine import Engine, load_engine
from inference.journal import write_atomic
from inference.recording import Recording
from sharpscope.console import progress_bar, say
from sharpscope.evaluation import field_sections, figures_of, show_figures
from sharpscope.live import record_time_lapse
from sharpscope.live_commands import live_figures
from sharpscope.microscope_choice import open_microscope
from training.evaluation.evaluate import Evaluation, evaluate, images_of
from training.evaluation.pictures import side_by_side_png
from training.evaluation.report import (
    Section,
    detail_panels,
    figures_section,
    paragraph,
    picture,
    table,
    write_report,
)
from training.pairing.build import pair_scan
from training.pairing.pairs import PairSet
from training.pairing.truth import attach_truth
from training.run import FinishedRun, loss_curves_png, train_and_export
from training.settings import TrainingPlan, load_training_plan

if TYPE_CHECKING:
    from pymmcore_plus import CMMCorePlus

__all__ = ["run_demo"]

EXPERIMENT, TRAINING = "virtual_widefield", "demo"
SHORT_REGIONS = {"rows": 1, "columns": 3}
SHORT_FRAMES = 8
SHORT_MINUTES = 0.4
WORKER_START_S = 60.0


@dataclass(frozen=True, slots=True)
class _Results:
    """What the stages left, for the report."""

    scan: ScanSummary
    pairs: PairSet
    run: FinishedRun
    evaluation: Evaluation
    live: TimeLapseReport
    recording: Path
    engine: Engine


def run_demo(output: Path, *, short: bool = False, overwrite: bool = False) -> dict[str, Any]:
    """Run the whole loop into a folder; returns the figures of the JSON line.

    Raises
    ------
    WrongInputError
        The folder has something in it and `overwrite` is false.
    """
    started = time.monotonic()
    _clear(output, overwrite)
    experiment, plan = _plans(short)
    core = open_microscope(experiment.microscope)
    results = _run_stages(output, experiment, plan, core)
    figures = {
        **figures_of(results.evaluation),
        **live_figures(results.live.status),
        "simulated": True,
        "wall_s": round(time.monotonic() - started, 1),
    }
    _write_report(output, results, figures)
    show_figures(results.evaluation)
    say(f"done in {figures['wall_s']:.0f} s; open {output / 'report.html'}")
    return figures


def _clear(output: Path, overwrite: bool) -> None:
    if output.exists() and any(output.iterdir()):
        if not overwrite:
            msg = f"{output} is not empty; give another folder with -o, or --overwrite"
            raise WrongInputError(msg)
        if not (output / "scan").exists():
            msg = f"{output} holds no earlier demo and is left alone; give another folder with -o"
            raise WrongInputError(msg)
        shutil.rmtree(output)
    output.mkdir(parents=True, exist_ok=True)


def _plans(short: bool) -> tuple[Experiment, TrainingPlan]:
    experiment, plan = load_experiment(EXPERIMENT), load_training_plan(TRAINING)
    if not short:
        return experiment, plan
    document = experiment.model_dump()
    document["area"]["regions"] |= SHORT_REGIONS
    document["time_lapse"]["frames"] = SHORT_FRAMES
    return (
        Experiment.model_validate(document),
        TrainingPlan.model_validate(plan.model_dump() | {"minutes": SHORT_MINUTES}),
    )


def _run_stages(output: Path, experiment: Experiment, plan: TrainingPlan, core: "CMMCorePlus") -> _Results:
    with progress_bar("1/6 scan, fields") as progress:
        scan = run_scan(experiment, core, output / "scan", progress=progress)
    with progress_bar("2/6 pair, fields of view") as progress:
        pairs = pair_scan(output / "scan", output / "pairs", progress=progress)
    _attach_truth(core, experiment, scan, pairs, plan.channel)
    with progress_bar("3/6 train, thousandths") as progress:
        run = train_and_export(plan, output / "pairs", output / "run", progress=progress)
    engine = load_engine(run.model)
    with progress_bar("4/6 evaluate, fields") as progress:
        pairs = PairSet.open(output / "pairs")  # anew: it knows the truth now
        evaluation = evaluate(engine, pairs, search=False, progress=progress)
    say("5/6 serve: a worker in a process of its own")
    recording, place = output / "live", _test_place(scan, pairs, plan)
    with _worker(run.model) as address, progress_bar("6/6 live time-lapse, frames") as progress:
        live = record_time_lapse(
            experiment,
            core,
            address,
            recording,
            stage_xy_um=place,
            progress=progress,
        )
    return _Results(scan, pairs, run, evaluation, live, recording, engine)


def _attach_truth(
    core: "CMMCorePlus", experiment: Experiment, scan: ScanSummary, pairs: PairSet, channel: str
) -> None:
    """Give the test pairs the noise-free image that only a virtual microscope knows."""
    stand = stand_of(core)
    background = pairs.index.normalisation[channel].high.background - stand.sensor.offset_counts
    fields = scan.folder.fields()
    exposure_ms = experiment.channel(channel).exposure_ms["high"]
    for record in pairs.select("test", channel):
        low = next(f for f in fields if f.region == record.region and f.state == "low")
        high = [f for f in fields if f.region == record.region and f.state == "high"]
        focus_um = float(np.mean([field.focus_um for field in high]))
        image = stand.high_image_on_low_grid(channel, (low.stage_x_um, low.stage_y_um), focus_um, exposure_ms)
        attach_truth(pairs, record, image, background=background)


def _test_place(scan: ScanSummary, pairs: PairSet, plan: TrainingPlan) -> tuple[float, float]:
    """Return where a low field lies that was not trained on."""
    region = pairs.select("test", plan.channel)[0].region
    field = next(f for f in scan.folder.fields() if f.region == region and f.state == "low")
    return (field.stage_x_um, field.stage_y_um)


@contextmanager
def _worker(model: Path) -> Iterator[str]:
    """Run `sharpscope serve` as a process and give its address; it is ended with the block."""
    command = [
        sys.executable,
        "-m",
        "sharpscope",
        "serve",
        str(model),
        "--bind",
        "tcp://127.0.0.1:*",
        "--json",
    ]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        line = process.stdout.readline() if process.stdout else ""
        if not line:
            problem = process.stderr.read() if process.stderr else ""
            raise RuntimeError(f"the worker did not start: {problem.strip()}")
        yield str(json.loads(line)["address"])
    finally:
        process.terminate()
        try:
            process.communicate(timeout=10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()


def _write_report(output: Path, results: _Results, figures: dict[str, Any]) -> None:
    introduction = paragraph(
        "Every image and figure on this page is simulated: a virtual 10x/0.4 and 20x/0.75 wide-field "
        "microscope, no physical one. Structure finer than the 10x image resolves is the network's guess."
    )
    sections = [
        Section("What this is", introduction),
        figures_section(results.evaluation),
        *field_sections(results.engine, results.pairs, results.evaluation),
        Section("Training", _training_html(output, results)),
        Section("Live time-lapse", _live_html(results)),
        Section("Scan and pairs", _scan_html(results)),
    ]
    write_report(output / "report.html", "sharpscope demo: 10x to 20x, simulated", sections)
    write_atomic(output / "figures.json", json.dumps(figures, indent=2))
    evaluation, record = results.evaluation, results.evaluation.fields[0].record
    images = images_of(results.engine, results.pairs, record, evaluation.restorations)
    panels = detail_panels(evaluation, images)
    write_atomic(output / "comparison.png", side_by_side_png(panels, evaluation.pixel_size_um))


def _training_html(output: Path, results: _Results) -> str:
    result = results.run.result
    caption = (
        f"{result.parameters / 1e6:.2f} million parameters, {result.iterations} iterations in "
        f"{result.seconds:.0f} s, {result.precision}; best at iteration {result.best_iteration}."
    )
    return picture(loss_curves_png(output / "run"), caption)


def _live_html(results: _Results) -> str:
    status = results.live.status
    rows = [
        ["frames in", str(status.frames_in)],
        ["raw frames on disk", str(status.recorded)],
        ["enhanced", str(status.enhanced)],
        ["dropped", str(status.dropped)],
        ["failed", str(status.failed)],
        ["latency, median", _milliseconds(status.latency_ms_p50)],
        ["latency, 99th percentile", _milliseconds(status.latency_ms_p99)],
        ["engine", results.engine.backend.description],
    ]
    return table(["", ""], rows) + _live_picture(results)


def _milliseconds(value: float | None) -> str:
    return "none" if value is None else f"{value:.0f} ms"


def _live_picture(results: _Results) -> str:
    """Return the last enhanced frame beside its raw one, in full."""
    recording = Recording.open(results.recording)
    if not recording.enhanced:
        return paragraph("No frame was enhanced.")
    number = max(recording.enhanced)
    raw, enhanced = recording.read(number), recording.read_enhanced(number)
    pixel_size_um = results.evaluation.pixel_size_um
    label = f"ENHANCED, frame {number}, model {results.evaluation.model_hash[:8]}"
    png = side_by_side_png({f"raw, frame {number}": raw, label: enhanced}, pixel_size_um, 50.0)
    return picture(png, "A frame of the time-lapse, as recorded.")


def _scan_html(results: _Results) -> str:
    rows = [
        [record.file, record.split, f"{record.ncc_before:.3f}", f"{record.ncc_after:.3f}",
         "-" if record.residual_px is None else f"{record.residual_px:.3f}", record.reason or "accepted"]
        for record in results.pairs.index.pairs
    ]  # fmt: skip
    fields = f"{results.scan.committed_fields} of {results.scan.planned_fields} fields were acquired."
    header = ["pair", "split", "NCC before", "NCC after", "residual (px)", "gate"]
    return paragraph(fields) + table(header, rows)
