"""The command line: reads arguments, calls a room, prints what came of it. No logic of its own.

Every command imports its room when it runs, so that `sharpscope --help` answers at once.
"""

import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
import typer.core

from configs.document import WrongInputError
from sharpscope.console import ExitCode, emit, print_table, progress_bar, say

__all__ = ["app", "main"]


class _Commands(typer.core.TyperGroup):
    """The group of commands; turns what a room raises into a line and an exit code."""

    def invoke(self, ctx: Any) -> Any:  # noqa: ANN401 # typer keeps the type of a context to itself
        from inference.domain import OutOfDomainError

        try:
            return super().invoke(ctx)
        except (WrongInputError, OutOfDomainError) as error:
            say(f"sharpscope: {error}")
            raise typer.Exit(ExitCode.WRONG_USE) from error
        except KeyboardInterrupt as error:
            say("sharpscope: interrupted; what was finished is kept")
            raise typer.Exit(ExitCode.INTERRUPTED) from error
        except (OSError, RuntimeError) as error:
            from acquisition.microscope import DeviceHangsError

            if isinstance(error, DeviceHangsError):
                say(f"sharpscope: {error}")
                sys.stdout.flush()
                os._exit(ExitCode.FAILED)  # an orderly exit would wait for the device for ever
            if isinstance(error, (typer.Exit, typer.Abort)):  # both are RuntimeErrors
                raise
            say(f"sharpscope: {type(error).__name__}: {error}")
            raise typer.Exit(ExitCode.FAILED) from error


