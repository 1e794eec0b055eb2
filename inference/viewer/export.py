"""Exports of frames for people and programs: PNG, MP4, OME-TIFF; whole or absent.

Owns which format a file name means, and that nothing is written over unasked. In PNG and MP4 the word
ENHANCED with the model and its hash is part of the picture, and no option leaves it out. Knows no server.
"""

import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, Any

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from configs.document import WrongInputError
from inference.journal import atomic_path
from inference.viewer.clip import Clip
from inference.viewer.look import Look
from inference.viewer.movie import LARGEST_MOVIE_YX, encode_movie
from inference.viewer.painter import Painter
from inference.viewer.recording_source import RecordingSource
from inference.viewer.shown_frame import ShownFrame
from inference.viewer.tiff_stack import write_stack

__all__ = [
    "FORMATS",
    "ExportedClip",
    "Progress",
    "export_clip",
    "export_recording",
    "own_pace_fps",
    "write_movie",
    "write_ome_tiff",
    "write_png",
    "write_pngs",
]

Progress = Callable[[int, int], None]
"""Told how many frames of how many are done; what it raises ends the export and leaves no file."""


def ignore(done: int, frames: int) -> None:
    """Be told and do nothing."""


FORMATS = {".png": "png", ".zip": "pngs", ".mp4": "mp4", ".tif": "ome-tiff", ".tiff": "ome-tiff"}
"""By the ending of a file's name."""
SLOWEST_FPS, FASTEST_FPS = 1.0, 60.0
UNKNOWN_PACE_FPS = 10.0


def write_png(frame: ShownFrame, path: Path, look: Look, *, overwrite: bool = False) -> None:
    """Write one frame as a picture.

    Raises
    ------
    WrongInputError
        When the file is there already.
    """
    with _new_file(path, overwrite) as temporary, temporary.open("wb") as stream:
        _save_png(Painter([frame], look), frame, stream)


def write_pngs(
    frames: Sequence[ShownFrame],
    path: Path,
    look: Look,
    *,
    overwrite: bool = False,
    progress: Progress = ignore,
) -> None:
    """Write a picture of each frame, all with the same levels, into a zip file; raises as `write_png`."""
    painter = Painter(frames, look)
    with _new_file(path, overwrite) as temporary, zipfile.ZipFile(temporary, "w") as archive:
        for frame in _one_by_one(frames, progress):
            with archive.open(f"frame{frame.number:06d}.png", "w", force_zip64=True) as stream:
                _save_png(painter, frame, stream)


def write_movie(
    frames: Sequence[ShownFrame],
    path: Path,
    look: Look,
    fps: float | None = None,
    *,
    overwrite: bool = False,
    progress: Progress = ignore,
) -> None:
    """Write frames as an MP4 (H.264), all with the same levels.

    A picture that players could not decode is shrunk to 2304 x 4096. Where a frame has no enhanced image, the
    picture says so.

    Parameters
    ----------
    fps
        Pictures a second; None plays at the pace at which the frames were taken.

    Raises
    ------
    WrongInputError
        When the file is there already, or fps is not a pace.
    """
    pace = own_pace_fps(frames) if fps is None else fps
    if not 0.1 <= pace <= 1000:
        raise WrongInputError(f"fps is {pace:g}; give 0.1 to 1000 pictures a second")
    painter = Painter(frames, look, LARGEST_MOVIE_YX)
    pictures = (painter.paint(frame) for frame in _one_by_one(frames, progress))
    with _new_file(path, overwrite) as temporary:
        encode_movie(pictures, temporary, painter.shape_yx, pace)


def write_ome_tiff(
    frames: Sequence[ShownFrame],
    path: Path,
    look: Look,
    *,
    overwrite: bool = False,
    progress: Progress = ignore,
) -> None:
    """Write the true counts of frames, (T, Y, X): raw ones in their type, enhanced ones as float32.

    Frames without an enhanced image are NaN, and listed in the metadata. Of the look only `show` counts.

    Raises
    ------
    WrongInputError
        When the file is there already, the look shows both, nothing is enhanced, or the frames are not alike.
    """
    if look.show == "side_by_side":
        raise WrongInputError("an OME-TIFF holds raw or enhanced images, not both; export two files")
    with _new_file(path, overwrite) as temporary:
        write_stack(frames, temporary, look.show, partial(_one_by_one, progress=progress))


