"""A supervised worker meets real faults: it is replaced, on the same address, and no frame is lost."""

import queue
import signal
import subprocess
import sys
import threading
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import psutil
import pytest

from inference.client import ClientSettings, ClientState, EnhancedFrame, WorkerClient
from inference.figures import Figures
from inference.supervisor import Patience, Supervisor

SUPERVISED = Path(__file__).with_name("supervised.py")
QUICK = ClientSettings(ping_interval_s=0.05, silence_limit_s=0.5, progress_limit_s=1.0)
HANG, SPIN, HOLD_GIL, SEGFAULT, DEVICE, UNLUCKY, LEAVE, SPIN_A_WHILE, HOLD_GIL_A_WHILE = range(60001, 60010)
posix = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signals")


class Supervised:
    """A supervisor in a process of its own."""

    def __init__(self, seconds="0", marks="", start="ok"):
        command = [sys.executable, str(SUPERVISED), "tcp://127.0.0.1:*", str(marks), seconds, start]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.workers = []

    def next_worker(self):
        """Wait for the next worker that serves; returns the address."""
        address, worker = self.process.stdout.readline().split()
        self.workers.append(worker)
        return address

    def child(self):
        """Return the worker's process."""
        return psutil.Process(self.process.pid).children()[0]

    def close(self):
        self.process.kill()
        print(self.process.communicate()[1])  # for whoever reads why a test failed


@pytest.fixture
def supervise():
    with ExitStack() as stack:

        def start(**options):
            supervised = Supervised(**options)
            stack.callback(supervised.close)
            return supervised

        yield start


@pytest.fixture
def outcomes():
    return queue.SimpleQueue()


def take(outcomes, count):
    return [outcomes.get(timeout=60) for _ in range(count)]


def assert_all_enhanced_in_order(ended, images):
    assert [outcome.source.sequence for outcome in ended] == list(range(len(images)))
    for outcome, image in zip(ended, images, strict=True):
        assert isinstance(outcome, EnhancedFrame), outcome
        np.testing.assert_array_equal(outcome.image, image.repeat(2, 0).repeat(2, 1))


@pytest.mark.parametrize(
    "fault",
    [
        SEGFAULT,
        pytest.param(DEVICE, marks=pytest.mark.slow),
        pytest.param(LEAVE, marks=pytest.mark.slow),
        pytest.param(HANG, marks=pytest.mark.slow),
        pytest.param(SPIN, marks=pytest.mark.slow),
        pytest.param(HOLD_GIL, marks=pytest.mark.slow),
    ],
    ids={
        SEGFAULT: "segfault",
        DEVICE: "device",
        LEAVE: "leave",
        HANG: "hang",
        SPIN: "spin",
        HOLD_GIL: "gil",
    }.get,
)
def test_a_fault_in_mid_stream_costs_a_worker_but_no_frame(fault, supervise, outcomes, numbered, tmp_path):
    supervised = supervise(marks=tmp_path)
    address = supervised.next_worker()
    images = [numbered(number) for number in range(12)]
    images[4] = images[4].copy()
    images[4][0, 0] = fault
    with WorkerClient(address, outcomes.put, settings=QUICK) as client:
        for image in images:
            client.submit(image, timeout_s=60)
        ended = take(outcomes, 12)
    assert_all_enhanced_in_order(ended, images)
    assert supervised.next_worker() == address
    assert supervised.workers[0] != supervised.workers[1]


@pytest.mark.slow
@pytest.mark.parametrize("fault", [SPIN_A_WHILE, HOLD_GIL_A_WHILE], ids=["spin", "gil"])
def test_a_worker_that_comes_back_within_its_deadlines_is_left_alone(
    fault, supervise, outcomes, numbered, tmp_path
):
    supervised = supervise(marks=tmp_path)
    images = [numbered(number) for number in range(6)]
    images[2] = images[2].copy()
    images[2][0, 0] = fault
    with WorkerClient(supervised.next_worker(), outcomes.put, settings=QUICK) as client:
        before = supervised.child().pid
        for image in images:
            client.submit(image, timeout_s=60)
        assert_all_enhanced_in_order(take(outcomes, 6), images)
    assert supervised.child().pid == before


@pytest.mark.slow
def test_a_frame_that_kills_every_worker_is_given_up_and_the_rest_is_enhanced(supervise, outcomes, numbered):
    supervised = supervise()
    images = [numbered(number) for number in range(12)]
    images[5] = images[5].copy()
    images[5][0, 0] = SEGFAULT
    with WorkerClient(supervised.next_worker(), outcomes.put, settings=QUICK) as client:
        for image in images:
            client.submit(image, timeout_s=60)
        ended = take(outcomes, 12)
    assert [outcome.source.sequence for outcome in ended] == list(range(12))
    failed = [outcome for outcome in ended if not isinstance(outcome, EnhancedFrame)]
    assert [outcome.source.sequence for outcome in failed] == [5]
    assert "workers were lost that had only this frame" in failed[0].reason


@posix
def test_sigkill_of_the_worker_in_mid_stream_costs_no_frame(supervise, outcomes, numbered):
    supervised = supervise(seconds="0.02")
    images = [numbered(number) for number in range(40)]
    with WorkerClient(supervised.next_worker(), outcomes.put, settings=QUICK) as client:
        for number, image in enumerate(images):
            client.submit(image, timeout_s=60)
            if number == 20:
                supervised.child().kill()
        assert_all_enhanced_in_order(take(outcomes, 40), images)
    supervised.next_worker()


