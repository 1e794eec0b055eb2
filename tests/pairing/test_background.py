import numpy as np
import pytest

from training.pairing.background import BackgroundEstimator, estimate_background


def noisy(expected, seed=0):
    rng = np.random.default_rng(seed)
    return np.rint(rng.poisson(expected) + rng.normal(0, 3, expected.shape)).clip(0).astype(np.uint16)


def test_background_of_empty_frames_is_their_mean():
    frames = [noisy(np.full((256, 256), 300.0), seed) for seed in range(3)]
    assert estimate_background(frames) == pytest.approx(300, abs=1.0)


@pytest.mark.parametrize("empty_share", [0.05, 0.3, 0.9])
def test_background_is_found_between_bright_cells(empty_share):
    expected = np.full((320, 320), 4000.0)
    expected[:, : int(320 * empty_share)] = 200.0
    assert estimate_background([noisy(expected)]) == pytest.approx(200, abs=2.0)


def test_one_frame_with_an_empty_place_serves_the_whole_set():
    full, half = np.full((128, 128), 5000.0), np.full((128, 128), 5000.0)
    half[:64] = 150.0
    assert estimate_background([noisy(full), noisy(half), noisy(full)]) == pytest.approx(150, abs=2.0)


def test_a_few_dead_pixels_do_not_move_the_background():
    frame = noisy(np.full((256, 256), 300.0))
    frame[5, 7] = frame[100, 33] = 0
    assert estimate_background([frame]) == pytest.approx(300, abs=1.0)


def test_no_frame_is_an_error():
    with pytest.raises(ValueError, match="add at least one"):
        BackgroundEstimator().estimate()
