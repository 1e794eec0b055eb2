"""A broken device is told from a bad frame."""

import pytest

from inference.device_health import BROKEN_AFTER, DeviceHealth
from inference.messages import Delivery, Failed, FailureCode, Frame


def frame_of(session):
    return Frame(
        session=session, sequence=1, shape_yx=(2, 2), dtype="uint16", captured_ns=0, sent_ns=0,
        delivery=Delivery.RECORD,
    )  # fmt: skip


def failed(session, reason, code=FailureCode.ENGINE_ERROR):
    return Failed(session=session, sequence=1, code=code, reason=reason)


@pytest.mark.parametrize(
    "reason",
    [
        "RuntimeError: CUDA error: an illegal memory access was encountered",
        "AcceleratorError: CUDA error: unspecified launch failure",
        "RuntimeError: cuDNN error: CUDNN_STATUS_EXECUTION_FAILED",
        "RuntimeError: Triton Error: device-side assert triggered",
    ],
)
def test_a_sticky_error_breaks_the_device_at_once_and_is_not_the_frames_fault(reason):
    health = DeviceHealth()
    answer = health.judge(frame_of("a"), failed("a", reason))
    assert health.broken == reason
    assert answer.code is FailureCode.SHUTTING_DOWN
    assert reason in answer.reason


@pytest.mark.parametrize(
    "reason",
    [
        "OutOfMemoryError: CUDA out of memory. Tried to allocate 2 GiB",
        "ValueError: too small",
        "RuntimeError: odd",
    ],
)
def test_an_error_of_one_stream_or_of_the_frame_breaks_nothing(reason):
    health = DeviceHealth()
    for _ in range(10 * BROKEN_AFTER):
        assert health.judge(frame_of("a"), failed("a", reason)).code is FailureCode.ENGINE_ERROR
    assert health.broken is None


def test_an_unknown_error_on_several_streams_in_a_row_breaks_the_device():
    health = DeviceHealth()
    codes = [
        health.judge(frame_of(name), failed(name, "RuntimeError: odd")).code
        for name in "ab" * (BROKEN_AFTER // 2)
    ]
    assert codes == [FailureCode.ENGINE_ERROR] * (BROKEN_AFTER - 1) + [FailureCode.SHUTTING_DOWN]


def test_refusals_do_not_count():
    health = DeviceHealth()
    for name in "ab" * BROKEN_AFTER:
        health.judge(frame_of(name), failed(name, "CUDA error in a channel's name", FailureCode.NO_MODEL))
    assert health.broken is None
