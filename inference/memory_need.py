"""How much memory a network takes for an image, stated before it starts.

Pure arithmetic of the network's plan. The factors are what OpenVINO was seen to take at its peak
(`bench/engine.py` prints both side by side), rounded up; backends say by how much more they take.
"""

import math
from collections.abc import Mapping
from typing import Any

__all__ = ["bytes_per_pixel", "largest_image_px", "tile_core_px"]

CHANNELS_HELD = {"unet": 11.0, "attention": 8.0}
"""Channels on the first level that are held at once, over `base_width`: skips, what is joined, the next."""
BESIDE_BYTES = 24.0
"""The image itself on its way in and out, float32, a few times over."""
SHARE_OF_FREE = 0.5
"""Of the memory that is free when a model is loaded; the rest is for frames, other models and others."""
MOST_PX = 4096 * 4096
"""No image is run whole beyond this: the arrays inside would be larger than any library is tested with."""


def bytes_per_pixel(generator: Mapping[str, Any], item_bytes: int) -> float:
    """Return the memory at the peak, bytes per px of the output.

    Parameters
    ----------
    generator
        The package's GeneratorPlan.
    item_bytes
        Of a number inside the network: 4 for float32, 2 for bfloat16.
    """
    held = CHANNELS_HELD[generator.get("kind", "unet")] * generator["base_width"]
    return float(held / generator.get("shuffle", 1) ** 2 * item_bytes + BESIDE_BYTES)


def largest_image_px(generator: Mapping[str, Any], item_bytes: int, free_bytes: int) -> int:
    """Return how many output pixels may be run at once."""
    fitting = SHARE_OF_FREE * free_bytes / bytes_per_pixel(generator, item_bytes)
    return min(int(fitting), MOST_PX)


def tile_core_px(limit_px: int, halo_px: int, step: int) -> int:
    """Return the side of the largest tiles, without their halo, that hold no more pixels than a limit.

    A limit that leaves next to nothing beside the halo is passed over: the core is at least as wide as it.
    """
    halo = step * math.ceil(halo_px / step)
    core = step * ((math.isqrt(limit_px) - 2 * halo) // step)
    return max(core, halo, step)
