"""Contract 3: the model package, as serving sees it.

A bioimage.io model (format 0.5), folder or zip. This module owns what stands under `config.sharpscope` in
its `rdf.yaml` (all that serving must know) and reads a package without bioimageio or torch, which cost
seconds to import. Writing is training's (`training.export`). Nothing in a package is ever unpickled.
"""

import hashlib
import io
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import yaml
from pydantic import BaseModel, Field, ValidationError

from configs.document import WrongInputError
from inference.preprocess import Photometry

__all__ = [
    "TRAINED_ON",
    "FrameStatistics",
    "GuardLimits",
    "IntensityRange",
    "ModelPackage",
    "ServingCard",
    "read_package",
]

RDF, TRAINED_ON = "rdf.yaml", "trained_on.txt"
MAX_MEMBER_BYTES = 2 * 1024**3
"""No weights of ours come near this; a zip bomb does."""


class IntensityRange(BaseModel, frozen=True, extra="forbid"):
    """What the training's low images looked like, for the out-of-domain guard."""

    bright_counts_min: float
    """Least 99.9th percentile above the background among the training images, in counts."""
    bright_counts_max: float
    """Greatest of the same."""
    bright_network: float
    """Typical 99.9th percentile on the network's scale: foreign images are brought to it."""


class FrameStatistics(BaseModel, frozen=True, extra="forbid"):
    """What the training's low frames were like as the camera delivered them, for the out-of-domain guard."""

    signal_to_noise_min: float
    """99th percentile above the background over the noise, of the dimmest training frame."""
    signal_to_noise_median: float
    signal_to_noise_max: float
    saturated_fraction_max: float
    """Share of the pixels at the camera's limit, above which no frame was let into training."""


class GuardLimits(BaseModel, frozen=True, extra="forbid"):
    """What training's frames looked like, and how well the model explained them; for the frame guard.

    Ranges as found, over the frames and over their quarters; to widen them is the guard's business.
    """

    least_side_px: int = Field(ge=1)
    """Of the smallest part that was measured; what is smaller may vary more."""
    appearance_min: tuple[float, ...] = Field(min_length=9, max_length=9)
    """Least of each number of `inference.appearance`."""
    appearance_max: tuple[float, ...] = Field(min_length=9, max_length=9)
    """Greatest of the same."""
    blur_px: float = Field(ge=0)
    """Sigma that takes an enhanced image to its frame's resolution, in pixels of the frame."""
    unexplained_min: float = Field(gt=0)
    unexplained_max: float = Field(gt=0)
    """RSE over the frame's standard deviation, see `inference.artifact_score`."""
    noise_share_max: float | None
    """The camera's noise over the frame's standard deviation, of the noisiest frame; None is unknown."""
    gain_min: float = Field(gt=0)
    gain_max: float = Field(gt=0)
    """Counts of the frame for one count of the blurred enhanced image."""


class ServingCard(BaseModel, frozen=True, extra="forbid"):
    """Everything under `config.sharpscope` of a package."""

    version: Literal[1] = 1
    sharpscope_version: str
    factor: Literal[1, 2, 4]
    """Upsampling before the network."""
    channel: str
    modality: str
    low_pixel_size_um: float | None
    high_pixel_size_um: float | None
    low_numerical_aperture: float | None
    high_numerical_aperture: float | None
    background: float
    """Counts of a region without objects, in the training's low images."""
    scale: float = Field(gt=0)
    """Network units per count above the background."""
    intensity: IntensityRange
    frames: FrameStatistics | None = None
    """None where the pair set does not say, and in packages that are older than this field."""
    guard: GuardLimits | None = None
    """None where the pairs are too small, and in packages that are older than this field."""
    generator: dict[str, Any]
    """The GeneratorPlan, for the safetensors weights."""
    step: int = Field(ge=1)
    minimum: int = Field(ge=1)
    receptive_radius_px: int = Field(ge=1)
    lineage: dict[str, str]
    """Hashes of what it was trained on."""
    figures: dict[str, float] = {}
    """Validation figures at export."""

    def photometry(self) -> Photometry:
        """Return the training's map between counts and the network's scale."""
        return Photometry(self.background, self.scale)


@dataclass(frozen=True, slots=True)
class ModelPackage:
    """A package in memory."""

    name: str
    model_hash: str
    """SHA-256 over rdf.yaml and both weights; names this very model on every enhanced image."""
    card: ServingCard
    onnx: bytes
    safetensors: bytes
    test_input: np.ndarray[Any, np.dtype[np.float32]]
    """(1, 1, H, W), as the network is fed."""
    test_output: np.ndarray[Any, np.dtype[np.float32]]
    """(1, 1, H, W)."""
    trained_on: frozenset[str] = frozenset()
    """SHA-256 of every source file that it, or a model it began with, was trained or validated on; empty in
    packages that are older than this list."""


def read_package(path: Path) -> ModelPackage:
    """Read a model package, a folder or a zip.

    Raises
    ------
    WrongInputError
        When it is missing or not one of ours; the message says what is wrong.
    """
    if not path.exists():
        msg = f"{path}: no such model; give the model.zip that 'sharpscope train' left"
        raise WrongInputError(msg)
    try:
        files = _read_folder(path) if path.is_dir() else _read_zip(path)
        rdf = yaml.safe_load(files[RDF])
        return _assemble(files, rdf)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        msg = f"{path}: config.sharpscope.{key} of its rdf.yaml: {first['msg']}; export the model again"
        raise WrongInputError(msg) from error
    except (KeyError, TypeError, ValueError, OSError, zipfile.BadZipFile, yaml.YAMLError) as error:
        msg = f"{path} is not a sharpscope model package ({error}); give the model.zip of a training run"
        raise WrongInputError(msg) from error


def _assemble(files: dict[str, bytes], rdf: dict[str, Any]) -> ModelPackage:
    card = ServingCard.model_validate(rdf["config"]["sharpscope"])
    onnx = files[_basename(rdf["weights"]["onnx"]["source"])]
    safetensors = files["weights.safetensors"]
    return ModelPackage(
        name=str(rdf["name"]),
        model_hash=hashlib.sha256(files[RDF] + onnx + safetensors).hexdigest(),
        card=card,
        onnx=onnx,
        safetensors=safetensors,
        test_input=_read_array(files["test_input.npy"]),
        test_output=_read_array(files["test_output.npy"]),
        trained_on=frozenset(files.get(TRAINED_ON, b"").decode().split()),
    )


def _read_array(raw: bytes) -> np.ndarray[Any, np.dtype[np.float32]]:
    return np.asarray(np.load(io.BytesIO(raw), allow_pickle=False), dtype=np.float32)


def _basename(source: str) -> str:
    return Path(source).name


def _read_folder(path: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in path.iterdir() if file.is_file()}


def _read_zip(path: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as archive:
        members = [info for info in archive.infolist() if not info.is_dir()]
        for info in members:
            if info.file_size > MAX_MEMBER_BYTES:
                msg = f"{info.filename} in it is {info.file_size} bytes, more than {MAX_MEMBER_BYTES}"
                raise ValueError(msg)
        return {_basename(info.filename): archive.read(info) for info in members}
