"""Enhances whole files: reads, runs the engine plane by plane, writes an OME-TIFF with its provenance.

Each channel of a file is one stream: its photometry is fixed by its first plane, so that a time-lapse or a
z-stack keeps its intensities. Nothing is written before every plane has been enhanced.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from configs.document import WrongInputError
from inference.engine import Engine
from inference.image_file import ImageFile, read_image_file, write_enhanced

if TYPE_CHECKING:
    from inference.preprocess import Photometry

__all__ = ["BulkResult", "enhance_file"]

OUTPUT_SUFFIXES = (".tif", ".tiff")
MOST_WARNINGS = 20
"""That are written into a file; of a long time-lapse the rest are counted."""
FloatImage = np.ndarray[Any, np.dtype[np.float32]]


@dataclass(frozen=True, slots=True)
class BulkResult:
    """What was written."""

    output: Path
    planes: int
    shape: tuple[int, ...]
    pixel_size_um: float | None
    out_of_domain: tuple[str, ...]
    warnings: tuple[str, ...]
    """Of all planes; each names its plane."""


def enhance_file(
    engine: Engine,
    source: Path,
    output: Path,
    *,
    pixel_size_um: float | None = None,
    allow_out_of_domain: bool = False,
    overwrite: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> BulkResult:
    """Enhance an image or a stack (T, Z, C, Y, X in any order, axes may be absent).

    Parameters
    ----------
    pixel_size_um
        Of the input; None takes what the file says.
    allow_out_of_domain
        Apply the model where it does not fit, and flag the result.

    Raises
    ------
    WrongInputError, OutOfDomainError
        Before anything is written.
    """
    if output.suffix.lower() not in OUTPUT_SUFFIXES:
        msg = f"{output}: the enhanced image is written as OME-TIFF; give a name that ends in .ome.tiff"
        raise WrongInputError(msg)
    if output.exists() and not overwrite:
        msg = f"{output} is there already; give another name, or --overwrite"
        raise WrongInputError(msg)
    image = read_image_file(source)
    size_um = image.pixel_size_um if pixel_size_um is None else pixel_size_um
    enhanced, reasons, warnings = _enhance_planes(engine, image, size_um, allow_out_of_domain, progress)
    facts = {
        "enhanced": "by a neural network; finer structure than the input resolves is its guess",
        "model": engine.name,
        "model_sha256": engine.model_hash,
        "source": source.name,
        "source_sha256": hashlib.sha256(source.read_bytes()).hexdigest(),
        "out_of_domain": "; ".join(reasons) if reasons else "no",
        "warnings": _in_short(warnings),
        "units": "counts of the input",
    }
    output_size_um = None if size_um is None else size_um / engine.factor
    write_enhanced(
        output,
        enhanced,
        image.axes,
        pixel_size_um=output_size_um,
        channels=image.channels,
        facts=facts,
    )
    planes = int(np.prod(image.pixels.shape[:-2], dtype=int))
    return BulkResult(output, planes, enhanced.shape, output_size_um, reasons, warnings)


def _in_short(warnings: tuple[str, ...]) -> str:
    """Return the first warnings and how many more there are."""
    more = len(warnings) - MOST_WARNINGS
    listed = "; ".join(warnings[:MOST_WARNINGS])
    return f"{listed}; and {more} more" if more > 0 else listed or "none"


def _enhance_planes(
    engine: Engine,
    image: ImageFile,
    pixel_size_um: float | None,
    allow_out_of_domain: bool,
    progress: Callable[[int, int], None] | None,
) -> tuple[FloatImage, tuple[str, ...], tuple[str, ...]]:
    """Return the enhanced stack (..., factor * Y, factor * X), why it is out of domain, and all warnings."""
    *leading, height, width = image.pixels.shape
    result = np.empty((*leading, height * engine.factor, width * engine.factor), dtype=np.float32)
    photometry: dict[int, Photometry] = {}
    reasons: dict[str, None] = {}  # a set that keeps its order
    warnings: list[str] = []
    total = int(np.prod(leading, dtype=int))
    for done, index in enumerate(np.ndindex(*leading), start=1):
        channel = image.channel_of(index)
        try:
            enhanced = engine.enhance(
                image.pixels[index],
                pixel_size_um=pixel_size_um,
                channel=image.channels[channel],
                allow_out_of_domain=allow_out_of_domain,
                photometry=photometry.get(channel),
            )
        except WrongInputError as error:
            msg = f"plane {index} of the input: {error}"
            raise WrongInputError(msg) from error
        photometry[channel] = enhanced.photometry
        reasons |= dict.fromkeys(enhanced.out_of_domain)
        warnings += [f"plane {index}: {words}" if index else words for words in enhanced.warnings]
        result[index] = enhanced.image
        if progress:
            progress(done, total)
    return result, tuple(reasons), tuple(warnings)
