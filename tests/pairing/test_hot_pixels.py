import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis.extra import numpy as arrays

from acquisition.virtual import Frame, Sensor, load, stand_of
from training.pairing.hot_pixels import KEPT_FRAMES, HotPixelFinder, mend

SHAPE = (140, 90)
HOT = [(0, 0), (5, 7), (60, 89), (127, 40), (128, 40), (139, 20)]
"""Corner, border and both sides of the rows that are worked on together among them."""


def frames_of(count, seed=0, shape_yx=SHAPE):
    """Another random specimen in each frame, and noise."""
    rng = np.random.default_rng(seed)
    for _ in range(count):
        specimen = np.repeat(np.repeat(rng.gamma(0.5, 200, (70, 45)), 2, 0), 2, 1)[
            : shape_yx[0], : shape_yx[1]
        ]
        yield np.rint(rng.poisson(specimen + 50) + rng.normal(100, 2, shape_yx)).clip(0).astype(np.uint16)


def found(frames):
    finder = HotPixelFinder()
    for frame in frames:
        finder.add(frame)
    return finder.find()


def spoiled(frames, where, change):
    for frame in frames:
        wrong = frame.copy()
        for y, x in where:
            wrong[y, x] = change(wrong[y, x])
        yield wrong


@pytest.mark.parametrize("change", [lambda value: value + 1500, lambda value: 0], ids=["hot", "dead"])
def test_pixels_that_are_always_wrong_are_found_and_no_other(change):
    assert [tuple(p) for p in np.argwhere(found(spoiled(frames_of(20), HOT, change)))] == HOT


def test_a_good_camera_has_no_hot_pixel():
    assert not found(frames_of(20)).any()


def test_a_pixel_that_is_wrong_in_half_of_the_frames_is_left():
    frames = list(frames_of(20))
    half = [*spoiled(frames[:10], HOT, lambda value: value + 3000), *frames[10:]]
    assert not found(half).any()


def test_three_frames_cannot_tell_specimen_from_pixel():
    hot = found(spoiled(frames_of(3), HOT, lambda value: 60_000))
    assert hot.shape == SHAPE
    assert not hot.any()


def test_memory_does_not_grow_with_the_frames():
    finder = HotPixelFinder()
    for frame in spoiled(frames_of(3 * KEPT_FRAMES), HOT, lambda value: value + 1500):
        finder.add(frame)
    assert len(finder._frames) <= KEPT_FRAMES  # noqa: SLF001 - memory has no other name
    assert [tuple(p) for p in np.argwhere(finder.find())] == HOT


def test_a_noiseless_camera_has_hot_pixels_too():
    frames = [np.full(SHAPE, 100.0 + k) for k in range(6)]
    assert [tuple(p) for p in np.argwhere(found(spoiled(frames, HOT, lambda value: value + 1)))] == HOT


def test_frames_of_different_shapes_are_refused():
    finder = HotPixelFinder()
    finder.add(np.zeros((8, 8)))
    with pytest.raises(ValueError, match=r"got \(8, 9\) after \(8, 8\)"):
        finder.add(np.zeros((8, 9)))


def test_no_frame_is_an_error():
    with pytest.raises(ValueError, match="add at least one"):
        HotPixelFinder().find()


def test_all_clearly_hot_pixels_of_the_virtual_camera_are_found_among_cells():
    shape, exposure_ms = (128, 128), 100.0
    sensor = Sensor(shape, gain_spread=0.01, hot_pixel_fraction=4e-3, seed=3)
    clean = Sensor(shape)
    stand = stand_of(load("widefield", seed=7, sensor=sensor))
    rng = np.random.default_rng(0)
    finder, seen = HotPixelFinder(), []
    for k in range(20):
        place = (170.0 * (k % 5), 170.0 * (k // 5))
        frame = Frame("10X", "Texas Red", place, stand.best_focus_um("10X", place, channel="Texas Red"))
        seen.append(stand.expected_electrons(frame, exposure_ms))
        finder.add(sensor.expose(seen[-1], rng, exposure_ms=exposure_ms))
    dark = np.zeros(shape, np.float32)
    quiet = Sensor(shape, hot_pixel_fraction=4e-3, seed=3, read_noise_electrons=0.0, gain_spread=0.01)
    excess = quiet.expose(dark, rng, exposure_ms=1e4).astype(float) - clean.offset_counts
    electrons = excess * sensor.electrons_per_count * exposure_ms / 1e4  # what the chip adds in the dark
    noise = np.sqrt(np.median(seen, axis=0) + sensor.read_noise_electrons**2)
    hot = finder.find()
    assert hot[electrons > 10 * noise].all()
    assert (electrons > 10 * noise).sum() > 20
    assert (hot & (electrons <= 0)).sum() <= 1e-5 * hot.size


def test_an_image_without_hot_pixels_is_returned_as_it_is():
    image = np.arange(12).reshape(3, 4)
    assert mend(image, np.zeros((3, 4), dtype=bool)) is image


def test_a_hot_pixel_becomes_the_median_of_its_good_neighbours():
    image = np.array([[1, 2, 3], [4, 999, 888], [7, 8, 9]], np.uint16)
    hot = np.array([[0, 0, 0], [0, 1, 1], [0, 0, 0]], dtype=bool)
    mended = mend(image, hot)
    assert mended[1, 1] == 4  # of 1, 2, 3, 4, 7, 8, 9
    assert mended[1, 2] == 6  # of 2, 3, 8, 9: 5.5, to the even count
    assert mended.dtype == np.uint16
    assert image[1, 1] == 999


def test_a_hot_pixel_amid_hot_ones_is_mended_from_farther_away():
    image, hot = np.full((9, 9), 5.0, np.float32), np.zeros((9, 9), dtype=bool)
    hot[2:7, 2:7] = True
    image[hot] = 1000.0
    np.testing.assert_array_equal(mend(image, hot), np.full((9, 9), 5.0, np.float32))


@given(
    image=arrays.arrays(np.uint16, (6, 7)),
    hot=arrays.arrays(np.bool_, (6, 7)).filter(lambda mask: not mask.all()),
)
@settings(max_examples=50, deadline=None)
def test_mending_changes_hot_pixels_alone_and_stays_within_the_good_ones(image, hot):
    mended = mend(image, hot)
    assert mended.dtype == image.dtype
    np.testing.assert_array_equal(mended[~hot], image[~hot])
    assert image[~hot].min() <= mended.min()
    assert mended.max() <= image[~hot].max()


def test_masks_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="must have one shape"):
        mend(np.zeros((3, 4)), np.zeros((4, 3), dtype=bool))
    with pytest.raises(ValueError, match="none is left"):
        mend(np.zeros((3, 4)), np.ones((3, 4), dtype=bool))
