"""The panels of pair sets and training runs say what stands in their folders."""

import io
import json
import shutil

import numpy as np
import pytest
from PIL import Image

from configs.document import WrongInputError
from training.pairing.pairs import PairSet
from training.pairing.pairs_panel import PairsPanel
from training.run_panel import MOST_POINTS, TrainingPanel


def append(folder, *lines):
    with (folder / "history.jsonl").open("a") as stream:
        stream.writelines(json.dumps(line) + "\n" for line in lines)


def curve(panel, name):
    return next(curve for curve in panel.content()["curves"] if curve["name"] == name)


@pytest.fixture
def pairs(pair_set, tmp_path):
    """A copy of the small pair set, with one pair left out and one that is equal low and high."""
    folder = tmp_path / "pairs"
    shutil.copytree(pair_set.path, folder)
    index = pair_set.index
    refused = index.pairs[1].model_copy(
        update={"accepted": False, "reason": "misaligned: 0.81 px are left, more than 0.5 px"}
    )
    copy = PairSet(folder, index.model_copy(update={"pairs": [index.pairs[0], refused, *index.pairs[2:]]}))
    low, _ = copy.read(index.pairs[0])
    PairSet.write_pair(folder / index.pairs[0].file, low, low, 0.325)
    copy.save_index()
    return copy


def test_pairs_are_counted_and_those_left_out_have_their_reason(pairs):
    content = PairsPanel(pairs.path).content()
    (row,) = content["counts"]
    assert row == {"channel": "FITC", "train": 1, "validation": 1, "test": 1, "accepted": 3, "left_out": 1}
    assert content["left_out_because"] == [{"reason": "misaligned", "pairs": 1}]
    assert [pair["accepted"] for pair in content["pairs"]] == [True, False, True, True]
    assert content["pairs"][1]["reason"] == "misaligned: 0.81 px are left, more than 0.5 px"


def test_low_high_and_difference_can_be_compared(pairs):
    panel = PairsPanel(pairs.path)
    stem = panel.content()["pairs"][0]["pictures"]
    low, high, difference = (
        np.asarray(Image.open(io.BytesIO(panel.picture(f"{stem}_{kind}"))))
        for kind in ("low", "high", "difference")
    )
    assert (low == high).all()
    assert low.max() == 255
    assert not difference.any()  # low and high are the same
    other = panel.content()["pairs"][2]["pictures"]
    assert np.asarray(Image.open(io.BytesIO(panel.picture(f"{other}_difference")))).any()
    overlay = np.asarray(Image.open(io.BytesIO(panel.picture(f"{other}_detail_overlay"))))
    assert overlay.shape == (192, 192, 3)


def test_a_set_that_is_made_anew_is_read_again_and_shown_until_then(pairs):
    panel = PairsPanel(pairs.path)
    before, stem = panel.version(), panel.content()["pairs"][0]["pictures"]
    (pairs.path / "pairs.json").rename(pairs.path / "aside")
    assert panel.version() == before
    assert len(panel.content()["pairs"]) == 4
    index = pairs.index.model_copy(update={"pairs": pairs.index.pairs[:1]})
    PairSet(pairs.path, index).save_index()
    assert panel.version() != before
    assert len(panel.content()["pairs"]) == 1
    with pytest.raises(KeyError):
        panel.picture(f"{stem}_low")  # of the set before


def test_an_empty_set_is_shown_as_such(pairs):
    PairSet(pairs.path, pairs.index.model_copy(update={"pairs": []})).save_index()
    content = PairsPanel(pairs.path).content()
    assert (content["counts"], content["pairs"]) == ([], [])


@pytest.mark.parametrize("name", ["", "../pairs.json", "low", "pair00000_low"])
def test_a_picture_of_no_pair_is_refused(pairs, name):
    with pytest.raises(KeyError):
        PairsPanel(pairs.path).picture(name)


def test_a_pair_without_its_file_has_no_picture(pairs):
    panel = PairsPanel(pairs.path)
    (pairs.path / pairs.index.pairs[1].file).unlink()
    with pytest.raises(KeyError, match="left out"):
        panel.picture(f"{panel.content()['pairs'][1]['pictures']}_low")


