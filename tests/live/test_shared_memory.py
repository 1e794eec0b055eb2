"""Frames through memory that client and worker both see."""

import gc
import os
import queue
import signal
import subprocess
import sys

import numpy as np
import pytest

from inference import shared_file
from inference.client import ClientSettings, EnhancedFrame, WorkerClient
from inference.frame_memory import FrameMemory
from inference.messages import Shared, SharedPlace
from inference.protocol import Share, encode
from inference.shared_file import SharedFile, SharedFileError

QUICK = ClientSettings(ping_interval_s=0.05, silence_limit_s=0.5)


def numbered(shape=(64, 48), first=0):
    return np.random.default_rng(first).integers(0, 60000, shape).astype(np.uint16)


def enlarged(image):
    return image.astype(np.float32).repeat(2, axis=0).repeat(2, axis=1)


def files_left():
    return list(shared_file.folder().glob(f"sharpscope-{os.getpid()}-*"))


def test_what_one_writes_the_other_reads_and_nothing_is_left():
    ours = SharedFile.create(1000)
    theirs = SharedFile.open(ours.name, 1000)
    ours.remove()
    assert not files_left()
    np.frombuffer(ours.part(64, 4), np.uint8)[:] = 7
    assert bytes(theirs.part(64, 4)) == b"\7\7\7\7"
    assert theirs.part(990, 20) is None
    assert theirs.part(-1, 2) is None


@pytest.mark.parametrize("name", ["../etc/passwd", "sharpscope-1-" + "0" * 32, "sharpscope-1-x"])
def test_what_is_no_shared_file_is_not_opened(name):
    with pytest.raises(SharedFileError):
        SharedFile.open(name, 100)


def test_a_file_of_another_size_a_link_or_for_all_to_read_is_not_opened():
    ours = SharedFile.create(1000)
    path = shared_file.folder() / ours.name
    with pytest.raises(SharedFileError, match="2000 bytes"):
        SharedFile.open(ours.name, 2000)
    link = path.with_name(path.name[:-8] + "01234567")
    link.symlink_to(path)
    with pytest.raises(SharedFileError):
        SharedFile.open(link.name, 1000)
    link.unlink()
    path.chmod(0o644)
    with pytest.raises(SharedFileError, match="this user's alone"):
        SharedFile.open(ours.name, 1000)
    ours.remove()


def test_what_a_killed_process_left_is_removed_by_the_next():
    make = (
        "from inference.shared_file import SharedFile\nprint(SharedFile.create(99).name, flush=True)\ninput()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", make], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as maker:
        left = shared_file.folder() / maker.stdout.readline().strip()
        SharedFile.create(10).remove()
        assert left.exists(), "its maker lives"
        maker.send_signal(signal.SIGKILL)
        maker.wait()
        SharedFile.create(10).remove()
        assert not left.exists()


def accepting(frames=4):
    """A memory of which the worker has said that it sees it."""
    memory = FrameMemory(frames, enabled=True)
    memory.meet(2)
    memory.hold(numbered())
    offer = memory.offer()
    memory.hear(Shared(file=offer.file, accepted=True, reason=""))
    return memory


def test_a_slot_is_free_again_when_nobody_looks_at_it_any_more():
    memory = accepting(frames=4)
    held = [memory.hold(numbered(first=k)) for k in range(6)]
    places = [memory.place(each) for each in held]
    assert [place is not None for place in places] == [True] * 4 + [False] * 2
    assert len({place.offset for place in places[:4]}) == 4
    for k, each in enumerate(held):
        assert np.array_equal(each.image, numbered(first=k))
    view = held[0].image[10:20]
    del held, each
    gc.collect()
    again = [memory.hold(numbered(first=10 + k)) for k in range(4)]
    assert [memory.place(each) is not None for each in again] == [True, True, True, False]
    assert np.array_equal(view, numbered(first=0)[10:20])


def test_a_worker_that_was_given_up_writes_where_nobody_reads():
    memory = accepting()
    held = memory.hold(numbered())
    old = memory.place(held)
    memory.forget()
    assert memory.place(held) is None, "the next worker gets it over the socket"
    memory.meet(2)
    memory.hold(numbered())
    assert memory.offer().file != old.file
    memory.forget()
    assert not files_left()


def test_too_large_frames_and_a_full_memory_take_the_socket(monkeypatch):
    memory = FrameMemory(4, enabled=True)
    memory.meet(2)
    held = memory.hold(np.zeros((4000, 4000), np.uint16))
    assert memory.place(held) is None
    assert memory.offer() is None

    def full(_size):
        raise SharedFileError("no room")

    monkeypatch.setattr(SharedFile, "create", full)
    memory.meet(2)
    assert memory.place(memory.hold(numbered())) is None


@pytest.mark.parametrize("share_memory", [True, False])
def test_frames_come_back_equal_either_way(start_worker, share_memory):
    worker = start_worker()
    outcomes = queue.SimpleQueue()
    settings = ClientSettings(share_memory=share_memory)
    with WorkerClient(worker.address, outcomes.put, settings=settings) as client:
        assert client.wait_ready(30)
        got = []
        for k in range(60):  # more than there are slots
            shape = (64, 48) if k % 20 else (80, 96)
            client.submit(numbered(shape, k))
            got.append(outcomes.get(timeout=30))
        shared = sum(outcome.image.base is not None and _is_mapped(outcome.image) for outcome in got)
    for k, outcome in enumerate(got):
        shape = (64, 48) if k % 20 else (80, 96)
        assert isinstance(outcome, EnhancedFrame)
        assert np.array_equal(outcome.image, enlarged(numbered(shape, k)))
        assert not outcome.image.flags.writeable
    assert (shared > 10) == share_memory
    assert not files_left()


