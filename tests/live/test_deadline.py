"""Frames with a deadline: what still waits then is answered, and what has none waits on."""

import queue
import time

import pytest

from inference.client import EnhancedFrame, FailedFrame, WorkerClient
from inference.protocol import Delivery, Enhanced, Failed, FailureCode


@pytest.mark.parametrize("delivery", list(Delivery))
def test_a_frame_that_waits_beyond_its_deadline_is_answered_while_the_engine_is_busy(
    delivery, run_worker, raw_client, gated_engine, numbered
):
    worker = run_worker(gated_engine)
    client = raw_client(worker)
    client.hello()
    client.send(*client.frame(numbered(0), 0))
    gated_engine.seen.get(timeout=10)
    began_s = time.monotonic()
    client.send(*client.frame(numbered(1), 1, deadline_ms=50.0, delivery=delivery))
    failed, _ = client.receive()
    assert isinstance(failed, Failed)
    assert (failed.code, failed.sequence) == (FailureCode.DEADLINE, 1)
    assert "50.0 ms" in failed.reason
    assert time.monotonic() - began_s >= 0.05
    gated_engine.open()
    assert client.receive()[0].sequence == 0
    status = worker.status()
    assert (status.received, status.enhanced, status.failed, status.waiting) == (2, 1, 1, 0)
    assert worker.figures().failed == {"deadline": 1}


def test_a_late_record_frame_gives_its_credit_back(run_worker, raw_client, gated_engine, numbered):
    client = raw_client(run_worker(gated_engine, record_credit=2))
    client.hello()
    client.send(*client.frame(numbered(0), 0))
    gated_engine.seen.get(timeout=10)
    for number in range(1, 5):
        client.send(*client.frame(numbered(number), number, deadline_ms=1.0))
        reply = client.receive()[0]
        assert (reply.sequence, reply.code) == (number, FailureCode.DEADLINE)
    gated_engine.open()
    assert isinstance(client.receive()[0], Enhanced)


def test_only_the_late_one_of_several_is_taken_out(run_worker, raw_client, gated_engine, numbered):
    client = raw_client(run_worker(gated_engine))
    client.hello()
    for number, deadline_ms in enumerate([None, 60_000.0, 20.0, None, 30.0]):
        client.send(*client.frame(numbered(number), number, deadline_ms=deadline_ms))
    late = [client.receive()[0] for _ in range(2)]
    assert [(reply.sequence, reply.code) for reply in late] == [(2, "deadline"), (4, "deadline")]
    gated_engine.open()
    assert [client.receive()[0].sequence for _ in range(3)] == [0, 1, 3]


def test_the_client_hands_the_deadline_on_and_a_late_frame_ends_as_failed(run_worker, gated_engine, numbered):
    outcomes = queue.SimpleQueue()
    with WorkerClient(run_worker(gated_engine).address, outcomes.put) as client:
        client.submit(numbered(0))
        gated_engine.seen.get(timeout=10)
        client.submit(numbered(1), deadline_ms=5)
        failed = outcomes.get(timeout=10)
        assert isinstance(failed, FailedFrame)
        assert (failed.source.sequence, failed.code) == (1, FailureCode.DEADLINE)
        gated_engine.open()
        assert isinstance(outcomes.get(timeout=10), EnhancedFrame)
