import signal
import subprocess
import sys

import numpy as np
import pytest

from configs.document import WrongInputError
from inference.protocol import (
    Delivery,
    Dropped,
    Enhanced,
    ErrorCode,
    ErrorReply,
    Failed,
    FailureCode,
    Info,
    Ping,
    WireLimits,
    encode,
)
from inference.worker import Worker


def test_an_enhanced_frame_carries_model_hash_source_and_its_own_pixel_size(
    run_worker, raw_client, nearest_engine, numbered
):
    client = raw_client(run_worker(nearest_engine))
    info = client.hello()
    assert isinstance(info, Info)
    client.send(*client.frame(numbered(1), 41, pixel_size_um=0.65, channel="FITC"))
    reply, image = client.receive()
    assert isinstance(reply, Enhanced)
    assert (reply.session, reply.sequence) == ("raw", 41)
    assert (reply.model_name, reply.model_hash) == ("nearest", "ab" * 32)
    assert reply.pixel_size_um == 0.325
    assert reply.received_ns <= reply.started_ns <= reply.finished_ns
    np.testing.assert_array_equal(image, numbered(1).repeat(2, 0).repeat(2, 1))


def test_a_warning_travels_with_the_frame_and_is_counted(run_worker, raw_client, nearest_engine, numbered):
    words = ("less detail than any training frame",)
    nearest_engine.warnings = words
    worker = run_worker(nearest_engine)
    client = raw_client(worker)
    client.hello()
    client.send(*client.frame(numbered(1), 0))
    reply, _ = client.receive()
    assert reply.warnings == words
    assert not reply.shows_raw
    assert worker.status().flagged == 1


@pytest.mark.parametrize(
    ("message", "code"),
    [
        (lambda c, f: [b"not json"], ErrorCode.BAD_HEADER),
        (lambda c, f: [b""], ErrorCode.BAD_HEADER),
        (lambda c, f: [f[0].replace(b"uint16", b"uint64"), f[1]], ErrorCode.WRONG_DTYPE),
        (lambda c, f: [f[0], bytes(2_000_000)], ErrorCode.TOO_LARGE),
        (lambda c, f: [f[0].replace(b"[24,32]", b"[99999,99999]"), f[1]], ErrorCode.TOO_LARGE),
        (lambda c, f: [f[0], f[1][:7]], ErrorCode.WRONG_SIZE),
        (lambda c, f: [f[0], *[b"x"] * 5000], ErrorCode.WRONG_PART_COUNT),
        (lambda c, f: [b"{" + b" " * 100_000 + b"}"], ErrorCode.HEADER_TOO_LARGE),
    ],
)
def test_a_wrong_message_gets_a_typed_error_and_the_worker_serves_on(
    message, code, run_worker, raw_client, nearest_engine, numbered
):
    worker = run_worker(nearest_engine, limits=WireLimits(most_pixel_bytes=1_500_000))
    client = raw_client(worker)
    client.hello()
    good = [bytes(part) for part in client.frame(numbered(0), 0)]
    client.send(*message(client, good))
    reply, _ = client.receive()
    assert isinstance(reply, ErrorReply)
    assert reply.code is code
    client.send(*good)
    assert isinstance(client.receive()[0], Enhanced)
    assert worker.status().refused == 1


def test_a_part_beyond_the_transport_limit_costs_the_connection_but_not_the_worker(
    run_worker, raw_client, nearest_engine, numbered
):
    worker = run_worker(nearest_engine, limits=WireLimits(most_pixel_bytes=100_000))
    client = raw_client(worker)
    client.hello()
    client.send(client.frame(numbered(0), 0)[0], bytes(10_000_000))
    other = raw_client(worker, "other")
    other.hello()
    other.send(*other.frame(numbered(0), 0))
    assert isinstance(other.receive()[0], Enhanced)


def test_a_stranger_is_told_to_say_hello(run_worker, raw_client, nearest_engine, numbered):
    client = raw_client(run_worker(nearest_engine))
    client.send(*client.frame(numbered(0), 3))
    reply, _ = client.receive()
    assert (reply.code, reply.sequence) == (ErrorCode.UNKNOWN_CLIENT, 3)
    client.send(*encode(Ping()))
    assert client.receive()[0].code is ErrorCode.UNKNOWN_CLIENT


def test_a_frame_that_fails_is_answered_and_the_next_is_enhanced(
    run_worker, raw_client, gated_engine, numbered
):
    client = raw_client(run_worker(gated_engine))
    gated_engine.open()
    client.hello()
    unlucky = numbered(0).copy()
    unlucky[0, 0] = 13
    client.send(*client.frame(unlucky, 0))
    client.send(*client.frame(numbered(1), 1))
    failed, _ = client.receive()
    assert isinstance(failed, Failed)
    assert (failed.code, failed.sequence) == (FailureCode.ENGINE_ERROR, 0)
    assert "unlucky" in failed.reason
    assert isinstance(client.receive()[0], Enhanced)


def test_a_model_that_is_not_loaded_is_a_failure_that_names_the_loaded_ones(
    run_worker, raw_client, nearest_engine, numbered
):
    client = raw_client(run_worker(nearest_engine))
    client.hello()
    client.send(*client.frame(numbered(0), 0, model="another"))
    failed, _ = client.receive()
    assert failed.code is FailureCode.NO_MODEL
    assert "'nearest'" in failed.reason


