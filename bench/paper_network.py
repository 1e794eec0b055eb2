"""The paper's wide-field network as a model package in memory, and what it costs to run.

The weights are drawn at random unless some are given: the time does not depend on them, the error of a
narrow number format does. The guards look at every frame, and let all pass.
"""

import tempfile
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save
from torch.utils.flop_counter import FlopCounterMode

from inference.appearance import PERIODS_PX
from inference.generator import GeneratorPlan, MeanOnly, build_generator
from inference.model_package import (
    FrameStatistics,
    GuardLimits,
    IntensityRange,
    ModelPackage,
    ServingCard,
)

__all__ = ["operations", "package_of"]

TEST_PX = 256


def operations(plan: GeneratorPlan, shape_yx: tuple[int, int]) -> int:
    """Return the floating-point operations of the convolutions, each multiplication and each addition one."""
    generator = build_generator(plan).to("meta")
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        generator(torch.empty(1, 1, *shape_yx, device="meta"))
    return int(counter.get_total_flops())


def package_of(plan: GeneratorPlan, weights: Path | None = None, *, onnx: bool = False) -> ModelPackage:
    """Return a package of a network.

    Parameters
    ----------
    weights
        The `best.safetensors` of a run; random ones of seed 0 without.
    onnx
        Whether ONNX weights are needed, for which a CPU's backends ask.
    """
    torch.manual_seed(0)
    generator = build_generator(plan).eval()
    if weights is not None:
        generator.load_state_dict(load_file(weights))
    low = np.random.default_rng(0).uniform(0, 255, (1, 1, TEST_PX, TEST_PX)).astype(np.float32)
    with torch.inference_mode():
        high = generator(torch.from_numpy(low)).numpy()[:, :1]
    card = ServingCard(
        sharpscope_version="bench", factor=2, channel="FITC", modality="widefield",
        low_pixel_size_um=0.65, high_pixel_size_um=0.325, low_numerical_aperture=0.3,
        high_numerical_aperture=0.5, background=100.0, scale=0.01,
        intensity=IntensityRange(bright_counts_min=1.0, bright_counts_max=65535.0, bright_network=200.0),
        frames=FrameStatistics(
            signal_to_noise_min=0.01, signal_to_noise_median=20.0, signal_to_noise_max=1e6,
            saturated_fraction_max=1.0,
        ),
        guard=GuardLimits(
            least_side_px=32, appearance_min=(-50.0,) * (len(PERIODS_PX) + 2),
            appearance_max=(50.0,) * (len(PERIODS_PX) + 2), blur_px=1.5, unexplained_min=0.1,
            unexplained_max=0.9, noise_share_max=1.0, gain_min=1e-6, gain_max=1e6,
        ),
        generator=plan.model_dump(), step=plan.step, minimum=plan.step,
        receptive_radius_px=plan.receptive_radius_px, lineage={},
    )  # fmt: skip
    return ModelPackage(
        name="paper network", model_hash="0" * 64, card=card, onnx=_onnx(generator, low) if onnx else b"",
        safetensors=save(generator.state_dict()), test_input=low, test_output=high,
    )  # fmt: skip


def _onnx(generator: torch.nn.Module, low: np.ndarray) -> bytes:
    from training.export import export_onnx  # not on a machine that has torch and numpy alone

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "weights.onnx"
        export_onnx(MeanOnly(generator).eval(), torch.from_numpy(low), path)
        return path.read_bytes()
