"""The loop: the same curve by the same seed, whatever interrupts it, and nothing lost."""

import json
import math
import os
import signal
import subprocess
import sys
from dataclasses import dataclass

import numpy as np
import pytest
import torch

from configs.document import WrongInputError
from inference.generator import GeneratorPlan
from training.checkpoint import BEFORE, NEWEST, read_checkpoint
from training.interruption import Interruption
from training.pairing.pairs import PairSet
from training.patches import Patches, StoredPlanes, load_planes, prefetched
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
def test_a_resumed_run_gives_the_curve_of_an_undisturbed_one(pair_set, tmp_path, changes):
    plan = changed(**changes)
    Trainer(plan, pair_set, tmp_path / "whole").run()
    Trainer(plan.model_copy(update={"iterations": 10}), pair_set, tmp_path / "halves").run()
    Trainer(plan, pair_set, tmp_path / "halves", resume=True).run()
    assert history(tmp_path / "whole") == history(tmp_path / "halves")


def test_parts_of_a_batch_add_up_to_the_whole(pair_set, tmp_path):
    for name, accumulate in (("whole", 1), ("parts", 4)):
        plan = changed(accumulate=accumulate, learning_rate=PAPERS_RATE)
        Trainer(plan, pair_set, tmp_path / name).run()
    for whole, parts in zip(history(tmp_path / "whole"), history(tmp_path / "parts"), strict=True):
        assert parts == pytest.approx(whole, rel=1e-3)


def test_a_torn_newest_checkpoint_falls_back_to_the_one_before(pair_set, tmp_path, caplog):
    Trainer(PLAN, pair_set, tmp_path / "whole").run()
    Trainer(changed(iterations=15), pair_set, tmp_path / "torn").run()
    newest = tmp_path / "torn" / NEWEST
    newest.write_bytes(newest.read_bytes()[: newest.stat().st_size // 2])
    Trainer(PLAN, pair_set, tmp_path / "torn", resume=True).run()
    assert f"{NEWEST} cannot be read" in caplog.text
    assert history(tmp_path / "torn") == history(tmp_path / "whole")


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no limit on the size of a file")
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


def test_a_signal_that_torchrun_repeats_is_one_wish():
    interruption = Interruption()
    interruption.ask(signal.SIGINT, None)
    interruption.ask(signal.SIGTERM, None)  # at once again
    assert interruption


def test_a_second_run_into_the_same_folder_is_refused(pair_set, tmp_path):
    Trainer(PLAN, pair_set, tmp_path)
    with pytest.raises(WrongInputError, match="--resume"):
        Trainer(PLAN, pair_set, tmp_path)


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


def test_the_terms_keep_their_shares(pair_set, tmp_path):
    loss = LossPlan(mse_share=0.04, ssim_share=0.08)
    Trainer(changed(loss=loss, iterations=120, validate_every=20), pair_set, tmp_path).run()
    for line in history(tmp_path)[2:]:
        whole = line["adversarial"] + line["mse"] + line["ssim"]
        assert line["mse"] / whole == pytest.approx(0.04, rel=0.4)
        assert line["ssim"] / whole == pytest.approx(0.08, rel=0.4)
        assert line["mse_weight"] > 0


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


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGINT for one child process")
@pytest.mark.parametrize("blow", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)])
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
