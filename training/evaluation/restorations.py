"""What a model is compared with: every way of this project to make a high image of a low one.

Owns the list of methods and their names for people, which of them a pair set allows, and their settings. The
images are on the network's scale. Knows no figures.
"""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Literal, Protocol, Self

import numpy as np
import torch
from torch.nn import functional

from inference.preprocess import undo_doubling
from training.evaluation.deconvolution import (
    nonnegative_least_squares,
    richardson_lucy,
    richardson_lucy_tv,
)
from training.evaluation.deconvolution_search import (
    FastPsnr,
    RichardsonLucySetting,
    best_richardson_lucy,
    search_richardson_lucy,
)
from training.evaluation.not_measurable import NotMeasurableError, check_image
from training.evaluation.point_spread import effective_psf
from training.pairing.pairs import PairSetIndex

__all__ = ["LABELS", "METHODS", "Method", "Network", "Restorations"]

FloatImage = np.ndarray[Any, np.dtype[np.float32]]
Method = Literal[
    "enhanced",
    "bilinear",
    "bicubic",
    "richardson_lucy",
    "richardson_lucy_best",
    "total_variation",
    "nonnegative_least_squares",
    "acquired",
    "second",
]
LABELS: dict[Method, str] = {
    "enhanced": "ENHANCED",
    "bilinear": "input (bilinear)",
    "bicubic": "bicubic",
    "richardson_lucy": "Lucy-Richardson, one setting",
    "richardson_lucy_best": "Lucy-Richardson, best for each image",
    "total_variation": "Lucy-Richardson with total variation",
    "nonnegative_least_squares": "non-negative least squares",
    "acquired": "acquired high image",
    "second": "second acquisition",
}
METHODS: tuple[Method, ...] = tuple(LABELS)
PAPERS_ITERATIONS = 10
"""Of Lucy-Richardson, where none was searched."""
SEARCHED_FIELDS = 3
"""Over which the one setting of Lucy-Richardson is searched: half a minute each for 1024 x 1024 px."""
SCANNED = ("confocal_sted",)
"""Modalities whose low image no wide-field point spread function has blurred."""


class Network(Protocol):
    """A model, as far as an evaluation needs it."""

    @property
    def name(self) -> str:
        """For people."""
        ...

    @property
    def model_hash(self) -> str:
        """Of the package; empty before there is one."""
        ...

    @property
    def factor(self) -> int:
        """Upsampling before the network."""
        ...

    @property
    def channel(self) -> str:
        """What it was trained on."""
        ...

    def run_network(self, prepared: FloatImage) -> FloatImage:
        """Return the output (Y, X) for an input (Y, X), both on the scale of 0 to 255."""
        ...


@dataclass(frozen=True, slots=True)
class Restorations:
    """The methods that need more than the image, ready for one channel of a pair set."""

    factor: int
    psf: FloatImage | None
    """What blurred the low image; None where nobody knows."""
    why_no_psf: str
    setting: RichardsonLucySetting | None = None
    """Lucy-Richardson's one setting for the channel, as the paper chose it."""

    @classmethod
    def of(cls, index: PairSetIndex, channel: str) -> Self:
        """Return what the optics of a pair set allow; the one setting is not yet searched."""
        optics = index.optics
        needed = {
            "the low objective's numerical aperture": optics.low_numerical_aperture,
            "the pixel size": optics.high_pixel_size_um,
            f"the emission wavelength of {channel}": optics.emission_nm.get(channel),
        }
        missing = [name for name, value in needed.items() if value is None]
        if optics.modality in SCANNED:
            return cls(index.factor, None, f"the low image is {optics.modality}'s, not a wide-field one")
        if missing:
            return cls(index.factor, None, f"the pair set does not state {' and '.join(missing)}")
        aperture, pixel_um, emission_nm = (value or 0.0 for value in needed.values())
        return cls(index.factor, effective_psf(aperture, emission_nm, pixel_um, index.factor), "")

    def searched(self, fields: Sequence[tuple[FloatImage, FloatImage]]) -> "Restorations":
        """Return the same with Lucy-Richardson's setting, searched over (low, truth) of some fields."""
        if self.psf is None or not fields:
            return self
        spread = np.unique(np.linspace(0, len(fields) - 1, min(len(fields), SEARCHED_FIELDS)).astype(int))
        usable = [pair for pair in (fields[k] for k in spread) if _shows_something(*pair)]
        if not usable:
            return self
        return Restorations(self.factor, self.psf, "", search_richardson_lucy(usable, self.psf))

    def images(self, network: Network, low: FloatImage, truth: FloatImage) -> dict[Method, FloatImage]:
        """Return what every method that can be had makes of a field, (Y, X) each.

        Parameters
        ----------
        truth
            For the one that is given its best chance.
        """
        found: dict[Method, FloatImage] = {"enhanced": network.run_network(low), "bilinear": low}
        if self.factor == 2:
            found["bicubic"] = _bicubic(low)
        if self.psf is not None:
            with suppress(NotMeasurableError):  # of an image that holds nothing
                found |= self._deconvolved(low, truth, self.psf)
        return found

    def _deconvolved(self, low: FloatImage, truth: FloatImage, psf: FloatImage) -> dict[Method, FloatImage]:
        found: dict[Method, FloatImage] = {}
        iterations = PAPERS_ITERATIONS if self.setting is None else self.setting.iterations
        damping = 0.0 if self.setting is None else self.setting.damping_percent
        found["richardson_lucy"] = richardson_lucy(low, psf, iterations, damping_percent=damping)
        undamped = PAPERS_ITERATIONS
        with suppress(NotMeasurableError):  # of a truth that nothing can be scored against
            best = best_richardson_lucy(low, truth, psf)
            found["richardson_lucy_best"], undamped = best.image, best.iterations
        found["total_variation"] = richardson_lucy_tv(low, psf, undamped)
        found["nonnegative_least_squares"] = nonnegative_least_squares(low, psf)
        return found


def _shows_something(low: FloatImage, truth: FloatImage) -> bool:
    """Say whether a field can be deconvolved and scored."""
    try:
        check_image(low)
        FastPsnr(truth, "cpu")
    except NotMeasurableError:
        return False
    return bool(low.max() > 0)


def _bicubic(low: FloatImage) -> FloatImage:
    """Return the low camera image enlarged by bicubic interpolation instead of bilinear."""
    coarse = torch.from_numpy(undo_doubling(low))[None, None]  # (1, 1, Y / 2, X / 2)
    fine = functional.interpolate(coarse, scale_factor=2, mode="bicubic", align_corners=False)
    result: FloatImage = fine[0, 0].numpy()
    return result
