import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from inference.domain import percentile
from inference.plane_statistics import order_statistics, percentiles

DTYPES = ["uint8", "uint16", "int16", "uint32", "int64", "float16", "float32", "float64"]


@pytest.mark.parametrize("dtype", DTYPES)
@given(data=st.data())
def test_order_statistics_are_those_of_the_sorted_plane(dtype, data):
    finite = {"allow_nan": False, "allow_infinity": False} if dtype.startswith("float") else {}
    plane = data.draw(arrays(dtype, st.tuples(st.integers(1, 9), st.integers(1, 9)), elements=finite or None))
    ranks = sorted({0, plane.size // 3, plane.size - 1})
    found = order_statistics(lambda: iter([plane[:4], plane[4:]]), plane.dtype, ranks)
    assert found == [float(value) for value in np.sort(plane.ravel())[ranks]]


def test_percentiles_are_exactly_those_of_the_whole_plane():
    plane = np.random.default_rng(0).poisson(300, (301, 207)).astype(np.uint16)
    found = percentiles(lambda: iter([plane[:, :50], plane[:, 50:]]), plane.dtype, plane.size, (1.0, 99.9))
    assert found == [percentile(plane, 1.0), percentile(plane, 99.9)]
