import json
import weakref

import numpy as np
import pytest
import tensorstore as ts
import yaozarrs
from scipy import ndimage

from acquisition.manifest import (
    ChannelRecord,
    HoleRecord,
    Manifest,
    ObjectiveRecord,
    ScanFolder,
)
from configs.document import WrongInputError
from training.pairing import area_image, area_mosaic
from training.pairing.area_image import AreaLabel, write_area
from training.pairing.area_mosaic import AreaMosaic
from training.pairing.mosaic import Mosaic
from training.pairing.scan_stitching import stitch_scan

SIDE, STEP = 96, 80
LABEL = AreaLabel("area", 0.325, ("FITC", "DAPI"))


def grain(shape_yx, seed=0):
    noise = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=shape_yx), 1.5)
    return 1000 + 200 * noise / noise.std()


def cut(tiles_along, dtype=np.uint16):
    """Tiles of two channels and their whole-pixel corners."""
    rng = np.random.default_rng(0)
    corners = STEP * np.array(list(np.ndindex(tiles_along, tiles_along)))
    corners += rng.integers(-4, 5, corners.shape) + 10
    whole = np.stack([grain((STEP * tiles_along + SIDE,) * 2, seed) for seed in (1, 2)]).astype(dtype)
    return [whole[:, y : y + SIDE, x : x + SIDE] for y, x in corners], corners


def mosaic_of(tiles, corners, read=None):
    shape = tuple(tiles[0].shape)
    return AreaMosaic(read or (lambda k: tiles[k]), shape, tiles[0].dtype, np.asarray(corners, float))


def level(path, number):
    spec = {"driver": "zarr3", "kvstore": {"driver": "file", "path": f"{path / str(number)}/"}}
    return np.asarray(ts.open(spec).result().read().result())


def assembled(mosaic):
    whole = np.zeros(mosaic.area_shape_cyx, mosaic.dtype)
    for window, pixels in mosaic.blocks():
        whole[(slice(None), *window)] = pixels
    return whole


@pytest.fixture
def small_blocks(monkeypatch):
    """Blocks, chunks and levels so small that a few tiles need many of them."""
    monkeypatch.setattr(area_mosaic, "BLOCK_PX", 64)
    monkeypatch.setattr(area_image, "BLOCK_PX", 64)
    monkeypatch.setattr(area_image, "CHUNK_PX", 32)
    monkeypatch.setattr(area_image, "SMALLEST_LEVEL_PX", 64)


@pytest.mark.usefixtures("small_blocks")
def test_every_level_reads_back_as_the_blended_pixels_and_their_means(tmp_path):
    tiles, corners = cut(3)
    write_area(mosaic_of(tiles, corners), LABEL, tmp_path / "area.ome.zarr")
    origin = corners.min(axis=0)
    finest = level(tmp_path / "area.ome.zarr", 0)
    for channel in range(2):
        planes = tuple(tile[channel] for tile in tiles)
        blended, _ = Mosaic(planes, corners).render(tuple(origin), finest.shape[1:])
        np.testing.assert_allclose(finest[channel], blended, atol=0.51)
    below = finest
    for number in (1, 2, 3):
        even = np.pad(below, [(0, 0), *[(0, n % 2) for n in below.shape[1:]]], mode="edge").astype(float)
        means = (even[:, ::2, ::2] + even[:, 1::2, ::2] + even[:, ::2, 1::2] + even[:, 1::2, 1::2]) / 4
        below = level(tmp_path / "area.ome.zarr", number)
        np.testing.assert_allclose(below, means, atol=0.51)
    assert max(below.shape) <= 64
    assert not (tmp_path / "area.ome.zarr" / "4").exists()


def test_the_size_of_the_blocks_does_not_show(small_blocks, monkeypatch):
    tiles, corners = cut(3)
    mosaic = mosaic_of(tiles, corners + np.random.default_rng(1).uniform(-0.5, 0.5, corners.shape))
    in_many = assembled(mosaic)
    monkeypatch.setattr(area_mosaic, "BLOCK_PX", 4096)
    np.testing.assert_allclose(in_many, assembled(mosaic), atol=1)  # where two sums round differently


