"""A client and a worker with a bad network between them, and clients that die or repeat themselves."""

import importlib.util
import queue
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest
import zmq

from inference.client import ClientSettings, ClientState, EnhancedFrame, WorkerClient
from inference.messages import (
    Enhanced,
    Failed,
    FailureCode,
    Frame,
    Info,
    ModelInfo,
    Progress,
    StreamPhotometry,
)
from inference.protocol import WireLimits, decode_request, encode

QUICK = ClientSettings(ping_interval_s=0.05, silence_limit_s=0.5)
PHOTOMETRY = StreamPhotometry(model_hash="ab", background=0.0, scale=1.0)


def _proxy_class():
    path = Path(__file__).with_name("tcp_proxy.py")
    spec = importlib.util.spec_from_file_location("tcp_proxy", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.TcpProxy


TcpProxy = _proxy_class()


@pytest.fixture
def outcomes():
    return queue.SimpleQueue()


@pytest.fixture
def proxied():
    """A proxy in front of a worker."""
    with ExitStack() as stack:

        def start(worker):
            proxy = TcpProxy(worker.address)
            stack.callback(proxy.close)
            return proxy

        yield start


def take(outcomes, count):
    return [outcomes.get(timeout=60) for _ in range(count)]


def assert_all_enhanced_in_order(ended, images):
    assert [outcome.source.sequence for outcome in ended] == list(range(len(images)))
    for outcome, image in zip(ended, images, strict=True):
        assert isinstance(outcome, EnhancedFrame), outcome
        np.testing.assert_array_equal(outcome.image, image.repeat(2, 0).repeat(2, 1))


def test_a_network_cut_again_and_again_loses_repeats_and_reorders_nothing(
    run_worker, nearest_engine, proxied, outcomes, numbered
):
    proxy = proxied(run_worker(nearest_engine))
    images = [numbered(number, (128, 128)) for number in range(60)]
    ended = []
    with WorkerClient(proxy.address, outcomes.put, settings=QUICK) as client:
        for number, image in enumerate(images):
            client.submit(image, timeout_s=60)
            if number % 12 == 5:
                ended += take(outcomes, 1)
                proxy.cut()
        ended += take(outcomes, 60 - len(ended))
    assert_all_enhanced_in_order(ended, images)
    assert outcomes.empty()
    assert proxy.connections > 3


def test_a_network_cut_in_the_middle_of_a_frame_costs_nothing(
    run_worker, nearest_engine, proxied, outcomes, numbered, wait_for
):
    proxy = proxied(run_worker(nearest_engine))
    proxy.cut_after_bytes = 100_000
    images = [numbered(number, (512, 512)) for number in range(3)]
    with WorkerClient(proxy.address, outcomes.put, settings=QUICK) as client:
        for image in images:
            client.submit(image)
        wait_for(lambda: proxy.connections > 2)
        assert outcomes.empty()
        proxy.cut_after_bytes = float("inf")
        assert_all_enhanced_in_order(take(outcomes, 3), images)


@pytest.mark.slow
def test_a_network_that_swallows_everything_is_noticed_and_survived(
    run_worker, nearest_engine, proxied, outcomes, numbered, wait_for
):
    proxy = proxied(run_worker(nearest_engine))
    images = [numbered(number) for number in range(12)]
    with WorkerClient(proxy.address, outcomes.put, settings=QUICK) as client:
        client.submit(images[0])
        ended = take(outcomes, 1)
        proxy.swallow = True
        for image in images[1:]:
            client.submit(image, timeout_s=60)
        wait_for(lambda: client.status().state is ClientState.LOST)
        proxy.swallow = False
        assert_all_enhanced_in_order(ended + take(outcomes, 11), images)


def test_a_network_with_a_long_delay_is_only_slow(run_worker, nearest_engine, proxied, outcomes, numbered):
    proxy = proxied(run_worker(nearest_engine))
    proxy.delay_s = 0.1
    images = [numbered(number) for number in range(10)]
    patient = ClientSettings(ping_interval_s=0.05, silence_limit_s=5.0)
    with WorkerClient(proxy.address, outcomes.put, settings=patient) as client:
        for image in images:
            client.submit(image)
        assert_all_enhanced_in_order(take(outcomes, 10), images)
    assert proxy.connections == 1


@pytest.mark.slow
def test_a_network_on_which_one_frame_takes_longer_than_the_silence_limit_still_brings_every_frame(
    run_worker, nearest_engine, proxied, outcomes, numbered
):
    """While a large answer is on its way nothing else can be heard: that is not a dead worker."""
    proxy = proxied(run_worker(nearest_engine))
    proxy.bytes_per_s = 700e3
    images = [numbered(number, (256, 256)) for number in range(5)]  # 1 MiB each when enhanced: 1.5 s
    with WorkerClient(proxy.address, outcomes.put, settings=QUICK) as client:
        for image in images:
            client.submit(image)
        assert_all_enhanced_in_order(take(outcomes, 5), images)


DYING_CLIENT = """
import sys
import numpy as np
from inference.client import ClientSettings, WorkerClient
with WorkerClient(sys.argv[1], session=sys.argv[2], settings=ClientSettings(stored_frames=64)) as client:
    while True:
        client.submit(np.zeros((1024, 1024), np.uint16))
        print("submitted", flush=True)
"""


def test_clients_killed_in_mid_frame_cost_the_others_nothing(
    run_worker, nearest_engine, outcomes, numbered, wait_for
):
    worker = run_worker(nearest_engine)
    images = [numbered(number) for number in range(30)]
    ended = []
    with WorkerClient(worker.address, outcomes.put, settings=QUICK) as client:
        for life in range(3):
            command = [sys.executable, "-c", DYING_CLIENT, worker.address, f"dying{life}"]
            dying = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
            for _ in range(10):
                dying.stdout.readline()
            dying.kill()
            for image in images[10 * life : 10 * life + 10]:
                client.submit(image, timeout_s=60)
            dying.communicate()
        ended = take(outcomes, 30)
    assert_all_enhanced_in_order(ended, images)
    wait_for(lambda: worker.status().waiting == 0)


class OddWorker:
    """A worker whose answers are said by hand."""

    def __init__(self) -> None:
        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.ROUTER)
        self._socket.rcvtimeo = 10_000
        port = self._socket.bind_to_random_port("tcp://127.0.0.1")
        self.address = f"tcp://127.0.0.1:{port}"
        self.client = b""

    def frames(self, count):
        """Answer greetings and pings until so many frames are there."""
        frames = []
        while len(frames) < count:
            self.client, *parts = self._socket.recv_multipart()
            request, image = decode_request(parts, WireLimits())
            if isinstance(request, Frame):
                frames.append((request, image))
            elif request.kind == "hello":
                model = ModelInfo(name="odd", model_hash="ab", factor=1, channel=None)
                self.say(
                    Info(worker="odd", models=(model,), record_credit=8, most_pixel_bytes=1 << 20, busy_s=0.0)
                )
            elif request.kind == "ping":
                self.say(Progress(worker="odd", answered=0, waiting=0, busy_s=0.0))
        return frames

    def say(self, header, image=None):
        self._socket.send_multipart([self.client, *encode(header, image)])

    def enhance(self, frame, image, **other):
        facts = {
            "session": frame.session,
            "sequence": frame.sequence,
            "shape_yx": image.shape,
            "pixel_size_um": None,
            "channel": None,
            "delivery": frame.delivery,
            "model_name": "odd",
            "model_hash": "ab",
            "out_of_domain": (),
            "photometry": PHOTOMETRY,
            "received_ns": 0,
            "started_ns": 0,
            "finished_ns": 1,
        }
        self.say(Enhanced(**facts | other), image.astype(np.float32))

    def close(self) -> None:
        self._context.destroy(linger=0)


