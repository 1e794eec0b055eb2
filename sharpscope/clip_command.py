"""The command that makes a file to show of a recording: clip.

Imports its room when it runs, so that `sharpscope --help` answers at once.
"""

import re
from pathlib import Path
from typing import Annotated

import typer

from configs.document import WrongInputError
from sharpscope.command_group import Json, Overwrite, app
from sharpscope.console import emit, progress_bar, say


@app.command()
def clip(
    recording: Annotated[Path, typer.Argument(help="A recording, finished or being written.")],
    output: Annotated[
        Path,
        typer.Option("-o", "--output", help="A .mp4, .png (one frame), .zip (a PNG of each) or .ome.tiff."),
    ],
    frames: Annotated[
        str | None,
        typer.Option(
            help="Indices in the series, from 0: FIRST:LAST, both included, or one; all where left out. "
            "Not the frame numbers in labels and file names, which count through all channels and positions."
        ),
    ] = None,
    series: Annotated[
        str | None, typer.Option(help="Channel, or 'CHANNEL at POSITION'; the first where it is left out.")
    ] = None,
    show: Annotated[str, typer.Option(help="enhanced, raw or side_by_side.")] = "enhanced",
    black: Annotated[float | None, typer.Option(help="Counts shown black; found where left out.")] = None,
    white: Annotated[float | None, typer.Option(help="Counts shown white; found where left out.")] = None,
    colour: Annotated[str, typer.Option(help="grey, green, magenta ..., or #rrggbb.")] = "grey",
    fps: Annotated[
        float | None, typer.Option(help="Of a movie; where left out as recorded, within 1 to 60.")
    ] = None,
    overwrite: Overwrite = False,
    json: Json = False,
) -> None:
    """Make a movie, a picture or a stack of a range of a recording; ENHANCED stands in every picture.

    Example: sharpscope clip my-recording -o clip.mp4 --frames 10:200 --show side_by_side
    """
    from inference.viewer.export import export_recording
    from inference.viewer.look import Look

    first, last = frame_range(frames)
    look = Look(black, white, show, colour)  # type: ignore[arg-type] # checked there
    with progress_bar("clip, frames") as progress:
        made = export_recording(
            recording, output, look=look, first=first, last=last, series=series, fps=fps,
            overwrite=overwrite, progress=progress,
        )  # fmt: skip
    say(
        f"{made.frames} frame(s) of '{made.series}' (indices {made.first} to {made.last} in the series, "
        f"frame {made.first_number} to frame {made.last_number}) in {output}"
    )
    numbers = {"first_number": made.first_number, "last_number": made.last_number}
    places = {"first": made.first, "last": made.last}
    emit({"frames": made.frames, "series": made.series, **places, **numbers}, json)


def frame_range(given: str | None) -> tuple[int | None, int | None]:
    """Return first and last index of "FIRST:LAST", where either may be missing, or of one number."""
    if given is None:
        return None, None
    parts = re.fullmatch(r"(\d*)(:?)(\d*)", given)
    if parts is None or not given.strip(":"):
        raise WrongInputError(f"--frames {given} is no range; give FIRST:LAST, for example 10:200")
    first, colon, last = parts.groups()
    if not colon:
        return int(first), int(first)
    return int(first) if first else None, int(last) if last else None
