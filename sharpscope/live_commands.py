"""The commands of live enhancement: live, and complete for what it left out.

Every command imports its room when it runs, so that `sharpscope --help` answers at once.
"""

import re
import shlex
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from configs.document import WrongInputError
from sharpscope.command_group import Json, Keys, OutOfDomain, app
from sharpscope.console import ExitCode, emit, progress_bar, say
from sharpscope.view_command import Browser, Host, Port, TokenFile

if TYPE_CHECKING:
    from acquisition.time_lapse import TimeLapseReport

__all__ = ["live_figures"]

Workers = Annotated[
    list[str] | None,
    typer.Option(
        "--worker",
        help="A running worker, tcp://127.0.0.1:5555 if not given; repeat it for several, or as "
        "CHANNEL=ADDRESS for a model per channel.",
    ),
]


@app.command()
def live(
    experiment: Annotated[
        str, typer.Argument(help="An experiment file; with a time_lapse that is run, else live mode.")
    ],
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="The recording to make; live mode does without.")
    ] = None,
    workers: Workers = None,
    keys: Keys = None,
    preview: Annotated[
        bool,
        typer.Option(
            "--preview", help="Enhance the newest frame for the eye, and what that leaves out afterwards."
        ),
    ] = False,
    view: Annotated[bool, typer.Option("--view", help="Show raw and enhanced frames in a web page.")] = False,
    view_host: Host = "127.0.0.1",
    view_port: Port = 8765,
    view_token_file: TokenFile = None,
    browser: Browser = True,
    allow_out_of_domain: OutOfDomain = False,
    json: Json = False,
) -> None:
    """Run the experiment's time-lapse: raw frames to disk first, enhanced ones beside them.

    An experiment without a time_lapse runs live mode until Ctrl-C, with stage and focus in your hands.

    Example: sharpscope live virtual_widefield -o my-recording --view
    """
    from acquisition.plan import load_experiment
    from inference.address import DEFAULT_ADDRESS
    from sharpscope.live import nothing_beside, record_time_lapse, run_live_mode, workers_of
    from sharpscope.live_page import page_beside
    from sharpscope.microscope_choice import open_microscope
    from sharpscope.viewing import Doorway
    from sharpscope.watchdog import guard

    plan = load_experiment(experiment)
    routes = workers_of(workers or [DEFAULT_ADDRESS])
    doorway = Doorway.of(view_host, view_port, view_token_file)
    if plan.time_lapse is not None and output is None:
        raise WrongInputError("give the recording to make with -o; only live mode does without")
    beside = page_beside(doorway, plan.microscope.name, browser=browser) if view else nothing_beside
    core = open_microscope(plan.microscope)
    common: dict[str, Any] = {"allow_out_of_domain": allow_out_of_domain, "keys": keys, "beside": beside}
    with guard(plan, experiment, (output or Path.cwd() / "live").parent):
        if plan.time_lapse is None or output is None:
            say("live mode; Ctrl-C ends it")
            status = run_live_mode(plan, core, routes, output, **common)
            say(f"{status.frames_in} frames, {status.recorded} recorded, {status.enhanced} enhanced")
            emit(live_figures(status), json)
            return
        with progress_bar("live, frames") as progress:
            report = record_time_lapse(
                plan, core, routes, output, preview=preview, progress=progress, **common
            )
    completes = preview and report.finish_reason == "completed"
    given = workers or [DEFAULT_ADDRESS]
    _tell(report, output, workers or [], keys, completes=completes)
    missing = len(report.unenhanced)
    if completes:
        missing = _complete(output, given, keys, allow_out_of_domain=allow_out_of_domain)
    emit({**live_figures(report.status), "unenhanced": missing}, json)
    if not report.complete or missing:
        raise typer.Exit(ExitCode.HOLES)


def _tell(
    report: "TimeLapseReport", output: Path, workers: list[str], keys: Path | None, *, completes: bool
) -> None:
    status = report.status
    say(f"{status.recorded} of {report.frames_expected} frames recorded, {status.enhanced} enhanced")
    if report.finish_reason != "completed":
        say(f"the time-lapse did not come to its end: it was {report.finish_reason}; the log says why")
    if report.unenhanced:
        some = ", ".join(map(str, report.unenhanced[:12])) + (" ..." if len(report.unenhanced) > 12 else "")
        say(f"not enhanced so far: {len(report.unenhanced)} frames, {some} ({status.worker_reason})")
        if not completes:
            own = [] if keys is None else ["--keys", str(keys)]
            options = [word for worker in workers for word in ("--worker", worker)]
            command = shlex.join(["sharpscope", "complete", str(output), *options, *own])
            say(f"a worker makes up for them: {command}")
    say(f"look at it again: sharpscope view {output}")


@app.command()
def complete(
    recording: Annotated[Path, typer.Argument(help="A recording that nobody writes any more.")],
    workers: Annotated[
        list[str] | None,
        typer.Option(
            "--worker",
            help="A running worker, tcp://127.0.0.1:5555 if not given; repeat it for several, or as "
            "CHANNEL=ADDRESS for a model per channel.",
        ),
    ] = None,
    keys: Keys = None,
    allow_out_of_domain: OutOfDomain = False,
    json: Json = False,
) -> None:
    """Enhance the frames of a recording that have no enhanced image yet: lost workers, drops, a kill.

    Example: sharpscope complete my-recording
    """
    from inference.address import DEFAULT_ADDRESS

    missing = _complete(
        recording, workers or [DEFAULT_ADDRESS], keys, allow_out_of_domain=allow_out_of_domain
    )
    emit({"unenhanced": missing}, json)
    if missing:
        raise typer.Exit(ExitCode.HOLES)


def _complete(recording: Path, workers: list[str], keys: Path | None, *, allow_out_of_domain: bool) -> int:
    """Enhance what is missing; returns how many frames still have no enhanced image."""
    from acquisition.worker_routes import checked_routes
    from inference.completion import complete as complete_recording
    from sharpscope.live import workers_of

    routes, own_keys = checked_routes(workers_of(workers), keys)
    for channel, addresses in routes.items():
        with progress_bar("complete, frames" + (f" of {channel}" if channel else "")) as progress:
            added = complete_recording(
                recording,
                addresses,
                channel=channel,
                allow_out_of_domain=allow_out_of_domain,
                keys=own_keys,
                progress=progress,
            )
        if added.worker:
            say(f"no answer from {', '.join(addresses)} ({added.worker})")
        whose = f" of {channel}" if channel else ""
        say(f"{added.enhanced} more frames{whose} enhanced")
    say(f"{len(added.unenhanced)} frames without an enhanced image")
    kinds = Counter(re.sub(r"\d+", "N", reason) for reason in added.unenhanced.values())
    for reason, frames in kinds.most_common(5):
        say(f"because, {frames} times: {reason}")
    return len(added.unenhanced)


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
