"""What is drawn from a pair set to learn from: which patches, how turned, and with what noise."""

import os
import sys
from dataclasses import dataclass

import numpy as np
import pytest

from training.patches import Patches, StoredPlanes, load_planes, prefetched


@dataclass
class Twins:
    low: np.ndarray

    @property
    def high(self):
        return 2 * self.low


def test_both_planes_of_a_patch_are_turned_alike(pair_set):
    planes = load_planes(pair_set, "train", "FITC")
    twins = [Twins(pair.low) for pair in planes]
    low, high = Patches(twins, 32, seed=3, count=16).draw(0)
    assert low.shape == (16, 1, 32, 32)
    np.testing.assert_array_equal(high, 2 * low)


@dataclass(frozen=True)
class Flat:
    low: np.ndarray
    high: np.ndarray


@pytest.mark.parametrize(("factor", "kept"), [(1, 1.0), (2, 0.39)])
def test_shot_noise_is_added_to_the_low_patch_alone_with_the_root_of_its_brightness(factor, kept):
    # Linear enlargement by two keeps (5/8)^2 of the variance of independent camera pixels.
    deviation = []
    for level in (40.0, 160.0):
        plane = Flat(np.full((256, 256), level, np.float32), np.full((256, 256), 7.0, np.float32))
        low, high = Patches([plane], 128, seed=1, count=64, noise=0.1, factor=factor).draw(0)
        assert (high == 7).all()
        assert low.mean() == pytest.approx(level, abs=0.2)
        expected = 0.1**2 / 3 * 255 * level * kept  # strengths are drawn evenly from nothing to 0.1
        assert low.var() == pytest.approx(expected, rel=0.3)
        deviation.append(float(low.std()))
    assert deviation[1] / deviation[0] == pytest.approx(2.0, rel=0.02)


def test_noise_leaves_the_choice_of_patches_as_it_is(pair_set):
    planes = load_planes(pair_set, "train", "FITC")
    _, quiet = Patches(planes, 32, seed=3, count=8).draw(5)
    _, noisy = Patches(planes, 32, seed=3, count=8, noise=0.1, factor=2).draw(5)
    np.testing.assert_array_equal(quiet, noisy)


def test_two_processes_draw_what_one_would_have_drawn(pair_set):
    planes = load_planes(pair_set, "train", "FITC")
    whole, _ = Patches(planes, 32, seed=3, count=8).draw(5)
    halves = [Patches(planes, 32, seed=3, first=first, count=4).draw(5)[0] for first in (0, 4)]
    np.testing.assert_array_equal(whole, np.concatenate(halves))


def test_batches_come_in_order_and_are_drawn_ahead(pair_set):
    patches = Patches(load_planes(pair_set, "train", "FITC"), 32, seed=3, count=2)
    with prefetched(patches, 7, 0) as supply:
        for iteration in range(7, 12):
            np.testing.assert_array_equal(supply.take()[0], patches.draw(iteration)[0])


def test_pairs_are_mapped_not_read(pair_set):
    low, high = pair_set.map(pair_set.select("train", "FITC")[0])
    assert isinstance(low, np.memmap)
    np.testing.assert_array_equal(np.stack([low, high]), pair_set.read(pair_set.select("train", "FITC")[0]))


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="counts open files as Linux shows them")
def test_more_pairs_than_a_process_may_have_files_open_are_trained_on(pair_set):
    import resource

    planes = load_planes(pair_set, "train", "FITC")
    copies = []
    for number in range(200):
        record = planes[0].record
        name = f"copy{number}.tif"
        os.link(pair_set.path / record.file, pair_set.path / name)
        copies.append(StoredPlanes(pair_set, record.model_copy(update={"file": name})))
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    used = len(os.listdir("/proc/self/fd"))
    resource.setrlimit(resource.RLIMIT_NOFILE, (used + 160, hard))
    try:
        low, _ = Patches(copies, 32, seed=0, count=4).draw(0)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for copy in copies:
            (pair_set.path / copy.record.file).unlink()
    assert low.shape == (4, 1, 32, 32)