def test_record_frames_beyond_the_credit_are_refused_and_the_others_come_in_order(
    run_worker, raw_client, gated_engine, numbered
):
    client = raw_client(run_worker(gated_engine, record_credit=3))
    assert client.hello().record_credit == 3
    for number in range(4):
        client.send(*client.frame(numbered(number), number))
    reply, _ = client.receive()
    assert (reply.code, reply.sequence) == (ErrorCode.OVER_CREDIT, 3)
    gated_engine.open()
    assert [client.receive()[0].sequence for _ in range(3)] == [0, 1, 2]


def test_of_preview_frames_the_newest_wins_and_the_drops_are_told(
    run_worker, raw_client, gated_engine, numbered
):
    worker = run_worker(gated_engine)
    client = raw_client(worker)
    client.hello()
    client.send(*client.frame(numbered(0), 0, delivery=Delivery.PREVIEW))
    gated_engine.seen.get(timeout=10)  # frame 0 is in the engine
    for number in range(1, 6):
        client.send(*client.frame(numbered(number), number, delivery=Delivery.PREVIEW))
    dropped = [client.receive()[0] for _ in range(4)]
    assert all(isinstance(reply, Dropped) for reply in dropped)
    assert [(reply.sequence, reply.superseded_by) for reply in dropped] == [(1, 2), (2, 3), (3, 4), (4, 5)]
    gated_engine.open()
    assert [client.receive()[0].sequence for _ in range(2)] == [0, 5]
    status = worker.status()
    assert status.received == status.enhanced + status.dropped + status.failed == 6


def test_record_and_preview_take_turns(run_worker, raw_client, gated_engine, numbered, wait_for):
    worker = run_worker(gated_engine)
    client = raw_client(worker)
    client.hello()
    for number in range(4):
        client.send(*client.frame(numbered(number), number))
    gated_engine.seen.get(timeout=10)
    client.send(*client.frame(numbered(9), 9, delivery=Delivery.PREVIEW))
    wait_for(lambda: worker.status().waiting == 4)
    gated_engine.open()
    order = [client.receive()[0].sequence for _ in range(5)]
    assert order.index(9) == 1


def test_the_first_frame_decides_the_photometry_of_its_stream(run_worker, raw_client, gated_engine, numbered):
    client = raw_client(run_worker(gated_engine))
    gated_engine.open()
    client.hello()
    backgrounds = []
    for number in range(3):
        client.send(*client.frame(numbered(10 * number), number, channel="FITC"))
        backgrounds.append(client.receive()[0].photometry.background)
    assert backgrounds == [float(numbered(0)[0, 0])] * 3


def test_a_client_that_comes_back_under_its_session_leaves_nothing_behind(
    run_worker, raw_client, gated_engine, numbered, wait_for
):
    worker = run_worker(gated_engine)
    first = raw_client(worker, "same")
    first.hello()
    for number in range(3):
        first.send(*first.frame(numbered(number), number))
    gated_engine.seen.get(timeout=10)
    wait_for(lambda: worker.status().waiting == 2)
    raw_client(worker, "same").hello()
    status = worker.status()
    assert (status.waiting, status.clients) == (0, 1)


@pytest.mark.parametrize(
    "address", ["tcp://0.0.0.0:5555", "tcp://192.168.0.7:5555", "ipc:///tmp/x", "5555", "tcp://*:*"]
)
def test_any_address_but_loopback_is_refused(address, nearest_engine):
    with pytest.raises(WrongInputError, match=r"loopback|form"):
        Worker([nearest_engine], address)


def test_a_used_address_is_refused_in_one_line(run_worker, nearest_engine):
    worker = run_worker(nearest_engine)
    with pytest.raises(WrongInputError, match="another --bind"):
        Worker([nearest_engine], worker.address)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows cannot send a process SIGTERM or SIGINT")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_process_cleanly(number, start_worker, raw_client):
    worker = start_worker()
    raw_client(worker).hello()
    worker.process.send_signal(number)
    assert worker.process.wait(timeout=10) == 0


def test_frames_that_wait_at_the_end_are_answered_as_failed(
    run_worker, raw_client, gated_engine, numbered, wait_for
):
    worker = run_worker(gated_engine)
    client = raw_client(worker)
    client.hello()
    for number in range(3):
        client.send(*client.frame(numbered(number), number))
    gated_engine.seen.get(timeout=10)
    wait_for(lambda: worker.status().waiting == 2)
    worker.stop()
    replies = [client.receive()[0] for _ in range(2)]
    assert [reply.code for reply in replies] == [FailureCode.SHUTTING_DOWN] * 2
    gated_engine.open()
    assert isinstance(client.receive()[0], Enhanced)


def test_the_worker_imports_no_torch():
    command = "import sys, inference.worker; print('torch' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", command], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "False"


def test_a_frame_of_before_a_new_hello_is_not_answered_after_it(run_worker, raw_client, gated_engine):
    client = raw_client(run_worker(gated_engine))
    client.hello()
    image = np.full((8, 8), 7, np.uint16)
    client.send(*client.frame(image, 0))
    gated_engine.seen.get(timeout=30)  # it is in the engine
    client.hello()
    client.send(*client.frame(image, 1))
    gated_engine.open()
    assert client.receive()[0].sequence == 1
