import numpy as np
import pytest

from inference.saturation import saturated_fraction
from inference.signal_to_noise import signal_to_noise
from training.pairing.gate import GateLimits, acquisition_fault, refusal, soft_focus
from training.pairing.pairs import SignalToNoise
from training.pairing.registration import Registration

FRAME = np.random.default_rng(0).integers(100, 3000, (64, 64)).astype(np.uint16)
BRIGHT = SignalToNoise(low=20.0, high=30.0)
GOOD = {
    "high": np.zeros((4, 4), np.float32),
    "covered": np.ones((4, 4), np.float32),
    "shift_yx_px": (0.0, 0.0),
    "displacement_yx_px": np.zeros((2, 2, 2), np.float32),
    "certainty": np.ones((2, 2), np.float32),
    "blur_px": 1.0,
    "residual_px": 0.05,
    "specimen_fraction": 0.5,
    "ncc_before": 0.6,
    "ncc_after": 0.95,
    "smallest_jacobian": 0.9,
    "matched": True,
    "samplings": (),
}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"residual_px": 0.9}, "misaligned"),
        ({"residual_px": None, "specimen_fraction": 0.0}, "no specimen: texture"),
        ({"matched": False, "residual_px": None}, "nothing in common"),
        ({"smallest_jacobian": -0.1}, "folds over"),
        ({"ncc_after": 0.1, "ncc_before": 0.1}, "low and high differ"),
        ({"ncc_before": 0.99}, "made it worse"),
    ],
)
def test_what_is_badly_aligned_is_kept_from_training_but_not_from_the_test(change, words):
    bad = Registration(**(GOOD | change))
    assert words in refusal(bad, BRIGHT, "train", GateLimits())
    assert words in refusal(bad, BRIGHT, "validation", GateLimits())
    assert refusal(bad, BRIGHT, "test", GateLimits()) is None


@pytest.mark.parametrize("state", ["low", "high"])
def test_a_dark_frame_is_kept_from_training_but_not_from_the_test(state):
    dark = BRIGHT.model_copy(update={state: 2.0})
    assert f"{state} frame is too dark" in refusal(Registration(**GOOD), dark, "train", GateLimits())
    assert refusal(Registration(**GOOD), dark, "test", GateLimits()) is None


def test_a_high_image_no_sharper_than_the_low_one_is_kept_from_training_but_not_from_the_test():
    assert "out of focus" in soft_focus(0.4, 1.6, "train", GateLimits())
    assert soft_focus(0.4, 1.6, "test", GateLimits()) is None
    assert soft_focus(1.5, 1.6, "train", GateLimits()) is None


@pytest.mark.parametrize("noise", [2.0, 20.0])
def test_signal_to_noise_is_the_bright_percentile_over_the_noise(noise):
    rng = np.random.default_rng(1)
    frame = np.full((512, 512), 100.0)
    frame[:64, :64] = 400  # 1.6 % of the pixels
    found = signal_to_noise((frame + rng.normal(0, noise, frame.shape)).astype(np.float32), 100.0)
    assert found == pytest.approx(300 / noise, rel=0.06)


def test_whole_counts_are_never_without_noise():
    frame = np.zeros((64, 64), np.uint8)
    frame[:8] = 200
    assert signal_to_noise(frame, 0.0) == pytest.approx(200 * np.sqrt(12))
    assert signal_to_noise(frame.astype(np.float32), 0.0) is None


def test_a_good_pair_passes():
    assert refusal(Registration(**GOOD), BRIGHT, "train", GateLimits()) is None
    assert acquisition_fault(FRAME, [FRAME], GateLimits()) is None


@pytest.mark.parametrize("full_scale", [4095, 65535])
def test_saturation_is_measured_against_the_converter(full_scale):
    frame = FRAME.copy()
    frame[:8] = full_scale
    assert saturated_fraction(frame) == pytest.approx(1 / 8)
    assert "saturated: 12.50 %" in acquisition_fault(FRAME, [FRAME, frame], GateLimits())


def test_a_bright_frame_below_the_limit_is_not_saturated():
    assert saturated_fraction(FRAME) == 0


def test_a_black_frame_is_named():
    black = np.zeros((64, 64), np.uint16)
    assert "low frame is black" in acquisition_fault(black, [FRAME], GateLimits())
    assert "high tile 1 is black" in acquisition_fault(FRAME, [FRAME, black], GateLimits())
