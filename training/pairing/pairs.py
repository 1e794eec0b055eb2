"""Contract 2: the pair set, the folder that registration writes and training reads.

`pairs.json` holds lineage, normalisation and the list of pairs; each pair and channel is one OME-TIFF,
(2, Y, X) float32, plane 0 low and plane 1 high on the high image's pixel grid, background-free and on the
0 to 255 scale. Knows nothing of how pairs were aligned, nor of networks.
"""

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import tifffile
from pydantic import BaseModel, Field

from configs.document import read_json
from inference.journal import atomic_path, write_atomic
from inference.preprocess import Photometry

__all__ = [
    "ChannelLightRecord",
    "ChannelNormalisation",
    "Deformation",
    "LightRecord",
    "Optics",
    "OrientationRecord",
    "PairRecord",
    "PairSet",
    "PairSetIndex",
    "SignalToNoise",
    "Split",
]

INDEX = "pairs.json"
MOST_MAPPED = 128
"""Pairs that are open at once; each holds a file, of which a process may have 256 on some systems."""
Split = Literal["train", "validation", "test"]
FloatImage = np.ndarray[Any, np.dtype[np.float32]]


class Linear(BaseModel, frozen=True, extra="forbid"):
    """The factors that undo the normalisation: counts = value / scale + background."""

    background: float
    scale: float = Field(gt=0)

    def photometry(self) -> Photometry:
        """Return the same numbers as preprocessing takes them."""
        return Photometry(self.background, self.scale)


class ChannelNormalisation(BaseModel, frozen=True, extra="forbid"):
    """One linear map per imaging state, for the whole set."""

    low: Linear
    high: Linear


class LightRecord(BaseModel, frozen=True, extra="forbid"):
    """What the set's frames say of the light and the camera of one channel and state."""

    background: float
    """Counts of a region without objects."""
    unevenness: float | None = None
    """Largest deviation of the flat field from its mean; None where none was taken out."""
    even_because: str | None = None
    """Why the light was taken as even, where it was."""
    hot_pixels: int = 0


class ChannelLightRecord(BaseModel, frozen=True, extra="forbid"):
    """Light and camera of one channel."""

    low: LightRecord
    high: LightRecord


class OrientationRecord(BaseModel, frozen=True, extra="forbid"):
    """Scale and rotation between the cameras' grids, apart from the factor."""

    matrix_yx: tuple[tuple[float, float], tuple[float, float]]
    """Upsampled low pixels to high pixels, about the low frame's centre."""
    origin: str
    """Calibration or estimate, in words."""


class Optics(BaseModel, frozen=True, extra="forbid"):
    """What is known of the two imaging states; None where a plain folder does not say."""

    low_pixel_size_um: float | None = None
    high_pixel_size_um: float | None = None
    low_numerical_aperture: float | None = None
    high_numerical_aperture: float | None = None
    emission_nm: dict[str, float] = {}
    """Emission wavelength of each channel."""
    modality: str = "widefield"


class SignalToNoise(BaseModel, frozen=True, extra="forbid"):
    """Specimen over noise in the frames as the camera delivered them; None where there is no specimen."""

    low: float | None = None
    high: float | None = None


class PairRecord(BaseModel, frozen=True, extra="forbid"):
    """One pair of one channel, with where it comes from and how well it is aligned."""

    file: str
    channel: str
    region: int
    split: Split
    accepted: bool
    reason: str | None = None
    """Why it was left out, where it was."""
    sources: dict[str, str]
    """SHA-256 of each source file, by its name."""
    origin_yx_px: tuple[int, int]
    """Where pixel (0, 0) of the pair lies on the upsampled low image, in high pixels."""
    shift_yx_px: tuple[float, float]
    """Of the high mosaic against the low image, by the global match."""
    deformation_rms_px: float
    residual_px: float | None = None
    """Shift that is left after registration, RMS over blocks with texture."""
    ncc_before: float
    ncc_after: float
    specimen_fraction: float | None = None
    """Share of the blocks of the pair that hold texture."""
    blur_px: float | None = None
    """Sigma of the blur that makes the high image like the low one, in high pixels."""
    smallest_jacobian: float | None = None
    """Of the deformation; zero or less where it folds over."""
    notes: list[str] = []
    """What a person should know of how it was made, such as tiles placed by the stage alone."""
    signal_to_noise: SignalToNoise | None = None
    deformation: str | None = None
    """File of the deformation field, see `PairSet.read_deformation`."""
    truth: str | None = None
    """A noise-free high image on the pair's grid, (Y, X) float32 counts above the background, where a
    simulator knows it."""


class PairSetIndex(BaseModel, frozen=True, extra="forbid"):
    """The content of pairs.json."""

    format: Literal["sharpscope-pairs"] = "sharpscope-pairs"
    version: Literal[1] = 1
    run_id: str | None
    factor: Literal[1, 2, 4]
    optics: Optics
    normalisation: dict[str, ChannelNormalisation]
    alignment: Literal["elastic", "drift"] = "elastic"
    orientation: OrientationRecord | None = None
    light: dict[str, ChannelLightRecord] = {}
    """By channel."""
    pairs: list[PairRecord]
    software: dict[str, str] = {}


