"""Packages of a run folder, at any time and without training."""

import json
import shutil
import zipfile

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

from inference.generator import GeneratorPlan, build_generator
from inference.model_package import ServingCard, read_package
from sharpscope.cli import app
from training import export
from training.checkpoint import Checkpoint, write_checkpoint
from training.export import ModelSource, WeightsDisagreeError, export_package
from training.pairing.pairs import PairSet, SignalToNoise
from training.run import Lineage, write_lineage
from training.settings import TrainingPlan

PLAN = TrainingPlan(name="small", channel="FITC", generator=GeneratorPlan(base_width=4, levels=1, shuffle=2))


def generator(seed):
    torch.manual_seed(seed)
    return build_generator(PLAN.generator).eval()


@pytest.fixture
def run_folder(tmp_path, pair_set):
    """What a killed run leaves: three validations, the second the best, and a checkpoint of the third."""
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "training.json").write_text(PLAN.model_dump_json())
    lines = [{"iteration": 10 * k, "validation": loss} for k, loss in ((1, 3.0), (2, 1.0), (3, 2.0))]
    (folder / "history.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    save_file(generator(2).state_dict(), folder / "best.safetensors")
    tensors = {f"generator/{name}": value for name, value in generator(3).state_dict().items()}
    write_checkpoint(folder, Checkpoint(tensors, {"iteration": 30}))
    write_lineage(Lineage.of(pair_set), folder)
    return folder


def export_of(*arguments):
    return CliRunner().invoke(app, ["export", *map(str, arguments), "--json"])


def computes(model, expected):
    package = read_package(model)
    with torch.inference_mode():
        output = expected(torch.from_numpy(package.test_input)).numpy()
    return np.allclose(output, package.test_output, atol=1e-4)


def test_the_best_generator_of_a_run_becomes_a_package(run_folder, tmp_path, pair_set):
    done = export_of(run_folder, "-o", tmp_path / "model.zip")
    assert done.exit_code == 0, done.output
    figures = json.loads(done.stdout.splitlines()[-1])
    assert (figures["validation_loss"], figures["best_iteration"]) == (1.0, 20)
    assert computes(tmp_path / "model.zip", generator(2))
    lineage = read_package(tmp_path / "model.zip").card.lineage
    assert set(lineage) == {"pairs_sha256", "plan_sha256", "run_id"}


def test_a_package_names_every_file_it_or_the_model_it_began_with_was_trained_on(
    run_folder, tmp_path, pair_set
):
    export_of(run_folder, "-o", tmp_path / "model.zip")
    own = read_package(tmp_path / "model.zip").trained_on
    pairs = {split: pair_set.select(split, "FITC") for split in ("train", "validation", "test")}
    hashes = {split: {h for pair in pairs[split] for h in pair.sources.values()} for split in pairs}
    assert own == hashes["train"] | hashes["validation"]
    assert not own & hashes["test"]

    lineage = Lineage.of(pair_set, tmp_path / "model.zip")
    write_lineage(lineage.model_copy(update={"inherited": [*lineage.inherited, "f" * 64]}), run_folder)
    export_of(run_folder, "-o", tmp_path / "later.zip")
    assert read_package(tmp_path / "later.zip").trained_on == own | {"f" * 64}


def test_the_card_of_a_package_holds_what_was_measured_on_the_test_split(run_folder, tmp_path, pair_set):
    export_of(run_folder, "-o", tmp_path / "model.zip")
    card = zipfile.ZipFile(tmp_path / "model.zip").read("README.md").decode()
    assert "On 1 test field(s) that it was not trained on; truth: the acquired high image" in card
    rows = [line for line in card.splitlines() if line.startswith(("| ENHANCED", "| input", "| Lucy"))]
    assert [len(row.split("|")) for row in rows] == [13, 13, 13]

    test = pair_set.select("test", "FITC")[0]
    lineage = Lineage.of(pair_set).model_copy(update={"inherited": [*test.sources.values()]})
    write_lineage(lineage, run_folder)
    export_of(run_folder, "-o", tmp_path / "leaked.zip")
    card = zipfile.ZipFile(tmp_path / "leaked.zip").read("README.md").decode()
    assert "Not evaluated: its pair set holds no test field that it was not trained on" in card


def test_a_checkpoint_becomes_a_package(run_folder, tmp_path):
    done = export_of(
        run_folder, "-o", tmp_path / "m.zip", "--checkpoint", run_folder / "checkpoint.safetensors"
    )
    assert done.exit_code == 0, done.output
    figures = json.loads(done.stdout.splitlines()[-1])
    assert (figures["validation_loss"], figures["iteration"]) == (2.0, 30)
    assert computes(tmp_path / "m.zip", generator(3))


def test_of_a_run_with_a_moving_average_the_average_is_exported(run_folder, tmp_path):
    parts = {"generator": generator(3), "average": generator(4)}
    tensors = {f"{part}/{n}": v for part, network in parts.items() for n, v in network.state_dict().items()}
    write_checkpoint(run_folder, Checkpoint(tensors, {"iteration": 31}))
    done = export_of(
        run_folder, "-o", tmp_path / "m.zip", "--checkpoint", run_folder / "checkpoint.safetensors"
    )
    assert done.exit_code == 0, done.output
    assert computes(tmp_path / "m.zip", generator(4))


def test_a_pair_set_that_moved_is_named_and_one_that_changed_is_said_in_the_package(
    run_folder, tmp_path, pair_set
):
    moved = tmp_path / "moved"
    shutil.copytree(pair_set.path, moved)
    lineage = json.loads((run_folder / "lineage.json").read_text())
    (run_folder / "lineage.json").write_text(json.dumps(lineage | {"pairs": str(tmp_path / "gone")}))
    refused = export_of(run_folder, "-o", tmp_path / "m.zip")
    assert refused.exit_code == 2
    assert "--pairs" in refused.output
    assert export_of(run_folder, "-o", tmp_path / "m.zip", "--pairs", moved).exit_code == 0
    assert "trained_on_pairs_sha256" not in read_package(tmp_path / "m.zip").card.lineage

    (moved / "pairs.json").write_text((moved / "pairs.json").read_text() + "\n")
    (run_folder / "lineage.json").write_text(json.dumps(lineage | {"pairs": str(moved)}))
    refused = export_of(run_folder, "-o", tmp_path / "m.zip", "--overwrite")
    assert refused.exit_code == 2
    assert "changed" in refused.output
    assert export_of(run_folder, "-o", tmp_path / "m.zip", "--overwrite", "--pairs", moved).exit_code == 0
    found = read_package(tmp_path / "m.zip").card.lineage
    assert found["trained_on_pairs_sha256"] == lineage["pairs_sha256"] != found["pairs_sha256"]


WRONG = {
    "no run": (lambda folder: shutil.rmtree(folder), [], "not a training run"),
    "an older run": (lambda folder: (folder / "lineage.json").unlink(), [], "--pairs"),
    "no validation yet": (lambda folder: (folder / "best.safetensors").unlink(), [], "no generator yet"),
    "no such checkpoint": (lambda folder: None, ["--checkpoint", "none.safetensors"], "none.safetensors"),
    "not a zip": (lambda folder: None, ["-o", "model"], ".zip"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_is_named_and_nothing_is_written(run_folder, tmp_path, name):
    spoil, more, named = WRONG[name]
    spoil(run_folder)
    refused = export_of(run_folder, "-o", tmp_path / "m.zip", *more)
    assert refused.exit_code == 2, refused.output
    assert named in refused.output.replace("\n", " ")
    assert not (tmp_path / "m.zip").exists()


def test_a_checkpoint_of_another_network_is_refused(run_folder, tmp_path):
    other = PLAN.model_copy(update={"generator": GeneratorPlan(base_width=6, levels=1, shuffle=2)})
    (run_folder / "training.json").write_text(other.model_dump_json())
    checkpoint = run_folder / "checkpoint.safetensors"
    refused = export_of(run_folder, "-o", tmp_path / "m.zip", "--checkpoint", checkpoint)
    assert refused.exit_code == 2
    assert "same run" in refused.output.replace("\n", " ")


def test_a_package_is_not_written_over(run_folder, tmp_path):
    (tmp_path / "m.zip").write_bytes(b"mine")
    assert export_of(run_folder, "-o", tmp_path / "m.zip").exit_code == 2
    assert (tmp_path / "m.zip").read_bytes() == b"mine"


def test_weights_that_disagree_are_not_packaged(pair_set, tmp_path, monkeypatch):
    def forgetful_read(path):
        return {name: value + 0.001 for name, value in load_file(path).items()}

    monkeypatch.setattr(export, "load_file", forgetful_read)
    source = ModelSource(generator(1), PLAN, pair_set, {}, {})
    with pytest.raises(WeightsDisagreeError, match="no package was written") as caught:
        export_package(source, tmp_path / "m.zip")
    assert caught.value.disagreement > 1e-4
    assert not (tmp_path / "m.zip").exists()


def test_what_the_training_frames_were_like_stands_in_the_card(pair_set, tmp_path):
    ratios = iter([12.0, 40.0, 1.0, 1.0])
    pairs = [
        record.model_copy(update={"signal_to_noise": SignalToNoise(low=next(ratios), high=9.0)})
        for record in pair_set.index.pairs
    ]
    stated = PairSet(pair_set.path, pair_set.index.model_copy(update={"pairs": pairs}))
    model = export_package(ModelSource(generator(1), PLAN, stated, {}, {}), tmp_path / "m.zip")
    frames = read_package(model).card.frames
    assert (frames.signal_to_noise_min, frames.signal_to_noise_median, frames.signal_to_noise_max) == (
        12,
        26,
        40,
    )
    assert frames.saturated_fraction_max == 1e-3


def test_a_card_of_before_the_frame_statistics_is_read(model_zip):
    old = read_package(model_zip).card.model_dump()
    del old["frames"]
    assert ServingCard.model_validate(old).frames is None
