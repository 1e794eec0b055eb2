"""Stitches areas whose true places are known, and says how exactly, how fast and in how much memory.

    python bench/stitching.py [--json] [--write bench/results/stitching.md] [--peers SITE-PACKAGES]

Four parts. The real pair of tiles in `../shared/data/tiles`, whose offset an exhaustive search found. Areas
of 10 x 10 tiles of the virtual wide-field stand, whose stage errs by 2 um (6 px), 256 x 256 px that overlap
by 12 %: without other imperfections, with all of `bench/autofocus.py`, and over sparse cells; tile 44 of each
is replaced by noise. Areas that are generated as they are read, 10 x 10 to 50 x 50 tiles, each in a process
of its own. And m2stitch on the same tiles where it can be imported (`--peers` names a folder to look in),
with the stage's positions as its first guess and a low threshold of correlation: with its own it refuses all.

Errors are root mean square distances over the tiles that links hold, in pixels of the camera, between where a
tile was placed and where its centre truly looks, after the mean of each group of tiles that hang together was
taken off. `after affine` takes off the best affine map as well: tiles whose distortion bends all overlaps
alike fit each other only in an area of a little other scale, which no overlap can tell.
"""

import importlib
import io
import multiprocessing
import sys
import tempfile
import time
import warnings
from contextlib import redirect_stderr
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from autofocus import IMPERFECTIONS, SENSOR
from output import bench_parser, publish
from scipy import ndimage

from acquisition.virtual import EndothelialCells, Frame, load, stand_of
from training.pairing.area_image import AreaLabel, write_area
from training.pairing.area_mosaic import AreaMosaic
from training.pairing.sampling import Image
from training.pairing.scan_source import stage_to_pixels
from training.pairing.stitching import Placement, place_tiles, place_tiles_lazily

REAL_TILES = Path(__file__).parents[2] / "shared" / "data" / "tiles"
REAL_STAGE_PX, REAL_OFFSET_PX = (0, 832), (-2, 825)
ALONG, SIDE_PX, STEP_PX, PIXEL_UM = 10, 256, 225, 0.325
EMPTY = 44
STAGE_ERROR_UM = 2.0
CASES: dict[str, tuple[int, float, dict[str, Any]]] = {
    "stage error only": (3, 1.0, {}),
    "stage error only, another": (11, 1.0, {}),
    "all imperfections": (3, 1.0, IMPERFECTIONS),
    "sparse cells": (4, 0.15, {}),
    "nearly empty": (5, 0.03, {}),
}
"""Seed, share of the places that hold a cell, imperfections."""
LARGE_ALONG = (10, 25, 50)
TEXTURE_PX = 4096


def photographed(
    seed: int, occupancy: float, imperfections: dict[str, Any]
) -> tuple[list[Image], Image, Image]:
    """Return tiles of the stand, where the stage was sent and where they truly look, (N, 2) px each.

    Both in the camera's axes, by the calibration that a scan would have (its rotation is known).
    """
    departures = {**imperfections, "stage_error_um": STAGE_ERROR_UM}
    sensor = replace(SENSOR, shape_yx=(SIDE_PX, SIDE_PX))
    core = load("widefield", seed=seed, source=EndothelialCells(seed, occupancy), sensor=sensor, **departures)
    stand = stand_of(core)
    for group, preset in (("Objective", "20X"), ("Channel", "FITC")):
        core.setConfig(group, preset)
    core.setExposure(50)
    angle = np.deg2rad(departures.get("camera_rotation_deg", 0.0))
    cos, sin = PIXEL_UM * np.cos(angle), PIXEL_UM * np.sin(angle)
    affine = (float(cos), float(-sin), 0.0, float(sin), float(cos), 0.0)
    middle = np.array([[SIDE_PX / 2]]), np.array([SIDE_PX / 2])
    tiles, sent_um, true_um = [], [], []
    for row, column in np.ndindex(ALONG, ALONG):
        x_um, y_um = column * STEP_PX * PIXEL_UM, row * STEP_PX * PIXEL_UM
        core.setXYPosition(x_um, y_um)
        time_s = core._camera._now_s()  # noqa: SLF001 - the stand's time has no other name
        core.setPosition(stand.best_focus_um("20X", (x_um, y_um), channel="FITC", time_s=time_s))
        core.waitForSystem()
        core.snapImage()
        tiles.append(core.getImage()[np.newaxis].copy())
        upwards = core._camera.upwards_xy  # noqa: SLF001
        frame = Frame("20X", "FITC", (x_um, y_um), 0.0, time_s=time_s, upwards_xy=upwards)
        y, x = stand._positions_um(frame, *middle)  # noqa: SLF001 - the truth itself
        sent_um.append((x_um, y_um))
        true_um.append((float(np.ravel(x)[0]), float(np.ravel(y)[0])))
    tiles[EMPTY] = np.random.default_rng(0).poisson(150, tiles[EMPTY].shape).astype(np.uint16)
    return tiles, stage_to_pixels(affine, np.array(sent_um)), stage_to_pixels(affine, np.array(true_um))


