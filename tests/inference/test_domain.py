"""The guards' arithmetic."""

import numpy as np
import pytest

from inference.domain import ImageFacts, facts_reasons, percentile
from inference.model_package import read_package


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
@pytest.mark.parametrize("shape", [(1, 1), (3, 5), (64, 81)])
@pytest.mark.parametrize("percent", [0.0, 1.0, 50.0, 99.9, 100.0])
def test_percentiles_from_a_histogram_are_numpys(dtype, shape, percent):
    image = np.random.default_rng(5).integers(0, 250, shape).astype(dtype)
    assert percentile(image, percent) == pytest.approx(float(np.percentile(image, percent)), rel=1e-6)


def test_a_pixel_size_that_is_no_number_is_refused(model_zip):
    card = read_package(model_zip).card
    assert facts_reasons(ImageFacts(pixel_size_um=float("nan")), card)
