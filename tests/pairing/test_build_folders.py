import json
import shutil

import numpy as np
import pytest
import tifffile
from scipy import ndimage
from skimage.io import imsave

from configs.document import WrongInputError
from inference.preprocess import prepare
from training.pairing.build import pair_folders
from training.pairing.folder_source import read_folders
from training.pairing.pairs import Optics, PairSet
from training.pairing.sources import UnusableFieldError


def write_folders(path, scenes, names=("a", "b", "c", "d"), side_px=256):
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
def progress():
    """What the making of `pair_set` said: (done, total) fields."""
    return []


@pytest.fixture(scope="module")
def pair_set(folders, progress, tmp_path_factory):
    return pair_folders(
        *folders, 2, tmp_path_factory.mktemp("out") / "pairs",
        channel="FITC", progress=lambda done, total: progress.append((done, total)),
    )  # fmt: skip


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
    assert max(low.shape) <= 236


def test_lineage_and_figures_are_in_the_index(pair_set):
    for pair in pair_set.index.pairs:
        assert all(len(digest) == 64 for digest in pair.sources.values())
        assert len(pair.sources) == 2
        assert pair.ncc_after > 0.95
        assert pair.residual_px < 0.1
        assert pair.specimen_fraction > 0.5


@pytest.mark.slow
def test_bad_pairs_are_listed_with_their_reason_and_do_not_stop_the_set(tmp_path, scenes):
    names = ["black", "good1", "good2", "good3", "nan", "small", "text", "unlike"]
    low, high = write_folders(tmp_path, scenes, names)
    tifffile.imwrite(low / "black.tif", np.zeros((128, 128), np.uint16))
    tifffile.imwrite(high / "nan.tif", np.full((256, 256), np.nan, np.float32))
    tifffile.imwrite(high / "small.tif", scenes(256).low())
    (high / "text.tif").write_text("no image")
    tifffile.imwrite(high / "unlike.tif", scenes(256, seed=99).high())
    pair_set = pair_folders(low, high, 2, tmp_path / "pairs")
    reasons = {name: pair.reason for name, pair in zip(names, pair_set.index.pairs, strict=True)}
    assert "black or constant" in reasons["black"]
    assert "nan.tif holds NaN" in reasons["nan"]
    assert "sizes do not fit factor 2" in reasons["small"]
    assert "text.tif cannot be read" in reasons["text"]
    assert reasons["unlike"] is not None
    assert [reasons[f"good{k}"] for k in (1, 2, 3)] == [None] * 3
    assert not (pair_set.path / pair_set.index.pairs[0].file).exists()


def as_camera(image, dtype, seed):
    """A noisy frame of about 1000 photo-electrons, in the range that people store such a dtype in."""
    counts = np.random.default_rng(seed).poisson(image / np.percentile(image, 99.9) * 1000 + 60)
    scale = {np.uint8: 0.18, np.uint16: 8.0, np.float32: 1 / 1500}[dtype]
    return (counts * scale).astype(dtype)


