import queue
import threading

import numpy as np
import pytest

from configs.document import WrongInputError
from inference.client import (
    ClientSettings,
    ClientState,
    DroppedFrame,
    EnhancedFrame,
    FailedFrame,
    WorkerBusyError,
    WorkerClient,
)
from inference.protocol import FailureCode, WireLimits

QUICK = ClientSettings(ping_interval_s=0.05, silence_limit_s=0.5)


@pytest.fixture
def outcomes():
    return queue.SimpleQueue()


def take(outcomes, count):
    return [outcomes.get(timeout=30) for _ in range(count)]


def test_frames_come_back_enhanced_in_order_and_equal(run_worker, nearest_engine, outcomes, numbered):
    worker = run_worker(nearest_engine)
    with WorkerClient(worker.address, outcomes.put) as client:
        for number in range(30):
            assert client.submit(numbered(number), pixel_size_um=0.65, channel="FITC") == number
        ended = take(outcomes, 30)
        assert client.unanswered() == ()
    assert [outcome.source.sequence for outcome in ended] == list(range(30))
    for number, outcome in enumerate(ended):
        assert isinstance(outcome, EnhancedFrame)
        assert outcome.source.session == client.session
        assert (outcome.pixel_size_um, outcome.model_name) == (0.325, "nearest")
        np.testing.assert_array_equal(outcome.image, numbered(number).repeat(2, 0).repeat(2, 1))


def test_a_reused_buffer_does_not_change_what_was_submitted(run_worker, gated_engine, outcomes):
    worker = run_worker(gated_engine)
    buffer = np.zeros((32, 32), np.uint16)
    with WorkerClient(worker.address, outcomes.put) as client:
        for number in range(10):
            buffer[:] = number
            client.submit(buffer)
        buffer[:] = 999
        gated_engine.open()
        assert [int(outcome.image.max()) for outcome in take(outcomes, 10)] == list(range(10))


def test_of_preview_frames_the_newest_wins_and_every_one_is_accounted_for(
    run_worker, gated_engine, outcomes, numbered
):
    worker = run_worker(gated_engine)
    with WorkerClient(worker.address, outcomes.put) as client:
        assert client.wait_ready(10)
        client.submit(numbered(0), delivery="preview")
        gated_engine.seen.get(timeout=10)
        for number in range(1, 50):
            client.submit(numbered(number), delivery="preview")
        gated_engine.open()
        ended = take(outcomes, 50)
    enhanced = [outcome.source.sequence for outcome in ended if isinstance(outcome, EnhancedFrame)]
    dropped = [outcome.source.sequence for outcome in ended if isinstance(outcome, DroppedFrame)]
    assert sorted(enhanced + dropped) == list(range(50))
    assert enhanced[0] == 0
    assert enhanced[-1] == 49
    assert len(dropped) >= 46


def test_submit_of_record_frames_waits_for_room_and_says_why_it_gave_up(outcomes, numbered):
    settings = ClientSettings(stored_frames=3)
    with WorkerClient("tcp://127.0.0.1:9", outcomes.put, settings=settings) as client:
        for number in range(3):
            client.submit(numbered(number))
        with pytest.raises(WorkerBusyError, match="3 frames wait"):
            client.submit(numbered(3), timeout_s=0.01)
        assert client.unanswered() == (0, 1, 2)
    ended = take(outcomes, 3)
    assert all(isinstance(outcome, FailedFrame) and outcome.code is None for outcome in ended)
    assert outcomes.empty()


def test_a_killed_worker_is_noticed_and_a_restarted_one_gets_every_unanswered_frame(
    start_worker, outcomes, numbered
):
    first = start_worker(seconds=0.02)
    states = queue.SimpleQueue()
    with WorkerClient(
        first.address, outcomes.put, settings=QUICK, on_state=lambda state, _reason: states.put(state)
    ) as client:
        for number in range(16):
            client.submit(numbered(number))
        ended = take(outcomes, 4)
        first.kill()
        while states.get(timeout=30) is not ClientState.LOST:
            pass
        while not outcomes.empty():
            ended.append(outcomes.get())
        assert client.unanswered() == tuple(range(len(ended), 16))
        start_worker(bind=first.address)
        ended += take(outcomes, 16 - len(ended))
        assert client.submit(numbered(16)) == 16
        ended += take(outcomes, 1)
    assert [outcome.source.sequence for outcome in ended] == list(range(17))
    assert all(isinstance(outcome, EnhancedFrame) for outcome in ended)


