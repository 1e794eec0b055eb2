"""Who looks on at a worker sees the newest frames of everybody, and holds up nobody."""

import queue
import time

import numpy as np
import pytest

from inference.client import WorkerClient
from inference.messages import Dropped, Enhanced, Failed, Watch, Watched
from inference.onlookers import Onlookers
from inference.protocol import decode_watched, encode
from inference.watcher import Watcher


def enlarged(image):
    return image.astype(np.float32).repeat(2, 0).repeat(2, 1)


@pytest.fixture
def watch():
    """Open a watcher; returns its frames and its states as queues."""
    watchers = []

    def begin(worker):
        frames, states = queue.SimpleQueue(), queue.SimpleQueue()
        watchers.append(Watcher(worker.address, frames.put, states.put))
        assert states.get(timeout=20).ready
        return frames, states

    yield begin
    for watcher in watchers:
        watcher.close()


def test_each_of_two_watchers_is_shown_a_frame_with_its_enhanced_image(
    run_worker, nearest_engine, watch, numbered
):
    worker = run_worker(nearest_engine)
    watching = [watch(worker)[0] for _ in range(2)]
    with WorkerClient(worker.address) as client:
        for number in range(200):  # through shared memory, which is used again and again
            client.submit(numbered(number), channel="FITC", pixel_size_um=0.5)
            if number == 0:
                shown = [frames.get(timeout=20) for frames in watching]
        client.drain()
    shown += [frames.get(timeout=20) for frames in watching]
    assert [frame.told.frame.sequence for frame in shown[:2]] == [0, 0]
    for frame in shown:
        number = frame.told.frame.sequence
        np.testing.assert_array_equal(frame.raw, numbered(number))
        np.testing.assert_array_equal(frame.enhanced, enlarged(numbered(number)))
        assert frame.told.frame.channel == "FITC"
        assert isinstance(frame.told.answer, Enhanced)
        assert (frame.told.answer.model_name, frame.told.answer.pixel_size_um) == (nearest_engine.name, 0.25)
        assert frame.told.received >= frame.told.enhanced >= 1


def test_one_request_is_answered_by_one_frame_and_never_costs_the_others_one(
    run_worker, gated_engine, raw_client, numbered
):
    worker = run_worker(gated_engine)
    watcher = raw_client(worker, "watcher")
    watcher.hello()
    watcher.send(*encode(Watch()))
    watcher.send(*encode(Watch()))  # asking twice is asking once
    outcomes = queue.SimpleQueue()
    with WorkerClient(worker.address, outcomes.put) as client:
        gated_engine.open()
        for number in range(5):
            client.submit(numbered(number))
        client.drain()
        assert [outcomes.get(timeout=20).source.sequence for _ in range(5)] == list(range(5))
        header, raw, _ = decode_watched(watcher.socket.recv_multipart())
        assert isinstance(header, Watched)
        np.testing.assert_array_equal(raw, numbered(header.frame.sequence))
        watcher.send(*encode(Watch()))
        header, _, _ = decode_watched(watcher.socket.recv_multipart())
        assert header.frame.sequence == 4  # the newest of those that came meanwhile
        watcher.send(*encode(Watch()))
        client.submit(numbered(7), sequence=7)
        header, _, _ = decode_watched(watcher.socket.recv_multipart())
        assert header.frame.sequence == 7
        assert header.answer.session == client.session


def test_a_frame_that_failed_is_shown_with_the_reason(run_worker, gated_engine, watch):
    worker = run_worker(gated_engine)
    frames, _ = watch(worker)
    gated_engine.open()
    with WorkerClient(worker.address) as client:
        client.submit(np.full((8, 9), 13, np.uint16))
        shown = frames.get(timeout=20)
    assert isinstance(shown.told.answer, Failed)
    assert "unlucky" in shown.told.answer.reason
    assert shown.enhanced is None
    assert shown.raw[0, 0] == 13


def test_a_watcher_says_that_the_worker_is_gone_and_finds_the_next_one(start_worker, watch, monkeypatch):
    monkeypatch.setattr("inference.watcher.SILENCE_S", 0.5)
    monkeypatch.setattr("inference.watcher.PING_S", 0.1)
    worker = start_worker()
    frames, states = watch(worker)
    worker.kill()
    gone = states.get(timeout=20)
    assert (gone.ready, gone.models) == (False, ())
    assert worker.address in gone.reason
    start_worker(bind=worker.address)
    assert states.get(timeout=20).ready
    with WorkerClient(worker.address) as client:
        client.submit(np.zeros((4, 4), np.uint16))
        assert frames.get(timeout=20).enhanced.shape == (8, 8)


def test_what_is_no_answer_to_a_watcher_is_refused():
    dropped = Dropped(session="s", sequence=1, superseded_by=2)
    assert decode_watched(encode(dropped)) == (dropped, None, None)


def test_the_last_frame_of_each_channel_is_shown_though_it_came_while_nobody_waited(
    run_worker, nearest_engine, raw_client, numbered
):
    worker = run_worker(nearest_engine)
    watcher = raw_client(worker, "watcher")
    watcher.hello()
    watcher.send(*encode(Watch()))
    with WorkerClient(worker.address) as client:
        for number in range(6):
            client.submit(numbered(number), channel="FITC" if number % 2 else "DAPI")
        client.drain()
    seen = [decode_watched(watcher.socket.recv_multipart())[0].frame.sequence]
    for _ in range(2):
        watcher.send(*encode(Watch()))
        seen.append(decode_watched(watcher.socket.recv_multipart())[0].frame.sequence)
    assert seen == [0, 4, 5]


def test_looking_on_costs_a_busy_worker_at_most_a_hundred_copies_a_second():
    onlookers, copies = Onlookers(), []
    present = {b"a"}

    def copy():
        copies.append(None)
        return [b"header", b"pixels"]

    assert onlookers.ask(b"a") is None
    start_s = time.monotonic()
    shown = [list(onlookers.offer("FITC", present, copy)) for _ in range(5000)]
    assert shown[0] == [(b"a", [b"header", b"pixels"])]
    assert not any(shown[1:])
    assert len(copies) <= 21 + (time.monotonic() - start_s) * 100
    assert list(onlookers.offer("FITC", set(), copy)) == []  # it has left
    assert onlookers.ask(b"a") is None