@dataclass(frozen=True, slots=True)
class Deformation:
    """By how much the elastic registration moved the high image, on a lattice."""

    displacement_yx_px: FloatImage
    """(2, N, M) high pixels; what it adds to the record's `shift_yx_px`."""
    uncertainty_px: FloatImage
    """(N, M) standard deviation in the direction that is known worst; infinite where nothing shows."""
    origin_yx_px: tuple[float, float]
    """Where lattice point (0, 0) lies on the upsampled low image, in high pixels."""
    spacing_px: float
    """Of the lattice, in high pixels."""


class PairSet:
    """A pair set on disk."""

    def __init__(self, path: Path, index: PairSetIndex) -> None:
        self.path = path
        self.index = index

    @classmethod
    def open(cls, path: Path) -> Self:
        """Open a pair set; raises WrongInputError when the folder is not one."""
        remedy = "give the folder that 'sharpscope pair' wrote"
        return cls(path, read_json(path / INDEX, PairSetIndex, what="a pair set", remedy=remedy))

    def save_index(self) -> None:
        """Write pairs.json; the pairs themselves must lie there already."""
        write_atomic(self.path / INDEX, self.index.model_dump_json(indent=2))

    def select(self, split: Split, channel: str) -> list[PairRecord]:
        """Return the accepted pairs of one split and channel."""
        return [
            pair
            for pair in self.index.pairs
            if pair.accepted and pair.split == split and pair.channel == channel
        ]

    def read(self, pair: PairRecord) -> tuple[FloatImage, FloatImage]:
        """Return (low, high), each (Y, X) float32 on the 0 to 255 scale."""
        planes = np.asarray(tifffile.imread(self.path / pair.file), dtype=np.float32)
        return planes[0], planes[1]

    def map(self, pair: PairRecord) -> tuple[FloatImage, FloatImage]:
        """Return the same as `read`, but mapped into memory: pixels are read when they are looked at."""
        planes = _mapped(self.path / pair.file)
        return planes[0], planes[1]

    def read_truth(self, pair: PairRecord) -> FloatImage | None:
        """Return the noise-free high image, (Y, X) float32 counts above the background, if it is known."""
        if pair.truth is None:
            return None
        return np.asarray(tifffile.imread(self.path / pair.truth), dtype=np.float32)

    def read_deformation(self, pair: PairRecord) -> Deformation | None:
        """Return the deformation of a pair, None where none was found."""
        if pair.deformation is None:
            return None
        with tifffile.TiffFile(self.path / pair.deformation) as tiff:
            planes = np.asarray(tiff.asarray(), dtype=np.float32)  # (3, N, M)
            facts: dict[str, Any] = tiff.shaped_metadata[0]
        top, left = facts["origin_yx_px"]
        return Deformation(planes[:2], planes[2], (top, left), facts["spacing_px"])

    @staticmethod
    def write_deformation(path: Path, deformation: Deformation) -> None:
        """Write a deformation as a TIFF that Fiji opens: dy, dx and uncertainty, (3, N, M) float32."""
        planes = np.concatenate([deformation.displacement_yx_px, deformation.uncertainty_px[np.newaxis]])
        facts = {"origin_yx_px": list(deformation.origin_yx_px), "spacing_px": deformation.spacing_px}
        with atomic_path(path) as temporary:
            tifffile.imwrite(
                temporary,
                planes.astype(np.float32),
                photometric="minisblack",
                metadata={"axes": "CYX", **facts},
            )

    @staticmethod
    def write_pair(path: Path, low: FloatImage, high: FloatImage, pixel_size_um: float | None) -> None:
        """Write one pair as an OME-TIFF, (2, Y, X) float32, whole or not at all."""
        metadata: dict[str, Any] = {"axes": "CYX", "Channel": {"Name": ["low", "high"]}}
        if pixel_size_um is not None:
            metadata |= {
                "PhysicalSizeX": pixel_size_um,
                "PhysicalSizeXUnit": "µm",
                "PhysicalSizeY": pixel_size_um,
                "PhysicalSizeYUnit": "µm",
            }
        with atomic_path(path) as temporary, tifffile.TiffWriter(temporary, ome=True) as writer:
            planes = np.stack([low, high]).astype(np.float32)  # (2, Y, X)
            writer.write(planes, photometric="minisblack", metadata=metadata)


@lru_cache(maxsize=MOST_MAPPED)
def _mapped(path: Path) -> FloatImage:
    """Map the planes of a pair, (2, Y, X); those that nobody looked at for long are closed again."""
    try:
        return np.asanyarray(tifffile.memmap(path, mode="r"))
    except ValueError:  # compressed by somebody
        return np.asarray(tifffile.imread(path), dtype=np.float32)