app = typer.Typer(
    name="sharpscope",
    cls=_Commands,
    help="Live super-resolution at the microscope. Try 'sharpscope demo' first.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

Json = Annotated[bool, typer.Option("--json", help="Print the figures as one JSON line, last on stdout.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace a result that is there already.")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, mps or torch-cpu.")]
OutOfDomain = Annotated[
    bool, typer.Option("--allow-out-of-domain", help="Apply a model where it does not fit, and flag it.")
]


@app.command()
def demo(
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder for everything it makes.")] = Path(
        "sharpscope-demo"
    ),
    short: Annotated[
        bool, typer.Option("--short", help="A quick look: fewer fields, less training.")
    ] = False,
    overwrite: Overwrite = False,
    json: Json = False,
) -> None:
    """Run the whole loop on the virtual microscope and leave a report with pictures.

    Example: sharpscope demo -o my-demo
    """
    from sharpscope.demo import run_demo

    figures = run_demo(output, short=short, overwrite=overwrite)
    emit(figures, json)
    if figures["live_frames_enhanced"] < figures["live_frames_in"]:
        raise typer.Exit(ExitCode.HOLES)


@app.command()
def doctor(json: Json = False) -> None:
    """Say what is found on this machine, and what to do about what is missing.

    Example: sharpscope doctor
    """
    from sharpscope.doctor import examine

    findings = examine()
    rows = [[f.what, f.found, "" if f.well else "MISSING", f.remedy if not f.well else ""] for f in findings]
    print_table("sharpscope doctor", ["", "found", "", "what to do"], rows)
    emit({finding.what: finding.found for finding in findings}, json)
    if not all(finding.well for finding in findings):
        raise typer.Exit(ExitCode.FAILED)


@app.command()
def scan(
    experiment: Annotated[str, typer.Argument(help="An experiment file, or the name of a ready-made one.")],
    output: Annotated[Path | None, typer.Option("-o", "--output", help="The scan folder to make.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with a scan that was interrupted.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what it would take, and whether it fits; move nothing.")
    ] = False,
    sequences_to: Annotated[
        Path | None, typer.Option("--write-sequences", help="Also write the plan as useq files, here.")
    ] = None,
    json: Json = False,
) -> None:
    """Acquire a paired scan: every region with both objectives, focused at every stage position.

    Example: sharpscope scan virtual_widefield -o my-scan
    """
    from acquisition.estimate import check_disk
    from acquisition.plan import load_experiment
    from acquisition.scan import plan_scan, run_scan
    from acquisition.sequences import write_sequences
    from sharpscope.focus_plot import plot_focus
    from sharpscope.microscope_choice import open_microscope
    from sharpscope.scan_report import show_estimate, show_summary
    from sharpscope.watchdog import guard

    plan = load_experiment(experiment)
    if output is None and not dry_run:
        raise WrongInputError("give the folder to make with -o, or --dry-run")
    core = open_microscope(plan.microscope)
    estimate, sequences = plan_scan(plan, core)
    if output is not None and not resume:
        check_disk(estimate, output)
    if sequences_to is not None:
        write_sequences(sequences, sequences_to)
    if dry_run or output is None:
        emit(show_estimate(estimate), json)
        return
    with guard(plan, experiment, output), progress_bar("scan, fields") as progress:
        summary = run_scan(plan, core, output, resume=resume, progress=progress)
    plot_focus(summary.folder, output / "focus.png")
    emit(show_summary(summary), json)
    if not summary.complete:
        raise typer.Exit(ExitCode.HOLES)


@app.command()
def calibrate(
    experiment: Annotated[str, typer.Argument(help="An experiment file; any structured specimen will do.")],
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Instead of where the experiment reads it.")
    ] = None,
    centre_um: Annotated[
        tuple[float, float], typer.Option(help="Stage position (x y) of the middle of the specimen.")
    ] = (0.0, 0.0),
    extent_um: Annotated[float, typer.Option(help="Side of the square that the stage visits.")] = 2000.0,
    fields: Annotated[int, typer.Option(help="Fields that offsets are the mean of.", min=4)] = 9,
    cfg_lines: Annotated[
        bool, typer.Option("--cfg-lines", help="Also print Micro-Manager's pixel size lines, on stdout.")
    ] = False,
    micrometer_pitch_um: Annotated[
        float | None, typer.Option(help="Instead: the pixel sizes from a stage micrometer of this pitch.")
    ] = None,
    overwrite: Overwrite = False,
    json: Json = False,
) -> None:
    """Measure pixel sizes, the camera's orientation, parfocal and parcentric offsets; write a calibration.

    Example: sharpscope calibrate my-experiment.yaml --centre-um 1200 -500
    """
    from acquisition.plan import load_experiment
    from sharpscope.calibration import calibrate_to_file, measure_micrometer
    from sharpscope.microscope_choice import open_microscope
    from sharpscope.watchdog import guard

    plan = load_experiment(experiment)
    if micrometer_pitch_um is not None:
        with guard(plan, experiment, Path.cwd()):
            emit(measure_micrometer(plan, open_microscope(plan.microscope), micrometer_pitch_um), json)
        return
    path = output or plan.calibration
    if path is None:
        raise WrongInputError("say where to write it: with -o, or as 'calibration' in the experiment file")
    if path.exists() and not overwrite:
        raise WrongInputError(f"{path} is there already; give another file with -o, or --overwrite")
    core = open_microscope(plan.microscope)
    with guard(plan, experiment, path.parent), progress_bar("calibrate, stage positions") as progress:
        figures, lines = calibrate_to_file(
            plan, core, path, centre_xy_um=centre_um, extent_um=extent_um, fields=fields, progress=progress
        )
    if cfg_lines:
        sys.stdout.write("".join(f"{line}\n" for line in lines))
    emit(figures, json)


@app.command()
def safe(
    experiment: Annotated[str, typer.Argument(help="The experiment whose microscope it is.")],
    when_orphaned: Annotated[Path | None, typer.Option(hidden=True)] = None,
    json: Json = False,
) -> None:
    """Close the shutters and withdraw the objective, after whatever went wrong.

    Example: sharpscope safe my-experiment.yaml
    """
    from sharpscope.watchdog import make_safe, watch

    problems = make_safe(experiment) if when_orphaned is None else watch(experiment, sys.stdin, when_orphaned)
    for problem in problems or []:
        say(problem)
    emit({"safe": not problems}, json)
    if problems:
        raise typer.Exit(ExitCode.FAILED)
    say("shutters closed, focus drive withdrawn")


