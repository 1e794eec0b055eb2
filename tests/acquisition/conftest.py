"""What the tests of the acquisition room share: small virtual microscopes and a short experiment."""

from pathlib import Path

import pytest

from acquisition.area import Area, HighTiles, RegionGrid
from acquisition.plan import Experiment, MicroscopeChoice, MotionRules, QualityLimits, load_experiment
from acquisition.virtual import Beads, Sensor, load

EXPOSURE_MS = {"10X": 800.0, "20X": 400.0}


@pytest.fixture
def repository() -> Path:
    return Path(__file__).parents[2]


@pytest.fixture(scope="session")
def cells_core():
    """An ideal stand with cells; tests bring it into the state that they need."""
    return load("widefield", seed=7, camera_shape_yx=(256, 256))


@pytest.fixture(scope="session")
def beads_core():
    """An ideal stand with very bright beads on a lattice through (0, 0)."""
    source = Beads(spacing_um=20.0, weight=2000.0)
    return load("widefield", seed=1, source=source, sensor=Sensor((128, 128), full_well_electrons=1e9))


@pytest.fixture
def expose():
    """Bring a core into a state and return one frame."""

    def take(core, objective="10X", channel="FITC", xy_um=(0.0, 0.0), focus_um=0.0, exposure_ms=None):
        core.setConfig("Objective", objective)
        core.setConfig("Channel", channel)
        core.setXYPosition(*xy_um)
        core.setPosition(focus_um)
        core.waitForSystem()
        core.setExposure(EXPOSURE_MS[objective] if exposure_ms is None else exposure_ms)
        core.snapImage()
        return core.getImage()

    return take


@pytest.fixture(scope="session")
def short_experiment() -> Experiment:
    """Two regions of 2 x 2 tiles with a camera of 192 x 192 pixels."""
    shipped = load_experiment("virtual_widefield")
    imperfections = {**shipped.microscope.imperfections, "distortion_px": 0.5}
    return shipped.model_copy(
        update={
            "microscope": MicroscopeChoice(
                virtual="widefield", camera_shape_yx=(192, 192), imperfections=imperfections
            ),
            "area": Area(regions=RegionGrid(rows=1, columns=2, spacing_um=150.0), high_tiles=HighTiles()),
            "focus": shipped.focus.model_copy(update={"roi_px": 160, "every_field": True}),
            "motion": MotionRules(stage_s=0.2),
            "quality": QualityLimits(takes=1),
        }
    )
