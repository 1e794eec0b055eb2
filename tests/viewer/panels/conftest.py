"""Folders as scans and training runs write them, small, and a server that shows their panels."""

import json
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from acquisition.area import Area, HighTiles, RegionGrid
from acquisition.manifest import (
    BeginRecord,
    ChannelRecord,
    FieldRecord,
    FocusRecord,
    HoleRecord,
    Manifest,
    ObjectiveRecord,
    ScanFolder,
)
from acquisition.plan import load_experiment
from inference.viewer.screen import Screen
from inference.viewer.server import ViewerServer

SIDE_PX = 64
BEGUN = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
HISTORY = [
    {"iteration": 100 * (k + 1), "seconds": 6.0 * (k + 1), "adversarial": 0.7, "mse": 0.2 / (k + 1),
     "ssim": 0.1 / (k + 1), "fourier": 0.0, "discriminator": 1.386, "mse_weight": 200.0,
     "validation": 0.3 / (k + 1) + 0.01}
    for k in range(10)
]  # fmt: skip


class WrittenScan:
    """A scan that a test writes line by line: two regions of one low and four high fields, one channel."""

    def __init__(self, path):
        shipped = load_experiment("virtual_widefield")
        area = Area(regions=RegionGrid(rows=1, columns=2, spacing_um=100.0), high_tiles=HighTiles())
        camera = shipped.microscope.model_copy(update={"camera_shape_yx": (SIDE_PX, SIDE_PX)})
        plan = shipped.model_copy(
            update={"area": area, "microscope": camera, "channels": shipped.channels[:1]}
        )
        objectives = {
            state: ObjectiveRecord(
                name=known.objective,
                magnification=known.magnification,
                numerical_aperture=known.numerical_aperture,
                immersion=known.immersion,
                pixel_size_um=known.pixel_size_um,
                pixel_size_affine=(known.pixel_size_um, 0, 0, 0, known.pixel_size_um, 0),
            )
            for state, known in plan.states.items()
        }
        channel = plan.channels[0]
        manifest = Manifest(
            run_id="0123456789abcdef",
            microscope="virtual widefield",
            camera_pixel_um=6.5,
            objectives=objectives,
            channels=[ChannelRecord(name=channel.name, emission_nm=522, exposure_ms=channel.exposure_ms)],
            plan=plan.model_dump(mode="json"),
            software={},
        )
        self.folder = ScanFolder.create(path, manifest)
        self.path = path

    def begin(self, region, state="low", tile=0):
        self.folder.log(BeginRecord(region=region, state=state, tile=tile))

    def field(self, region, state="low", tile=0, *, xy_um=(0.0, 0.0), image=None, **facts):
        """Commit a field with its file."""
        image = np.full((1, SIDE_PX, SIDE_PX), 100, np.uint16) if image is None else image
        return self.folder.commit_field(
            image, region=region, state=state, tile=tile, stage_xy_um=xy_um, focus_um=1.5, **facts
        )

    def line(self, region, state="low", tile=0, *, after_s=0.0, file="region.ome.tif", **facts):
        """Enter a field without its file."""
        record = FieldRecord(
            region=region, state=state, tile=tile, file=file, sha256="0" * 64, stage_x_um=0, stage_y_um=0,
            focus_um=0, time=BEGUN + timedelta(seconds=after_s), **facts,
        )  # fmt: skip
        self.folder.log(record)

    def hole(self, region, state="low", tile=0, reason="no focus"):
        self.folder.log(HoleRecord(region=region, state=state, tile=tile, reason=reason))

    def focus(self, region, state="low", tile=0, *, after_s=0.0, **facts):
        known = {"succeeded": True, "focus_um": 3.0, "curve": [(5.0, 0.2), (1.0, 0.1), (3.0, 0.4)]}
        known |= {"expected_um": 2.5, "expected_uncertainty_um": 0.5, "stage_x_um": -50.0, "stage_y_um": 0.0}
        time = BEGUN + timedelta(seconds=after_s)
        self.folder.log(FocusRecord(region=region, state=state, tile=tile, time=time, **(known | facts)))


@pytest.fixture
def scan(tmp_path):
    return WrittenScan(tmp_path / "scan")


def write_run(folder, history=HISTORY):
    """Write what a training run leaves, without its network."""
    folder.mkdir(parents=True)
    plan = {"name": "short", "channel": "FITC", "iterations": 1000, "minutes": None, "patch_px": 64}
    (folder / "training.json").write_text(json.dumps(plan))
    (folder / "history.jsonl").write_text("".join(json.dumps(line) + "\n" for line in history))
    return folder


@pytest.fixture
def run_folder(tmp_path):
    return write_run(tmp_path / "run")


@pytest.fixture
def history():
    return [dict(line) for line in HISTORY]


@pytest.fixture
def served():
    """Serve panels beside a screen without frames; gives the server."""
    servers = []

    def serve(*panels):
        servers.append(ViewerServer(Screen("no frames"), panels=panels, port=0))
        return servers[-1]

    yield serve
    for server in servers:
        server.close()
