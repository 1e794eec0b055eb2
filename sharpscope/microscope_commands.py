"""The commands at a microscope: scan, calibrate, safe. They read arguments, call a room, print.

Every command imports its room when it runs, so that `sharpscope --help` answers at once.
"""

import sys
from pathlib import Path
from typing import Annotated

import typer

from configs.document import WrongInputError
from sharpscope.command_group import Json, Overwrite, app
from sharpscope.console import ExitCode, emit, progress_bar, say


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
    from acquisition.plan import load_experiment
    from sharpscope.watchdog import make_safe, watch

    plan = load_experiment(experiment)  # before it waits: the file may be edited while the scan runs
    problems = make_safe(plan) if when_orphaned is None else watch(plan, sys.stdin, when_orphaned)
    for problem in problems:
        say(problem)
    emit({"safe": not problems}, json)
    if problems:
        raise typer.Exit(ExitCode.FAILED)
    say("shutters closed, focus drive withdrawn")
