import queue
import shutil
import socket
import stat
import sys

import pytest
import zmq

from configs.document import WrongInputError
from inference.address import worker_address
from inference.client import ClientSettings, ClientState, EnhancedFrame, WorkerClient
from inference.keys import ClientKeys, WorkerKeys, make_client_keys, make_worker_keys
from inference.protocol import ErrorCode, WireLimits
from inference.worker import Worker

QUICK = ClientSettings(ping_interval_s=0.05, silence_limit_s=30)
GREETING = b"\xff" + bytes(8) + b"\x7f\x03\x01" + b"CURVE".ljust(20, b"\0") + bytes(32)
"""What a client says first in ZMTP 3.1: signature, version, mechanism, as-server, filler."""


@pytest.fixture
def worker_keys(tmp_path):
    return make_worker_keys(tmp_path / "worker")


@pytest.fixture
def client_keys(tmp_path, worker_keys):
    """Keys of a client that the worker knows."""
    keys = make_client_keys(tmp_path / "client", tmp_path / "worker" / "worker.public")
    shutil.copy(tmp_path / "client" / "client.public", worker_keys.clients / "microscope.public")
    return keys


@pytest.fixture
def guarded(run_worker, nearest_engine, worker_keys, client_keys):
    return run_worker(nearest_engine, keys=worker_keys, limits=WireLimits(most_pixel_bytes=100_000))


@pytest.fixture
def refusal_of():
    """Connect, and return the reason for which the client counts its worker as lost."""

    def reason(address, keys):
        states = queue.SimpleQueue()
        with WorkerClient(
            address, settings=QUICK, keys=keys, on_state=lambda *news: states.put(news)
        ) as client:
            state, why = states.get(timeout=5)
            assert state is ClientState.LOST
            assert client.status().reason == why
        return why

    return reason


def assert_serves(worker, keys, image):
    outcomes = queue.SimpleQueue()
    with WorkerClient(worker.address, outcomes.put, settings=QUICK, keys=keys) as client:
        client.submit(image)
        assert isinstance(outcomes.get(timeout=10), EnhancedFrame)


def test_a_client_on_the_list_is_served(guarded, client_keys, numbered):
    assert_serves(guarded, client_keys, numbered(1))


def test_a_client_that_is_not_on_the_list_is_refused_and_says_so(guarded, tmp_path, refusal_of):
    stranger = make_client_keys(tmp_path / "stranger", tmp_path / "worker" / "worker.public")
    assert "refuses this client's key" in refusal_of(guarded.address, stranger)


def test_a_client_without_keys_is_refused_and_says_so(guarded, refusal_of):
    assert "give --keys" in refusal_of(guarded.address, None)


def test_a_client_that_believes_another_worker_is_refused_and_says_so(guarded, tmp_path, refusal_of):
    make_worker_keys(tmp_path / "other")
    shutil.copy(tmp_path / "other" / "worker.public", tmp_path / "client" / "worker.public")
    keys = ClientKeys.read(tmp_path / "client")
    assert "worker.public here is not its key" in refusal_of(guarded.address, keys)


def test_a_client_with_keys_does_not_talk_to_a_worker_without(
    run_worker, nearest_engine, client_keys, refusal_of
):
    worker = run_worker(nearest_engine)
    assert "serves without keys" in refusal_of(worker.address, client_keys)


def test_a_client_that_is_put_on_the_list_gets_through_without_a_restart(guarded, tmp_path, worker_keys):
    late = make_client_keys(tmp_path / "late", tmp_path / "worker" / "worker.public")
    states = queue.SimpleQueue()
    with WorkerClient(
        guarded.address, settings=QUICK, keys=late, on_state=lambda *news: states.put(news)
    ) as client:
        assert states.get(timeout=5)[0] is ClientState.LOST
        shutil.copy(tmp_path / "late" / "client.public", worker_keys.clients / "late.public")
        assert client.wait_ready(10)


def test_a_file_that_is_half_copied_keeps_out_nobody_else(guarded, worker_keys, client_keys, numbered):
    (worker_keys.clients / "a.public").write_text("sharpscope client pub")
    assert_serves(guarded, client_keys, numbered(1))


def test_frames_of_a_client_with_keys_are_checked_as_everybodys(guarded, client_keys, raw_client, numbered):
    client = raw_client(guarded, keys=client_keys)
    client.hello()
    good = [bytes(part) for part in client.frame(numbered(0), 0)]
    client.send(good[0], *[b"x"] * 5000)
    assert client.receive()[0].code is ErrorCode.WRONG_PART_COUNT
    client.send(good[0], bytes(10_000_000))  # beyond the transport's limit: the connection is cut
    assert_serves(guarded, client_keys, numbered(1))


