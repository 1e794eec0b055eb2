import weakref

import numpy as np
import pytest
import tifffile
from scipy import ndimage

from acquisition.virtual import EndothelialCells, Frame, load, stand_of
from training.pairing.scan_source import stage_to_pixels
from training.pairing.stitching import place_tiles, place_tiles_lazily

TILE, STEP = 192, 160


def test_real_tiles_are_placed_where_exhaustive_search_found_them(shared_data):
    tiles = [tifffile.imread(shared_data / "tiles" / f"mosaic_tile{k}.tif")[None] for k in (0, 1)]
    placement = place_tiles(tiles, np.array([[0, 0], [0, 832]]))
    offset = placement.corners_yx_px[1] - placement.corners_yx_px[0]
    np.testing.assert_allclose(offset, (-2, 825), atol=1)
    assert placement.notes == ()


def cut(image, corners):
    return [image[None, y : y + TILE, x : x + TILE] for y, x in corners]


CORNERS = np.array([[10, 10], [10, 10 + STEP], [10 + STEP, 10], [10 + STEP, 10 + STEP]])


def test_stage_errors_are_corrected(scenes):
    true = CORNERS + np.array([[0, 0], [3, -4], [-5, 2], [4, 5]])
    image = scenes(512, density=1.5).high()
    placement = place_tiles(cut(image, true), CORNERS)
    errors = placement.corners_yx_px - true
    assert np.hypot(*(errors - errors.mean(axis=0)).T).max() < 0.3


def test_the_whole_keeps_the_place_that_the_stage_gave_it(scenes):
    placement = place_tiles(cut(scenes(512, density=1.5).high(), CORNERS + 3), CORNERS)
    np.testing.assert_allclose(placement.corners_yx_px.mean(axis=0), CORNERS.mean(axis=0), atol=1e-6)


def test_a_tile_without_specimen_stays_where_the_stage_put_it_and_says_so(scenes):
    tiles = cut(scenes(512, density=1.5).high(), CORNERS)
    rng = np.random.default_rng(0)
    tiles[3] = rng.poisson(120, tiles[3].shape).astype(np.uint16)
    placement = place_tiles(tiles, CORNERS)
    np.testing.assert_allclose(placement.corners_yx_px[3], CORNERS[3], atol=0.5)
    assert "tile 3 is placed by the stage alone" in placement.notes


def test_tiles_that_do_not_overlap_have_no_link(scenes):
    tiles = cut(scenes(512).high(), CORNERS[:2])
    assert place_tiles(tiles, np.array([[0, 0], [0, 400]])).links == ()


@pytest.mark.parametrize(
    ("affine", "pixel_yx"),
    [
        ((0.5, 0, 0, 0, 0.5, 0), (40, 20)),
        ((-0.5, 0, 0, 0, 0.5, 0), (40, -20)),  # mirrored in x
        ((0.5, 0, 0, 0, -0.5, 0), (-40, 20)),
        ((0, 0.5, 0, -0.5, 0, 0), (20, -40)),  # camera turned by a quarter
    ],
)
def test_stage_micrometres_become_pixels_by_the_affine(affine, pixel_yx):
    np.testing.assert_allclose(stage_to_pixels(affine, np.array([10.0, 20.0])), pixel_yx)


# ---- whole areas -------------------------------------------------------------------------------------


SIDE_PX, GRID_STEP_PX, PIXEL_UM = 256, 225, 0.325


