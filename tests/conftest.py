"""What all tests share: real micrographs, a small pair set, a small model package, a real browser."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from inference.generator import GeneratorPlan, build_generator
from inference.preprocess import Photometry, normalise, prepare
from training.export import ModelSource, export_package
from training.pairing.pairs import ChannelNormalisation, Linear, Optics, PairRecord, PairSet, PairSetIndex
from training.settings import TrainingPlan

MICROGRAPHS = Path(__file__).parent.parent.parent / "shared" / "data"
BACKGROUND_COUNTS = 100.0
BRIGHT_COUNTS = 4000.0
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")


@pytest.fixture(scope="session")
def micrographs() -> Path:
    """The folder of real micrographs."""
    if not MICROGRAPHS.is_dir():
        pytest.skip(f"the real micrographs are not at {MICROGRAPHS}")
    return MICROGRAPHS


def filament_image(side_px: int, seed: int) -> np.ndarray:
    """Random straight filaments, (side, side) float32 from 0 to about 1."""
    random = np.random.default_rng(seed)
    image = np.zeros((side_px, side_px), np.float32)
    steps = np.arange(0, 2 * side_px, 0.5)
    for _ in range(side_px // 3):
        angle, y, x = random.uniform(0, np.pi), *random.uniform(0, side_px, 2)
        length = random.uniform(0.3, 1.0) * side_px
        along = steps[steps < length]
        rows = (y + along * np.sin(angle)).astype(int)
        columns = (x + along * np.cos(angle)).astype(int)
        inside = (rows >= 0) & (rows < side_px) & (columns >= 0) & (columns < side_px)
        image[rows[inside], columns[inside]] = 1.0
    return image


@pytest.fixture(scope="session")
def pair_set(tmp_path_factory: pytest.TempPathFactory) -> PairSet:
    """Four small FITC pairs of filaments, blurred with Gaussians to the two resolutions."""
    folder = tmp_path_factory.mktemp("pairs")
    side = 192
    linear = Linear(background=BACKGROUND_COUNTS, scale=255 / BRIGHT_COUNTS)
    photometry = Photometry(linear.background, linear.scale)
    records = []
    for region, split in enumerate(["train", "train", "validation", "test"]):
        filaments = filament_image(side, seed=region)
        high = ndimage.gaussian_filter(filaments, 0.8) * BRIGHT_COUNTS + BACKGROUND_COUNTS
        blurred = ndimage.gaussian_filter(filaments, 1.6).reshape(side // 2, 2, side // 2, 2).mean((1, 3))
        low = np.random.default_rng(region).poisson(blurred * BRIGHT_COUNTS + BACKGROUND_COUNTS)
        name = f"region{region:04d}_FITC.ome.tif"
        PairSet.write_pair(folder / name, prepare(low, photometry, 2), normalise(high, photometry), 0.325)
        records.append(
            PairRecord(
                file=name, channel="FITC", region=region, split=split, accepted=True,
                sources={f"low{region}.tif": f"{region + 1:064x}"},
                origin_yx_px=(0, 0), shift_yx_px=(0.0, 0.0), deformation_rms_px=0.0,
                ncc_before=1.0, ncc_after=1.0,
            )
        )  # fmt: skip
    index = PairSetIndex(
        run_id="test",
        factor=2,
        optics=Optics(
            low_pixel_size_um=0.65,
            high_pixel_size_um=0.325,
            low_numerical_aperture=0.4,
            high_numerical_aperture=0.75,
            emission_nm={"FITC": 522.0},
        ),
        normalisation={"FITC": ChannelNormalisation(low=linear, high=linear)},
        pairs=records,
    )
    pairs = PairSet(folder, index)
    pairs.save_index()
    return pairs


@pytest.fixture(scope="session")
def model_zip(pair_set: PairSet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A package of an untrained small generator: what it computes is arbitrary, but fixed."""
    return _package(pair_set, tmp_path_factory.mktemp("model"), seed=0)


@pytest.fixture(scope="session")
def other_model_zip(pair_set: PairSet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with other weights."""
    return _package(pair_set, tmp_path_factory.mktemp("other_model"), seed=1)


def _package(pair_set: PairSet, folder: Path, seed: int) -> Path:
    import torch

    torch.manual_seed(seed)
    plan = TrainingPlan(
        name="small",
        channel="FITC",
        generator=GeneratorPlan(base_width=4, levels=1, shuffle=2, global_residual=True),
    )
    generator = build_generator(plan.generator).eval()
    source = ModelSource(generator, plan, pair_set, {"validation loss": 1.0}, {"pairs": "0" * 64})
    return export_package(source, folder / "model.zip")


@pytest.fixture(scope="module")
def browser():
    """The system's Chromium, headless; for one module only, since Playwright keeps an event loop running."""
    sync_api = _playwright()
    executable = next(filter(None, map(shutil.which, BROWSERS)), None)
    if executable is None:
        _absent(f"none of {', '.join(BROWSERS)} is installed")
    with sync_api.sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=executable)
        yield chromium
        chromium.close()


def _playwright():
    try:
        from playwright import sync_api
    except ImportError:
        _absent("playwright is not installed: pip install playwright")
    return sync_api


def _absent(reason: str) -> None:
    """Skip, or fail where SHARPSCOPE_REQUIRE_BROWSER=1 says that a browser must be there (.ci/run)."""
    if os.environ.get("SHARPSCOPE_REQUIRE_BROWSER") == "1":
        pytest.fail(reason)
    pytest.skip(reason)
