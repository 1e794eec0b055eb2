import numpy as np
import pytest

from training.pairing.gate import GateLimits, acquisition_fault, refusal, saturated_fraction
from training.pairing.registration import Registration

FRAME = np.random.default_rng(0).integers(100, 3000, (64, 64)).astype(np.uint16)
GOOD = {
    "high": np.zeros((4, 4), np.float32),
    "covered": np.ones((4, 4), np.float32),
    "shift_yx_px": (0.0, 0.0),
    "displacement_yx_px": np.zeros((2, 2, 2), np.float32),
    "blur_px": 1.0,
    "residual_px": 0.05,
    "specimen_fraction": 0.5,
    "ncc_before": 0.6,
    "ncc_after": 0.95,
    "smallest_jacobian": 0.9,
    "samplings": (),
}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"residual_px": 0.9}, "misaligned"),
        ({"residual_px": None, "specimen_fraction": 0.0}, "no specimen"),
        ({"smallest_jacobian": -0.1}, "folds over"),
        ({"ncc_after": 0.1, "ncc_before": 0.1}, "low and high differ"),
        ({"ncc_before": 0.99}, "made it worse"),
    ],
)
def test_what_is_badly_aligned_is_kept_from_training_but_not_from_the_test(change, words):
    bad = Registration(**(GOOD | change))
    assert words in refusal(bad, "train", GateLimits())
    assert words in refusal(bad, "validation", GateLimits())
    assert refusal(bad, "test", GateLimits()) is None


def test_a_good_pair_passes():
    assert refusal(Registration(**GOOD), "train", GateLimits()) is None
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