def photographed(tiles_along, seed, occupancy=1.0):
    """Tiles of the virtual stand with a stage that errs by 2 um; where it was sent, and where it looked."""
    core = load(
        "widefield",
        seed=seed,
        source=EndothelialCells(seed, occupancy=occupancy),
        camera_shape_yx=(SIDE_PX, SIDE_PX),
        stage_error_um=2.0,
    )
    core.setConfig("Objective", "20X")
    core.setConfig("Channel", "FITC")
    core.setExposure(50)
    middle = np.array([[SIDE_PX / 2]]), np.array([SIDE_PX / 2])
    tiles, sent, looked = [], [], []
    for row, column in np.ndindex(tiles_along, tiles_along):
        place_um = (column * GRID_STEP_PX * PIXEL_UM, row * GRID_STEP_PX * PIXEL_UM)
        core.setXYPosition(*place_um)
        core.waitForSystem()
        core.snapImage()
        tiles.append(core.getImage()[np.newaxis].copy())
        sent.append((row * GRID_STEP_PX, column * GRID_STEP_PX))
        frame = Frame("20X", "FITC", place_um, 0.0)
        y_um, x_um = stand_of(core)._positions_um(frame, *middle)  # noqa: SLF001 - the truth itself
        looked.append((y_um.item() / PIXEL_UM, x_um.item() / PIXEL_UM))
    return tiles, np.array(sent, float), np.array(looked)


@pytest.fixture(scope="module")
def area():
    return photographed(10, seed=3)


def rms(errors):
    return np.sqrt((errors**2).sum(axis=1).mean())


def groups(placement, count):
    """The tiles that links hold together, each group by itself."""
    apart = [*placement.islands, *[(k,) for k in placement.alone]]
    rest = set(range(count)) - {k for group in apart for k in group}
    return [sorted(rest), *map(list, placement.islands)]


def test_a_hundred_tiles_of_a_stage_that_errs_by_six_px_are_placed_to_a_tenth_of_one(area):
    tiles, sent, looked = area
    placement = place_tiles(tiles, sent)
    errors = placement.corners_yx_px - looked
    assert rms(sent - looked - (sent - looked).mean(axis=0)) > 5
    assert rms(errors - errors.mean(axis=0)) < 0.1
    assert placement.alone == ()


def test_an_empty_tile_among_a_hundred_stays_where_the_stage_put_it_and_is_named(area):
    tiles, sent, looked = area
    tiles = list(tiles)
    tiles[44] = np.random.default_rng(0).poisson(150, tiles[44].shape).astype(np.uint16)
    placement = place_tiles(tiles, sent)
    assert placement.alone == (44,)
    assert "tile 44 is placed by the stage alone" in placement.notes
    np.testing.assert_allclose(placement.corners_yx_px[44], sent[44], atol=1e-6)
    held = np.delete(placement.corners_yx_px - looked, 44, axis=0)
    assert rms(held - held.mean(axis=0)) < 0.1


def test_where_the_specimen_is_sparse_what_hangs_together_lies_right_and_the_rest_is_named():
    tiles, sent, looked = photographed(7, seed=4, occupancy=0.15)
    placement = place_tiles(tiles, sent)
    assert 0 < len(placement.alone) < 40
    np.testing.assert_allclose(placement.corners_yx_px[[*placement.alone]], sent[[*placement.alone]])
    errors = placement.corners_yx_px - looked
    for group in groups(placement, len(tiles)):
        assert rms(errors[group] - errors[group].mean(axis=0)) < 0.3
        np.testing.assert_allclose(
            placement.corners_yx_px[group].mean(axis=0), sent[group].mean(axis=0), atol=1e-3
        )


@pytest.mark.slow
@pytest.mark.parametrize(("seed", "occupancy"), [(4, 0.15), (5, 0.03), (6, 0.4), (7, 0.08)])
def test_no_link_of_a_sparse_area_is_wrong(seed, occupancy):
    tiles, sent, looked = photographed(10, seed, occupancy)
    links = [link for link in place_tiles(tiles, sent).links if link.accepted]
    errors = [np.array(link.offset_yx_px) - (looked[link.second] - looked[link.first]) for link in links]
    assert np.hypot(*np.array(errors).T).max() < 1


def grain(shape_yx, seed=0):
    """A specimen that has texture everywhere, (Y, X) counts."""
    noise = np.random.default_rng(seed).normal(size=shape_yx)
    fine = ndimage.gaussian_filter(noise, 1.5)
    return (1000 + 200 * fine / fine.std()).astype(np.float32)


