"""Loss terms at known values, the algebra of the shares, and what holds a discriminator down."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from skimage.metrics import structural_similarity
from torch import nn
from torch.nn import functional

from inference.generator import START_LOG_VARIANCE
from training.discriminator import SPECTRAL_GAIN, Discriminator
from training.losses import (
    LEAST_LOG_VARIANCE,
    LEAST_TERM,
    LEAST_TOTAL,
    Weights,
    discriminator_loss,
    fourier_distance,
    generator_terms,
    r1_penalty,
    ssim,
    uncertain_error,
    weights_for_shares,
)
from training.settings import DiscriminatorPlan, LossPlan

GANS = ("paper", "hinge", "relativistic")
ONES = Weights(mse=1.0, ssim=1.0, fourier=1.0)


def image(value=0.0, side=32):
    return torch.full((1, 1, side, side), float(value))


def noise(std, seed=0, batch=1, side=64):
    return std * torch.randn(batch, 1, side, side, generator=torch.Generator().manual_seed(seed))


def adversarial(logits, gan, logits_true=None):
    plan = LossPlan(gan=gan)
    return float(generator_terms(image(), image(), torch.tensor(logits), plan, logits_true).adversarial)


def softplus(x):
    return math.log1p(math.exp(x))


# ---- the adversarial terms


def test_the_papers_losses_are_the_logarithms_of_the_probabilities():
    true, generated = torch.tensor([2.0, 0.0]), torch.tensor([-1.0, 1.0])
    expected = np.mean([-math.log(1 / (1 + math.exp(-x))) for x in (2.0, 0.0)])
    expected += np.mean([-math.log(1 - 1 / (1 + math.exp(-x))) for x in (-1.0, 1.0)])
    assert float(discriminator_loss(true, generated)) == pytest.approx(expected)
    assert adversarial([0.0, 0.0], "paper") == pytest.approx(math.log(2))
    assert adversarial([-3.0], "paper") == pytest.approx(softplus(3.0))


def test_a_hinge_asks_for_no_more_than_its_margin():
    assert float(discriminator_loss(torch.tensor([1.0, 7.0]), torch.tensor([-1.0, -9.0]), "hinge")) == 0.0
    assert float(discriminator_loss(torch.tensor([0.0]), torch.tensor([0.5]), "hinge")) == 2.5
    assert adversarial([2.0, -4.0], "hinge") == pytest.approx(1.0)


def test_the_relativistic_losses_see_only_differences():
    true, generated = torch.tensor([1.0, 3.0]), torch.tensor([0.0, -2.0])
    before = float(discriminator_loss(true, generated, "relativistic"))
    expected = np.mean([softplus(-2.0), softplus(-4.0)]) + np.mean([softplus(-2.0), softplus(-4.0)])
    assert before == pytest.approx(expected)
    assert float(discriminator_loss(true + 50, generated + 50, "relativistic")) == pytest.approx(before)


def test_the_relativistic_generator_wants_what_the_discriminator_avoids():
    true, generated = [1.0, 3.0, -0.5], [0.0, -2.0, 4.0]
    exchanged = discriminator_loss(torch.tensor(generated), torch.tensor(true), "relativistic")
    assert adversarial(generated, "relativistic", torch.tensor(true)) == pytest.approx(float(exchanged))
    assert adversarial(true, "relativistic", torch.tensor(true)) == pytest.approx(
        float(discriminator_loss(torch.tensor(true), torch.tensor(true), "relativistic"))
    )


def test_the_relativistic_generator_needs_the_true_logits():
    with pytest.raises(ValueError, match="logits of the true patches"):
        adversarial([0.0], "relativistic")


@pytest.mark.parametrize("gan", GANS)
def test_each_loss_falls_for_its_own_side(gan):
    low, high = torch.tensor([-0.5, -0.4]), torch.tensor([0.5, 0.4])
    assert discriminator_loss(high, low, gan) < discriminator_loss(low, high, gan)
    assert adversarial([0.5, 0.4], gan, low) < adversarial([-0.5, -0.4], gan, high)


@pytest.mark.parametrize("gan", GANS)
def test_huge_logits_give_finite_losses_and_gradients(gan):
    logits = torch.tensor([-1e4, 1e4], requires_grad=True)
    loss = discriminator_loss(logits, -logits, gan)
    loss.backward()
    assert math.isfinite(float(loss.detach()))
    assert torch.isfinite(logits.grad).all()


# ---- the terms that compare with the truth


def test_the_terms_come_unweighted_and_the_weights_are_applied_once():
    a, b = image(100.0), image(125.5)
    terms = generator_terms(a, b, torch.zeros(2), LossPlan(fourier_weight=1.0))
    assert float(terms.adversarial) == pytest.approx(math.log(2))
    assert float(terms.mse) == pytest.approx(0.01)
    assert float(terms.ssim) == pytest.approx(-math.log((1 + float(ssim(a, b))) / 2))
    assert float(terms.fourier) == pytest.approx(float(fourier_distance(a, b)))
    weights = Weights(mse=3.0, ssim=5.0, fourier=7.0)
    fidelity = 3 * float(terms.mse) + 5 * float(terms.ssim) + 7 * float(terms.fourier)
    assert float(terms.fidelity(weights)) == pytest.approx(fidelity)
    assert float(terms.total(weights)) == pytest.approx(math.log(2) + fidelity)
    assert float(sum(terms.weighted(weights).values())) == pytest.approx(float(terms.total(weights)))
    assert list(terms.weighted(weights)) == list(terms.raw())


def test_a_perfect_image_has_no_fidelity_loss():
    terms = generator_terms(noise(30.0), noise(30.0), None, LossPlan(fourier_weight=1.0))
    assert float(terms.total(ONES)) == pytest.approx(0.0, abs=1e-6)


def test_terms_that_the_plan_does_not_weigh_are_not_computed():
    terms = generator_terms(image(0), image(255), None, LossPlan(ssim_weight=0))
    assert {name: float(value) for name, value in terms.raw().items()} == {
        "adversarial": 0.0, "mse": 1.0, "ssim": 0.0, "fourier": 0.0,
    }  # fmt: skip


def test_a_share_alone_asks_for_the_ssim():
    terms = generator_terms(image(0), image(255), None, LossPlan(ssim_weight=0, ssim_share=0.05))
    assert float(terms.ssim) > 0


def test_ssim_agrees_with_scikit_image():
    random = np.random.default_rng(0)
    a = random.uniform(0, 255, (64, 64)).astype(np.float32)
    b = a + random.normal(0, 20, a.shape).astype(np.float32)
    window = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
    _, expected = structural_similarity(a, b, data_range=255, full=True, **window)
    ours = float(ssim(torch.from_numpy(a)[None, None], torch.from_numpy(b)[None, None]))
    assert ours == pytest.approx(expected[5:-5, 5:-5].mean(), abs=1e-4)


# ---- the spectrum


def test_white_noise_has_a_fourier_distance_of_its_standard_deviation():
    distance = float(fourier_distance(noise(25.5, batch=16), torch.zeros(16, 1, 64, 64)))
    assert distance == pytest.approx(0.1 * math.sqrt(math.pi) / 2, rel=0.02)


def test_the_fourier_distance_does_not_depend_on_the_patch():
    small, large = (
        fourier_distance(noise(25.5, batch=8, side=side), torch.zeros(8, 1, side, side)) for side in (32, 128)
    )
    assert float(small) == pytest.approx(float(large), rel=0.05)


def test_of_two_errors_of_one_size_the_fine_one_counts_more():
    y = torch.arange(64.0)[:, None].expand(64, 64)[None, None]
    smooth = 20 * torch.sin(2 * math.pi * y / 32)
    rough = noise(20 / math.sqrt(2))
    assert float(smooth.square().mean()) == pytest.approx(float(rough.square().mean()), rel=0.1)
    flat = torch.zeros_like(rough)
    assert float(fourier_distance(rough, flat)) > 5 * float(fourier_distance(smooth, flat))


def test_structure_in_the_wrong_place_is_far_in_the_spectrum():
    structure = noise(30.0)
    moved = structure.roll(3, dims=-1)
    assert float(fourier_distance(structure, moved)) > 0.1


def test_the_gradient_at_no_difference_is_zero_and_not_nan():
    a = noise(30.0).requires_grad_()
    fourier_distance(a, a.detach().clone()).backward()
    assert torch.equal(a.grad, torch.zeros_like(a))


# ---- uncertainty


def test_at_the_starting_variance_the_error_weighs_as_the_mse():
    log_variance = image(START_LOG_VARIANCE)
    without = float(uncertain_error(image(0), image(0), log_variance))
    floor = math.exp(START_LOG_VARIANCE) * (START_LOG_VARIANCE - LEAST_LOG_VARIANCE)
    assert without == pytest.approx(floor, rel=1e-3)
    error = uncertain_error(image(0), image(25.5), log_variance)
    assert float(error) - without == pytest.approx(0.01, rel=1e-3)


def test_the_likelihood_is_greatest_at_the_true_variance():
    truth = noise(12.0, side=256)
    true_log_variance = 2 * math.log(12 / 255)
    guesses = torch.linspace(-10, -2, 161)
    losses = [float(uncertain_error(image(side=256), truth, image(g, side=256))) for g in guesses]
    assert float(guesses[int(np.argmin(losses))]) == pytest.approx(true_log_variance, abs=0.1)


@given(st.floats(-1e3, 1e3), st.floats(0, 255))
def test_no_log_variance_makes_the_likelihood_negative_or_infinite(log_variance, error):
    claimed = image(log_variance, side=2).requires_grad_()
    loss = uncertain_error(image(0, side=2), image(error, side=2), claimed)
    loss.backward()
    assert 0 <= float(loss.detach()) < 1e7
    assert torch.isfinite(claimed.grad).all()


def test_an_uncertain_generators_terms_are_those_of_its_image():
    truth, guess = noise(30.0, seed=1), noise(30.0, seed=2)
    plan = LossPlan(fourier_weight=1.0)
    certain = generator_terms(guess, truth, None, plan)
    uncertain = generator_terms(torch.cat([guess, image(-5.0, side=64)], 1), truth, None, plan)
    assert float(uncertain.ssim) == float(certain.ssim)
    assert float(uncertain.fourier) == float(certain.fourier)
    assert float(uncertain.mse) == pytest.approx(float(uncertain_error(guess, truth, image(-5.0, side=64))))


# ---- shares

SHARES = st.floats(0.005, 0.45)
TERMS = st.floats(1e-4, 10)
SIGNED = st.one_of(st.floats(-20, -0.05), st.floats(0.05, 20))


@given(SHARES, SHARES, SIGNED, TERMS, TERMS, TERMS)
def test_mse_and_ssim_take_their_shares_of_the_whole(mse_share, ssim_share, adversarial, mse, ssim, fourier):
    plan = LossPlan(mse_share=mse_share, ssim_share=ssim_share, fourier_weight=2.0)
    means = {"adversarial": adversarial, "mse": mse, "ssim": ssim, "fourier": fourier}
    weights = weights_for_shares(plan, means)
    whole = abs(adversarial) + weights.mse * mse + weights.ssim * ssim + 2.0 * fourier
    assert weights.mse * mse == pytest.approx(mse_share * whole)
    assert weights.ssim * ssim == pytest.approx(ssim_share * whole)
    assert weights.fourier == 2.0


def test_a_term_without_a_share_keeps_its_number_and_counts_in_the_whole():
    means = {"adversarial": 0.5, "mse": 0.01, "ssim": 0.2, "fourier": 0.0}
    weights = weights_for_shares(LossPlan(mse_share=0.1, ssim_weight=2.0), means)
    assert weights.ssim == 2.0
    assert weights.mse * 0.01 == pytest.approx(0.1 * (0.5 + 2.0 * 0.2) / 0.9)


@pytest.mark.parametrize(
    ("plan", "means"),
    [
        (LossPlan(), {"adversarial": 3.0, "mse": 0.01, "ssim": 0.2, "fourier": 0.0}),
        (LossPlan(mse_share=0.1), {}),
        (
            LossPlan(mse_share=0.1, adversarial=False),
            {"adversarial": 0, "mse": 0.01, "ssim": 0, "fourier": 0},
        ),
    ],
    ids=["no shares", "nothing measured yet", "no adversarial term"],
)
def test_where_there_is_nothing_to_follow_the_plans_numbers_hold(plan, means):
    assert weights_for_shares(plan, means) == Weights.of(plan)


def test_the_weights_stay_finite_where_a_term_or_the_whole_vanishes():
    plan = LossPlan(mse_share=0.1)
    vanished = weights_for_shares(plan, {"adversarial": 0.9, "mse": 0.0, "ssim": 0.0, "fourier": 0.0})
    assert vanished.mse == pytest.approx(0.1 / LEAST_TERM)
    crossing = weights_for_shares(plan, {"adversarial": 0.0, "mse": 0.01, "ssim": 0.0, "fourier": 0.0})
    assert crossing.mse * 0.01 == pytest.approx(0.1 * LEAST_TOTAL / 0.9)


# ---- the discriminator


class Linear(nn.Module):
    """The inner product with w, of images divided by 255."""

    def __init__(self, w):
        super().__init__()
        self.w = nn.Parameter(w)

    def forward(self, patch):
        return (self.w * patch / 255).sum(dim=(1, 2, 3))


def test_the_penalty_of_a_linear_discriminator_is_half_its_squared_norm():
    w = noise(1.0, side=8)
    discriminator = Linear(w)
    penalty = r1_penalty(discriminator, noise(40.0, batch=5, side=8))
    assert float(penalty.detach()) == pytest.approx(0.5 * float(w.square().sum()), rel=1e-5)
    penalty.backward()
    torch.testing.assert_close(discriminator.w.grad, w)


@pytest.mark.parametrize("spectral_norm", [False, True])
def test_the_penalty_reaches_every_weight_of_the_discriminator(spectral_norm):
    torch.manual_seed(0)
    discriminator = Discriminator(DiscriminatorPlan(base_width=2, spectral_norm=spectral_norm))
    r1_penalty(discriminator, noise(40.0, batch=2).abs()).backward()
    weights = [p for name, p in discriminator.named_parameters() if not name.endswith("bias")]
    assert all(float(weight.grad.abs().max()) > 0 for weight in weights)


def test_spectral_normalisation_bounds_every_weight():
    torch.manual_seed(0)
    discriminator = Discriminator(DiscriminatorPlan(base_width=4, spectral_norm=True))
    with torch.no_grad():
        for parameter in discriminator.parameters():
            parameter.mul_(100)
        for _ in range(30):  # the power iteration takes one step a call
            discriminator(noise(40.0, batch=2))
    layers = [layer for layer in discriminator.modules() if isinstance(layer, nn.Conv2d | nn.Linear)]
    assert len(layers) == 13
    for layer in layers:
        largest = torch.linalg.matrix_norm(layer.weight.detach().flatten(1), 2)
        assert float(largest) == pytest.approx(SPECTRAL_GAIN, rel=0.02)


@pytest.mark.parametrize("spectral_norm", [False, True])
def test_a_fresh_discriminator_is_not_blind(spectral_norm):
    torch.manual_seed(0)
    discriminator = Discriminator(DiscriminatorPlan(base_width=8, spectral_norm=spectral_norm))
    logits = discriminator(noise(20.0, batch=4).abs()).detach()
    assert 1e-4 < float(logits.abs().mean()) < 10


@pytest.mark.parametrize("shuffle", [1, 2])
def test_the_discriminator_takes_any_patch(shuffle):
    discriminator = Discriminator(DiscriminatorPlan(base_width=2, shuffle=shuffle))
    assert discriminator(torch.zeros(2, 1, 96, 80)).shape == (2,)


@pytest.mark.parametrize(
    ("gan", "spectral_norm"), [("paper", False), ("hinge", True), ("relativistic", True)]
)
def test_the_discriminator_learns_to_tell_two_textures_apart(gan, spectral_norm):
    torch.manual_seed(0)
    discriminator = Discriminator(DiscriminatorPlan(base_width=4, spectral_norm=spectral_norm))
    adam = torch.optim.Adam(discriminator.parameters(), 1e-3)
    smooth, rough = torch.full((4, 1, 64, 64), 100.0), torch.rand(4, 1, 64, 64) * 200
    for _ in range(30):
        loss = discriminator_loss(discriminator(rough), discriminator(smooth), gan)
        adam.zero_grad()
        loss.backward()
        adam.step()
    assert float(loss.detach()) < 0.2


def test_the_generators_gradient_goes_through_the_relativistic_comparison():
    generated = noise(30.0).requires_grad_()
    logits = functional.avg_pool2d(generated, 64).flatten()
    terms = generator_terms(generated, image(side=64), logits, LossPlan(gan="relativistic"), torch.ones(1))
    terms.adversarial.backward()
    assert float(generated.grad.max()) < 0  # brighter here is truer, so the loss falls with it
