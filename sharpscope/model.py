"""A model as a script uses it: an array in, an array out."""

from pathlib import Path
from typing import Any

import numpy as np

from inference.backends import Device
from inference.engine import Engine, Enhanced, load_engine

__all__ = ["Model", "load_model"]

Image = np.ndarray[Any, np.dtype[Any]]


class Model:
    """A loaded model package.

    Parameters
    ----------
    engine
        What runs it.
    """

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    @property
    def name(self) -> str:
        """The model's name."""
        return self.engine.name

    @property
    def model_hash(self) -> str:
        """The model's SHA-256, to be kept with every enhanced image."""
        return self.engine.model_hash

    def enhance(
        self,
        image: Image,
        *,
        pixel_size_um: float | None = None,
        channel: str | None = None,
        allow_out_of_domain: bool = False,
    ) -> np.ndarray[Any, np.dtype[np.float32]]:
        """Enhance one image, (Y, X) to (factor * Y, factor * X) float32, in the input's counts.

        Raises
        ------
        OutOfDomainError
            When the model does not fit the image and `allow_out_of_domain` is false.
        WrongInputError
            When it is not a 2D image of finite numbers.
        """
        return self.describe(
            image, pixel_size_um=pixel_size_um, channel=channel, allow_out_of_domain=allow_out_of_domain
        ).image

    def describe(
        self,
        image: Image,
        *,
        pixel_size_um: float | None = None,
        channel: str | None = None,
        allow_out_of_domain: bool = False,
    ) -> Enhanced:
        """Enhance one image and return it with its pixel size, model hash, flags and photometry."""
        return self.engine.enhance(
            image, pixel_size_um=pixel_size_um, channel=channel, allow_out_of_domain=allow_out_of_domain
        )


def load_model(path: str | Path, device: Device = "auto") -> Model:
    """Load a model package; raises WrongInputError when the package or the device cannot be had."""
    return Model(load_engine(path, device))
