"""The command that makes a model package of a run folder without training: export.

Imports its room when it runs, so that `sharpscope --help` answers at once.
"""

from pathlib import Path
from typing import Annotated

import typer

from configs.document import WrongInputError
from sharpscope.command_group import Json, Overwrite, app
from sharpscope.console import emit, say


@app.command()
def export(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A run folder; the run may be going on.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="The package to make: MODEL.zip.")],
    checkpoint: Annotated[
        Path | None, typer.Option(help="The generator of this checkpoint, instead of the best.")
    ] = None,
    pairs: Annotated[Path | None, typer.Option(help="The pair set, where it has moved.")] = None,
    overwrite: Overwrite = False,
    json: Json = False,
) -> None:
    """Make a model package of a run's best generator, or of a checkpoint's, without training.

    Example: sharpscope export my-run -o early.zip --checkpoint my-run/checkpoint.safetensors
    """
    if output.suffix != ".zip":
        raise WrongInputError(f"{output}: a model package is a zip; give a name that ends in .zip")
    if output.exists() and not overwrite:
        raise WrongInputError(f"{output} is there already; give another name, or --overwrite")

    from inference.model_package import read_package
    from training.run import export_run

    package = read_package(export_run(run, output, pairs, checkpoint))
    figures = package.card.figures
    say(f"{package.name} ({package.model_hash[:12]}) in {output}")
    for name, value in figures.items():
        say(f"{name.replace('_', ' ')}: {value:,.6g}")
    emit({"model": str(output), "model_hash": package.model_hash, **figures}, json)