@pytest.mark.parametrize(
    "flags_and_length",
    [b"\x06" + (2**62).to_bytes(8, "big"), b"\x02" + (10_000_000).to_bytes(8, "big")],
    ids=["a giant command", "a giant message"],
)
def test_giants_before_the_handshake_cost_the_connection_but_not_the_worker(
    flags_and_length, guarded, client_keys, numbered
):
    host, port = guarded.address.removeprefix("tcp://").split(":")
    with socket.create_connection((host, int(port)), timeout=10) as stranger:
        stranger.sendall(GREETING + flags_and_length + bytes(1000))
        while stranger.recv(4096):  # the worker's greeting, then the end; a time-out would raise
            pass
    assert_serves(guarded, client_keys, numbered(1))


def test_a_message_of_many_parts_before_the_handshake_is_never_read(
    guarded, raw_client, client_keys, numbered
):
    stranger = raw_client(guarded)  # without keys
    stranger.socket.setsockopt(zmq.LINGER, 0)
    stranger.send(*[b"x"] * 5000)
    assert_serves(guarded, client_keys, numbered(1))
    assert guarded.status().refused == 0


# ---- addresses -------------------------------------------------------------------------------------


@pytest.mark.parametrize("address", ["tcp://0.0.0.0:5555", "tcp://*:*", "tcp://gpu-1.lab.example:5555"])
def test_with_keys_any_tcp_address_is_allowed(address):
    assert worker_address(address, with_keys=True) == address


@pytest.mark.parametrize(
    "address", ["ipc:///tmp/x", "5555", "tcp://a b:1", "tcp://h:123456", "tcp://[::1]:1"]
)
def test_what_is_no_tcp_address_is_refused_with_keys_too(address):
    with pytest.raises(WrongInputError, match="form"):
        worker_address(address, with_keys=True)


def test_without_keys_the_remedy_is_named():
    with pytest.raises(WrongInputError, match="sharpscope keys"):
        worker_address("tcp://0.0.0.0:5555", with_keys=False)


def test_a_worker_with_keys_binds_to_every_address_of_the_machine(nearest_engine, worker_keys):
    with Worker([nearest_engine], "tcp://0.0.0.0:*", keys=worker_keys) as worker:
        assert worker.address.startswith("tcp://0.0.0.0:")


# ---- key files -------------------------------------------------------------------------------------


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no file modes")
def test_a_secret_is_for_its_owner_and_one_that_others_can_read_is_not_used(tmp_path, client_keys):
    for secret in (tmp_path / "worker" / "worker.secret", tmp_path / "client" / "client.secret"):
        assert stat.S_IMODE(secret.stat().st_mode) == 0o600
    (tmp_path / "client" / "client.secret").chmod(0o644)
    with pytest.raises(WrongInputError, match="chmod 600"):
        ClientKeys.read(tmp_path / "client")


def test_keys_are_never_written_over(tmp_path, client_keys):
    before = (tmp_path / "worker" / "worker.secret").read_bytes()
    for make, folder in ((make_worker_keys, "worker"), (make_client_keys, "client")):
        with pytest.raises(WrongInputError, match="never written over"):
            make(tmp_path / folder)
    assert (tmp_path / "worker" / "worker.secret").read_bytes() == before


def test_a_public_key_that_lies_about_does_not_stand_in_for_a_secret(tmp_path, client_keys):
    shutil.copy(tmp_path / "worker" / "worker.public", tmp_path / "worker" / "clients" / "wrong.public")
    with pytest.raises(WrongInputError, match=r"wrong\.public: a sharpscope client public key is expected"):
        WorkerKeys.read(tmp_path / "worker")


@pytest.mark.parametrize(
    "content",
    ["", "sharpscope client secret key\n", "sharpscope client secret key\n" + ("x" * 40 + "\n") * 2],
)
def test_a_torn_secret_is_named(content, tmp_path, client_keys):
    (tmp_path / "client" / "client.secret").write_text(content)
    with pytest.raises(WrongInputError, match=r"client\.secret"):
        ClientKeys.read(tmp_path / "client")


def test_a_secret_is_not_in_what_is_printed_of_the_keys(client_keys, worker_keys):
    printed = repr(client_keys) + repr(worker_keys)
    assert client_keys.secret.decode() not in printed
    assert worker_keys.secret.decode() not in printed


def test_each_worker_may_have_a_key_of_its_own(tmp_path, client_keys):
    make_worker_keys(tmp_path / "other")
    (tmp_path / "client" / "workers").mkdir()
    shutil.copy(tmp_path / "other" / "worker.public", tmp_path / "client" / "workers" / "gpu-2.public")
    assert client_keys.worker_key("gpu-1") != client_keys.worker_key("gpu-2")


def test_a_worker_whose_key_is_not_there_is_refused_before_anything_is_sent(tmp_path):
    keys = make_client_keys(tmp_path / "client")
    with pytest.raises(WrongInputError, match=r"worker\.public is not there"):
        WorkerClient("tcp://127.0.0.1:9", keys=keys)