@posix
@pytest.mark.slow
def test_a_stopped_worker_is_replaced(supervise, outcomes, numbered):
    supervised = supervise()
    images = [numbered(number) for number in range(10)]
    with WorkerClient(supervised.next_worker(), outcomes.put, settings=QUICK) as client:
        client.submit(images[0])
        ended = take(outcomes, 1)
        supervised.child().suspend()
        for image in images[1:]:
            client.submit(image, timeout_s=60)
        assert_all_enhanced_in_order(ended + take(outcomes, 9), images)
    supervised.next_worker()


@posix
def test_a_worker_that_goes_on_soon_after_it_was_stopped_is_kept(supervise, outcomes, numbered, wait_for):
    supervised = supervise()
    with WorkerClient(supervised.next_worker(), outcomes.put, settings=QUICK) as client:
        client.submit(numbered(0))
        ended = take(outcomes, 1)
        child = supervised.child()
        child.suspend()
        client.submit(numbered(1))
        wait_for(lambda: client.status().state is ClientState.LOST)
        child.resume()
        assert_all_enhanced_in_order(ended + take(outcomes, 1), [numbered(0), numbered(1)])
        assert supervised.child().pid == child.pid


@posix
@pytest.mark.slow
def test_a_supervisor_that_was_stopped_itself_does_not_blame_the_worker(
    supervise, outcomes, numbered, wait_for
):
    supervised = supervise()
    with WorkerClient(supervised.next_worker(), outcomes.put, settings=QUICK) as client:
        child = supervised.child().pid
        supervised.process.send_signal(signal.SIGSTOP)
        for number in range(2):
            client.submit(numbered(number))
            threading.Event().wait(3.0)  # beyond the worker's silence limit and the margin
        assert len(take(outcomes, 2)) == 2  # nobody waits for the supervisor
        supervised.process.send_signal(signal.SIGCONT)
        client.submit(numbered(2))
        assert len(take(outcomes, 1)) == 1
        threading.Event().wait(0.5)
        assert supervised.child().pid == child


@posix
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_to_the_supervisor_ends_all_in_an_orderly_way(number, supervise):
    supervised = supervise()
    supervised.next_worker()
    child = supervised.child()
    supervised.process.send_signal(number)
    assert supervised.process.wait(5) == 0
    assert not child.is_running()


@posix
@pytest.mark.slow
def test_a_signal_ends_all_in_time_though_the_engine_hangs(supervise, outcomes, numbered, wait_for, tmp_path):
    supervised = supervise(marks=tmp_path)
    image = numbered(0).copy()
    image[0, 0] = HANG
    with WorkerClient(supervised.next_worker(), outcomes.put, settings=QUICK) as client:
        client.submit(image)
        child = supervised.child()
        wait_for((tmp_path / str(HANG)).exists)
        supervised.process.send_signal(signal.SIGTERM)
        assert supervised.process.wait(9) == 1
        assert not child.is_running()


@posix
@pytest.mark.parametrize(
    "fault",
    [0, pytest.param(HANG, marks=pytest.mark.slow), pytest.param(HOLD_GIL, marks=pytest.mark.slow)],
    ids=["idle", "hang", "gil"],
)
def test_a_killed_supervisor_leaves_no_orphan(fault, supervise, outcomes, numbered, wait_for, tmp_path):
    supervised = supervise(marks=tmp_path)
    image = numbered(0).copy()
    image[0, 0] = fault
    with WorkerClient(supervised.next_worker(), outcomes.put, settings=QUICK) as client:
        assert client.wait_ready(10)
        client.submit(image)
        child = supervised.child()
        wait_for(lambda: not fault or (tmp_path / str(fault)).exists())
        supervised.process.kill()
        child.wait(15)


def test_a_worker_that_never_comes_up_is_not_tried_again(supervise):
    supervised = supervise(start="fails")
    assert supervised.process.wait(30) == 2
    assert supervised.workers == []


def test_too_many_restarts_in_a_minute_are_given_up(tmp_path):
    """Each life is one beat long: what is tested is the supervisor's count, with real processes."""
    lives = tmp_path / "lives"
    beat = Figures(
        worker="w", address="tcp://127.0.0.1:1", models=(), serving=True, received=0, enhanced=0, failed={},
        dropped=0, refused=0, flagged=0, waiting=0, clients=0, busy_s=0.0, engine_frames=(), engine_s=0.0,
    )  # fmt: skip
    script = f"open({str(lives)!r}, 'a').write('x'); print({beat.model_dump_json()!r}); raise SystemExit(3)"
    addresses = []

    def command(address):
        addresses.append(address)
        return [sys.executable, "-c", script]

    supervisor = Supervisor(command, Patience(first_pause_s=0.01, most_restarts_per_min=3))
    assert supervisor.run() == 1
    assert (lives.read_text(), supervisor.restarts) == ("xxxx", 3)
    assert addresses == [None, *["tcp://127.0.0.1:1"] * 3]
    assert "exit code 3" in supervisor.last_loss


def test_what_a_worker_prints_before_it_beats_is_no_beat(tmp_path, caplog):
    script = "print('hello'); print({'a': 1}); raise SystemExit(5)"
    assert Supervisor(lambda _address: [sys.executable, "-c", script]).run() == 5
    assert "hello" in caplog.text
