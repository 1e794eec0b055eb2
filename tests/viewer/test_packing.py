"""Packing, undone by a reader that knows only the protocol."""

import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from inference.viewer.packing import pack
from inference.viewer.shown_frame import Plane, ShownFrame

SIDES = hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=9)


def frame_of(pixels: np.ndarray, enhanced: np.ndarray | None = None) -> ShownFrame:
    plane = None if enhanced is None else Plane(enhanced, 0.05)
    return ShownFrame(number=7, index=3, session="s", channel="FITC", raw=Plane(pixels, 0.1), enhanced=plane)


@pytest.fixture
def packed(unpack):
    """Packs one frame and reads it again."""
    return lambda frame: unpack(bytes(pack([("FITC", frame)], 1, 0)))


@settings(deadline=None)
@given(data=st.data(), dtype=st.sampled_from([np.uint8, np.uint16]))
def test_camera_frames_come_out_as_they_went_in(data, dtype, unpack) -> None:
    from_camera = data.draw(hnp.arrays(dtype, SIDES))

    shown = unpack(bytes(pack([("FITC", frame_of(from_camera))], 1, 0)))

    assert np.array_equal(shown.planes[0]["raw"], from_camera)


FLOATS = st.floats(width=32, allow_nan=True, allow_infinity=True)


@settings(deadline=None)
@given(pixels=hnp.arrays(np.float32, SIDES, elements=FLOATS))
def test_numbers_come_out_within_half_a_step(pixels, unpack) -> None:
    shown = unpack(bytes(pack([("FITC", frame_of(pixels))], 1, 0)))
    said, counts = shown.images[0]["raw"], shown.planes[0]["raw"]
    finite = np.isfinite(pixels)

    largest = np.abs(pixels[finite]).max(initial=0.0)
    allowed = 0.5 * said["counts_per_step"] * (1 + 1e-6) + 1e-9 * largest
    assert np.all(np.abs(counts[finite] - pixels[finite].astype(float)) <= allowed)
    assert said.get("has_nan", False) == (not finite.all())
    assert np.all(counts[~finite] == said["zero_counts"])


def test_numbers_in_the_cameras_range_are_whole_counts(packed) -> None:
    pixels = np.linspace(0, 65535, 64, dtype=np.float32).reshape(8, 8)

    shown = packed(frame_of(pixels))

    assert shown.images[0]["raw"]["counts_per_step"] == 1
    assert np.array_equal(shown.planes[0]["raw"], np.rint(pixels))


def test_a_narrow_range_of_numbers_keeps_its_detail(packed) -> None:
    pixels = np.linspace(0, 1, 64, dtype=np.float32).reshape(8, 8)

    assert np.allclose(packed(frame_of(pixels)).planes[0]["raw"], pixels, atol=1e-5)


def test_a_view_of_two_series_has_its_planes_apart(unpack) -> None:
    raw = np.arange(15, dtype=np.uint8).reshape(3, 5)  # 30 bytes: the next plane stands at 32
    enhanced = np.arange(60, dtype=np.float32).reshape(6, 10) * 100
    other = replace(frame_of(raw + 100), channel="DAPI")

    shown = unpack(bytes(pack([("FITC", frame_of(raw, enhanced)), ("DAPI", other)], 5, 0)))

    assert (shown.id, [image["series"] for image in shown.images]) == (5, ["FITC", "DAPI"])
    assert np.array_equal(shown.planes[0]["raw"], raw)
    assert np.array_equal(shown.planes[0]["enhanced"], enhanced)
    assert np.array_equal(shown.planes[1]["raw"], raw + 100)
    assert shown.images[1]["enhanced"] is None


def test_what_must_go_with_an_enhanced_image_goes_with_it(packed) -> None:
    frame = replace(
        frame_of(np.zeros((4, 4), np.uint16), np.zeros((8, 8), np.float32)),
        model_name="actin",
        model_hash="abc",
        warnings=("saturated",),
        out_of_domain=("pixel size",),
        shows_raw=True,
        latency_ms=12.0,
        full_scale=4095.0,
        captured_ns=-5_000_000,
    )

    said = packed(frame).images[0]

    assert (said["model_name"], said["model_hash"], said["shows_raw"]) == ("actin", "abc", True)
    assert (said["warnings"], said["out_of_domain"]) == (["saturated"], ["pixel size"])
    assert (said["age_ms"], said["latency_ms"], said["full_scale"]) == (5.0, 12.0, 4095.0)
    assert (said["raw"]["pixel_size_um"], said["enhanced"]["pixel_size_um"]) == (0.1, 0.05)


def test_a_cut_out_of_a_larger_image_is_packed_as_it_looks(packed) -> None:
    pixels = np.arange(64, dtype=np.uint16).reshape(8, 8)[1:7:2, ::-1]

    assert np.array_equal(packed(frame_of(pixels)).planes[0]["raw"], pixels)


@pytest.mark.parametrize("offset", [0.0, -5000.0])
def test_a_large_image_with_pixels_without_a_number_comes_out_whole(packed, offset) -> None:
    counts = np.arange(301 * 1000, dtype=np.float32).reshape(301, 1000) % 60_000 + offset
    counts[-1, -1] = counts[0, 0] = np.nan

    shown = packed(frame_of(np.zeros((4, 4), np.uint16), counts)).planes[0]["enhanced"]

    there = np.isfinite(counts)
    assert np.allclose(shown[there], counts[there], rtol=0, atol=0.5)


@pytest.mark.parametrize("shape", [(0, 5), (5, 0)])
def test_an_image_without_pixels_is_packed(packed, shape) -> None:
    shown = packed(frame_of(np.zeros(shape, np.float32)))

    assert shown.planes[0]["raw"].shape == shape


def test_packing_needs_little_memory_beyond_the_message() -> None:
    frame = frame_of(
        np.zeros((512, 512), np.uint16), np.random.default_rng(0).normal(500, 90, (1024, 1024)).astype("f4")
    )
    tracemalloc.start()
    try:
        message = pack([("FITC", frame)], 1, 0)
        most = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

    assert most < 1.5 * len(message)