def rms(errors: Image) -> float:
    """Return the root mean square length of errors, (N, 2)."""
    return float(np.sqrt((errors**2).sum(axis=1).mean()))


def without_means(errors: Image, placement: Placement) -> tuple[Image, list[int]]:
    """Return the errors of the tiles that links hold, less the mean of each group, and which they are."""
    apart = {k for group in placement.islands for k in group} | set(placement.alone)
    groups = [[k for k in range(len(errors)) if k not in apart], *map(list, placement.islands)]
    kept = [k for group in groups for k in group]
    return np.concatenate([errors[group] - errors[group].mean(axis=0) for group in groups if group]), kept


def after_affine(errors: Image, true: Image) -> float:
    """Return the root mean square of what the best affine map leaves of errors."""
    design = np.column_stack([true - true.mean(axis=0), np.ones(len(true))])
    return rms(errors - design @ np.linalg.lstsq(design, errors, rcond=None)[0])


def virtual(name: str, peer: Any) -> dict[str, Any]:  # noqa: ANN401 - a module or None
    """Return the figures of one area of the virtual stand."""
    tiles, stage, true = photographed(*CASES[name])
    start = time.perf_counter()
    placement = place_tiles(tiles, stage)
    seconds = time.perf_counter() - start
    errors, kept = without_means(placement.corners_yx_px - true, placement)
    by_stage, _ = without_means(stage - true, placement)
    links = [link for link in placement.links if link.accepted]
    wrong = [np.array(k.offset_yx_px) - (true[k.second] - true[k.first]) for k in links]
    return {
        "area": name,
        "held": len(kept),
        "groups": 1 + len(placement.islands),
        "links": f"{len(links)} of {len(placement.links)}",
        "rms_px": rms(errors),
        "after_affine_rms_px": after_affine(errors, true[kept]),
        "stage_alone_rms_px": rms(by_stage),
        "largest_link_error_px": float(np.hypot(*np.array(wrong).T).max()),
        "by_stage_alone": len(placement.alone),
        "empty_tile_flagged": EMPTY in placement.alone,
        "empty_tile_error_px": float(
            np.hypot(*(placement.corners_yx_px - true - np.mean(stage - true, 0))[EMPTY])
        ),
        "seconds": seconds,
        **({} if peer is None else by_m2stitch(peer, tiles, stage, true, placement)),
    }