def test_a_fraction_of_a_pixel_is_interpolated():
    y, x = np.mgrid[:SIDE, :SIDE].astype(float)

    def view(corner):
        return (1000 + 300 * np.sin((y + corner[0]) / 1.5) * np.cos((x + corner[1]) / 2.0))[None]

    corners = np.array([[0.0, 0.0], [0.37, 70.61], [71.5, 0.25], [70.75, 70.5]])
    tiles = [view(corner).astype(np.float32) for corner in corners]
    whole = assembled(mosaic_of(tiles, corners))[0]
    y, x = np.mgrid[: whole.shape[0], : whole.shape[1]].astype(float)
    truth = 1000 + 300 * np.sin(y / 1.5) * np.cos(x / 2.0)
    covered = whole > 0
    assert covered.mean() > 0.97
    inner = (slice(3, -3), slice(3, -3))
    np.testing.assert_allclose(whole[inner][covered[inner]], truth[inner][covered[inner]], atol=12)


def test_where_no_tile_lies_the_image_is_0():
    tiles, corners = cut(1)
    apart = [tiles[0], tiles[0]]
    whole = assembled(mosaic_of(apart, np.array([corners[0], corners[0] + (0, 200)])))
    assert not whole[:, :, SIDE : 200 - 1].any()
    assert whole[:, :, :SIDE].all()


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_the_image_has_the_tiles_dtype(tmp_path, dtype):
    tiles = [np.full((2, 64, 64), 200, dtype)] * 2
    write_area(mosaic_of(tiles, [[0, 0], [0.5, 50.3]]), LABEL, tmp_path / "area.ome.zarr")
    pixels = level(tmp_path / "area.ome.zarr", 0)
    assert pixels.dtype == dtype
    np.testing.assert_allclose(pixels[:, 2:60, :60], 200, atol=1e-3)


@pytest.mark.usefixtures("small_blocks")
def test_it_is_valid_ome_zarr_with_its_pixel_size_and_place(tmp_path):
    tiles, corners = cut(2)
    path = tmp_path / "area.ome.zarr"
    write_area(mosaic_of(tiles, corners), LABEL, path)
    yaozarrs.validate_zarr_store(str(path))
    attributes = json.loads((path / "zarr.json").read_text())["attributes"]
    (multiscale,) = attributes["ome"]["multiscales"]
    assert [axis["name"] for axis in multiscale["axes"]] == ["c", "y", "x"]
    assert attributes["sharpscope"]["channels"] == ["FITC", "DAPI"]
    top, left = corners.min(axis=0)
    for number, dataset in enumerate(multiscale["datasets"]):
        scale, translation = dataset["coordinateTransformations"]
        assert scale["scale"] == pytest.approx([1, 0.325 * 2**number, 0.325 * 2**number])
        middle = (2**number - 1) / 2  # of the pixels that one of this level is the mean of
        assert translation["translation"] == pytest.approx(
            [0, 0.325 * (top + middle), 0.325 * (left + middle)]
        )


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("tiles_along", [3, 9])
def test_however_large_the_area_few_tiles_are_in_memory(tmp_path, tiles_along):
    tiles, corners = cut(tiles_along)
    alive, most = 0, 0

    def gone():
        nonlocal alive
        alive -= 1

    def read(number):
        nonlocal alive, most
        alive += 1
        most = max(most, alive)
        tile = tiles[number].copy()
        weakref.finalize(tile, gone)
        return tile

    write_area(mosaic_of(tiles, corners, read), LABEL, tmp_path / "area.ome.zarr")
    assert most <= area_mosaic.CACHE_TILES + 1


def test_an_error_leaves_nothing_behind(tmp_path):
    tiles, corners = cut(2)

    def read(number):
        if number == 3:
            raise OSError("the disk is gone")
        return tiles[number]

    with pytest.raises(OSError, match="the disk is gone"):
        write_area(mosaic_of(tiles, corners, read), LABEL, tmp_path / "area.ome.zarr")
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_written_over_but_an_area_that_may_be_replaced(tmp_path):
    mosaic = mosaic_of(*cut(1))
    (tmp_path / "area.ome.zarr").mkdir()
    (tmp_path / "area.ome.zarr" / "notes.txt").write_text("mine")
    with pytest.raises(WrongInputError, match="no stitched area"):
        write_area(mosaic, LABEL, tmp_path / "area.ome.zarr", overwrite=True)
    (tmp_path / "raw.ome.zarr").mkdir()
    (tmp_path / "raw.ome.zarr" / "zarr.json").write_text('{"attributes": {"sharpscope": {"role": "raw"}}}')
    with pytest.raises(WrongInputError, match="no stitched area"):
        write_area(mosaic, LABEL, tmp_path / "raw.ome.zarr", overwrite=True)
    write_area(mosaic, LABEL, tmp_path / "other.ome.zarr")
    with pytest.raises(WrongInputError, match="--overwrite"):
        write_area(mosaic, LABEL, tmp_path / "other.ome.zarr")
    write_area(mosaic, LABEL, tmp_path / "other.ome.zarr", overwrite=True)


