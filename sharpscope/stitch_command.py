"""The command that makes one image of a scanned area: stitch.

Imports its room when it runs, so that `sharpscope --help` answers at once.
"""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from configs.document import WrongInputError
from sharpscope.command_group import Json, Overwrite, app
from sharpscope.console import ExitCode, emit, progress_bar, say


class _State(StrEnum):
    LOW = "low"
    HIGH = "high"


@app.command()
def stitch(
    scan_folder: Annotated[Path, typer.Argument(metavar="SCAN", help="A scan folder.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="The image to make: AREA.ome.zarr.")],
    state: Annotated[_State, typer.Option(help="Which of the two imaging states.")] = _State.HIGH,
    overwrite: Overwrite = False,
    json: Json = False,
) -> None:
    """Place all tiles of a scan by their overlaps and write them as one image with a pyramid.

    Example: sharpscope stitch my-scan --state high -o my-area.ome.zarr
    """
    from training.pairing.scan_stitching import stitch_scan

    if not output.name.endswith(".ome.zarr"):
        raise WrongInputError(f"{output}: an area is written as OME-Zarr; give a name that ends in .ome.zarr")
    with progress_bar("stitch, overlaps and then blocks") as progress:
        area = stitch_scan(scan_folder, state.value, output, overwrite=overwrite, progress=progress)
    for note in area.notes:
        say(note)
    links = sum(link.accepted for link in area.placement.links)
    _, height, width = area.shape_cyx
    say(
        f"{len(area.files)} tiles, {links} of {len(area.placement.links)} overlaps hold, "
        f"{len(area.alone)} tiles on the stage's word; {height} x {width} px, "
        f"{area.bytes_on_disk / 1e6:.1f} MB in {output}"
    )
    figures = {
        "tiles": len(area.files),
        "links": links,
        "overlaps": len(area.placement.links),
        "tiles_by_stage_alone": list(area.alone),
        "groups": 1 + len(area.placement.islands),
        "missing": area.missing,
        "height_px": height,
        "width_px": width,
        "bytes_on_disk": area.bytes_on_disk,
    }
    emit(figures, json)
    if not area.whole:
        raise typer.Exit(ExitCode.HOLES)