def by_m2stitch(
    peer: Any,  # noqa: ANN401 - a module
    tiles: list[Image],
    stage: Image,
    true: Image,
    placement: Placement,
) -> dict[str, Any]:
    """Return what m2stitch makes of the same tiles, over those that our links hold, group by group."""
    start = time.perf_counter()
    try:
        with warnings.catch_warnings(), redirect_stderr(io.StringIO()):  # its progress bars
            warnings.simplefilter("ignore")
            grid, _ = peer.stitch_images(
                np.concatenate(tiles),
                position_indices=np.array(list(np.ndindex(ALONG, ALONG))),
                position_initial_guess=np.rint(stage).astype(int),
                row_col_transpose=False,
                ncc_threshold=0.1,
            )
    except Exception as error:
        return {"m2stitch": f"{type(error).__name__}: {error}"[:80]}
    seconds = time.perf_counter() - start
    errors, _ = without_means(grid[["y_pos", "x_pos"]].to_numpy() - true, placement)
    return {
        "m2stitch_rms_px": rms(errors),
        "m2stitch_seconds": seconds,
    }


def real() -> dict[str, Any]:
    """Return the offset of the real pair."""
    tiles = [tifffile.imread(REAL_TILES / f"mosaic_tile{k}.tif")[np.newaxis] for k in (0, 1)]
    placement = place_tiles(tiles, np.array([(0, 0), REAL_STAGE_PX]))
    offset = placement.corners_yx_px[1] - placement.corners_yx_px[0]
    return {"offset_yx_px": [round(float(k), 2) for k in offset], "exhaustive_yx_px": list(REAL_OFFSET_PX)}


class Generated:
    """An area that is generated as it is read: a texture that repeats, with shot noise."""

    def __init__(self, along: int, texture: Path) -> None:
        self._texture = np.load(texture, mmap_mode="r")
        rng = np.random.default_rng(along)
        self.stage = STEP_PX * np.array(list(np.ndindex(along, along)), dtype=np.float64)
        self.true = np.rint(self.stage + np.clip(rng.normal(0, 4, self.stage.shape), -9, 9)).astype(int)
        self.reads = 0

    def __call__(self, number: int) -> Image:
        """Return a tile, (1, Y, X)."""
        self.reads += 1
        rows, columns = ((start + np.arange(SIDE_PX)) % TEXTURE_PX for start in self.true[number])
        expected = self._texture[rows[:, np.newaxis], columns]
        noise = np.random.default_rng(number).standard_normal(expected.shape) * np.sqrt(expected)
        return np.asarray(np.rint(expected + noise), dtype=np.uint16)[np.newaxis]


def write_texture(path: Path) -> None:
    """Write what generated areas show, (Y, X) counts; its edges meet."""
    fine = ndimage.gaussian_filter(
        np.random.default_rng(0).standard_normal((TEXTURE_PX,) * 2).astype(np.float32), 1.2, mode="wrap"
    )
    np.save(path, np.clip(400 + 100 * fine / fine.std(), 50, None).astype(np.uint16))


