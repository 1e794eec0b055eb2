"""Workers that die, sleep, leave and join again and again, and workers on machines of their own."""

import queue
import random
import shutil
import signal
import subprocess
import sys
from contextlib import ExitStack

import numpy as np
import pytest

from inference.client import ClientSettings, ClientState, EnhancedFrame, WorkerClient
from inference.fleet import WorkerFleet
from inference.keys import make_client_keys, make_worker_keys

pytestmark = pytest.mark.slow

QUICK = ClientSettings(ping_interval_s=0.05, silence_limit_s=0.5, stored_frames=64)
FRAMES = 2000


def assert_each_once_in_order(ended, images):
    assert [outcome.source.sequence for outcome in ended] == list(range(len(images)))
    for outcome, image in zip(ended, images, strict=True):
        assert isinstance(outcome, EnhancedFrame)
        np.testing.assert_array_equal(outcome.image, image.repeat(2, 0).repeat(2, 1))
    assert len({outcome.photometry for outcome in ended}) == 1


def everything(outcomes):
    ended = []
    while not outcomes.empty():
        ended.append(outcomes.get())
    return ended


@pytest.mark.skipif(sys.platform == "win32", reason="Windows cannot stop a process by a signal")
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_whatever_happens_to_the_workers_no_frame_is_lost_and_none_comes_twice(seed, start_worker, numbered):
    """Every 50 frames one of four workers is killed, started anew, stopped, woken, removed or added."""
    chance = random.Random(seed)
    outcomes = queue.SimpleQueue()
    workers = [start_worker(seconds=0.002) for _ in range(4)]
    addresses = [worker.address for worker in workers]
    images = [numbered(number) for number in range(FRAMES)]

    def revive(which):
        workers[which].process.send_signal(signal.SIGCONT)
        if workers[which].process.poll() is not None:
            workers[which] = start_worker(bind=addresses[which], seconds=0.002)

    def disturb(fleet):
        which = chance.randrange(3)  # the fourth is left in peace, so that the test ends in time
        match chance.choice(["kill", "stop", "revive", "leave", "join"]):
            case "kill":
                workers[which].kill()
            case "stop":
                workers[which].process.send_signal(signal.SIGSTOP)
            case "revive":
                revive(which)
            case "leave" if addresses[which] in fleet.workers():
                fleet.remove_worker(addresses[which])
            case "join" if addresses[which] not in fleet.workers():
                fleet.add_worker(addresses[which])

    with WorkerFleet(addresses, outcomes.put, settings=QUICK) as fleet:
        for number, image in enumerate(images):
            fleet.submit(image, channel="FITC")
            if number % 50 == 49:
                disturb(fleet)
        assert fleet.drain(120)
        assert_each_once_in_order(everything(outcomes), images)


def test_all_workers_are_killed_and_others_come_to_the_same_addresses(start_worker, numbered, wait_for):
    outcomes = queue.SimpleQueue()
    workers = [start_worker(seconds=0.002) for _ in range(2)]
    addresses = [worker.address for worker in workers]
    images = [numbered(number) for number in range(200)]
    with WorkerFleet(addresses, outcomes.put, settings=QUICK) as fleet:
        for number, image in enumerate(images):
            fleet.submit(image)
            if number == 100:
                for worker in workers:
                    worker.kill()
                wait_for(lambda: fleet.status().state is ClientState.LOST)
                for address in addresses:
                    start_worker(bind=address, seconds=0.002)
        assert fleet.drain(60)
        assert_each_once_in_order(everything(outcomes), images)


# ---- other machines --------------------------------------------------------------------------------


