"""Runs the safetensors weights with torch, in float32: on Apple's GPU, and on a CPU as the reference."""

from typing import Any

import numpy as np
import torch
from safetensors.torch import load

from inference.backends.host import HostBackend
from inference.generator import GeneratorPlan, MeanOnly, build_generator
from inference.model_package import ModelPackage

__all__ = ["TorchBackend", "gpu_name"]

Batch = np.ndarray[Any, np.dtype[np.float32]]


def gpu_name() -> str | None:
    """Return torch's name of the GPU here, or None."""
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else None


class TorchBackend(HostBackend):
    """A generator on one torch device."""

    memory_factor = 2.0

    def __init__(self, package: ModelPackage, device: str) -> None:
        self._device = torch.device(device)
        generator = build_generator(GeneratorPlan.model_validate(package.card.generator))
        generator.load_state_dict(load(package.safetensors))
        self._generator = MeanOnly(generator).eval().to(self._device)
        self._generator.to(memory_format=torch.channels_last)  # type: ignore[call-overload] # stubs lack it
        self.description = f"torch {torch.__version__}, {device}, float32"

    @torch.inference_mode()
    def run(self, batch: Batch) -> Batch:
        """Turn (B, 1, H, W) float32 into the same shape."""
        tensor = torch.from_numpy(batch).to(self._device, memory_format=torch.channels_last)
        result: Batch = self._generator(tensor).contiguous().cpu().numpy()
        return result