@pytest.fixture
def odd_worker():
    worker = OddWorker()
    yield worker
    worker.close()


def test_repeated_reordered_and_foreign_answers_settle_each_frame_once_with_its_own_pixels(
    odd_worker, outcomes, numbered
):
    with WorkerClient(odd_worker.address, outcomes.put) as client:
        for number in range(6):
            client.submit(numbered(number))
        frames = odd_worker.frames(6)
        foreign = np.full((4, 4), 9.0)
        for frame, image in reversed(frames):
            odd_worker.enhance(frame, foreign, session="somebody-else")
            odd_worker.say(
                Failed(
                    session="another", sequence=frame.sequence, code=FailureCode.NO_MODEL, reason="foreign"
                )
            )
            odd_worker.enhance(frame, image)
            odd_worker.enhance(frame, image)
        odd_worker.enhance(frames[0][0], foreign, sequence=99)
        ended = take(outcomes, 6)
        assert client.drain(10)
        client.submit(numbered(6))
        frame, image = odd_worker.frames(1)[0]
        odd_worker.enhance(frame, image)
        ended += take(outcomes, 1)
    assert [outcome.source.sequence for outcome in ended] == [5, 4, 3, 2, 1, 0, 6]
    for outcome in ended:
        np.testing.assert_array_equal(outcome.image, numbered(outcome.source.sequence))
    assert outcomes.empty()


def test_a_frame_sent_twice_is_answered_twice_and_counted(run_worker, raw_client, nearest_engine, numbered):
    worker = run_worker(nearest_engine)
    client = raw_client(worker)
    client.hello()
    for sequence in (7, 3, 7):
        client.send(*client.frame(numbered(sequence), sequence))
    assert [client.receive()[0].sequence for _ in range(3)] == [7, 3, 7]
    assert worker.status().enhanced == 3
