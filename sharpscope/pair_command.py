"""The command that turns a scan, or anybody's images, into a pair set.

Owns the options and what a person is told at the end. Knows no pixels.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, get_args

import typer

from configs.document import WrongInputError
from sharpscope.command_group import Json, Overwrite, app
from sharpscope.console import ExitCode, emit, progress_bar, say

if TYPE_CHECKING:
    from collections.abc import Callable

    from training.pairing.pairs import Optics, PairSet, PairSetIndex
    from training.pairing.settings import PairingSettings

    Progress = Callable[[int, int], None]

FOLDERS = "Folders from any microscope"


@app.command()
def pair(
    output: Annotated[Path, typer.Option("-o", "--output", help="The pair set to make.")],
    scan_folder: Annotated[Path | None, typer.Argument(metavar="SCAN", help="A scan folder.")] = None,
    alignment: Annotated[
        str | None,
        typer.Option(help="elastic, or drift: one shift a field (confocal to STED; the default of --sim)."),
    ] = None,
    low_background: Annotated[
        float | None, typer.Option(help="Counts of the low images without objects; found, if not given.")
    ] = None,
    high_background: Annotated[float | None, typer.Option(help="The same of the high images.")] = None,
    flat_field: Annotated[
        bool, typer.Option(help="Take uneven light, estimated from the tiles, out of the high images.")
    ] = True,
    low: Annotated[
        Path | None, typer.Option(help="Instead of a scan: low images ...", rich_help_panel=FOLDERS)
    ] = None,
    high: Annotated[
        Path | None, typer.Option(help="... and high images of the same names.", rich_help_panel=FOLDERS)
    ] = None,
    sim: Annotated[
        Path | None,
        typer.Option(
            help="Instead: stacks of nine SIM exposures; low is their mean.", rich_help_panel=FOLDERS
        ),
    ] = None,
    factor: Annotated[
        int, typer.Option(help="High pixels along one low pixel: 1, 2 or 4.", rich_help_panel=FOLDERS)
    ] = 2,
    channel: Annotated[str, typer.Option(help="What they show.", rich_help_panel=FOLDERS)] = "channel",
    extend_depth: Annotated[
        bool,
        typer.Option("--extend-depth", help="High files are z-stacks; fuse them.", rich_help_panel=FOLDERS),
    ] = False,
    pixel_size_um: Annotated[
        float | None, typer.Option(help="Of the low images, or of SIM's exposures.", rich_help_panel=FOLDERS)
    ] = None,
    low_na: Annotated[
        float | None, typer.Option(help="Numerical aperture of the low state.", rich_help_panel=FOLDERS)
    ] = None,
    high_na: Annotated[float | None, typer.Option(help="Of the high state.", rich_help_panel=FOLDERS)] = None,
    emission_nm: Annotated[
        float | None, typer.Option(help="Emission wavelength.", rich_help_panel=FOLDERS)
    ] = None,
    modality: Annotated[
        str, typer.Option(help="widefield, confocal_sted, tirf_sim ...", rich_help_panel=FOLDERS)
    ] = "widefield",
    overwrite: Overwrite = False,
    json: Json = False,
) -> None:
    """Stitch, register and gate: turn a scan, or folders of images, into a pair set.

    Leaves contact_sheet.html in it: the best, the worst and every pair that was left out.

    Example: sharpscope pair my-scan -o my-pairs
    """
    from training.pairing.build import pair_folders, pair_scan, pair_sim_folder

    settings = _settings(
        alignment or ("drift" if sim else "elastic"), low_background, high_background, flat_field=flat_field
    )
    given = (scan_folder is not None, low is not None and high is not None, sim is not None)
    if sum(given) != 1 or (low is None) != (high is None):
        raise WrongInputError("give either a scan folder, or both --low and --high folders, or --sim")
    optics = _optics(pixel_size_um, factor, (low_na, high_na), {channel: emission_nm}, modality)
    with progress_bar("pair, fields of view") as progress:
        if scan_folder is not None:
            pairs = pair_scan(scan_folder, output, settings, overwrite=overwrite, progress=progress)
        elif low is not None and high is not None:
            pairs = pair_folders(
                low, high, factor, output, settings, channel=channel, optics=optics,
                extend_depth=extend_depth, overwrite=overwrite, progress=progress,
            )  # fmt: skip
        elif sim is not None:
            pairs = pair_sim_folder(
                sim, output, settings, optics=optics, channel=channel, overwrite=overwrite, progress=progress
            )
    _report(pairs, json)


def _settings(
    alignment: str, low_background: float | None, high_background: float | None, *, flat_field: bool
) -> "PairingSettings":
    from training.pairing.settings import Alignment, PairingSettings

    if alignment not in get_args(Alignment):
        raise WrongInputError(f"--alignment {alignment} is none; give {' or '.join(get_args(Alignment))}")
    return PairingSettings(
        alignment=alignment,  # type: ignore[arg-type] # checked above
        low_background=low_background,
        high_background=high_background,
        flat_field=flat_field,
    )


def _optics(
    pixel_size_um: float | None,
    factor: int,
    apertures: tuple[float | None, float | None],
    emission_nm: dict[str, float | None],
    modality: str,
) -> "Optics":
    from training.pairing.pairs import Optics

    return Optics(
        low_pixel_size_um=pixel_size_um,
        high_pixel_size_um=None if pixel_size_um is None else pixel_size_um / factor,
        low_numerical_aperture=apertures[0],
        high_numerical_aperture=apertures[1],
        emission_nm={channel: length for channel, length in emission_nm.items() if length is not None},
        modality=modality,
    )


def _report(pairs: "PairSet", json: bool) -> None:
    """Say what was found and what was left out, and end with the exit code of a set with holes."""
    index = pairs.index
    for line in _findings(index):
        say(line)
    refused = [record for record in index.pairs if not record.accepted]
    for record in refused:
        say(f"left out: {record.file}: {record.reason}")
    sheet = pairs.path / "contact_sheet.html"
    say(
        f"{len(index.pairs) - len(refused)} of {len(index.pairs)} pairs accepted in {pairs.path}; see {sheet}"
    )
    emit({"pairs": len(index.pairs), "left_out": len(refused), "contact_sheet": str(sheet)}, json)
    if refused:
        raise typer.Exit(ExitCode.HOLES)


def _findings(index: "PairSetIndex") -> list[str]:
    """Return in words what the set says of light, camera and orientation."""
    lines = [] if index.orientation is None else [index.orientation.origin]
    for channel, light in index.light.items():
        for state, found in (("low", light.low), ("high", light.high)):
            uneven = "" if found.unevenness is None else f", light uneven by {100 * found.unevenness:.0f} %"
            hot = f", {found.hot_pixels} bad pixels" if found.hot_pixels else ""
            lines.append(f"{channel}, {state}: background {found.background:.1f} counts{uneven}{hot}")
    return lines