@pytest.mark.parametrize(
    ("factor", "low_dtype", "high_dtype", "high_side_px", "high_from_yx_px"),
    [
        (1, np.uint8, np.float32, 500, (230, 10)),
        (2, np.uint16, np.uint8, 320, (220, 180)),
        (4, np.float32, np.uint16, 540, (10, 170)),
    ],
)
@pytest.mark.slow
def test_every_factor_bears_other_sizes_depths_and_offsets(
    tmp_path, scenes, factor, low_dtype, high_dtype, high_side_px, high_from_yx_px
):
    side_px, low_from_yx_px = 400, np.array([150, 150])
    sharp = ndimage.gaussian_filter(scenes(760, seed=3, density=1.5).specimen, 1.0)
    top, left = low_from_yx_px
    low = ndimage.gaussian_filter(sharp, factor)[top : top + side_px, left : left + side_px]
    low = low.reshape(side_px // factor, factor, side_px // factor, factor).mean(axis=(1, 3))
    top, left = high_from_yx_px
    high = sharp[top : top + high_side_px, left : left + high_side_px]
    for name, image, dtype in (("low", low, low_dtype), ("high", high, high_dtype)):
        (tmp_path / name).mkdir()
        frame = as_camera(image, dtype, seed=len(name))
        if dtype == np.uint8:
            imsave(tmp_path / name / "field.png", frame, check_contrast=False)
        else:
            tifffile.imwrite(tmp_path / name / "field.tif", frame)
    (pair,) = pair_folders(tmp_path / "low", tmp_path / "high", factor, tmp_path / "pairs").index.pairs
    assert pair.reason is None
    middles = (side_px - high_side_px) // 2  # which are laid on each other
    np.testing.assert_allclose(pair.shift_yx_px, low_from_yx_px - high_from_yx_px + middles, atol=0.3)


def name_folders(path, lows, highs):
    for state, names in (("low", lows), ("high", highs)):
        (path / state).mkdir()
        for name in names:
            (path / state / name).write_text(name)
    return path / "low", path / "high"


@pytest.mark.parametrize(
    ("lows", "highs", "names"),
    [
        (["cell1_low.tif", "cell2_low.tif"], ["cell1_high.tif", "cell2_high.png"], ["cell1", "cell2"]),
        (["LR_001.tif", "LR_012.tif"], ["HR_001.tif", "HR_012.tif"], ["001", "012"]),
        (["low1.tif", "low12.tif"], ["high1.tif", "high12.tif"], ["1", "12"]),
        (["a.tif", "b.tif"], ["a_gt.tif", "b_gt.tif"], ["a", "b"]),
        (["x_1 low.ome.tif", "y_1 low.ome.tiff"], ["x_1 high.tif", "y_1 high.tif"], ["x", "y"]),
        (["a_1.tif", "a_2.tif"], ["a_1.tif", "a_2.tif"], ["a_1", "a_2"]),
        (["only.tif"], ["only.png"], ["only"]),
    ],
)
def test_names_match_without_what_all_names_of_a_folder_share(tmp_path, lows, highs, names):
    fields = read_folders(*name_folders(tmp_path, lows, highs), 2, "FITC", Optics()).fields
    assert [field.name for field in fields] == [f"region{k:04d}_{name}" for k, name in enumerate(names)]
    for field, low, high in zip(fields, lows, highs, strict=True):
        assert set(field.sources) == {f"low/{low}", f"high/{high}"}


@pytest.mark.parametrize(
    ("lows", "highs", "words"),
    [
        (["LR_1.tif", "LR_2.tif", "LR_3.tif"], ["HR_1.tif", "HR_2.tif"], "low has 'LR_3' and .*high has not"),
        (["LR_1.tif", "LR_2.tif"], ["HR_1.tif", "HR_2.tif", "HR_7.tif"], "high has 'HR_7' and .*low has not"),
        (["a_1.tif", "a_2.tif"], ["b_11.tif", "b_12.tif"], r"'a_1' .*\(2 do not match\)"),
        (["x_ab.tif", "x_ac.tif"], ["y_zb.tif", "y_zc.tif"], "'x_ab' and"),
        (["cell_low.tif"], ["cell_high.tif"], "'cell_low' and"),
    ],
)
def test_what_has_no_partner_is_named_as_it_is_written(tmp_path, lows, highs, words):
    with pytest.raises(WrongInputError, match=words):
        read_folders(*name_folders(tmp_path, lows, highs), 2, "FITC", Optics())


def focus_stack(sharp, planes=5):
    """A field that is in focus at the left of the first plane and at the right of the last one."""
    blurs = np.stack([ndimage.gaussian_filter(sharp.astype(np.float32), sigma) for sigma in range(planes)])
    depth = np.linspace(0, planes - 1, sharp.shape[1])
    columns = np.arange(sharp.shape[1])
    at = np.rint(np.abs(depth - np.arange(planes)[:, np.newaxis])).astype(int)
    return np.stack([blurs[row, :, columns].T for row in at]).astype(np.uint16)


def test_focus_stacks_are_fused_on_demand(tmp_path, scenes):
    low, high = write_folders(tmp_path, scenes, "a", side_px=240)
    sharp = tifffile.imread(high / "a.tif")
    tifffile.imwrite(high / "a.tif", focus_stack(sharp), imagej=True, metadata={"axes": "ZYX"})
    pair_set = pair_folders(low, high, 2, tmp_path / "pairs", extend_depth=True)
    assert pair_set.index.pairs[0].reason is None
    fused = read_folders(low, high, 2, "FITC", Optics(), extend_depth=True).fields[0].read().tiles[0][0]
    assert fused.shape == sharp.shape
    assert np.corrcoef(fused.ravel(), sharp.ravel())[0, 1] > 0.98


def write_rgb(path):
    tifffile.imwrite(path, np.zeros((320, 320, 3), np.uint8), photometric="rgb")


def write_channels(path):
    tifffile.imwrite(path, np.zeros((6, 320, 320), np.uint16), imagej=True, metadata={"axes": "CYX"})


def write_volumes(path):
    tifffile.imwrite(path, np.zeros((2, 5, 320, 320), np.uint16))


def write_saturated(path):
    stack = np.random.default_rng(0).integers(0, 1000, (5, 320, 320)).astype(np.uint16)
    stack[2, :40] = 65535
    tifffile.imwrite(path, stack)


def write_stack(path):
    tifffile.imwrite(path, np.zeros((5, 320, 320), np.uint16))


@pytest.mark.parametrize(
    ("write", "extend_depth", "words"),
    [
        (write_stack, False, r"a.tif is a stack of 5 planes.*--extend-depth"),
        (write_rgb, True, r"\(320, 320, 3\).*one channel per folder"),
        (write_channels, True, "6 channels.*one channel per folder"),
        (write_volumes, True, r"\(2, 5, 320, 320\).*one plane"),
        (write_saturated, True, "saturated: 12.50 %"),
    ],
)
def test_a_high_file_that_is_no_plane_is_left_out_with_the_remedy(
    tmp_path, scenes, write, extend_depth, words
):
    low, high = write_folders(tmp_path, scenes, "a")
    write(high / "a.tif")
    (field,) = read_folders(low, high, 2, "FITC", Optics(), extend_depth=extend_depth).fields
    with pytest.raises(UnusableFieldError, match=words):
        field.read()


def test_an_existing_pair_set_is_not_written_over(pair_set, folders):
    before = (pair_set.path / "pairs.json").read_bytes()
    with pytest.raises(WrongInputError, match="--overwrite"):
        pair_folders(*folders, 2, pair_set.path)
    assert (pair_set.path / "pairs.json").read_bytes() == before


def test_overwriting_replaces_the_whole_set(tmp_path, pair_set, scenes):
    old = shutil.copytree(pair_set.path, tmp_path / "pairs")
    low, high = write_folders(tmp_path / "images", scenes, ["other"], side_px=240)
    again = pair_folders(low, high, 2, old, channel="new", overwrite=True)
    assert [pair.channel for pair in again.index.pairs] == ["new"]
    assert not any(pair.file in {file.name for file in old.iterdir()} for pair in pair_set.index.pairs)


def test_a_folder_of_something_else_is_never_replaced(tmp_path, folders):
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(WrongInputError, match="not a pair set"):
        pair_folders(*folders, 2, tmp_path, overwrite=True)
    assert (tmp_path / "thesis.txt").read_text() == "years of work"


def test_progress_reaches_the_number_of_fields(pair_set, progress):
    assert progress == [(k, 4) for k in (1, 2, 3, 4)]


def empty(path, low, high):
    for image in high.iterdir():
        image.unlink()


def missing(path, low, high):
    high.rename(path / "elsewhere")


def unmatched(path, low, high):
    (high / "a.tif").rename(high / "z.tif")


def all_black(path, low, high):
    for image in low.iterdir():
        tifffile.imwrite(image, np.zeros((128, 128), np.uint16))


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