@app.command()
def pair(
    output: Annotated[Path, typer.Option("-o", "--output", help="The pair set to make.")],
    scan_folder: Annotated[Path | None, typer.Argument(metavar="SCAN", help="A scan folder.")] = None,
    low: Annotated[Path | None, typer.Option(help="Instead: a folder of low images ...")] = None,
    high: Annotated[Path | None, typer.Option(help="... and one of high images of the same names.")] = None,
    factor: Annotated[int, typer.Option(help="High pixels along one low pixel: 1, 2 or 4.")] = 2,
    channel: Annotated[str, typer.Option(help="What the folders' images show.")] = "channel",
    overwrite: Overwrite = False,
    json: Json = False,
) -> None:
    """Stitch, register and gate: turn a scan, or two folders of images, into a pair set.

    Example: sharpscope pair my-scan -o my-pairs
    """
    from training.pairing.build import pair_folders, pair_scan

    with progress_bar("pair, fields of view") as progress:
        if scan_folder is not None and low is None and high is None:
            pairs = pair_scan(scan_folder, output, overwrite=overwrite, progress=progress)
        elif scan_folder is None and low is not None and high is not None:
            pairs = pair_folders(
                low, high, factor, output, channel=channel, overwrite=overwrite, progress=progress
            )
        else:
            raise WrongInputError("give either a scan folder, or both --low and --high folders")
    refused = [record for record in pairs.index.pairs if not record.accepted]
    for record in refused:
        say(f"left out: {record.file}: {record.reason}")
    say(f"{len(pairs.index.pairs) - len(refused)} of {len(pairs.index.pairs)} pairs accepted in {output}")
    emit({"pairs": len(pairs.index.pairs), "left_out": len(refused)}, json)
    if refused:
        raise typer.Exit(ExitCode.HOLES)


