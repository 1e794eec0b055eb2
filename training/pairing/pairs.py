"""Contract 2: the pair set, the folder that registration writes and training reads.

`pairs.json` holds lineage, normalisation and the list of pairs; each pair and channel is one OME-TIFF,
(2, Y, X) float32, plane 0 low and plane 1 high on the high image's pixel grid, background-free and on the
0 to 255 scale. Knows nothing of how pairs were aligned, nor of networks.
"""

from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import tifffile
from pydantic import BaseModel, Field

from configs.document import read_json
from inference.journal import atomic_path, write_atomic
from inference.preprocess import Photometry

__all__ = ["ChannelNormalisation", "Optics", "PairRecord", "PairSet", "PairSetIndex", "Split"]

INDEX = "pairs.json"
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


class Optics(BaseModel, frozen=True, extra="forbid"):
    """What is known of the two imaging states; None where a plain folder does not say."""

    low_pixel_size_um: float | None = None
    high_pixel_size_um: float | None = None
    low_numerical_aperture: float | None = None
    high_numerical_aperture: float | None = None
    emission_nm: dict[str, float] = {}
    """Emission wavelength of each channel."""
    modality: str = "widefield"


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
    smallest_jacobian: float | None = None
    """Of the deformation; zero or less where it folds over."""
    notes: list[str] = []
    """What a person should know of how it was made, such as tiles placed by the stage alone."""
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
    pairs: list[PairRecord]
    software: dict[str, str] = {}


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

    def read_truth(self, pair: PairRecord) -> FloatImage | None:
        """Return the noise-free high image, (Y, X) float32 counts above the background, if it is known."""
        if pair.truth is None:
            return None
        return np.asarray(tifffile.imread(self.path / pair.truth), dtype=np.float32)

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