class Namespace:
    """A network of its own, as another machine has, joined to ours by a pair of virtual interfaces."""

    def __init__(self, number: int) -> None:
        self.name = f"sharpscope{number}"
        self.ours, self.theirs = f"10.213.{number}.1", f"10.213.{number}.2"
        self.link = f"ssveth{number}"
        for command in (
            f"ip netns add {self.name}",
            f"ip link add {self.link} type veth peer name {self.link}p netns {self.name}",
            f"ip addr add {self.ours}/24 dev {self.link}",
            f"ip link set {self.link} up",
            f"ip -n {self.name} addr add {self.theirs}/24 dev {self.link}p",
            f"ip -n {self.name} link set {self.link}p up",
            f"ip -n {self.name} link set lo up",
        ):
            subprocess.run(command.split(), check=True, capture_output=True)

    def cut(self) -> None:
        subprocess.run(["ip", "link", "set", self.link, "down"], check=True)

    def mend(self) -> None:
        subprocess.run(["ip", "link", "set", self.link, "up"], check=True)

    @staticmethod
    def remove(number: int) -> None:
        subprocess.run(["ip", "link", "del", f"ssveth{number}"], check=False, capture_output=True)
        subprocess.run(["ip", "netns", "del", f"sharpscope{number}"], check=False, capture_output=True)


@pytest.fixture
def namespaces():
    if shutil.which("ip") is None:
        pytest.skip("network namespaces need the program ip (iproute2)")
    with ExitStack() as stack:
        made = []
        for number in (1, 2):
            stack.callback(Namespace.remove, number)
            try:
                made.append(Namespace(number))
            except subprocess.CalledProcessError as error:
                pytest.skip(f"network namespaces cannot be made here: {error.stderr.decode().strip()}")
        yield made


@pytest.fixture
def keys(tmp_path):
    """Key folders of two workers, each with a key of its own, and of one client that both let in."""
    client = make_client_keys(tmp_path / "client")
    (tmp_path / "client" / "workers").mkdir()
    for number in (1, 2):
        folder = tmp_path / f"worker{number}"
        made = make_worker_keys(folder)
        shutil.copy(tmp_path / "client" / "client.public", made.clients / "microscope.public")
        shutil.copy(folder / "worker.public", tmp_path / "client" / "workers" / f"10.213.{number}.2.public")
    return client


def test_workers_in_two_network_namespaces_serve_one_client_with_keys(
    namespaces, keys, tmp_path, start_worker, numbered, wait_for
):
    outcomes = queue.SimpleQueue()
    workers = [
        start_worker(
            bind="tcp://0.0.0.0:*",
            seconds=0.005,
            keys=tmp_path / f"worker{number}",
            before=("ip", "netns", "exec", namespace.name),
        )
        for number, namespace in enumerate(namespaces, start=1)
    ]
    addresses = [
        worker.address.replace("0.0.0.0", namespace.theirs)
        for worker, namespace in zip(workers, namespaces, strict=True)
    ]
    images = [numbered(number) for number in range(400)]
    with WorkerFleet(addresses, outcomes.put, settings=QUICK, keys=keys) as fleet:
        wait_for(lambda: all(s.state is ClientState.READY for s in fleet.workers().values()))
        for image in images[:100]:
            fleet.submit(image, channel="FITC")
        namespaces[0].cut()
        for image in images[100:300]:
            fleet.submit(image, channel="FITC")
        wait_for(lambda: fleet.workers()[addresses[0]].state is ClientState.LOST)
        namespaces[0].mend()
        wait_for(lambda: fleet.workers()[addresses[0]].state is ClientState.READY)
        for image in images[300:]:
            fleet.submit(image, channel="FITC")
        assert fleet.drain(60)
        assert_each_once_in_order(everything(outcomes), images)


def test_a_worker_in_another_namespace_refuses_a_client_that_it_does_not_know(
    namespaces, keys, tmp_path, start_worker
):
    worker = start_worker(
        bind="tcp://0.0.0.0:*",
        keys=tmp_path / "worker1",
        before=("ip", "netns", "exec", namespaces[0].name),
    )
    address = worker.address.replace("0.0.0.0", namespaces[0].theirs)
    stranger = make_client_keys(tmp_path / "stranger", tmp_path / "worker1" / "worker.public")
    states = queue.SimpleQueue()
    with WorkerClient(address, settings=QUICK, keys=stranger, on_state=lambda *news: states.put(news)):
        state, reason = states.get(timeout=10)
    assert state is ClientState.LOST
    assert "refuses this client's key" in reason