@app.command()
def train(
    training: Annotated[str, typer.Argument(help="A training file, or the name of a preset: demo, paper.")],
    pairs: Annotated[Path, typer.Option(help="A pair set.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="The run folder; gets model.zip.")],
    minutes: Annotated[float | None, typer.Option(help="Another time budget than the file's.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with a run that was interrupted.")] = False,
    device: Annotated[str, typer.Option(help="A torch device: cpu, cuda.")] = "cpu",
    json: Json = False,
) -> None:
    """Train a generator on a pair set and leave a model package.

    Example: sharpscope train demo --pairs my-pairs -o my-run --minutes 10
    """
    from training.run import train_and_export
    from training.settings import TrainingPlan, load_training_plan

    plan = load_training_plan(training)
    if minutes is not None:
        if minutes <= 0:
            raise WrongInputError(f"--minutes {minutes:g} is not a time; give more than 0")
        plan = TrainingPlan.model_validate(plan.model_dump() | {"minutes": minutes})
    with progress_bar("train, thousandths") as progress:
        run = train_and_export(plan, pairs, output, device=device, resume=resume, progress=progress)
    result = run.result
    say(f"{result.iterations} iterations in {result.seconds:.0f} s ({result.precision}); {run.model}")
    emit({"iterations": result.iterations, "train_s": round(result.seconds, 1), "model": str(run.model),
          "validation_loss": result.best_validation_loss}, json)  # fmt: skip


@app.command()
def evaluate(
    model: Annotated[Path, typer.Argument(help="A model package.")],
    pairs: Annotated[Path, typer.Option(help="A pair set with a test split.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder for report.html and figures.json.")],
    device: Device = "auto",
    overwrite: Overwrite = False,
    json: Json = False,
) -> None:
    """Score a model on fields it was not trained on, beside bicubic and Lucy-Richardson.

    Example: sharpscope evaluate my-run/model.zip --pairs my-pairs -o my-report
    """
    from sharpscope.evaluation import evaluate_to_folder

    figures = evaluate_to_folder(model, pairs, output, device=device, overwrite=overwrite)
    emit(figures, json)


@app.command()
def serve(
    models: Annotated[list[Path], typer.Argument(help="Model packages, one a channel.")],
    bind: Annotated[
        str, typer.Option(help="Loopback address; port * takes a free one.")
    ] = "tcp://127.0.0.1:5555",
    device: Device = "auto",
    json: Json = False,
) -> None:
    """Serve models to live microscopes until Ctrl-C.

    Example: sharpscope serve my-run/model.zip
    """
    from inference.engine import load_engine
    from inference.worker import serve as serve_engines

    engines = [load_engine(model, device) for model in models]  # type: ignore[arg-type] # checked there

    def ready(address: str) -> None:
        for engine in engines:
            say(f"serving {engine.name} ({engine.model_hash[:12]}) on {engine.backend.description}")
        say(f"listening on {address}; stop with Ctrl-C")
        emit({"address": address}, json)

    serve_engines(engines, bind, on_ready=ready)


@app.command()
def enhance(
    model: Annotated[Path, typer.Argument(help="A model package.")],
    source: Annotated[Path, typer.Argument(metavar="INPUT", help="An image or a stack (TIFF, PNG).")],
    output: Annotated[Path, typer.Option("-o", "--output", help="An .ome.tiff to write.")],
    pixel_size_um: Annotated[
        float | None, typer.Option(help="Of the input, where the file is wrong.")
    ] = None,
    allow_out_of_domain: OutOfDomain = False,
    device: Device = "auto",
    overwrite: Overwrite = False,
    json: Json = False,
) -> None:
    """Enhance a file: an image, or a stack plane by plane.

    Example: sharpscope enhance my-run/model.zip cells.tif -o cells-enhanced.ome.tiff
    """
    from inference.bulk import enhance_file
    from inference.engine import load_engine

    engine = load_engine(model, device)  # type: ignore[arg-type] # checked there
    with progress_bar("enhance, planes") as progress:
        result = enhance_file(
            engine, source, output, pixel_size_um=pixel_size_um,
            allow_out_of_domain=allow_out_of_domain, overwrite=overwrite, progress=progress,
        )  # fmt: skip
    for reason in result.out_of_domain:
        say(f"flagged out of domain: {reason}")
    say(f"{result.planes} plane(s) enhanced into {output}")
    emit({"planes": result.planes, "shape": list(result.shape), "pixel_size_um": result.pixel_size_um,
          "out_of_domain": list(result.out_of_domain)}, json)  # fmt: skip


@app.command()
def live(
    experiment: Annotated[str, typer.Argument(help="An experiment file with a time_lapse.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="The recording to make.")],
    worker: Annotated[str, typer.Option(help="A running worker.")] = "tcp://127.0.0.1:5555",
    allow_out_of_domain: OutOfDomain = False,
    json: Json = False,
) -> None:
    """Run the experiment's time-lapse: raw frames to disk first, enhanced ones beside them.

    Example: sharpscope live virtual_widefield -o my-recording
    """
    from acquisition.plan import load_experiment
    from sharpscope.live import record_time_lapse
    from sharpscope.microscope_choice import open_microscope

    plan = load_experiment(experiment)
    core = open_microscope(plan.microscope)
    with progress_bar("live, frames") as progress:
        report = record_time_lapse(
            plan, core, worker, output, allow_out_of_domain=allow_out_of_domain, progress=progress
        )
    status = report.status
    say(f"{status.recorded} of {report.frames_expected} frames recorded, {status.enhanced} enhanced")
    if report.unenhanced:
        say(f"not enhanced: frames {', '.join(map(str, report.unenhanced))} ({status.worker_reason})")
    emit(live_figures(status), json)
    if not report.complete or report.unenhanced:
        raise typer.Exit(ExitCode.HOLES)


def live_figures(status: Any) -> dict[str, Any]:  # noqa: ANN401 # its room is imported lazily
    """Return the live figures under the names that DESIGN gives them."""
    return {
        "live_frames_in": status.frames_in,
        "live_frames_enhanced": status.enhanced,
        "live_frames_dropped": status.dropped,
        "live_frames_failed": status.failed,
        "latency_ms_p50": status.latency_ms_p50,
        "latency_ms_p99": status.latency_ms_p99,
    }


def main() -> None:
    """Run the command line and end the process with the exit codes of DESIGN section 6."""
    app()
