"""Synthetic specimens whose shift, deformation, light and background are known."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

SHARED = Path(__file__).parents[2].parent / "shared" / "data"
FACTOR = 2
LOW_SIGMA_PX, HIGH_SIGMA_PX = 2.0, 1.0
LOW_BACKGROUND, HIGH_BACKGROUND = 180.0, 120.0
LOW_COUNTS, HIGH_COUNTS = 3000.0, 2000.0


@pytest.fixture(scope="session")
def shared_data():
    if not SHARED.is_dir():
        pytest.skip("the folder ../shared/data with real micrographs is absent")
    return SHARED


def filaments_and_blobs(side_px: int, seed: int, density: float = 1.0) -> np.ndarray:
    """A sharp specimen of curved filaments and discs, with empty places, (side, side)."""
    rng = np.random.default_rng(seed)
    image = np.zeros((side_px, side_px), np.float32)
    for _ in range(int(density * side_px**2 / 2500)):
        length = int(rng.uniform(80, 300))
        angle = rng.uniform(0, 2 * np.pi) + np.cumsum(rng.normal(0, 0.03, 2 * length))
        start = rng.uniform(0, side_px, 2)
        y = (start[0] + 0.5 * np.cumsum(np.sin(angle))).astype(int)
        x = (start[1] + 0.5 * np.cumsum(np.cos(angle))).astype(int)
        inside = (y >= 0) & (y < side_px) & (x >= 0) & (x < side_px)
        np.add.at(image, (y[inside], x[inside]), rng.uniform(0.5, 1.5))
    yy, xx = np.mgrid[:side_px, :side_px]
    for _ in range(int(density * side_px**2 / 20000)):
        y, x, radius = *rng.uniform(0, side_px, 2), rng.uniform(3, 7)
        image += rng.uniform(0.3, 1.0) * ((yy - y) ** 2 + (xx - x) ** 2 < radius**2)
    return image


def smooth_field(side_px: int, largest_px: float, period_px: float, seed: int) -> np.ndarray:
    """A displacement, (2, side, side), none at the border so that nothing leaves the frame."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:side_px, :side_px].astype(np.float32)
    waves = []
    for _ in "yx":
        a, b = rng.uniform(0, 2 * np.pi, 2)
        waves.append(np.sin(2 * np.pi * y / period_px + a) * np.cos(2 * np.pi * x / period_px + b))
    waves = np.stack(waves)
    return (waves / np.hypot(*waves).max() * largest_px).astype(np.float32)


@dataclass(frozen=True)
class Scene:
    """A specimen, and both cameras' views of it."""

    specimen: np.ndarray
    seed: int = 0
    field_yx_px: np.ndarray | None = None
    """Where the high image shows the specimen's point q: at q + field(q)."""
    light: float = 1.0
    noise: bool = True

    def low(self) -> np.ndarray:
        blurred = ndimage.gaussian_filter(self.specimen, LOW_SIGMA_PX)
        rows, columns = (n // FACTOR for n in blurred.shape)
        means = blurred.reshape(rows, FACTOR, columns, FACTOR).mean(axis=(1, 3))
        return self._exposed(means * LOW_COUNTS * self.light + LOW_BACKGROUND, 1)

    def ideal_high(self) -> np.ndarray:
        """The high image without deformation and noise, counts above the background."""
        return ndimage.gaussian_filter(self.specimen, HIGH_SIGMA_PX) * HIGH_COUNTS * self.light

    def high(self) -> np.ndarray:
        image = self.ideal_high()
        if self.field_yx_px is not None:
            grid = np.mgrid[: image.shape[0], : image.shape[1]].astype(np.float32)
            back = self.field_yx_px
            for _ in range(15):  # back(p) = field(p - back(p))
                back = np.stack(
                    [
                        ndimage.map_coordinates(f, grid - back, order=1, mode="nearest")
                        for f in self.field_yx_px
                    ]
                )
            image = ndimage.map_coordinates(image, grid - back, order=5, mode="nearest")
        return self._exposed(image + HIGH_BACKGROUND, 2)

    def _exposed(self, expected: np.ndarray, stream: int) -> np.ndarray:
        if not self.noise:
            return expected.astype(np.float32)
        rng = np.random.default_rng([self.seed, stream])
        counts = rng.poisson(np.maximum(expected, 0)) + rng.normal(0, 2, expected.shape)
        return np.clip(np.rint(counts), 0, 65535).astype(np.uint16)


@dataclass
class Scenes:
    """Makes scenes; specimens are kept, since drawing them takes longest."""

    _specimens: dict[tuple[int, int, float], np.ndarray] = field(default_factory=dict)

    def specimen(self, side_px: int, seed: int, density: float = 1.0) -> np.ndarray:
        key = (side_px, seed, density)
        if key not in self._specimens:
            self._specimens[key] = filaments_and_blobs(*key)
        return self._specimens[key]

    def __call__(self, side_px: int = 512, seed: int = 1, density: float = 1.0, **settings) -> Scene:
        return Scene(self.specimen(side_px, seed, density), seed, **settings)


@pytest.fixture(scope="session")
def scenes() -> Scenes:
    return Scenes()


@pytest.fixture(scope="session")
def deformation() -> Callable[..., np.ndarray]:
    return smooth_field