def cut_grid(tiles_along, side=96, step=76, seed=0):
    """Tiles of a grid, their true corners and where a stage that errs says they are."""
    rng = np.random.default_rng(seed)
    stage = step * np.array(list(np.ndindex(tiles_along, tiles_along)), float) + 10
    true = (stage + np.clip(np.rint(rng.normal(0, 3, stage.shape)), -8, 8)).astype(int)
    image = grain((step * tiles_along + side,) * 2, seed)
    return [image[None, y : y + side, x : x + side] for y, x in true], true, stage


def test_the_stage_does_not_hold_back_a_chain_of_thirty_tiles():
    image = grain((96, 3200))
    true = np.array([[0, 100 * k] for k in range(30)])
    stage = true + np.array([[0, 0.8 * k] for k in range(30)])  # each step is 0.8 px too long by the stage
    placement = place_tiles([image[None, :, x : x + 140] for _, x in true], stage)
    errors = placement.corners_yx_px - true
    assert np.abs(errors - errors.mean(axis=0)).max() < 0.1


def test_a_link_that_contradicts_all_others_is_refused_and_named():
    side, step = 240, 216
    tiles, true, stage = cut_grid(4, side, step)
    y, x = true[5]
    tiles[5] = tiles[5].copy()
    # Where it overlaps tile 4, tile 5 shows what lies 7 px further down.
    tiles[5][0, :, :26] = grain((step * 4 + side,) * 2)[y + 7 : y + 7 + side, x : x + 26]
    placement = place_tiles(tiles, stage)
    assert [(k.first, k.second) for k in placement.links if k.contradicted] == [(4, 5)]
    assert any("tiles 4 and 5 contradicts the others" in note for note in placement.notes)
    errors = placement.corners_yx_px - true
    assert rms(errors - errors.mean(axis=0)) < 0.1


def test_two_groups_that_no_link_ties_together_are_named_and_keep_the_mean_that_the_stage_gave_them():
    tiles, _, stage = cut_grid(4)
    stage[8:] += (500, 0)  # two rows here, two rows there
    placement = place_tiles(tiles, stage)
    (island,) = placement.islands
    assert island in (tuple(range(8)), tuple(range(8, 16)))
    assert any("hold together, but only the stage ties them" in note for note in placement.notes)
    for group in (slice(0, 8), slice(8, 16)):
        np.testing.assert_allclose(
            placement.corners_yx_px[group].mean(axis=0), stage[group].mean(axis=0), atol=1e-6
        )


class CountingReader:
    """Gives fresh copies of tiles; knows how often each was read, and how many live at a time."""

    def __init__(self, tiles):
        self._tiles = tiles
        self.reads = [0] * len(tiles)
        self.alive = self.most_alive = 0

    def __call__(self, number):
        self.reads[number] += 1
        self.alive += 1
        self.most_alive = max(self.most_alive, self.alive)
        tile = self._tiles[number].copy()
        weakref.finalize(tile, self._gone)
        return tile

    def _gone(self):
        self.alive -= 1


@pytest.mark.parametrize("tiles_along", [4, 12])
def test_however_many_tiles_few_are_in_memory_and_each_is_read_twice_at_most(tiles_along):
    tiles, _, stage = cut_grid(tiles_along)
    read = CountingReader(tiles)
    steps = []
    placement = place_tiles_lazily(
        read, np.array([96, 96]), stage, progress=lambda done, total: steps.append((done, total))
    )
    assert read.most_alive <= 9
    assert max(read.reads) <= 2
    links = 2 * tiles_along * (tiles_along - 1)
    assert len(placement.links) == links
    assert steps == [(k + 1, links) for k in range(links)]


def test_tiles_read_as_needed_lie_where_tiles_in_memory_do():
    tiles, _, stage = cut_grid(4)
    lazily = place_tiles_lazily(lambda k: tiles[k], np.array([96, 96]), stage)
    np.testing.assert_array_equal(lazily.corners_yx_px, place_tiles(tiles, stage).corners_yx_px)


def test_no_tile_and_one_tile_have_a_place():
    assert place_tiles([], np.empty((0, 2))).corners_yx_px.shape == (0, 2)
    alone = place_tiles([grain((64, 64))[None]], np.array([[3.0, 4.0]]))
    np.testing.assert_array_equal(alone.corners_yx_px, [[3, 4]])
    assert alone.notes == ()
