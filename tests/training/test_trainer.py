"""The loop: the same curve by the same seed, whatever interrupts it, and nothing lost."""

import json
import math
import os
import signal
import subprocess
import sys

import numpy as np
import pytest
import torch

from configs.document import WrongInputError
from inference.generator import GeneratorPlan
from training.checkpoint import BEFORE, NEWEST, read_checkpoint
from training.interruption import Interruption
from training.pairing.pairs import PairSet
from training.settings import DiscriminatorPlan, LossPlan, TrainingPlan, load_training_plan
from training.trainer import DivergenceError, Trainer

PLAN = TrainingPlan(
    name="test",
    channel="FITC",
    generator=GeneratorPlan(base_width=4, levels=2),
    discriminator=DiscriminatorPlan(base_width=2),
    learning_rate=1e-3,
    patch_px=32,
    batch=4,
    iterations=20,
    validate_every=5,
    precision="float32",
)

PAPERS_RATE = 1e-4
"""Ten times that, and the order in which a sum is rounded is seen after twenty iterations."""


def changed(**changes):
    return PLAN.model_copy(update=changes)


def history(folder):
    lines = (folder / "history.jsonl").read_text().splitlines()
    return [{k: v for k, v in json.loads(line).items() if k != "seconds"} for line in lines]


def test_training_lowers_the_validation_loss_and_keeps_the_best(pair_set, tmp_path):
    result = Trainer(changed(iterations=120, validate_every=10), pair_set, tmp_path / "run").run()
    losses = {line["iteration"]: line["validation"] for line in history(tmp_path / "run")}
    assert min(losses.values()) < 0.75 * losses[10]
    assert result.best_validation_loss == min(losses.values())
    assert losses[result.best_iteration] == result.best_validation_loss


def test_the_same_seed_gives_the_same_curve(pair_set, tmp_path):
    for name in "ab":
        Trainer(PLAN, pair_set, tmp_path / name).run()
    assert history(tmp_path / "a") == history(tmp_path / "b")


OPTIONS = {
    "the paper's": {},
    "steered shares": {"loss": LossPlan(mse_share=0.05, ssim_share=0.05)},
    "an average": {"average": 0.9},
    "a penalty": {"discriminator": DiscriminatorPlan(base_width=2, r1_weight=1.0, r1_every=3)},
    "relativistic": {"loss": LossPlan(gan="relativistic")},
    "parts": {"accumulate": 2},
}
QUICK = ("the paper's", "an average")
"""The others take their seconds in .ci/run."""


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param(changes, id=name, marks=() if name in QUICK else pytest.mark.slow)
        for name, changes in OPTIONS.items()
    ],
)
@pytest.mark.slow
def test_a_resumed_run_gives_the_curve_of_an_undisturbed_one(pair_set, tmp_path, changes):
    plan = changed(**changes)
    Trainer(plan, pair_set, tmp_path / "whole").run()
    Trainer(plan.model_copy(update={"iterations": 10}), pair_set, tmp_path / "halves").run()
    Trainer(plan, pair_set, tmp_path / "halves", resume=True).run()
    assert history(tmp_path / "whole") == history(tmp_path / "halves")


@pytest.mark.slow
def test_parts_of_a_batch_add_up_to_the_whole(pair_set, tmp_path):
    for name, accumulate in (("whole", 1), ("parts", 4)):
        plan = changed(accumulate=accumulate, learning_rate=PAPERS_RATE)
        Trainer(plan, pair_set, tmp_path / name).run()
    for whole, parts in zip(history(tmp_path / "whole"), history(tmp_path / "parts"), strict=True):
        assert parts == pytest.approx(whole, rel=1e-3)


