"""Enhances whole files: the format of the output decides how.

An OME-Zarr is written chunk by chunk, of sources of any size (`inference.volume_enhancement`). An OME-TIFF is
made in memory: the engine runs plane by plane, and nothing is written before every plane has been enhanced.
Each channel of a file is one stream: its photometry is fixed by its first plane, so that a time-lapse or a
z-stack keeps its intensities.
"""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from configs.document import WrongInputError
from inference.backends import Device
from inference.bulk_result import BulkResult, provenance
from inference.chunk_work import InThisProcess
from inference.content_hash import file_sha256
from inference.engine import Engine
from inference.image_file import ImageFile, is_enhanced, read_image_file, write_enhanced
from inference.model_package import read_package
from inference.remote_engine import RemoteEngine
from inference.volume import open_volume
from inference.volume_enhancement import OUTPUT_SUFFIX, enhance_volume

if TYPE_CHECKING:
    from inference.preprocess import Photometry

__all__ = ["BulkResult", "enhance_file", "enhance_on_cluster"]

OUTPUT_SUFFIXES = (".tif", ".tiff")
FloatImage = np.ndarray[Any, np.dtype[np.float32]]


def enhance_file(
    engine: Engine | RemoteEngine,
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
    engine
        One of this process, or a running worker.
    output
        An OME-TIFF, or an OME-Zarr, which may be larger than memory and gone on with.
    pixel_size_um
        Of the input; None takes what the file says.
    allow_out_of_domain
        Apply the model where it does not fit, and flag the result.

    Raises
    ------
    WrongInputError, OutOfDomainError
        Before anything is written.
    """
    if output.name.endswith(OUTPUT_SUFFIX):
        if isinstance(engine, RemoteEngine):
            msg = f"{output}: a worker enhances whole planes; give an .ome.tiff, or leave --worker out"
            raise WrongInputError(msg)
        return enhance_volume(
            engine.package, source, output, InThisProcess(engine), pixel_size_um=pixel_size_um,
            allow_out_of_domain=allow_out_of_domain, overwrite=overwrite, progress=progress,
        )  # fmt: skip
    if output.suffix.lower() not in OUTPUT_SUFFIXES:
        msg = f"{output}: an enhanced image is an OME-TIFF or an OME-Zarr; end it in .ome.tiff or .ome.zarr"
        raise WrongInputError(msg)
    if output.exists() and not is_enhanced(output):
        msg = f"{output} is there already and is no enhanced image; give another name"
        raise WrongInputError(msg)
    if output.exists() and not overwrite:
        msg = f"{output} is there already; give another name, or --overwrite"
        raise WrongInputError(msg)
    image, source_sha256 = _read(source)
    size_um = image.pixel_size_um if pixel_size_um is None else pixel_size_um
    enhanced, reasons, warnings = _enhance_planes(engine, image, size_um, allow_out_of_domain, progress)
    facts = provenance(engine.name, engine.model_hash, source, source_sha256, reasons, warnings)
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


def enhance_on_cluster(
    address: str,
    model: Path,
    device: Device,
    source: Path,
    output: Path,
    *,
    pixel_size_um: float | None = None,
    allow_out_of_domain: bool = False,
    overwrite: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> BulkResult:
    """Enhance into an OME-Zarr on an existing Dask cluster; the rest is as in `enhance_file`.

    Parameters
    ----------
    address
        Of the scheduler.
    model
        Path of the package; like source and output, every worker sees it there.
    """
    if not output.name.endswith(OUTPUT_SUFFIX):
        msg = f"{output}: a cluster writes an OME-Zarr; give a name that ends in {OUTPUT_SUFFIX}"
        raise WrongInputError(msg)
    from inference.cluster import Cluster

    package = read_package(model)
    with Cluster(address, model, package, device) as cluster:
        return enhance_volume(
            package, source, output, cluster, pixel_size_um=pixel_size_um,
            allow_out_of_domain=allow_out_of_domain, overwrite=overwrite, progress=progress,
        )  # fmt: skip


def _read(source: Path) -> tuple[ImageFile, str]:
    """Return a whole image and the hash of its file or folder."""
    if not source.is_dir():
        image = read_image_file(source)
        return image, file_sha256(source)
    volume = open_volume(source)
    facts = volume.facts
    pixels = np.empty(facts.shape, facts.dtype)
    for index in facts.planes():
        pixels[index] = volume.read(index, *(slice(0, length) for length in facts.shape_yx))
    return ImageFile(pixels, facts.axes, facts.pixel_size_um, facts.channels), volume.sha256()


def _enhance_planes(
    engine: Engine | RemoteEngine,
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
    raw: list[str] = []
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
        listed = raw if enhanced.shows_raw else warnings  # raw planes first: a file lists only so many
        listed += [f"plane {index}: {words}" if index else words for words in enhanced.warnings]
        result[index] = enhanced.image
        if progress:
            progress(done, total)
    return result, tuple(reasons), (*raw, *warnings)
