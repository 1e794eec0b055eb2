import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from inference.tiling import padded_length, plan_tiles

STEP = 8
SIDES = st.integers(1, 20).map(lambda n: n * STEP)


@given(SIDES, SIDES, st.integers(1, 100), st.integers(0, 60))
def test_cutting_then_writing_cores_is_the_identity(height, width, core, halo):
    image = np.arange(height * width, dtype=np.float32).reshape(height, width)
    result = np.full_like(image, np.nan)
    for tile in plan_tiles((height, width), core, halo, STEP):
        assert np.isnan(result[tile.write]).all()  # no pixel twice
        result[tile.write] = image[tile.read][tile.keep]
    np.testing.assert_array_equal(result, image)


@given(SIDES, SIDES, st.integers(1, 100), st.integers(0, 60))
def test_origins_lie_on_the_pooling_grid_and_halos_are_whole(height, width, core, halo):
    for tile in plan_tiles((height, width), core, halo, STEP):
        for read, keep, length in zip(tile.read, tile.keep, (height, width), strict=True):
            assert read.start % STEP == 0
            assert keep.start >= halo or read.start == 0
            assert (read.stop - read.start) - keep.stop >= halo or read.stop == length


@given(st.integers(1, 1000), st.integers(1, 64), st.integers(1, 200))
def test_padded_length_is_the_least_multiple_that_fits(length, step, minimum):
    padded = padded_length(length, step, minimum)
    assert padded % step == 0
    assert padded >= max(length, minimum) > padded - step