def own_pace_fps(frames: Sequence[ShownFrame]) -> float:
    """Return the pace at which frames were taken, in pictures a second; between 1 and 60."""
    if len(frames) < 2:
        return UNKNOWN_PACE_FPS
    start, end = frames[0].elapsed_ms, frames[len(frames) - 1].elapsed_ms
    if start is None or end is None or end <= start:
        return UNKNOWN_PACE_FPS
    return min(FASTEST_FPS, max(SLOWEST_FPS, 1000 * (len(frames) - 1) / (end - start)))


@dataclass(frozen=True, slots=True)
class ExportedClip:
    """What was written."""

    path: Path
    frames: int
    series: str
    first: int
    last: int
    """Index in the series, included."""
    first_number: int
    last_number: int
    """What the frames are called: in the recording, in pictures and in the names of PNG files."""


def export_recording(
    recording: Path,
    output: Path,
    *,
    look: Look,
    first: int | None = None,
    last: int | None = None,
    series: str | None = None,
    fps: float | None = None,
    overwrite: bool = False,
    progress: Progress = ignore,
) -> ExportedClip:
    """Export a range of a recording, finished or running; the output's ending says the format.

    Parameters
    ----------
    output
        .png (one frame), .zip (a PNG of each), .mp4, .tif, .tiff.
    first, last
        Indices in the series, both included; None is the first and the last there are.
    series
        None is the first.

    Raises
    ------
    WrongInputError
        When it is no recording, has no such frames, or the output is there already or of no known format.
    """
    kind = _format_of(output)
    with RecordingSource(recording) as source:
        clip = Clip.of(source, series, first, last)
        if look.show != "raw" and not source.status().enhanced:
            msg = f"{recording} has no enhanced image; export it with --show raw, or complete it first"
            raise WrongInputError(msg)
        export_clip(clip, output, kind, look, fps=fps, overwrite=overwrite, progress=progress)
        first_number, last_number = clip[0].number, clip[-1].number
    return ExportedClip(output, len(clip), clip.series, clip.first, clip.last, first_number, last_number)


def export_clip(
    clip: Sequence[ShownFrame],
    path: Path,
    kind: str,
    look: Look,
    *,
    fps: float | None = None,
    overwrite: bool = False,
    progress: Progress = ignore,
) -> None:
    """Write frames in one of the `FORMATS`; raises as the functions above."""
    more: dict[str, Any] = {"overwrite": overwrite, "progress": progress}
    if kind == "mp4":
        write_movie(clip, path, look, fps, **more)
    elif kind == "ome-tiff":
        write_ome_tiff(clip, path, look, **more)
    elif kind == "pngs":
        write_pngs(clip, path, look, **more)
    elif len(clip) == 1:
        write_png(clip[0], path, look, overwrite=overwrite)
    else:
        raise WrongInputError(f"a PNG holds one frame, not {len(clip)}; give a .zip for a PNG of each")


def _format_of(output: Path) -> str:
    try:
        return FORMATS[output.suffix.lower()]
    except KeyError:
        msg = f"{output}: no export ends in {output.suffix!r}; give one of {', '.join(FORMATS)}"
        raise WrongInputError(msg) from None


def _save_png(painter: Painter, frame: ShownFrame, stream: IO[bytes]) -> None:
    """Write a picture; what it is stands in its text chunks too."""
    said = PngInfo()
    facts = {"session": frame.session, "frame": str(frame.number), "show": painter.look.show}
    if painter.look.show != "raw" and frame.enhanced is not None:
        facts |= {"model": frame.model_name or "", "model_sha256": frame.model_hash or ""}
    for key, value in facts.items():
        said.add_itxt(f"sharpscope {key}", value)
    Image.fromarray(np.asarray(painter.paint(frame))).save(stream, "PNG", pnginfo=said)


@contextmanager
def _new_file(path: Path, overwrite: bool) -> Iterator[Path]:
    """Give the temporary path of a file that is whole or absent."""
    if path.exists() and not overwrite:
        raise WrongInputError(f"{path} is there already; give another name, or --overwrite")
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(path) as temporary:
        yield temporary


def _one_by_one(frames: Sequence[ShownFrame], progress: Progress) -> Iterator[ShownFrame]:
    """Return the frames, telling how many are done."""
    for done, frame in enumerate(frames):
        progress(done, len(frames))
        yield frame
    progress(len(frames), len(frames))