def test_the_last_value_of_each_curve_is_the_historys(run_folder, history):
    panel = TrainingPanel(run_folder)
    for name in ("validation", "mse", "ssim", "adversarial", "discriminator"):
        assert curve(panel, name)["values"][-1] == history[-1][name]
    assert panel.content()["progress"]["iteration"] == 1000
    assert panel.content()["best"] == {"iteration": 1000, "validation": history[-1]["validation"]}


def test_a_curve_grows_with_the_history_and_a_torn_line_waits(run_folder, history):
    panel = TrainingPanel(run_folder)
    before = panel.version()
    with (run_folder / "history.jsonl").open("a") as stream:
        stream.write('{"iteration": 1100, "validation": 0.0')
    assert len(curve(panel, "validation")["values"]) == len(history)
    assert panel.version() == before
    with (run_folder / "history.jsonl").open("a") as stream:
        stream.write('2, "seconds": 66.0}\n')
    assert curve(panel, "validation")["values"][-1] == 0.02
    assert panel.version() != before


def test_a_run_that_was_rolled_back_forgets_what_came_after(run_folder, history):
    panel = TrainingPanel(run_folder)
    panel.content()
    (run_folder / "history.jsonl").write_text("".join(json.dumps(line) + "\n" for line in history[:3]))
    later = [{**line, "validation": 9.0, "note": 123456789.0} for line in history[3:]]
    append(run_folder, *later)
    values = curve(panel, "validation")["values"]
    assert values == [line["validation"] for line in history[:3]] + [9.0] * 7


def test_figures_of_validation_have_charts_of_their_own(run_folder, history):
    append(
        run_folder, {**history[-1], "iteration": 1100, "validation_ssim": 0.91, "validation_psnr_db": 31.5}
    )
    panel = TrainingPanel(run_folder)
    assert curve(panel, "validation_ssim")["chart"] == "ssim"
    assert curve(panel, "validation_psnr_db")["chart"] == "psnr"
    assert curve(panel, "ssim")["chart"] == "generator"  # a term of the loss


def test_a_long_history_is_thinned_and_keeps_its_end(run_folder):
    (run_folder / "history.jsonl").write_text("")
    append(
        run_folder, *({"iteration": k, "seconds": k, "validation": 1 / k} for k in range(1, 3 * MOST_POINTS))
    )
    drawn = curve(TrainingPanel(run_folder), "validation")
    assert len(drawn["values"]) <= MOST_POINTS
    assert drawn["values"][-1] == 1 / (3 * MOST_POINTS - 1)


def test_the_time_left_goes_by_the_part_of_the_budget_that_is_spent(run_folder):
    (run_folder / "history.jsonl").write_text("")
    append(run_folder, {"iteration": 250, "seconds": 60.0, "validation": 0.5})
    progress = TrainingPanel(run_folder).content()["progress"]
    assert (progress["spent"], progress["left_s"]) == (0.25, 180.0)


def test_a_run_before_its_first_validation_is_empty_and_fine(run_folder):
    (run_folder / "history.jsonl").unlink()
    content = TrainingPanel(run_folder).content()
    assert (content["curves"], content["best"], content["progress"]["left_s"]) == ([], None, None)
    assert json.loads(json.dumps(content)) == content


def test_the_progress_picture_is_served_by_the_name_of_its_moment_only(run_folder):
    panel = TrainingPanel(run_folder)
    assert panel.content()["pictures"] == []
    Image.new("L", (8, 8)).save(run_folder / "progress.png")
    ((name,),) = [[picture["name"] for picture in panel.content()["pictures"]]]
    assert panel.picture(name) == (run_folder / "progress.png").read_bytes()
    for other in ("progress.png", "best.safetensors", "../run/progress.png", ""):
        with pytest.raises(KeyError):
            panel.picture(other)


@pytest.mark.parametrize(("make", "what"), [(PairsPanel, "a pair set"), (TrainingPanel, "a training run")])
def test_another_folder_is_refused_in_one_line(tmp_path, make, what):
    with pytest.raises(WrongInputError, match=f"is not {what}") as refusal:
        make(tmp_path)
    assert "\n" not in str(refusal.value)
