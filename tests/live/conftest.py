import importlib.util
import queue
import subprocess
import sys
import threading
from contextlib import ExitStack
from functools import cached_property
from pathlib import Path

import numpy as np
import pytest
import zmq
from pymmcore_plus import CMMCorePlus

from inference.preprocess import Photometry
from inference.protocol import Delivery, Frame, Hello, decode_reply, encode
from inference.worker import Worker

FAKE_WORKER = Path(__file__).with_name("fake_worker.py")
LEVELLING_WORKER = Path(__file__).with_name("levelling_worker.py")


def _load_fake_worker():
    spec = importlib.util.spec_from_file_location("fake_worker", FAKE_WORKER)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


fake_worker = _load_fake_worker()


class WorkerProcess:
    """A worker in its own process."""

    def __init__(
        self,
        bind: str,
        seconds: float,
        keys: Path | None,
        before: tuple[str, ...],
        options: tuple[object, ...],
        script: Path = FAKE_WORKER,
    ) -> None:
        command = [*before, sys.executable, str(script), bind, str(seconds)]
        command += ["--keys", str(keys)] if keys is not None else []
        command += map(str, options)
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)

    @cached_property
    def address(self) -> str:
        """Of the worker; waits until it serves, so that several may start at the same time."""
        return self.process.stdout.readline().strip()

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def close(self) -> None:
        self.kill()
        self.process.stdout.close()


@pytest.fixture
def start_worker():
    with ExitStack() as stack:

        def start(bind="tcp://127.0.0.1:*", seconds=0.0, *options, keys=None, before=()):
            worker = WorkerProcess(bind, seconds, keys, before, options)
            stack.callback(worker.close)
            return worker

        yield start


@pytest.fixture
def start_levelling_worker():
    """Start a worker process whose answer depends on the light of a stream's first frame."""
    with ExitStack() as stack:

        def start(seconds):
            worker = WorkerProcess("tcp://127.0.0.1:*", seconds, None, (), (), LEVELLING_WORKER)
            stack.callback(worker.close)
            return worker

        yield start


class GatedEngine(fake_worker.NearestEngine):
    """Enhances one frame for each permit; fails where the first pixel is 13."""

    def __init__(self) -> None:
        super().__init__()
        self.permits = threading.Semaphore(0)
        self.seen = queue.SimpleQueue()

    def enhance(self, image, **facts):
        self.seen.put((image.copy(), facts))
        self.permits.acquire()
        if image[0, 0] == 13:
            raise RuntimeError("unlucky")
        photometry = facts["photometry"] or Photometry(float(image[0, 0]), 1.0)
        return super().enhance(image, **{**facts, "photometry": photometry})

    def open(self) -> None:
        self.permits.release(1_000_000)


@pytest.fixture
def gated_engine():
    return GatedEngine()


@pytest.fixture
def make_gated_engine():
    return GatedEngine


@pytest.fixture
def nearest_engine():
    return fake_worker.NearestEngine()


@pytest.fixture
def make_engine():
    """An engine that takes so many seconds for a frame, and counts its frames."""
    return fake_worker.NearestEngine


@pytest.fixture
def run_worker():
    """Run a worker in this process; its engine is closed by the test or opened at the end."""
    with ExitStack() as stack:

        def run(engine, **options):
            worker = stack.enter_context(Worker([engine], "tcp://127.0.0.1:*", **options))
            thread = threading.Thread(target=worker.run)
            thread.start()

            def end():
                if hasattr(engine, "open"):
                    engine.open()
                worker.stop()
                thread.join()

            stack.callback(end)
            return worker

        yield run


class RawClient:
    """Speaks the wire by hand, for what a client of ours would never say."""

    def __init__(self, address: str, session: str = "raw", keys=None) -> None:
        self.session = session
        self.context = zmq.Context()
        self.socket = self.context.socket(zmq.DEALER)
        self.socket.rcvtimeo = 10_000
        if keys is not None:
            self.socket.curve_publickey, self.socket.curve_secretkey = keys.public, keys.secret
            self.socket.curve_serverkey = keys.worker_key("127.0.0.1")
        self.socket.connect(address)

    def send(self, *parts: bytes) -> None:
        self.socket.send_multipart(list(parts))

    def hello(self):
        self.send(*encode(Hello(session=self.session)))
        return self.receive()[0]

    def frame(self, image, sequence, **fields):
        facts = {"delivery": Delivery.RECORD, "captured_ns": 0, "sent_ns": 0} | fields
        header = Frame(
            session=self.session,
            sequence=sequence,
            shape_yx=image.shape,
            dtype=image.dtype.name,
            **facts,
        )
        return encode(header, image)

    def receive(self):
        return decode_reply(self.socket.recv_multipart())

    def close(self) -> None:
        self.context.destroy(linger=0)


@pytest.fixture
def raw_client():
    with ExitStack() as stack:

        def connect(worker, session="raw", keys=None):
            client = RawClient(worker.address, session, keys)
            stack.callback(client.close)
            return client

        yield connect


@pytest.fixture
def core():
    """The unmodified C++ DemoCamera, 16 bit, 512 x 512, fluorescent beads."""
    core = CMMCorePlus()
    core.loadSystemConfiguration()
    core.setProperty("Camera", "Mode", "Fluorescent Beads")
    core.setProperty("Camera", "PixelType", "16bit")
    core.setExposure(2)
    yield core
    if core.isSequenceRunning():
        core.stopSequenceAcquisition()
    core.unloadAllDevices()


@pytest.fixture
def wait_for():
    """Wait for a condition; fail when it does not come."""

    def wait(condition, timeout_s=30.0):
        tick = threading.Event()
        for _ in range(round(timeout_s / 0.01)):
            if condition():
                return
            tick.wait(0.01)
        pytest.fail(f"the condition did not come in {timeout_s} s")

    return wait


@pytest.fixture
def numbered():
    """Images of which each is told apart from every other."""
    noise = np.random.default_rng(7).integers(0, 4096, (24, 32), dtype=np.uint16)

    def image(number, shape_yx=(24, 32)):
        base = noise if shape_yx == (24, 32) else np.zeros(shape_yx, np.uint16)
        return base + np.uint16(number)

    return image
