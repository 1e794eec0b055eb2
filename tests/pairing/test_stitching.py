import numpy as np
import pytest
import tifffile

from training.pairing.scan_source import stage_to_pixels
from training.pairing.stitching import place_tiles

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