def test_a_worker_restarted_before_its_silence_is_noticed_keeps_order_and_photometry(
    start_worker, outcomes, numbered
):
    first = start_worker(seconds=0.02)
    patient = ClientSettings(ping_interval_s=0.05, silence_limit_s=60)
    with WorkerClient(first.address, outcomes.put, settings=patient) as client:
        for number in range(16):
            client.submit(numbered(100 - number), channel="FITC")
        ended = take(outcomes, 3)
        first.kill()
        start_worker(bind=first.address)
        ended += take(outcomes, 13)
    assert [outcome.source.sequence for outcome in ended] == list(range(16))
    assert {outcome.photometry.background for outcome in ended} == {float(numbered(100).min())}


def test_a_worker_whose_engine_hangs_is_lost_although_it_answers_pings(
    run_worker, gated_engine, outcomes, numbered
):
    worker = run_worker(gated_engine)
    states = queue.SimpleQueue()
    settings = ClientSettings(ping_interval_s=0.02, progress_limit_s=0.2)
    with WorkerClient(
        worker.address, outcomes.put, settings=settings, on_state=lambda *news: states.put(news)
    ) as client:
        client.submit(numbered(0))
        state, reason = states.get(timeout=10)
        while state is not ClientState.LOST:
            state, reason = states.get(timeout=10)
        assert "one frame" in reason
        assert client.unanswered() == (0,)
        gated_engine.open()
        assert isinstance(outcomes.get(timeout=30), EnhancedFrame)


def test_a_worker_that_shuts_down_fails_no_record_frame(
    run_worker, start_worker, gated_engine, outcomes, numbered, wait_for
):
    worker = run_worker(gated_engine)
    with WorkerClient(worker.address, outcomes.put, settings=QUICK) as client:
        for number in range(5):
            client.submit(numbered(number))
        gated_engine.seen.get(timeout=10)
        wait_for(lambda: worker.status().waiting == 4)
        worker.stop()
        wait_for(lambda: client.status().state is ClientState.LOST)
        gated_engine.open()
        wait_for(lambda: worker.status().state == "stopping")
        worker.close()
        start_worker(bind=worker.address)
        ended = take(outcomes, 5)
    assert [outcome.source.sequence for outcome in ended] == list(range(5))
    assert all(isinstance(outcome, EnhancedFrame) for outcome in ended)


def test_a_frame_that_the_engine_refuses_ends_as_failed_with_its_reason(
    run_worker, gated_engine, outcomes, numbered
):
    worker = run_worker(gated_engine)
    gated_engine.open()
    unlucky = numbered(0).copy()
    unlucky[0, 0] = 13
    with WorkerClient(worker.address, outcomes.put) as client:
        client.submit(unlucky)
        failed = outcomes.get(timeout=10)
    assert (failed.code, failed.source.sequence) == (FailureCode.ENGINE_ERROR, 0)
    assert "unlucky" in failed.reason


def test_a_frame_larger_than_the_worker_accepts_fails_without_being_sent(
    run_worker, nearest_engine, outcomes
):
    worker = run_worker(nearest_engine, limits=WireLimits(most_pixel_bytes=1000))
    with WorkerClient(worker.address, outcomes.put) as client:
        client.submit(np.zeros((64, 64), np.uint16))
        assert "the worker accepts 1000" in outcomes.get(timeout=10).reason
    assert worker.status().refused == 0


@pytest.mark.parametrize(
    ("image", "words"),
    [
        (np.zeros((4, 4), np.int64), "8 or 16 bit"),
        (np.zeros((4, 4, 3), np.uint8), "one plane at a time"),
        (np.zeros((0, 4), np.uint8), "cannot be sent"),
    ],
)
def test_what_cannot_be_sent_is_refused_in_one_line(image, words, outcomes):
    with (
        WorkerClient("tcp://127.0.0.1:9", outcomes.put) as client,
        pytest.raises(WrongInputError, match=words),
    ):
        client.submit(image)


def test_an_address_beyond_this_machine_is_refused():
    with pytest.raises(WrongInputError, match="CURVE"):
        WorkerClient("tcp://10.0.0.1:5555")


def test_when_all_is_drained_all_has_been_told(start_worker):
    told = []

    def tell(outcome):
        threading.Event().wait(0.02)  # a listener that takes its time
        told.append(outcome)

    with WorkerClient(start_worker().address, tell) as client:
        assert client.wait_ready(30)
        for k in range(5):
            client.submit(np.full((8, 8), k, np.uint16))
        assert client.drain(30)
        assert len(told) == 5


def test_a_listener_of_states_that_fails_costs_nothing(start_worker):
    outcomes = queue.SimpleQueue()

    def fail(_state, _reason):
        raise RuntimeError("unlucky")

    with WorkerClient(start_worker().address, outcomes.put, on_state=fail) as client:
        assert client.wait_ready(30)
        client.submit(np.full((8, 8), 7, np.uint16))
        assert isinstance(outcomes.get(timeout=30), EnhancedFrame)
