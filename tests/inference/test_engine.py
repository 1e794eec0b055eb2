import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from configs.document import WrongInputError
from inference import backends
from inference.backends import host, open_backend
from inference.backends.openvino_backend import has_bfloat16
from inference.engine import Engine, OutOfDomainError, load_engine
from inference.model_package import read_package


@pytest.fixture(scope="module")
def engine(model_zip) -> Engine:
    return load_engine(model_zip, "cpu-float32")


def frame(shape=(100, 130), seed=0):
    """A frame as bright as the training's, with structure."""
    random = np.random.default_rng(seed)
    image = np.full(shape, 100.0)
    image[random.integers(shape[0], size=900), random.integers(shape[1], size=900)] = 3000.0
    return random.poisson(image).astype(np.uint16)


def test_an_enhanced_image_is_twice_as_large_in_the_inputs_counts_and_names_its_model(engine):
    enhanced = engine.enhance(frame(), pixel_size_um=0.65, channel="FITC")
    assert enhanced.image.shape == (200, 260)
    assert enhanced.image.dtype == np.float32
    assert enhanced.pixel_size_um == 0.325
    assert enhanced.model_hash == engine.model_hash
    assert len(enhanced.model_hash) == 64
    assert enhanced.out_of_domain == ()


@pytest.mark.parametrize("limit_px", [0, 200 * 200])
def test_tiled_and_whole_enhancement_agree(engine, limit_px):
    image = frame((300, 420))
    whole = engine.enhance(image, pixel_size_um=0.65).image
    tiled = Engine(engine.package, engine.backend, limit_px).enhance(image, pixel_size_um=0.65).image
    assert np.abs(whole - tiled).max() < 1e-4 * whole.std()


def test_an_engine_takes_no_more_pixels_at_once_than_the_free_memory_holds(engine, monkeypatch):
    monkeypatch.setattr(engine.backend, "free_bytes", lambda: 2 * 10**7)
    poor = Engine(engine.package, engine.backend)
    assert poor.memory_bytes(10**9) <= 10**7
    seen = []
    run = engine.backend.run
    monkeypatch.setattr(engine.backend, "run", lambda batch: seen.append(batch.size) or run(batch))
    poor.enhance(frame((300, 420)), pixel_size_um=0.65)
    assert len(seen) > 1
    assert max(seen) <= poor.whole_image_limit_px


def test_openvino_and_torch_agree(engine, model_zip):
    image = frame()
    reference = load_engine(model_zip, "torch-cpu").enhance(image, pixel_size_um=0.65).image
    assert np.abs(engine.enhance(image, pixel_size_um=0.65).image - reference).max() < 1e-4 * reference.std()


@pytest.mark.parametrize(
    ("facts", "named"),
    [
        ({"pixel_size_um": 0.13}, "pixel size 0.13 um"),
        ({}, "states no pixel size"),
        ({"pixel_size_um": 0.65, "channel": "DAPI"}, "channel 'DAPI'"),
        ({"pixel_size_um": 0.65, "numerical_aperture": 0.45}, "numerical aperture 0.45"),
    ],
)
def test_a_foreign_image_is_refused_with_the_reason_or_flagged(engine, facts, named):
    with pytest.raises(OutOfDomainError, match=named):
        engine.enhance(frame(), **facts)
    flagged = engine.enhance(frame(), **facts, allow_out_of_domain=True)
    assert named in flagged.out_of_domain[0]


def test_an_image_a_hundred_times_too_dim_is_out_of_domain(engine):
    dim = 100 + (frame() - 100.0) / 100
    with pytest.raises(OutOfDomainError, match="intensity"):
        engine.enhance(dim, pixel_size_um=0.65)


def test_a_foreign_image_keeps_its_flux(engine):
    image = frame().astype(np.float32) * 1e-3 + 7.0
    enhanced = engine.enhance(image, allow_out_of_domain=True)
    background = enhanced.photometry.background
    above = np.maximum(image - background, 0).mean()
    assert enhanced.image.mean() - background == pytest.approx(above, rel=0.02)


def test_a_streams_photometry_is_kept_for_its_later_frames(engine):
    first = engine.enhance(frame() * 50.0, allow_out_of_domain=True)
    later = engine.enhance(frame() * 25.0, allow_out_of_domain=True, photometry=first.photometry)
    assert later.photometry == first.photometry


@pytest.mark.parametrize(
    "image", [np.zeros((2, 3, 4)), np.zeros(5), np.zeros((0, 4)), np.zeros((4, 4), complex)]
)
def test_what_is_no_image_is_named(engine, image):
    with pytest.raises(WrongInputError, match=r"image|pixels"):
        engine.enhance(image, pixel_size_um=0.65)


def test_nan_is_named(engine):
    image = frame().astype(np.float32)
    image[3, 4] = np.nan
    with pytest.raises(WrongInputError, match="1 pixels of the image are not finite"):
        engine.enhance(image, pixel_size_um=0.65)


@settings(deadline=None, max_examples=15)
@given(st.integers(1, 70), st.integers(1, 70))
def test_any_size_is_enhanced(engine, height, width):
    image = np.full((height, width), 3000, np.uint16)
    assert engine.enhance(image, pixel_size_um=0.65).image.shape == (2 * height, 2 * width)


def test_a_cpu_computes_in_bfloat16_where_it_can_and_the_test_tensor_allows_it(model_zip, monkeypatch):
    package = read_package(model_zip)
    allowed = open_backend(package, "cpu").description
    assert ("bfloat16" in allowed) == has_bfloat16()
    monkeypatch.setattr(backends, "is_good_enough", lambda _error: False)
    assert "float32" in open_backend(package, "cpu").description


def test_without_openvino_onnx_runtime_gives_the_same_image(engine, model_zip, monkeypatch):
    monkeypatch.setitem(sys.modules, "inference.backends.openvino_backend", None)  # import fails
    other = load_engine(model_zip, "cpu")
    assert "ONNX Runtime" in other.backend.description
    expected = engine.enhance(frame(), pixel_size_um=0.65).image
    assert np.abs(other.enhance(frame(), pixel_size_um=0.65).image - expected).max() < 1e-4 * expected.std()


def test_a_device_that_does_not_exist_is_named(model_zip):
    with pytest.raises(WrongInputError, match="no device 'tpu'"):
        load_engine(model_zip, "tpu")


def test_the_limit_of_a_container_counts_where_it_is_less_than_the_machine_has(tmp_path, monkeypatch):
    files = tmp_path / "max", tmp_path / "now"
    monkeypatch.setattr(host, "CONTAINER_FILES", (files,))
    unlimited = host.HostBackend.free_bytes(None)
    files[0].write_text("max\n")
    files[1].write_text("1000\n")
    assert host.HostBackend.free_bytes(None) > unlimited / 2
    files[0].write_text("5000\n")
    assert host.HostBackend.free_bytes(None) == 4000
