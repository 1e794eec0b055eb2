"""Many workers as one, over real sockets; where workers are killed, in processes of their own."""

import queue
import signal
import sys
from dataclasses import replace

import numpy as np
import pytest

from acquisition.live import LiveEnhancer
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
from inference.completion import complete
from inference.fleet import WorkerFleet
from inference.recording import Recording
from inference.worker_list import open_workers

NOWHERE = "tcp://127.0.0.1:9"
QUICK = ClientSettings(ping_interval_s=0.05, silence_limit_s=0.5, stored_frames=64)


@pytest.fixture
def outcomes():
    return queue.SimpleQueue()


def take(outcomes, count):
    return [outcomes.get(timeout=30) for _ in range(count)]


def assert_all_enhanced_in_order(ended, images):
    assert [outcome.source.sequence for outcome in ended] == list(range(len(images)))
    for outcome, image in zip(ended, images, strict=True):
        assert isinstance(outcome, EnhancedFrame)
        np.testing.assert_array_equal(outcome.image, image.repeat(2, 0).repeat(2, 1))


def test_unequal_workers_share_the_frames_and_these_come_back_in_order(
    run_worker, make_engine, outcomes, numbered
):
    fast, slow = make_engine(0.002), make_engine(0.01)
    addresses = [run_worker(engine).address for engine in (fast, slow)]
    images = [numbered(number) for number in range(100)]
    with WorkerFleet(addresses, outcomes.put) as fleet:
        for image in images:
            fleet.submit(image, channel="FITC")
        assert fleet.drain(30)
        assert fleet.unanswered() == ()
    assert_all_enhanced_in_order(take(outcomes, 100), images)
    assert fast.frames + slow.frames == 100
    assert fast.frames > slow.frames > 0


def test_the_photometry_is_one_for_the_stream_whoever_enhances_it(
    run_worker, make_engine, outcomes, numbered
):
    engines = [make_engine(0.002), make_engine(0.002)]
    addresses = [run_worker(engine).address for engine in engines]
    with WorkerFleet(addresses, outcomes.put) as fleet:
        assert fleet.wait_ready(10)
        for number in range(40):
            fleet.submit(numbered(1000 - number), channel="FITC")
        ended = take(outcomes, 40)
    assert {outcome.photometry.background for outcome in ended} == {float(numbered(1000).min())}
    assert all(engine.frames > 5 for engine in engines)


def test_the_frames_of_a_killed_worker_go_to_the_other(start_worker, outcomes, numbered):
    doomed, other = start_worker(seconds=0.005), start_worker(seconds=0.005)
    images = [numbered(number) for number in range(120)]
    with WorkerFleet([doomed.address, other.address], outcomes.put, settings=QUICK) as fleet:
        ended = []
        for number, image in enumerate(images):
            fleet.submit(image)
            if number == 60:
                doomed.kill()
        ended = take(outcomes, 120)
        assert outcomes.empty()
        assert fleet.status().state is ClientState.READY
        assert fleet.workers()[doomed.address].state is ClientState.LOST
    assert_all_enhanced_in_order(ended, images)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows cannot stop a process by a signal")
def test_a_worker_that_sleeps_loses_its_frames_and_nothing_counts_twice_when_it_wakes(
    start_worker, outcomes, numbered, wait_for
):
    sleeper, other = start_worker(seconds=0.005), start_worker(seconds=0.005)
    images = [numbered(number) for number in range(150)]
    with WorkerFleet([sleeper.address, other.address], outcomes.put, settings=QUICK) as fleet:
        wait_for(lambda: all(s.state is ClientState.READY for s in fleet.workers().values()))
        for image in images[:50]:
            fleet.submit(image)
        sleeper.process.send_signal(signal.SIGSTOP)
        for image in images[50:100]:
            fleet.submit(image)
        wait_for(lambda: fleet.workers()[sleeper.address].state is ClientState.LOST)
        assert fleet.drain(30)
        sleeper.process.send_signal(signal.SIGCONT)
        wait_for(lambda: fleet.workers()[sleeper.address].state is ClientState.READY)
        for image in images[100:]:
            fleet.submit(image)
        assert fleet.drain(30)
        ended = take(outcomes, 150)
        assert outcomes.empty()
    assert_all_enhanced_in_order(ended, images)


def test_workers_join_and_leave_while_frames_are_under_way(
    run_worker, make_engine, outcomes, numbered, wait_for
):
    first, second = make_engine(0.005), make_engine(0.005)
    addresses = [run_worker(engine).address for engine in (first, second)]
    images = [numbered(number) for number in range(90)]
    settings = replace(QUICK, stored_frames=8)  # submitting keeps pace with the workers
    with WorkerFleet([], outcomes.put, settings=settings) as fleet:
        assert fleet.status().state is ClientState.CONNECTING
        for number, image in enumerate(images):
            fleet.submit(image)
            if number == 5:
                fleet.add_worker(addresses[0])
            elif number == 40:
                fleet.add_worker(addresses[1])
                wait_for(lambda: fleet.workers()[addresses[1]].state is ClientState.READY)
            elif number == 70:
                fleet.remove_worker(addresses[0])
        assert fleet.drain(30)
        assert list(fleet.workers()) == addresses[1:]
    assert_all_enhanced_in_order(take(outcomes, 90), images)
    assert min(first.frames, second.frames) > 10


