import json
import math

import numpy as np
import pytest
import torch
from skimage.metrics import structural_similarity

from configs.document import WrongInputError
from inference.generator import GeneratorPlan
from training.discriminator import Discriminator
from training.losses import discriminator_loss, generator_terms, ssim
from training.patches import Patches, load_planes
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


def history(folder):
    lines = (folder / "history.jsonl").read_text().splitlines()
    return [{k: v for k, v in json.loads(line).items() if k != "seconds"} for line in lines]


def test_training_lowers_the_validation_loss_and_keeps_the_best(pair_set, tmp_path):
    plan = PLAN.model_copy(update={"iterations": 120, "validate_every": 10})
    result = Trainer(plan, pair_set, tmp_path / "run").run()
    losses = {line["iteration"]: line["validation"] for line in history(tmp_path / "run")}
    assert min(losses.values()) < 0.75 * losses[10]
    assert result.best_validation_loss == min(losses.values())
    assert losses[result.best_iteration] == result.best_validation_loss


def test_the_same_seed_gives_the_same_curve(pair_set, tmp_path):
    for name in "ab":
        Trainer(PLAN, pair_set, tmp_path / name).run()
    assert history(tmp_path / "a") == history(tmp_path / "b")


def test_a_resumed_run_gives_the_curve_of_an_undisturbed_one(pair_set, tmp_path):
    Trainer(PLAN, pair_set, tmp_path / "whole").run()
    half = PLAN.model_copy(update={"iterations": 10})
    Trainer(half, pair_set, tmp_path / "halves").run()
    Trainer(PLAN, pair_set, tmp_path / "halves", resume=True).run()
    assert history(tmp_path / "whole") == history(tmp_path / "halves")


def test_a_second_run_into_the_same_folder_is_refused(pair_set, tmp_path):
    Trainer(PLAN, pair_set, tmp_path)
    with pytest.raises(WrongInputError, match="--resume"):
        Trainer(PLAN, pair_set, tmp_path)


def test_divergence_is_told_and_keeps_the_best_generator(pair_set, tmp_path):
    trainer = Trainer(PLAN, pair_set, tmp_path)
    trainer.run()
    trainer = Trainer(PLAN.model_copy(update={"iterations": 40}), pair_set, tmp_path, resume=True)
    with torch.no_grad():
        trainer.generator.first.weight.fill_(math.nan)
    with pytest.raises(DivergenceError, match="iteration 20"):
        trainer.run()
    assert (tmp_path / "best.safetensors").exists()


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"channel": "DAPI"}, "DAPI"),
        ({"patch_px": 256}, "smaller than the patch"),
        ({"patch_px": 30}, "multiple"),
    ],
)
def test_a_plan_that_does_not_fit_the_pairs_is_named(pair_set, tmp_path, changes, named):
    with pytest.raises(WrongInputError, match=named):
        Trainer(PLAN.model_copy(update=changes), pair_set, tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("name", ["demo", "paper"])
def test_the_presets_are_found_by_bare_name(name):
    assert load_training_plan(name).channel == "FITC"


def test_an_unknown_key_is_named(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("name: mine\nchannel: FITC\nlearning_rat: 1\n")
    with pytest.raises(WrongInputError, match=r"mine.yaml: unknown key 'learning_rat'"):
        load_training_plan(str(path))


def test_ssim_agrees_with_scikit_image():
    random = np.random.default_rng(0)
    a = random.uniform(0, 255, (64, 64)).astype(np.float32)
    b = a + random.normal(0, 20, a.shape).astype(np.float32)
    window = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
    _, expected = structural_similarity(a, b, data_range=255, full=True, **window)
    ours = float(ssim(torch.from_numpy(a)[None, None], torch.from_numpy(b)[None, None]))
    assert ours == pytest.approx(expected[5:-5, 5:-5].mean(), abs=1e-4)


def test_the_losses_are_the_papers_at_known_values():
    zero_logits = torch.zeros(3)
    assert float(discriminator_loss(zero_logits, zero_logits)) == pytest.approx(2 * math.log(2))
    a, b = torch.zeros(1, 1, 32, 32), torch.full((1, 1, 32, 32), 25.5)
    terms = generator_terms(b, b, zero_logits, LossPlan())
    assert float(terms.adversarial) == pytest.approx(math.log(2))
    assert float(terms.fidelity) == pytest.approx(0.0, abs=1e-6)
    assert float(generator_terms(a, b, None, LossPlan(mse_weight=3.0, ssim_weight=0)).total) == pytest.approx(
        0.03
    )


def test_the_discriminator_takes_any_patch_and_learns_to_tell_two_textures_apart():
    torch.manual_seed(0)
    discriminator = Discriminator(4)
    adam = torch.optim.Adam(discriminator.parameters(), 1e-3)
    smooth, rough = torch.full((8, 1, 64, 64), 100.0), torch.rand(8, 1, 64, 64) * 200
    for _ in range(30):
        loss = discriminator_loss(discriminator(rough), discriminator(smooth))
        adam.zero_grad()
        loss.backward()
        adam.step()
    assert float(loss.detach()) < 0.2
    assert discriminator(torch.zeros(2, 1, 96, 80)).shape == (2,)


def test_both_planes_of_a_patch_are_turned_alike(pair_set):
    planes = load_planes(pair_set, "train", "FITC")
    twins = [type(pair)(pair.low, pair.low * 2) for pair in planes]
    low, high = Patches(twins, 32, 16, seed=3).draw()
    assert low.shape == (16, 1, 32, 32)
    np.testing.assert_array_equal(high, 2 * low)