def _is_mapped(image):
    while isinstance(image, np.ndarray):
        image = image.base
    return type(getattr(image, "obj", None)).__name__ == "mmap"


def test_a_stopped_workers_late_answers_do_not_reach_later_frames(start_worker):
    slow = start_worker(seconds=0.3)
    outcomes = queue.SimpleQueue()
    with WorkerClient(slow.address, outcomes.put, settings=QUICK) as client:
        assert client.wait_ready(30)
        client.submit(numbered(first=0))
        outcomes.get(timeout=30)
        for k in range(1, 5):
            client.submit(numbered(first=k))
        slow.process.send_signal(signal.SIGSTOP)
        states = []
        while not states or states[-1] != "lost":
            states.append(client.status().state.value)
        slow.process.send_signal(signal.SIGCONT)
        got = {(outcome := outcomes.get(timeout=30)).source.sequence: outcome for _ in range(4)}
    assert sorted(got) == [1, 2, 3, 4]
    for k, outcome in got.items():
        assert np.array_equal(outcome.image, enlarged(numbered(first=k)))


def test_a_frame_is_read_and_answered_only_where_its_client_shares_memory(
    run_worker, nearest_engine, raw_client
):
    client = raw_client(run_worker(nearest_engine))
    client.hello()
    ours = SharedFile.create(4096)

    def ask(sequence, **place):
        shared = {"file": ours.name, "offset": 0, "answer_offset": 64, "answer_bytes": 256} | place
        header, _ = client.frame(np.zeros((4, 4), np.uint16), sequence, shared=SharedPlace(**shared))
        client.send(header)
        return client.receive()[0]

    refused = ask(3)
    assert (refused.code, refused.sequence) == ("no_such_memory", 3)
    client.send(*encode(Share(file=ours.name, bytes=4096)))
    assert client.receive()[0].accepted
    np.frombuffer(ours.part(0, 32), np.uint16)[:] = np.arange(16)
    assert ask(4).in_shared
    put = np.frombuffer(ours.part(64, 256), np.float32).reshape(8, 8)
    assert np.array_equal(put, enlarged(np.arange(16).reshape(4, 4)))
    assert ask(5, answer_bytes=8192).code == "no_such_memory"
    assert ask(6, offset=4096).code == "no_such_memory"
    ours.remove()


def test_memory_that_the_worker_cannot_see_is_not_used(run_worker, nearest_engine, raw_client):
    client = raw_client(run_worker(nearest_engine))
    client.hello()
    client.send(*encode(Share(file=f"sharpscope-1-{'0' * 32}", bytes=4096)))
    reply, _ = client.receive()
    assert not reply.accepted
    assert "cannot be opened" in reply.reason


def test_frames_in_slots_of_any_age_take_the_socket_after_a_worker_was_lost():
    memory = accepting()
    small = memory.hold(numbered())
    memory.hold(numbered((256, 256)))  # larger: other slots
    offer = memory.offer()
    memory.hear(Shared(file=offer.file, accepted=True, reason=""))
    assert memory.place(small) is not None, "the same worker sees both"
    memory.forget()
    memory.meet(2)
    assert memory.place(small) is None
    memory.forget()


def test_frames_of_two_shapes_do_not_take_turns_at_the_memory():
    memory = accepting()
    for k in range(6):
        memory.hold(numbered((200, 100)) if k % 2 else np.zeros((100, 150), np.float32))
    offers = [offer for _ in range(6) if (offer := memory.offer()) is not None]
    assert len(offers) == 1
    before = memory.hold(numbered()).slots
    for k in range(6):
        memory.hold(numbered((200, 100)) if k % 2 else np.zeros((100, 150), np.float32))
    assert memory.hold(numbered()).slots is before
    assert memory.place(memory.hold(np.zeros((9000, 9000), np.uint8))) is None
    assert memory.hold(numbered()).slots is before, "a frame that is too large changes nothing for others"
    memory.forget()
    assert not files_left()


@pytest.mark.parametrize("order", [">u2", "<u2", ">f4"])
@pytest.mark.parametrize("share_memory", [True, False])
def test_the_order_of_bytes_does_not_matter(run_worker, nearest_engine, order, share_memory):
    outcomes = queue.SimpleQueue()
    settings = ClientSettings(share_memory=share_memory)
    with WorkerClient(run_worker(nearest_engine).address, outcomes.put, settings=settings) as client:
        assert client.wait_ready(30)
        for _ in range(3):
            client.submit(numbered().astype(order))
            assert np.array_equal(outcomes.get(timeout=30).image, enlarged(numbered()))


def test_a_file_with_an_impossible_process_in_its_name_is_removed_and_no_bytes_are_not_shared(
    run_worker, nearest_engine, raw_client
):
    odd = shared_file.folder() / f"sharpscope-9999999999-{'0' * 32}"
    odd.touch(mode=0o600)
    client = raw_client(run_worker(nearest_engine))
    client.hello()
    client.send(b'{"version": 1, "kind": "share", "file": "%b", "bytes": 0}' % odd.name.encode())
    assert client.receive()[0].code == "bad_header"
    with pytest.raises(SharedFileError):
        SharedFile.open(odd.name, 0)
    SharedFile.create(10).remove()
    assert not odd.exists()
