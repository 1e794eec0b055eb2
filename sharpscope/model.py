"""A model as a script uses it: an array in, an array out."""

import warnings
from pathlib import Path
from typing import Any

import numpy as np

from inference.backends import Device
from inference.engine import Engine, load_engine

__all__ = ["Model", "load_model"]

Image = np.ndarray[Any, np.dtype[Any]]


class Model:
    """A loaded model package; its `engine` tells name, hash and channel."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    def enhance(
        self, image: Image, *, pixel_size_um: float | None = None, allow_out_of_domain: bool = False
    ) -> np.ndarray[Any, np.dtype[np.float32]]:
        """Enhance one image, (Y, X) to (factor * Y, factor * X) float32, in the input's counts.

        A bare array: show it with the word ENHANCED and `engine.name`. Why the model should not have been
        applied, and what no training image was like, is told as Python warnings (UserWarning); so is an image
        for which the network computed no numbers: what is returned then is the raw one, enlarged. Frames of a
        series belong into `engine.enhance`, with the `photometry` of the first, or they flicker.

        Raises
        ------
        OutOfDomainError
            When the model does not fit the image and `allow_out_of_domain` is false.
        WrongInputError
            When it is not a 2D image of finite numbers.
        """
        enhanced = self.engine.enhance(
            image, pixel_size_um=pixel_size_um, allow_out_of_domain=allow_out_of_domain
        )
        for words in (*enhanced.out_of_domain, *enhanced.warnings):
            warnings.warn(words, stacklevel=2)
        return enhanced.image


def load_model(path: str | Path, device: Device = "auto") -> Model:
    """Load a model package; raises WrongInputError when the package or the device cannot be had."""
    return Model(load_engine(path, device))
