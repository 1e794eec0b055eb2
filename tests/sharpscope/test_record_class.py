"""The record class at scale: 10,000 frames faster than the workers take them, through `sharpscope serve`."""

import hashlib
import json
import subprocess
import sys
from contextlib import ExitStack, contextmanager

import numpy as np
import psutil
import pytest

from inference.client import EnhancedFrame, WorkerBusyError
from inference.engine import load_engine
from inference.worker_list import open_workers

pytestmark = pytest.mark.slow

FRAMES = 10_000
FACTS = {"pixel_size_um": 0.65, "channel": "FITC", "allow_out_of_domain": True}
MOST_GROWTH_MB = 10.0
"""From the 1,000th to the last frame; between them pass 18 MB of raw and 147 MB of enhanced pixels."""


@contextmanager
def serving(model):
    command = [
        sys.executable,
        "-m",
        "sharpscope",
        "serve",
        str(model),
        "--bind",
        "tcp://127.0.0.1:*",
        "--json",
    ]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    try:
        yield json.loads(process.stdout.readline())["address"], process.pid
    finally:
        process.kill()
        process.communicate()


def raw(number):
    """A frame like no other, 32 x 32, with a bright spot that wanders."""
    image = np.random.default_rng(number).poisson(120.0, (32, 32)).astype(np.uint16)
    image[number % 29 : number % 29 + 3, number // 29 % 29 : number // 29 % 29 + 3] += 3000
    return image


def digest(image):
    return hashlib.sha256(np.ascontiguousarray(image).tobytes()).digest()


def memory_mb(processes):
    return {pid: psutil.Process(pid).memory_info().rss / 1e6 for pid in processes}


@pytest.mark.parametrize("count", [1, 2], ids=["one worker", "two workers"])
@pytest.mark.timeout(900)
def test_ten_thousand_record_frames_come_in_order_as_offline_and_leave_memory_flat(
    count, model_zip, record_property
):
    images = [raw(number) for number in range(FRAMES)]
    came = []
    busy = 0
    with ExitStack() as stack:
        workers = [stack.enter_context(serving(model_zip)) for _ in range(count)]
        processes = [psutil.Process().pid, *(pid for _, pid in workers)]
        addresses = [address for address, _ in workers]

        def keep(outcome):
            assert isinstance(outcome, EnhancedFrame)
            came.append((outcome.source.sequence, digest(outcome.image)))

        client = stack.enter_context(open_workers(addresses, keep))
        assert client.wait_ready(60)
        for number in range(FRAMES):
            facts = {"pixel_size_um": 0.65, "channel": "FITC", "allow_out_of_domain": True}
            try:
                client.submit(raw(number), sequence=number, timeout_s=0.0, **facts)
            except WorkerBusyError:
                busy += 1
                client.submit(raw(number), sequence=number, **facts)
            if number == 1000:
                early_mb = memory_mb(processes)
        assert client.drain(120)
        growth_mb = [memory_mb(processes)[pid] - early_mb[pid] for pid in processes]
    record_property("growth_mb", growth_mb)
    print(f"\nbusy {busy} times; growth of client and workers, MB: {np.round(growth_mb, 1)}")
    assert busy > FRAMES / 10  # the workers could not hold the rate
    assert [number for number, _ in came] == list(range(FRAMES))
    engine = load_engine(model_zip, "cpu")
    photometry = None
    for number, enhanced in came:
        offline = engine.enhance(images[number], photometry=photometry, **FACTS)
        photometry = photometry or offline.photometry
        assert digest(offline.image) == enhanced, f"frame {number} differs from the offline result"
    assert max(growth_mb) < MOST_GROWTH_MB
