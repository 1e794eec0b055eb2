import json

import numpy as np
import pytest
import tifffile
from scipy import ndimage
from skimage.io import imsave

from configs.document import WrongInputError
from inference.preprocess import prepare
from training.pairing.build import pair_folders
from training.pairing.pairs import PairSet


def write_folders(path, scenes, names=("a", "b", "c", "d"), side_px=320):
    for state in ("low", "high"):
        (path / state).mkdir(parents=True)
    for seed, name in enumerate(names):
        scene = scenes(side_px, seed=seed, density=1.5)
        tifffile.imwrite(path / "low" / f"{name}.tif", scene.low())
        tifffile.imwrite(path / "high" / f"{name}.tif", scene.high())
    return path / "low", path / "high"


@pytest.fixture(scope="module")
def folders(tmp_path_factory, scenes):
    return write_folders(tmp_path_factory.mktemp("images"), scenes)


@pytest.fixture(scope="module")
def pair_set(folders, tmp_path_factory):
    return pair_folders(*folders, 2, tmp_path_factory.mktemp("out") / "pairs", channel="FITC")


def test_two_folders_become_a_pair_set_with_every_split(pair_set):
    assert all(pair.accepted for pair in pair_set.index.pairs)
    assert {pair.split for pair in pair_set.index.pairs} == {"train", "validation", "test"}
    assert {pair.channel for pair in pair_set.index.pairs} == {"FITC"}
    assert PairSet.open(pair_set.path).index == pair_set.index


def test_the_low_plane_is_what_serving_feeds_the_network_bit_for_bit(pair_set, folders):
    low_factors = pair_set.index.normalisation["FITC"].low.photometry()
    for name, pair in zip("abcd", pair_set.index.pairs, strict=True):
        served = prepare(tifffile.imread(folders[0] / f"{name}.tif"), low_factors, 2)
        low, high = pair_set.read(pair)
        top, left = pair.origin_yx_px
        assert (top % 2, left % 2, low.shape[0] % 2, low.shape[1] % 2) == (0, 0, 0, 0)
        assert low.shape == high.shape
        np.testing.assert_array_equal(low, served[top : top + low.shape[0], left : left + low.shape[1]])


def test_ten_pixels_are_cut_from_every_side(pair_set):
    low, _ = pair_set.read(pair_set.index.pairs[0])
    assert pair_set.index.pairs[0].origin_yx_px >= (10, 10)
    assert max(low.shape) <= 300


def test_lineage_and_figures_are_in_the_index(pair_set):
    for pair in pair_set.index.pairs:
        assert all(len(digest) == 64 for digest in pair.sources.values())
        assert len(pair.sources) == 2
        assert pair.ncc_after > 0.95
        assert pair.residual_px < 0.1
        assert pair.specimen_fraction > 0.5


def test_bad_pairs_are_listed_with_their_reason_and_do_not_stop_the_set(tmp_path, scenes):
    names = ["black", "good1", "good2", "good3", "nan", "small", "text", "unlike"]
    low, high = write_folders(tmp_path, scenes, names)
    tifffile.imwrite(low / "black.tif", np.zeros((160, 160), np.uint16))
    tifffile.imwrite(high / "nan.tif", np.full((320, 320), np.nan, np.float32))
    tifffile.imwrite(high / "small.tif", scenes(320).low())
    (high / "text.tif").write_text("no image")
    tifffile.imwrite(high / "unlike.tif", scenes(320, seed=99).high())
    pair_set = pair_folders(low, high, 2, tmp_path / "pairs")
    reasons = {name: pair.reason for name, pair in zip(names, pair_set.index.pairs, strict=True)}
    assert "black or constant" in reasons["black"]
    assert "nan.tif holds NaN" in reasons["nan"]
    assert "sizes do not fit factor 2" in reasons["small"]
    assert "text.tif cannot be read" in reasons["text"]
    assert reasons["unlike"] is not None
    assert [reasons[f"good{k}"] for k in (1, 2, 3)] == [None] * 3
    assert not (pair_set.path / pair_set.index.pairs[0].file).exists()


def test_bit_depth_size_and_offset_may_differ(tmp_path, scenes):
    low, high = write_folders(tmp_path, scenes, "abc")
    for path in sorted(high.iterdir()):
        image = ndimage.shift(tifffile.imread(path).astype(np.float32), (7, -5), mode="nearest")[:300]
        path.unlink()
        scaled = np.clip(image / image.max() * 250, 0, 255).astype(np.uint8)
        imsave(path.with_suffix(".png"), scaled, check_contrast=False)
    pair_set = pair_folders(low, high, 2, tmp_path / "pairs")
    for pair in pair_set.index.pairs:
        assert pair.accepted
        # 20 rows were cut below, so the middles, which are laid on each other, differ by 10.
        np.testing.assert_allclose(pair.shift_yx_px, (7 + 10, -5), atol=0.2)


def test_an_existing_pair_set_is_not_written_over(pair_set, folders):
    before = (pair_set.path / "pairs.json").read_bytes()
    with pytest.raises(WrongInputError, match="--overwrite"):
        pair_folders(*folders, 2, pair_set.path)
    assert (pair_set.path / "pairs.json").read_bytes() == before


def test_overwriting_replaces_the_whole_set(tmp_path, folders):
    pair_folders(*folders, 2, tmp_path / "pairs", channel="old")
    again = pair_folders(*folders, 2, tmp_path / "pairs", channel="new", overwrite=True)
    files = {path.name for path in again.path.iterdir()}
    assert files == {"pairs.json", *(pair.file for pair in again.index.pairs)}


def test_a_folder_of_something_else_is_never_replaced(tmp_path, folders):
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(WrongInputError, match="not a pair set"):
        pair_folders(*folders, 2, tmp_path, overwrite=True)
    assert (tmp_path / "thesis.txt").read_text() == "years of work"


def test_progress_reaches_the_number_of_fields(tmp_path, folders):
    seen = []
    pair_folders(*folders, 2, tmp_path / "pairs", progress=lambda done, total: seen.append((done, total)))
    assert seen == [(k, 4) for k in (1, 2, 3, 4)]


def empty(path, low, high):
    for image in high.iterdir():
        image.unlink()


def missing(path, low, high):
    high.rename(path / "elsewhere")


def unmatched(path, low, high):
    (high / "a.tif").rename(high / "z.tif")


def all_black(path, low, high):
    for image in low.iterdir():
        tifffile.imwrite(image, np.zeros((160, 160), np.uint16))


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (empty, "holds no image"),
        (missing, "is not a folder"),
        (unmatched, "'a' and .* has not"),
        (all_black, "no pair can be used.*black"),
    ],
)
def test_wrong_folders_are_named_and_nothing_is_written(tmp_path, scenes, spoil, words):
    low, high = write_folders(tmp_path / "images", scenes, "ab")
    spoil(tmp_path, low, high)
    with pytest.raises(WrongInputError, match=words):
        pair_folders(low, high, 2, tmp_path / "out" / "pairs")
    assert not (tmp_path / "out" / "pairs").exists()
    assert not list(tmp_path.glob("out/.*"))


def test_a_factor_that_is_none_is_named(tmp_path, folders):
    with pytest.raises(WrongInputError, match="factor 3"):
        pair_folders(*folders, 3, tmp_path / "pairs")


def test_the_index_is_plain_json(pair_set):
    content = json.loads((pair_set.path / "pairs.json").read_text())
    assert {"file", "channel", "region", "split", "accepted"} <= content["pairs"][0].keys()
