import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference.protocol import (
    Delivery,
    ErrorCode,
    Frame,
    Hello,
    MessageError,
    WireLimits,
    decode_reply,
    decode_request,
    encode,
)

LIMITS = WireLimits(most_header_bytes=4096, most_pixel_bytes=1 << 20)


def frame_of(image, **fields):
    facts = {"delivery": Delivery.RECORD, "captured_ns": 1, "sent_ns": 2} | fields
    return Frame(session="s", sequence=5, shape_yx=image.shape, dtype=image.dtype.name, **facts)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
@given(height=st.integers(1, 40), width=st.integers(1, 40), pixel_size_um=st.none() | st.floats(1e-3, 1e3))
def test_a_decoded_frame_equals_the_encoded_one(dtype, height, width, pixel_size_um):
    image = np.arange(height * width).reshape(height, width).astype(dtype)
    header = frame_of(image, pixel_size_um=pixel_size_um, channel="FITC")
    decoded, pixels = decode_request(encode(header, image), LIMITS)
    assert decoded == header
    np.testing.assert_array_equal(pixels, image)
    assert pixels.dtype == image.dtype


def test_pixels_of_a_strided_or_big_endian_image_travel_in_the_wire_order():
    image = np.arange(48, dtype=">u2").reshape(6, 8)[::2, ::2]
    _, pixels = decode_request(encode(frame_of(image), image), LIMITS)
    np.testing.assert_array_equal(pixels, image)


@given(parts=st.lists(st.binary(max_size=200), max_size=5))
def test_arbitrary_bytes_are_refused_by_a_message_error_and_nothing_else(parts):
    for decode in (decode_request, decode_reply):
        with pytest.raises(MessageError):
            decode(parts, LIMITS)


@given(
    key=st.sampled_from(sorted(Frame.model_fields)),
    value=st.none()
    | st.booleans()
    | st.integers()
    | st.text(max_size=9)
    | st.lists(st.integers(), max_size=3),
    pixels=st.binary(max_size=30),
)
def test_a_frame_with_one_arbitrary_field_is_decoded_whole_or_refused(key, value, pixels):
    fields = frame_of(np.zeros((3, 4), np.uint16)).model_dump(mode="json") | {key: value}
    try:
        _, image = decode_request([json.dumps(fields).encode(), pixels], LIMITS)
    except MessageError:
        return
    assert image.nbytes == len(pixels)


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (lambda h, p: [h.replace(b'"uint16"', b'"float64"'), p], ErrorCode.WRONG_DTYPE),
        (lambda h, p: [h.replace(b'"version":1', b'"version":2'), p], ErrorCode.UNSUPPORTED_VERSION),
        (lambda h, p: [h.replace(b'"sequence":5', b'"sequence":5,"more":1'), p], ErrorCode.BAD_HEADER),
        (lambda h, p: [h.replace(b'"sequence":5', b'"sequence":"5"'), p], ErrorCode.BAD_HEADER),
        (lambda h, p: [h.replace(b'"pixel_size_um":null', b'"pixel_size_um":NaN'), p], ErrorCode.BAD_HEADER),
        (lambda h, p: [h.replace(b"[3,4]", b"[100000,100000]"), p], ErrorCode.TOO_LARGE),
        (lambda h, p: [h, bytes(LIMITS.most_pixel_bytes + 1)], ErrorCode.TOO_LARGE),
        (lambda h, p: [h, p[:-1]], ErrorCode.WRONG_SIZE),
        (lambda h, p: [h], ErrorCode.WRONG_SIZE),
        (lambda h, p: [h, p, p], ErrorCode.WRONG_PART_COUNT),
        (lambda h, p: [], ErrorCode.WRONG_PART_COUNT),
        (lambda h, p: [h + b" " * 5000, p], ErrorCode.HEADER_TOO_LARGE),
        (lambda h, p: [b"\x80\x04K*.", p], ErrorCode.BAD_HEADER),
    ],
)
def test_each_breach_of_the_contract_has_its_own_code(change, code):
    image = np.zeros((3, 4), np.uint16)
    header, pixels = (bytes(part) for part in encode(frame_of(image), image))
    with pytest.raises(MessageError) as caught:
        decode_request(change(header, pixels), LIMITS)
    assert caught.value.code is code


def test_a_message_error_names_the_frame_where_it_can_be_read():
    image = np.zeros((3, 4), np.uint16)
    header, pixels = (bytes(part) for part in encode(frame_of(image), image))
    with pytest.raises(MessageError) as caught:
        decode_request([header.replace(b'"uint16"', b'"int64"'), pixels], LIMITS)
    reply = caught.value.reply()
    assert (reply.session, reply.sequence) == ("s", 5)


def test_a_message_without_pixels_must_bring_none():
    parts = [*encode(Hello(session="s")), b"12"]
    with pytest.raises(MessageError) as caught:
        decode_request(parts, LIMITS)
    assert caught.value.code is ErrorCode.WRONG_PART_COUNT
