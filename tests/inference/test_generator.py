"""Both architectures: where they start, how far they reach, and that what is exported is what was trained."""

import numpy as np
import onnxruntime
import pytest
import torch

from inference import attention
from inference.backends import open_backend
from inference.generator import (
    START_LOG_VARIANCE,
    GeneratorPlan,
    MeanOnly,
    build_generator,
    image_of,
    log_variance_of,
)
from inference.model_package import read_package
from inference.tiling import plan_tiles
from training.export import ModelSource, export_package
from training.settings import TrainingPlan

PLANS = {
    "unet, 1 level": GeneratorPlan(base_width=2, levels=1),
    "unet, 3 levels": GeneratorPlan(base_width=2, levels=3),
    "unet, 2 levels, shuffled": GeneratorPlan(base_width=2, levels=2, shuffle=2),
    "attention, 1 group": GeneratorPlan(kind="attention", base_width=4, levels=1),
    "attention, 2 groups, shuffled": GeneratorPlan(kind="attention", base_width=4, levels=2, shuffle=2),
}
DEVICES = ("cpu-float32", "torch-cpu")
every_plan = pytest.mark.parametrize("plan", PLANS.values(), ids=PLANS.keys())


def changed(plan, **changes):
    return plan.model_copy(update=changes)


def speckle(height, width, batch=1, seed=0):
    """Sparse bright points, (B, 1, H, W) on the 0 to 255 scale."""
    random = np.random.default_rng(seed)
    image = random.uniform(size=(batch, 1, height, width)) ** 8 * 255
    return torch.from_numpy(image.astype(np.float32))


def trained(plan):
    """A generator that is no longer what it was built as: every layer does something."""
    torch.manual_seed(0)
    generator = build_generator(plan).eval()
    with torch.no_grad():
        for parameter in generator.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return generator


def test_the_papers_generator_has_its_size_and_reach():
    plan = GeneratorPlan()
    size = sum(parameter.numel() for parameter in build_generator(plan).parameters())
    assert size == pytest.approx(14.9e6, rel=0.01)
    assert plan.receptive_radius_px == pytest.approx(136, abs=4)


@every_plan
@pytest.mark.parametrize("uncertainty", [False, True])
def test_with_a_global_residual_training_begins_at_the_identity(plan, uncertainty):
    low = speckle(64, 96, batch=2)
    output = build_generator(changed(plan, global_residual=True, uncertainty=uncertainty))(low)
    assert torch.equal(image_of(output), low)


@every_plan
@pytest.mark.parametrize("global_residual", [False, True])
def test_an_uncertain_generator_adds_a_log_variance_that_starts_plausible(plan, global_residual):
    plan = changed(plan, uncertainty=True, global_residual=global_residual)
    output = build_generator(plan)(speckle(64, 96, batch=2))
    assert output.shape == (2, 2, 64, 96)
    assert torch.all(log_variance_of(output) == START_LOG_VARIANCE)


@every_plan
def test_a_certain_generator_has_no_log_variance(plan):
    output = build_generator(plan)(speckle(64, 64))
    assert output.shape == (1, 1, 64, 64)
    assert log_variance_of(output) is None


@every_plan
def test_the_image_of_an_uncertain_generator_is_the_certain_ones(plan):
    torch.manual_seed(0)
    certain = build_generator(plan)
    uncertain = build_generator(changed(plan, uncertainty=True))
    shared = certain.state_dict()
    own = uncertain.state_dict()
    for name, value in shared.items():
        own[name][: len(value)] = value  # the last layer has more channels, the others as many
    low = speckle(64, 64)
    torch.testing.assert_close(MeanOnly(uncertain)(low), certain(low))


@every_plan
def test_a_fresh_generator_neither_drowns_nor_blows_up_its_input(plan):
    torch.manual_seed(0)
    low = speckle(96, 96)
    with torch.inference_mode():
        high = build_generator(changed(plan, base_width=16))(low)
    assert 1e-3 < float(high.std() / low.std()) < 10


