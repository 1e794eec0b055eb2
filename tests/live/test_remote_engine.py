"""Files enhanced through a running worker."""

import numpy as np
import pytest
import tifffile

from configs.document import WrongInputError
from inference.bulk import enhance_file
from inference.engine import Engine, load_engine
from inference.model_package import read_package
from inference.remote_engine import RemoteEngine


@pytest.fixture(scope="module")
def engine(model_zip) -> Engine:
    return load_engine(model_zip, "cpu-float32")


@pytest.fixture
def stack(tmp_path):
    random = np.random.default_rng(3)
    planes = random.poisson(np.where(random.random((3, 48, 64)) < 0.03, 3000, 100)).astype(np.uint16)
    path = tmp_path / "stack.ome.tiff"
    tifffile.imwrite(
        path, planes, metadata={"axes": "TYX", "PhysicalSizeX": 0.65, "PhysicalSizeXUnit": "µm"}, ome=True
    )
    return path


def test_a_stack_through_a_worker_equals_the_one_of_this_process(
    engine, model_zip, run_worker, stack, tmp_path
):
    here, there = tmp_path / "here.ome.tiff", tmp_path / "there.ome.tiff"
    expected = enhance_file(engine, stack, here, pixel_size_um=0.65)
    with RemoteEngine(read_package(model_zip), run_worker(engine).address) as remote:
        result = enhance_file(remote, stack, there, pixel_size_um=0.65)
        with pytest.raises(WrongInputError, match=r"an \.ome\.tiff"):
            enhance_file(remote, stack, tmp_path / "there.ome.zarr")
    np.testing.assert_array_equal(tifffile.imread(there), tifffile.imread(here))
    assert (result.planes, result.pixel_size_um) == (expected.planes, expected.pixel_size_um) == (3, 0.325)
    assert result.warnings == expected.warnings


def test_a_worker_refuses_what_does_not_fit_and_a_model_that_it_does_not_serve(
    engine, model_zip, run_worker, nearest_engine, stack, tmp_path
):
    output = tmp_path / "out.ome.tiff"
    with (
        RemoteEngine(read_package(model_zip), run_worker(engine).address) as remote,
        pytest.raises(WrongInputError, match=r"pixel size 0\.1 um"),
    ):
        enhance_file(remote, stack, output, pixel_size_um=0.1)
    with (
        RemoteEngine(read_package(model_zip), run_worker(nearest_engine).address) as other,
        pytest.raises(WrongInputError, match="no model"),
    ):
        enhance_file(other, stack, output, pixel_size_um=0.65)
    assert not output.exists()


def test_where_nobody_answers_that_is_said(model_zip):
    with pytest.raises(WrongInputError, match=r"no worker answers at tcp://127\.0\.0\.1:9"):
        RemoteEngine(read_package(model_zip), "tcp://127.0.0.1:9", patience_s=0.1)


def test_the_answer_to_a_plane_that_was_given_up_is_not_taken_for_the_next_ones(
    engine, model_zip, run_worker, monkeypatch
):
    first, second = (np.full((48, 64), counts, np.uint16) for counts in (100, 3000))
    with RemoteEngine(read_package(model_zip), run_worker(engine).address) as remote:
        with monkeypatch.context() as interrupted:
            interrupted.setattr(remote, "_answer", interrupt)
            with pytest.raises(KeyboardInterrupt):
                remote.enhance(first, pixel_size_um=0.65)
        enhanced = remote.enhance(second, pixel_size_um=0.65)

    expected = engine.enhance(second, pixel_size_um=0.65)
    np.testing.assert_array_equal(enhanced.image, expected.image)


def interrupt(*_sequence):
    raise KeyboardInterrupt
