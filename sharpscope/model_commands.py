"""The commands on pairs and models: train, evaluate, serve, enhance.

Every command imports its room when it runs, so that `sharpscope --help` answers at once.
"""

from contextlib import AbstractContextManager, ExitStack, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from configs.document import WrongInputError
from sharpscope.command_group import Device, Json, Keys, OutOfDomain, Overwrite, app
from sharpscope.console import emit, progress_bar, say

if TYPE_CHECKING:
    from inference.engine import Engine
    from inference.remote_engine import RemoteEngine


@app.command()
def train(
    training: Annotated[
        str, typer.Argument(help="A training file, or the name of a preset: widefield, widefield_quick ...")
    ],
    pairs: Annotated[Path, typer.Option(help="A pair set.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="The run folder; gets model.zip.")],
    minutes: Annotated[float | None, typer.Option(help="Another time budget than the file's.")] = None,
    channel: Annotated[str | None, typer.Option(help="Another channel than the file's.")] = None,
    init: Annotated[Path | None, typer.Option(help="Begin with this model's generator (transfer).")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with a run that was interrupted.")] = False,
    device: Annotated[str, typer.Option(help="A torch device: cpu, cuda.")] = "cpu",
    json: Json = False,
) -> None:
    """Train a generator on a pair set and leave a model package.

    Several GPUs: torchrun --nproc-per-node 2 -m sharpscope train ... --device cuda

    Example: sharpscope train widefield_quick --pairs my-pairs -o my-run --minutes 10
    """
    from training.monitor import read_history
    from training.pairing.pairs import PairSet
    from training.run import train_and_export
    from training.run_history import summary_lines
    from training.settings import TrainingPlan, load_training_plan

    plan = load_training_plan(training)
    if minutes is not None and minutes <= 0:
        raise WrongInputError(f"--minutes {minutes:g} is not a time; give more than 0")
    own = list(PairSet.open(pairs).index.normalisation)
    if channel is None and len(own) == 1 and own != [plan.channel]:
        channel = own[0]  # whoever pairs two folders has one channel, and has seldom named it
        say(f"the pairs are of one channel, '{channel}': trained on it instead of '{plan.channel}'")
    given = {name: value for name, value in (("minutes", minutes), ("channel", channel)) if value is not None}
    plan = TrainingPlan.model_validate(plan.model_dump() | given)
    with progress_bar("train, thousandths of the budget") as progress:
        run = train_and_export(
            plan, pairs, output, device=device, resume=resume, init=init, progress=progress
        )
    if not run.leads:
        return
    for line in summary_lines(run.result, read_history(output)):
        say(line)
    say(f"model: {run.model}; curves and a picture: {output / 'progress.png'}")
    figures = {
        "iterations": run.result.iterations,
        "train_s": round(run.result.seconds, 1),
        "model": str(run.model),
        "validation_loss": run.result.best_validation_loss,
    }
    emit(figures, json)


@app.command()
def evaluate(
    models: Annotated[list[Path], typer.Argument(help="Model packages, one a channel.")],
    pairs: Annotated[Path, typer.Option(help="A pair set with a test split.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder for report.html and figures.json.")],
    second: Annotated[
        Path | None, typer.Option(help="A pair set of the same low files with high images taken anew.")
    ] = None,
    also: Annotated[
        list[str] | None,
        typer.Option(help="LABEL=PAIRS[:CHANNEL]: what it was not made for, as a row of a table; repeat it."),
    ] = None,
    device: Device = "auto",
    overwrite: Overwrite = False,
    json: Json = False,
) -> None:
    """Measure models on fields they were not trained on, beside every other way to restore them.

    Example: sharpscope evaluate my-run/model.zip --pairs my-pairs -o my-report
    """
    from sharpscope.evaluation import evaluate_to_folder

    figures = evaluate_to_folder(
        models, pairs, output, second=second, also=also or [], device=device, overwrite=overwrite
    )
    say(f"report: {output / 'report.html'}")
    emit(figures, json)


@app.command()
def serve(
    models: Annotated[list[Path], typer.Argument(help="Model packages, one a channel.")],
    bind: Annotated[
        str, typer.Option(help="Loopback address, with --keys any; port * takes a free one.")
    ] = "tcp://127.0.0.1:5555",
    keys: Keys = None,
    device: Device = "auto",
    metrics: Annotated[
        int, typer.Option(help="Port on loopback for /metrics (Prometheus), /healthz, /readyz; 0: none.")
    ] = 0,
    engine_limit_s: Annotated[
        float, typer.Option(help="One frame in the engine for longer means that it hangs: it is restarted.")
    ] = 120.0,
    supervisor: Annotated[
        bool,
        typer.Option("--supervisor/--no-supervisor", help="Start the worker again when it hangs or dies."),
    ] = True,
    json_logs: Annotated[
        bool, typer.Option("--json-logs", help="Each log line as one JSON object, on standard error.")
    ] = False,
    as_child: Annotated[bool, typer.Option("--as-child", hidden=True)] = False,
    json: Json = False,
) -> None:
    """Serve models to live microscopes until Ctrl-C; one that is replaced on disk is swapped meanwhile.

    Example: sharpscope serve my-run/model.zip
    """
    from inference.address import worker_address
    from sharpscope.json_logs import use_json_logs
    from sharpscope.serving import ServePlan, serve_alone, serve_as_child, serve_supervised

    if json_logs:
        use_json_logs()
    if engine_limit_s <= 0:
        raise WrongInputError(f"--engine-limit-s {engine_limit_s:g} is not a time; give more than 0")
    worker_address(bind, with_keys=keys is not None)  # a wrong one is told before the models are loaded
    plan = ServePlan(tuple(models), bind, keys, device, metrics or None, json_logs, engine_limit_s)

    def ready(address: str) -> None:
        emit({"address": address}, json)

    if as_child:
        serve_as_child(plan)
    elif supervisor:
        raise typer.Exit(serve_supervised(plan, ready))
    else:
        serve_alone(plan, ready)


@app.command()
def enhance(
    model: Annotated[Path, typer.Argument(help="A model package.")],
    source: Annotated[
        Path, typer.Argument(metavar="INPUT", help="An image or a stack: TIFF, PNG, or an OME-Zarr folder.")
    ],
    output: Annotated[
        Path, typer.Option("-o", "--output", help="An .ome.tiff, or for images of any size an .ome.zarr.")
    ],
    pixel_size_um: Annotated[
        float | None, typer.Option(help="Of the input, where the file is wrong.")
    ] = None,
    worker: Annotated[
        list[str] | None,
        typer.Option(help="A running worker that serves the model; repeat it for several. For .ome.tiff."),
    ] = None,
    keys: Keys = None,
    scheduler: Annotated[
        str | None,
        typer.Option(
            help="A Dask scheduler, tcp://HOST:8786; its workers enhance the chunks of an .ome.zarr."
        ),
    ] = None,
    allow_out_of_domain: OutOfDomain = False,
    device: Device = "auto",
    overwrite: Overwrite = False,
    json: Json = False,
) -> None:
    """Enhance a file: an image, a stack plane by plane, or an image of any size chunk by chunk.

    What was interrupted on the way to an .ome.zarr, the same command goes on with.

    Example: sharpscope enhance my-run/model.zip cells.tif -o cells-enhanced.ome.tiff
    """
    from inference.bulk import enhance_file, enhance_on_cluster

    if worker and scheduler:
        raise WrongInputError("--worker and --scheduler exclude each other; give one of them")
    with (
        progress_bar("enhance, chunks" if output.name.endswith(".zarr") else "enhance, planes") as progress,
        ExitStack() as stack,
    ):
        if scheduler is None:
            engine = stack.enter_context(_engine(model, device, worker, keys))
            result = enhance_file(
                engine, source, output, pixel_size_um=pixel_size_um,
                allow_out_of_domain=allow_out_of_domain, overwrite=overwrite, progress=progress,
            )  # fmt: skip
        else:
            result = enhance_on_cluster(
                scheduler, model, device, source, output, pixel_size_um=pixel_size_um,  # type: ignore[arg-type] # checked there
                allow_out_of_domain=allow_out_of_domain, overwrite=overwrite, progress=progress,
            )  # fmt: skip
    for reason in result.out_of_domain:
        say(f"flagged out of domain: {reason}")
    for words in result.warnings:
        say(f"warning: {words}")
    say(f"{result.planes} plane(s) enhanced into {output}")
    emit({"planes": result.planes, "shape": list(result.shape), "pixel_size_um": result.pixel_size_um,
          "out_of_domain": list(result.out_of_domain), "warnings": list(result.warnings)}, json)  # fmt: skip


def _engine(
    model: Path, device: str, worker: list[str] | None, keys: Path | None
) -> "AbstractContextManager[Engine | RemoteEngine]":
    """Return the model's engine in this process, or the worker that serves it."""
    if worker:
        from inference.model_package import read_package
        from inference.remote_engine import RemoteEngine

        return RemoteEngine(read_package(model), worker, keys)
    from inference.engine import load_engine

    return nullcontext(load_engine(model, device))  # type: ignore[arg-type] # checked there