def reached_px(generator, side, y, x):
    """How far from output pixel (y, x) an input pixel still changes it, by the gradient."""
    low = speckle(side, side).requires_grad_()
    generator(low)[0, 0, y, x].backward()
    rows, columns = torch.nonzero(low.grad[0, 0], as_tuple=True)
    return max(int((rows - y).abs().max()), int((columns - x).abs().max()))


@every_plan
def test_no_pixel_beyond_the_receptive_radius_matters(plan):
    generator = trained(plan)
    step, radius = plan.step, plan.receptive_radius_px
    side = 2 * (radius // step + 2) * step
    middle = side // 2
    places = (middle, middle + step // 2 - 1, middle + step // 2, middle + step - 1)
    assert max(reached_px(generator, side, place, place) for place in places) <= radius


def test_the_attentions_reach_is_stated_without_slack():
    plan = PLANS["attention, 1 group"]
    generator = trained(plan)
    side = 2 * (plan.receptive_radius_px // plan.step + 2) * plan.step
    # A place in the middle of a window looks farthest: its gate takes the whole next window.
    reached = max(reached_px(generator, side, side // 2 + k, side // 2 + k) for k in range(plan.step))
    # Blocks in a row sit on one grid, so the farthest place of each is not the farthest of the next.
    assert reached >= plan.receptive_radius_px - attention.BLOCKS_PER_GROUP * attention.WINDOW // 2


@every_plan
def test_tiles_with_a_halo_of_the_receptive_radius_give_the_whole_image(plan):
    generator = trained(plan).double()  # in double, what is left is reach and not rounding
    step = plan.step
    height, width = (-(-side // step) * step for side in (160, 2 * plan.receptive_radius_px + 80))
    low = speckle(height, width).double()
    with torch.inference_mode():
        whole = generator(low)
        tiled = torch.full_like(whole, torch.nan)
        for tile in plan_tiles((height, width), 48, plan.receptive_radius_px, step):
            tiled[:, :, *tile.write] = generator(low[:, :, *tile.read])[:, :, *tile.keep]
    assert (whole - tiled).abs().max() < 1e-10 * whole.std()


@every_plan
def test_bfloat16_agrees_and_the_layout_does_not_matter(plan):
    generator, low = trained(changed(plan, uncertainty=True, global_residual=True)), speckle(64, 64)
    with torch.inference_mode():
        reference = generator(low)
        generator.to(memory_format=torch.channels_last)
        torch.testing.assert_close(generator(low), reference, rtol=1e-4, atol=1e-3)
        with torch.autocast("cpu", torch.bfloat16):
            narrow = generator(low).float()
    change = (image_of(reference) - low).std()
    assert (image_of(narrow) - image_of(reference)).std() < 0.05 * change


@pytest.mark.parametrize("kind", ["unet", "attention"])
@pytest.mark.parametrize("uncertainty", [False, True])
def test_the_exported_package_serves_the_image_alone_and_agrees(kind, uncertainty, pair_set, tmp_path):
    generator = GeneratorPlan(
        kind=kind, base_width=4, levels=1, shuffle=2, global_residual=True, uncertainty=uncertainty
    )
    plan = TrainingPlan(name="small", channel="FITC", generator=generator)
    network = trained(generator)
    package = read_package(export_package(ModelSource(network, plan, pair_set, {}, {}), tmp_path / "m.zip"))
    low = speckle(96, 128, batch=2).numpy()  # neither the size nor the batch of the export's example
    with torch.inference_mode():
        expected = image_of(network(torch.from_numpy(low))).numpy()
    session = onnxruntime.InferenceSession(package.onnx, providers=["CPUExecutionProvider"])
    outputs = [session.run(None, {"low": low})[0], *(open_backend(package, d).run(low) for d in DEVICES)]
    for output in outputs:
        assert output.shape == low.shape
        assert np.abs(output - expected).max() < 1e-4 * expected.std()