def test_pixels_that_zarr_does_not_store_are_refused_by_name(tmp_path):
    tiles = [np.zeros((1, 64, 64), np.float16)]
    with pytest.raises(WrongInputError, match="float16"):
        write_area(mosaic_of(tiles, [[0, 0]]), LABEL, tmp_path / "area.ome.zarr")


# ---- scan folders ------------------------------------------------------------------------------------


def scan_folder(path, mirror=1):
    """A scan of 3 x 3 high fields by a camera that may be mirrored; the middle one was taken twice."""

    def objective(size_um):
        return ObjectiveRecord(
            name="o", magnification=20, numerical_aperture=0.75, immersion="air", pixel_size_um=size_um,
            pixel_size_affine=(mirror * size_um, 0, 0, 0, size_um, 0),
        )  # fmt: skip

    channels = [
        ChannelRecord(name=name, emission_nm=500, exposure_ms={"low": 1, "high": 1})
        for name in ("FITC", "DAPI")
    ]
    scan = ScanFolder.create(
        path,
        Manifest(
            run_id="run-1", microscope="synthetic", camera_pixel_um=6.5,
            objectives={"low": objective(0.65), "high": objective(0.325)},
            channels=channels, plan={}, software={},
        ),
    )  # fmt: skip
    tiles, corners = cut(3)
    stage = STEP * np.array(list(np.ndindex(3, 3)))
    for number, (tile, place) in enumerate(zip(tiles, stage, strict=True)):
        stage_xy_um = (mirror * 0.325 * float(place[1]), 0.325 * float(place[0]))
        facts = {"region": 0, "state": "high", "tile": number, "stage_xy_um": stage_xy_um, "focus_um": 0.0}
        if number == 4:
            scan.commit_field(np.zeros_like(tile), **facts)
            facts |= {"take": 2, "flags": ["dim"]}
        scan.commit_field(tile, **facts)
    return scan, corners


@pytest.mark.parametrize("mirror", [1, -1])
def test_a_scan_is_placed_by_the_latest_takes_and_flags_are_told(tmp_path, mirror):
    scan, corners = scan_folder(tmp_path / "scan", mirror)
    steps = []
    area = stitch_scan(
        scan.path, "high", tmp_path / "area.ome.zarr", progress=lambda *step: steps.append(step)
    )
    errors = area.placement.corners_yx_px - corners
    assert np.abs(errors - errors.mean(axis=0)).max() < 0.1
    assert area.notes == ("region0000_high_tile04_take2.ome.tif is flagged: dim",)
    assert area.whole
    assert area.bytes_on_disk > 1000
    assert level(area.path, 0).shape == area.shape_cyx
    assert steps[-1][0] == steps[-1][1]
    own = json.loads((area.path / "zarr.json").read_text())["attributes"]["sharpscope"]
    assert own["run_id"] == "run-1"
    assert [tile["file"] for tile in own["tiles"]] == list(area.files)


def test_what_is_missing_or_changed_is_told_and_the_rest_is_stitched(tmp_path):
    scan, _ = scan_folder(tmp_path / "scan")
    scan.log(HoleRecord(region=0, state="high", tile=9, reason="camera timed out"))
    (scan.path / "region0000_high_tile00.ome.tif").write_bytes(b"torn")
    (scan.path / "region0000_high_tile08.ome.tif").unlink()
    area = stitch_scan(scan.path, "high", tmp_path / "area.ome.zarr")
    assert len(area.files) == 7
    assert area.missing == 3
    assert not area.whole
    assert any("tile 9 is missing: camera timed out" in note for note in area.notes)
    assert any("tile00.ome.tif is left out: it is not the file" in note for note in area.notes)
    assert any("tile08.ome.tif is left out: there is no such file" in note for note in area.notes)


def test_a_state_without_fields_is_named(tmp_path):
    scan, _ = scan_folder(tmp_path / "scan")
    with pytest.raises(WrongInputError, match="no field of the low state"):
        stitch_scan(scan.path, "low", tmp_path / "area.ome.zarr")
