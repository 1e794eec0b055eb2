"""The command line: demo and doctor, and the way into all other commands. No logic of its own.

Every command imports its room when it runs, so that `sharpscope --help` answers at once.
"""

from pathlib import Path
from typing import Annotated

import typer

from sharpscope.command_group import Json, Overwrite, app
from sharpscope.console import ExitCode, emit, print_table

__all__ = ["app", "main"]


@app.command()
def demo(
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder for everything it makes.")] = Path(
        "sharpscope-demo"
    ),
    short: Annotated[
        bool, typer.Option("--short", help="A quick look: fewer fields, less training.")
    ] = False,
    view: Annotated[
        bool, typer.Option("--view", help="Then show it all in a web page, until Ctrl-C.")
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
    if view:
        from sharpscope.view_command import show_until_interrupted

        show_until_interrupted(str(output))
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


# Below demo and doctor, so that `--help` lists them first.
from sharpscope import microscope_commands, live_commands, model_commands, export_command  # noqa: E402, F401, I001
from sharpscope import pair_command, stitch_command, keys_command, view_command, clip_command  # noqa: E402, F401


def main() -> None:
    """Run the command line and end the process with the exit codes of DESIGN section 6."""
    app()