def test_the_free_worker_gets_the_next_frame(run_worker, make_gated_engine, outcomes, numbered, wait_for):
    stuck, free = make_gated_engine(), make_gated_engine()
    with WorkerFleet([run_worker(stuck, record_credit=1).address], outcomes.put) as fleet:
        stuck.permits.release()  # for the frame that decides the light
        fleet.submit(numbered(0))
        take(outcomes, 1)
        fleet.submit(numbered(1))
        wait_for(lambda: stuck.seen.qsize() == 2)
        fleet.add_worker(run_worker(free, record_credit=1).address)
        free.open()
        for number in range(2, 6):
            fleet.submit(numbered(number))
        wait_for(lambda: fleet.unanswered() == (1,))
        assert free.seen.qsize() == 4
        assert outcomes.empty()  # frame 1 comes before them
        stuck.open()
        assert [outcome.source.sequence for outcome in take(outcomes, 5)] == [1, 2, 3, 4, 5]


def test_a_frame_that_fails_keeps_its_place(run_worker, make_gated_engine, outcomes, numbered):
    engines = [make_gated_engine(), make_gated_engine()]
    addresses = [run_worker(engine).address for engine in engines]
    for engine in engines:
        engine.open()
    images = [numbered(number) for number in range(20)]
    images[7][0, 0] = 13
    with WorkerFleet(addresses, outcomes.put) as fleet:
        for image in images:
            fleet.submit(image)
        ended = take(outcomes, 20)
    assert [outcome.source.sequence for outcome in ended] == list(range(20))
    assert [isinstance(outcome, FailedFrame) for outcome in ended] == [n == 7 for n in range(20)]


def test_every_preview_frame_is_accounted_for_though_a_worker_dies(
    start_worker, outcomes, numbered, wait_for
):
    doomed, other = start_worker(seconds=0.01), start_worker(seconds=0.01)
    with WorkerFleet([doomed.address, other.address], outcomes.put, settings=QUICK) as fleet:
        assert fleet.wait_ready(10)
        for number in range(200):
            fleet.submit(numbered(number), delivery="preview")
            if number == 100:
                doomed.kill()
        assert fleet.drain(30)
    ended = take(outcomes, 200)
    assert sorted(outcome.source.sequence for outcome in ended) == list(range(200))
    assert any(isinstance(outcome, DroppedFrame) for outcome in ended)
    assert max(o.source.sequence for o in ended if isinstance(o, EnhancedFrame)) == 199


def test_without_a_worker_submitting_waits_and_says_of_whom(outcomes, numbered):
    settings = ClientSettings(stored_frames=3)
    with WorkerFleet([NOWHERE], outcomes.put, settings=settings) as fleet:
        for number in range(3):
            fleet.submit(numbered(number))
        with pytest.raises(WorkerBusyError, match=r"3 frames wait .*0 of 1 workers are ready"):
            fleet.submit(numbered(3), timeout_s=0.01)
        assert fleet.unanswered() == (0, 1, 2)
    ended = take(outcomes, 3)
    assert [outcome.source.sequence for outcome in ended] == [0, 1, 2]
    assert all(isinstance(outcome, FailedFrame) and outcome.code is None for outcome in ended)
    with pytest.raises(WrongInputError, match="closed"):
        fleet.submit(numbered(4))


def test_a_worker_with_two_addresses_is_used_once(run_worker, nearest_engine, outcomes, numbered, wait_for):
    worker = run_worker(nearest_engine)
    twin = worker.address.replace("127.0.0.1", "localhost")
    with WorkerFleet([worker.address, twin], outcomes.put, settings=QUICK) as fleet:
        wait_for(lambda: len(fleet.workers()) == 1)
        for number in range(20):
            fleet.submit(numbered(number))
        assert len(take(outcomes, 20)) == 20


def test_an_address_that_is_named_twice_is_refused():
    with pytest.raises(WrongInputError, match="once"):
        WorkerFleet([NOWHERE, NOWHERE])


def test_one_address_gives_a_client_and_several_a_fleet():
    with open_workers(NOWHERE) as one, open_workers([NOWHERE, "tcp://127.0.0.1:10"]) as several:
        assert isinstance(one, WorkerClient)
        assert isinstance(several, WorkerFleet)


def test_a_recording_is_enhanced_by_two_workers_and_completed_by_two(core, start_worker, tmp_path):
    path = tmp_path / "r"
    workers = [start_worker(seconds=0.005) for _ in range(2)]
    addresses = [worker.address for worker in workers]
    with LiveEnhancer(core, addresses, path, settings=QUICK) as live:
        assert live.wait_ready(10)
        for _ in range(30):
            core.snapImage()
        assert live.drain()
        for worker in workers:
            worker.kill()
        for _ in range(10):
            core.snapImage()
        live.close(patience_s=0.0)
    assert len(Recording.open(path).enhanced) == 30
    report = complete(path, [start_worker().address, start_worker().address], settings=QUICK)
    assert (report.enhanced, report.unenhanced) == (10, {})
    recording = Recording.open(path)
    assert {line.photometry for line in recording.enhanced.values()} == {recording.enhanced[0].photometry}
    for number in range(40):
        np.testing.assert_array_equal(
            recording.read_enhanced(number), recording.read(number).repeat(2, 0).repeat(2, 1)
        )