def peak_mb() -> float:
    """Return the most memory that this process has held, NaN where the system does not tell (not Linux).

    Not `getrusage`, which starts a new process at its parent's peak.
    """
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.exists() else []
    return next((float(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM")), float("nan"))


def large(along: int, folder: Path) -> dict[str, Any]:
    """Place and write a generated area; meant for a process of its own."""
    before_mb = peak_mb()
    area = Generated(along, folder / "texture.npy")
    start = time.perf_counter()
    placement = place_tiles_lazily(area, np.array([SIDE_PX, SIDE_PX]), area.stage)
    placed = time.perf_counter()
    reads = area.reads
    mosaic = AreaMosaic(area, (1, SIDE_PX, SIDE_PX), np.dtype(np.uint16), placement.corners_yx_px)
    out = folder / f"{along}.ome.zarr"
    write_area(mosaic, AreaLabel("bench", PIXEL_UM, ("FITC",)), out)
    written = time.perf_counter()
    errors = placement.corners_yx_px - area.true
    return {
        "tiles": along**2,
        "links": sum(link.accepted for link in placement.links),
        "rms_px": rms(errors - errors.mean(axis=0)),
        "place_s": placed - start,
        "write_s": written - placed,
        "reads_per_tile": area.reads / along**2,
        "reads_per_tile_to_place": reads / along**2,
        "peak_rss_over_start_mb": peak_mb() - before_mb,
        "pixels_mb": along**2 * SIDE_PX**2 * 2 / 1e6,
        "on_disk_mb": sum(file.stat().st_size for file in out.rglob("*") if file.is_file()) / 1e6,
    }


def large_areas() -> list[dict[str, Any]]:
    """Return the figures of the generated areas."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_texture(folder / "texture.npy")
        found = []
        for along in LARGE_ALONG:
            with multiprocessing.get_context("spawn").Pool(1) as pool:
                found.append(pool.apply(large, (along, folder)))
        return found


def peer_module() -> Any:  # noqa: ANN401 - a module or None
    """Return m2stitch, None where it is absent."""
    try:
        return importlib.import_module("m2stitch")
    except ImportError as error:
        print(f"m2stitch is absent ({error}); its column stays empty", file=sys.stderr)
        return None


def text_of(pair: dict[str, Any], areas: list[dict[str, Any]], large_ones: list[dict[str, Any]]) -> str:
    """Return the figures as Markdown."""
    head = [
        "area", "tiles held", "groups", "links", "RMS (px)", "after affine", "worst link (px)",
        "stage alone: RMS", "by the stage", "empty tile: flagged, error (px)", "s", "m2stitch: RMS (px)", "s",
    ]  # fmt: skip
    lines = [
        f"Real pair: offset {pair['offset_yx_px']} px, by exhaustive search {pair['exhaustive_yx_px']} px.",
        "",
        "| " + " | ".join(head) + " |",
        "|---|" + "---|" * (len(head) - 1),
    ]
    for a in areas:
        flagged = "yes" if a["empty_tile_flagged"] else "no"
        peer = f"{a['m2stitch_rms_px']:.2f}" if "m2stitch_rms_px" in a else a.get("m2stitch", "-")
        peer_s = f"{a['m2stitch_seconds']:.1f}" if "m2stitch_seconds" in a else "-"
        lines.append(
            f"| {a['area']} | {a['held']} | {a['groups']} | {a['links']} | {a['rms_px']:.3f} "
            f"| {a['after_affine_rms_px']:.3f} | {a['largest_link_error_px']:.2f} "
            f"| {a['stage_alone_rms_px']:.2f} | {a['by_stage_alone']} "
            f"| {flagged}, {a['empty_tile_error_px']:.1f} | {a['seconds']:.1f} | {peer} | {peer_s} |"
        )
    head = [
        "tiles", "links", "RMS (px)", "place (s)", "write (s)", "reads a tile", "of these to place",
        "peak memory over start (MB)", "pixels (MB)", "on disk (MB)",
    ]  # fmt: skip
    lines += ["", "| " + " | ".join(head) + " |", "|---|" + "---|" * (len(head) - 1)]
    for a in large_ones:
        lines.append(
            f"| {a['tiles']} | {a['links']} | {a['rms_px']:.3f} | {a['place_s']:.1f} | {a['write_s']:.1f} "
            f"| {a['reads_per_tile']:.2f} | {a['reads_per_tile_to_place']:.2f} "
            f"| {a['peak_rss_over_start_mb']:.0f} | {a['pixels_mb']:.0f} | {a['on_disk_mb']:.0f} |"
        )
    return "\n".join(lines)


def main() -> None:
    """Run and print."""
    parser = bench_parser(__doc__)
    parser.add_argument("--peers", type=Path, help="a site-packages folder that may hold m2stitch")
    arguments = parser.parse_args()
    if arguments.peers:
        sys.path.append(str(arguments.peers))  # last, so that numpy stays our own
    peer = peer_module()
    pair, large_ones = real(), large_areas()
    areas = [virtual(name, peer) for name in CASES]
    text = text_of(pair, areas, large_ones)
    publish(
        arguments,
        "Stitching of areas, simulated",
        text,
        {"real_pair": pair, "virtual": areas, "large": large_ones},
    )


if __name__ == "__main__":
    main()
