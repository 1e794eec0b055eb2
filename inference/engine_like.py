"""An engine as those see it who hand it frames: the worker, its thread, tests with engines of their own.

Protocols alone; `inference.engine` is what they describe. Knows no network and no sockets.
"""

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np

from inference.preprocess import Photometry

__all__ = ["EngineLike", "EnhancedLike", "ModelLike"]

Image = np.ndarray[Any, np.dtype[Any]]


class EnhancedLike(Protocol):
    """What an engine returns; `inference.engine.Enhanced` is one."""

    @property
    def image(self) -> Image: ...  # noqa: D102  the module that implements it says what these are

    @property
    def pixel_size_um(self) -> float | None: ...  # noqa: D102  as above

    @property
    def out_of_domain(self) -> tuple[str, ...]: ...  # noqa: D102  as above

    @property
    def warnings(self) -> tuple[str, ...]: ...  # noqa: D102  as above

    @property
    def shows_raw(self) -> bool: ...  # noqa: D102  as above

    @property
    def photometry(self) -> Photometry: ...  # noqa: D102  as above


class ModelLike(Protocol):
    """What tells loaded models apart; an engine has it, and so has what a client is told of a model."""

    @property
    def name(self) -> str: ...  # noqa: D102  the module that implements it says what these are

    @property
    def model_hash(self) -> str: ...  # noqa: D102  as above

    @property
    def channel(self) -> str | None: ...  # noqa: D102  as above


class EngineLike(Protocol):
    """An engine as the worker sees it; `inference.engine.Engine` is one."""

    @property
    def name(self) -> str: ...  # noqa: D102  the module that implements it says what these are

    @property
    def model_hash(self) -> str: ...  # noqa: D102  as above

    @property
    def factor(self) -> int: ...  # noqa: D102  as above

    @property
    def channel(self) -> str | None: ...  # noqa: D102  as above

    @property
    def under_way(self) -> int:
        """How many images it works on at once; 1 has enhanced an image when `begin` returns."""

    def begin(
        self,
        image: Image,
        *,
        pixel_size_um: float | None,
        numerical_aperture: float | None,
        channel: str | None,
        allow_out_of_domain: bool,
        photometry: Photometry | None,
        out: Image | None = None,
    ) -> Callable[[], EnhancedLike]:
        """Begin with one (Y, X) image; return how to wait for it. An error with `reasons` is a refusal.

        Where `out` is given, (factor * Y, factor * X) float32, the result is written there and is that array.
        """
