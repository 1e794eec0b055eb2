"""What pairing is given: fields of view, each one low frame and the high tiles that show the same place.

Owns the form that a scan folder and two plain folders are brought into, so that nothing behind it knows
which of them it was. Knows no alignment.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tifffile
from skimage.io import imread

from training.pairing.orientation import Orientation
from training.pairing.pairs import Optics
from training.pairing.sampling import Image

__all__ = ["Acquisition", "FieldOfView", "Frames", "UnusableFieldError", "read_image"]


class UnusableFieldError(Exception):
    """A field of view cannot become a pair. The message is the reason that pairs.json will give."""


@dataclass(frozen=True, slots=True)
class Frames:
    """The pixels of one field of view."""

    low: Image
    """(C, Y, X) counts."""
    tiles: list[Image]
    """(C, V, U) counts each."""
    corners_yx_px: Image
    """(N, 2): where the stage puts the centre of each tile's first pixel on the upsampled low grid."""


@dataclass(frozen=True, slots=True)
class FieldOfView:
    """One low frame with its high tiles, not yet read."""

    region: int
    name: str
    """The stem of its pairs' file names."""
    sources: dict[str, str]
    """SHA-256 of each source file, by its name."""
    fault: str | None
    """What went wrong when it was acquired."""
    read: Callable[[], Frames]
    """Raises UnusableFieldError when the files cannot be used."""

    def frames(self) -> Frames | str:
        """Return the frames, or why there are none: what went wrong at the microscope, or with the files."""
        if self.fault is not None:
            return self.fault
        try:
            return self.read()
        except UnusableFieldError as error:
            return str(error)


@dataclass(frozen=True, slots=True)
class Acquisition:
    """All fields of view of one set, and what is known of them."""

    origin: str
    """Where it came from, for messages."""
    run_id: str | None
    factor: int
    channels: tuple[str, ...]
    optics: Optics
    fields: list[FieldOfView]
    orientation: Orientation | None = None
    """By the calibration; None where there is none, and it has to be estimated."""


def read_image(path: Path) -> Image:
    """Read a TIFF, PNG or whatever else scikit-image reads.

    Raises
    ------
    UnusableFieldError
        The file is missing, torn or no image, or holds NaN or infinities.
    """
    try:
        tiff = path.suffix.lower() in {".tif", ".tiff"}
        image = np.asarray(tifffile.imread(path) if tiff else imread(path))
    except (OSError, ValueError, KeyError, IndexError, SyntaxError, tifffile.TiffFileError) as error:
        msg = f"{path.name} cannot be read as an image ({' '.join(str(error).split())[:120]})"
        raise UnusableFieldError(msg) from error
    if image.dtype.kind not in "uif":
        msg = f"{path.name} holds {image.dtype}, not counts"
        raise UnusableFieldError(msg)
    if image.dtype.kind == "f" and not np.isfinite(image).all():
        msg = f"{path.name} holds NaN or infinite values"
        raise UnusableFieldError(msg)
    return image
