"""Whether a narrow number format is good enough for a network: judged on the package's own test tensor.

bfloat16 has 8 bits of mantissa. What that costs depends on the network, so each package is tried when it is
loaded, and runs in float32 where it fails. Pure functions.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from inference.model_package import ModelPackage

__all__ = ["LARGEST_ERROR", "error_of", "is_good_enough"]

Batch = np.ndarray[Any, np.dtype[np.float32]]

LARGEST_ERROR = 0.02
"""RMS of the error over the standard deviation of the test output; the noise of a good frame is as large."""


def error_of(package: ModelPackage, run: Callable[[Batch], Batch]) -> float:
    """Return the RMS error on the package's test tensor, over the standard deviation of the right answer."""
    expected = package.test_output.astype(np.float64)
    difference = run(package.test_input).astype(np.float64) - expected
    return float(np.sqrt(np.mean(difference**2)) / max(float(expected.std()), np.finfo(np.float32).tiny))


def is_good_enough(error: float) -> bool:
    """Say whether an error lets a narrow format serve; NaN does not."""
    return error <= LARGEST_ERROR