@pytest.mark.slow
def test_a_torn_newest_checkpoint_falls_back_to_the_one_before(pair_set, tmp_path, caplog):
    Trainer(PLAN, pair_set, tmp_path / "whole").run()
    Trainer(changed(iterations=15), pair_set, tmp_path / "torn").run()
    newest = tmp_path / "torn" / NEWEST
    newest.write_bytes(newest.read_bytes()[: newest.stat().st_size // 2])
    Trainer(PLAN, pair_set, tmp_path / "torn", resume=True).run()
    assert f"{NEWEST} cannot be read" in caplog.text
    assert history(tmp_path / "torn") == history(tmp_path / "whole")


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no limit on the size of a file")
@pytest.mark.slow
def test_a_disk_that_is_full_is_named_and_the_run_goes_on_as_if_it_had_not_been(pair_set, tmp_path):
    import resource

    begun = Trainer(changed(iterations=5), pair_set, tmp_path / "cut")
    begun.run()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    full = (tmp_path / "cut" / NEWEST).stat().st_size - 1000
    goes_on = Trainer(PLAN, pair_set, tmp_path / "cut", resume=True)
    resource.setrlimit(resource.RLIMIT_FSIZE, (full, hard))
    try:
        with pytest.raises(OSError, match="checkpoint"):
            goes_on.run()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    Trainer(PLAN, pair_set, tmp_path / "cut", resume=True).run()
    Trainer(PLAN, pair_set, tmp_path / "whole").run()
    assert history(tmp_path / "cut") == history(tmp_path / "whole")


def test_without_any_readable_checkpoint_the_remedy_is_told(pair_set, tmp_path):
    Trainer(PLAN, pair_set, tmp_path).run()
    for name in (NEWEST, BEFORE):
        (tmp_path / name).write_bytes(b"nothing")
    with pytest.raises(WrongInputError, match="start the run anew"):
        Trainer(PLAN, pair_set, tmp_path, resume=True)


def test_a_run_does_not_go_on_as_another(pair_set, tmp_path):
    Trainer(PLAN, pair_set, tmp_path).run()
    before = (tmp_path / "training.json").read_bytes()
    with pytest.raises(WrongInputError, match="begun with another learning_rate and batch"):
        Trainer(changed(batch=2, learning_rate=1e-4), pair_set, tmp_path, resume=True)
    assert (tmp_path / "training.json").read_bytes() == before


def test_a_run_that_was_cut_in_its_last_iterations_is_validated_when_it_is_resumed(pair_set, tmp_path):
    trainer = Trainer(changed(iterations=3), pair_set, tmp_path)
    trainer._validate = lambda _monitor: True  # noqa: SLF001 - the run is cut before it is validated
    trainer.run()
    trainer._save()  # noqa: SLF001 - as an interrupt does
    result = Trainer(changed(iterations=3), pair_set, tmp_path, resume=True).run()
    assert result.best_iteration == 3
    assert (tmp_path / "best.safetensors").exists()


def test_a_signal_that_torchrun_repeats_is_one_wish():
    interruption = Interruption()
    interruption.ask(signal.SIGINT, None)
    interruption.ask(signal.SIGTERM, None)  # at once again
    assert interruption


def test_a_second_run_into_the_same_folder_is_refused(pair_set, tmp_path):
    Trainer(PLAN, pair_set, tmp_path)
    with pytest.raises(WrongInputError, match="--resume"):
        Trainer(PLAN, pair_set, tmp_path)


@pytest.mark.slow
def test_what_is_no_longer_finite_is_rolled_back_and_told(pair_set, tmp_path, caplog):
    Trainer(PLAN, pair_set, tmp_path).run()
    trainer = Trainer(changed(iterations=60), pair_set, tmp_path, resume=True)
    with torch.no_grad():
        trainer.networks.generator.first.weight.fill_(math.nan)
    result = trainer.run()
    assert result.roll_backs == 1
    assert "back to 20 with learning rates halved" in caplog.text
    (event,) = [json.loads(line) for line in (tmp_path / "events.jsonl").read_text().splitlines()]
    assert event["back_to"] == 20
    assert [line["iteration"] for line in history(tmp_path)] == list(range(5, 61, 5))
    assert all(math.isfinite(line["validation"]) for line in history(tmp_path))


def test_what_diverges_again_and_again_ends_with_the_best_kept(pair_set, tmp_path):
    hopeless = changed(iterations=200, learning_rate=1e6)
    with pytest.raises(DivergenceError, match="Lower the learning rate"):
        Trainer(hopeless, pair_set, tmp_path).run()


@pytest.mark.slow
def test_the_terms_keep_their_shares(pair_set, tmp_path):
    loss = LossPlan(mse_share=0.04, ssim_share=0.08)
    Trainer(changed(loss=loss, iterations=120, validate_every=20), pair_set, tmp_path).run()
    for line in history(tmp_path)[2:]:
        whole = line["adversarial"] + line["mse"] + line["ssim"]
        assert line["mse"] / whole == pytest.approx(0.04, rel=0.4)
        assert line["ssim"] / whole == pytest.approx(0.08, rel=0.4)
        assert line["mse_weight"] > 0


@pytest.mark.slow
def test_another_generators_weights_are_what_transfer_begins_with(pair_set, tmp_path):
    Trainer(changed(iterations=60), pair_set, tmp_path / "first").run()
    weights = Trainer.best_of(tmp_path / "first").state_dict()
    Trainer(changed(validate_every=1, iterations=1), pair_set, tmp_path / "on", start=weights).run()
    Trainer(changed(validate_every=1, iterations=1), pair_set, tmp_path / "scratch").run()
    assert history(tmp_path / "on")[0]["validation"] < 0.8 * history(tmp_path / "scratch")[0]["validation"]


def test_weights_of_another_network_are_refused(pair_set, tmp_path):
    Trainer(changed(generator=GeneratorPlan(base_width=8, levels=2)), pair_set, tmp_path / "first").run()
    weights = Trainer.best_of(tmp_path / "first").state_dict()
    with pytest.raises(WrongInputError, match="another network"):
        Trainer(PLAN, pair_set, tmp_path / "second", start=weights)
    assert not (tmp_path / "second").exists()


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"channel": "DAPI"}, "DAPI"),
        ({"patch_px": 256}, "smaller than the patch"),
        ({"patch_px": 30}, "multiple"),
        ({"accumulate": 3}, "accumulate 3"),
    ],
)
def test_a_plan_that_does_not_fit_the_pairs_is_named(pair_set, tmp_path, changes, named):
    with pytest.raises(WrongInputError, match=named):
        Trainer(changed(**changes), pair_set, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def presets():
    from importlib.resources import files

    return sorted(path.stem for path in files("configs").joinpath("training").iterdir())


@pytest.mark.parametrize("name", presets())
def test_the_presets_are_found_by_bare_name(name):
    assert load_training_plan(name).name


def test_an_unknown_key_is_named(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("name: mine\nchannel: FITC\nlearning_rat: 1\n")
    with pytest.raises(WrongInputError, match=r"mine.yaml: unknown key 'learning_rat'"):
        load_training_plan(str(path))


RUN = """
import sys
from pathlib import Path
from training.pairing.pairs import PairSet
from training.peers import together
from training.settings import TrainingPlan
from training.trainer import Trainer

plan = TrainingPlan.model_validate_json(sys.argv[1])
folder = Path(sys.argv[3])
resume = folder.exists()
with together("cpu") as (peers, device):
    pairs = PairSet.open(Path(sys.argv[2]))
    trainer = Trainer(plan, pairs, folder, device=device, resume=resume, peers=peers)
    print("ready", flush=True)
    trainer.run()
"""


def train_in_a_process(plan, pair_set: PairSet, folder, launcher=()):
    command = [sys.executable, *launcher, "-c", RUN] if not launcher else [sys.executable, *launcher]
    return subprocess.Popen(
        [*command, plan.model_dump_json(), str(pair_set.path), str(folder)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )  # fmt: skip


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGINT for one child process")
@pytest.mark.parametrize("blow", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_seals_the_run_and_loses_no_iteration(pair_set, tmp_path, blow):
    plan = changed(iterations=10_000, validate_every=50)
    process = train_in_a_process(plan, pair_set, tmp_path / "cut")
    while not (tmp_path / "cut" / NEWEST).exists():
        assert process.poll() is None, process.communicate()
    process.send_signal(blow)
    process.communicate(timeout=60)
    assert process.returncode != 0
    reached = read_checkpoint(tmp_path / "cut" / NEWEST).scalars["iteration"]
    more = changed(iterations=reached // 50 * 50 + 100, validate_every=50)
    for name in ("cut", "whole"):
        process = train_in_a_process(more, pair_set, tmp_path / name)
        assert process.wait(timeout=120) == 0, process.stderr.read()
    assert history(tmp_path / "cut") == history(tmp_path / "whole")


@pytest.mark.slow
def test_a_run_killed_at_any_moment_gives_the_curve_of_an_undisturbed_one(pair_set, tmp_path):
    plan = changed(iterations=200, validate_every=5)
    process = train_in_a_process(plan, pair_set, tmp_path / "whole")
    assert process.wait(timeout=120) == 0, process.stderr.read()
    random = np.random.default_rng(0)
    for _ in range(6):
        process = train_in_a_process(plan, pair_set, tmp_path / "killed")
        process.stdout.readline()  # ready
        try:
            process.wait(timeout=float(random.uniform(0.2, 1.5)))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    process = train_in_a_process(plan, pair_set, tmp_path / "killed")
    assert process.wait(timeout=120) == 0, process.stderr.read()
    assert history(tmp_path / "killed") == history(tmp_path / "whole")


@pytest.mark.slow
def test_two_processes_give_the_curve_of_one_with_the_doubled_batch(pair_set, tmp_path):
    script = tmp_path / "run.py"
    script.write_text(RUN)
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", str(script)]
    plan = changed(learning_rate=PAPERS_RATE)
    process = train_in_a_process(plan, pair_set, tmp_path / "two", launcher)
    _, error = process.communicate(timeout=200)
    assert process.returncode == 0, error
    doubled = plan.model_copy(update={"batch": 2 * plan.batch})
    process = train_in_a_process(doubled, pair_set, tmp_path / "one")
    assert process.wait(timeout=120) == 0, process.stderr.read()
    for two, one in zip(history(tmp_path / "two"), history(tmp_path / "one"), strict=True):
        assert two == pytest.approx(one, rel=1e-3)
