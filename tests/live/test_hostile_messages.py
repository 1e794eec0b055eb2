"""What a hostile or broken client can say: never a crash, never code that runs, never more than its share."""

import json
import os
import pickle
import zipfile
from contextlib import suppress

import numpy as np
import psutil
import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from inference.engine import load_engine
from inference.messages import (
    Bye,
    Delivery,
    Dropped,
    Enhanced,
    ErrorCode,
    ErrorReply,
    Failed,
    FailureCode,
    Frame,
    Hello,
    Info,
    ModelInfo,
    Ping,
    Progress,
    StreamPhotometry,
    Watch,
)
from inference.protocol import MessageError, WireLimits, decode_reply, decode_request, encode
from inference.reception import MOST_CLIENTS, Reception
from inference.waiting import MOST_PREVIEW_STREAMS, WaitingRoom

LIMITS = WireLimits(most_header_bytes=4096, most_pixel_bytes=4096)
CREDIT = 3
PROGRESS = Progress(worker="w", answered=0, waiting=0, busy_s=0.0)
MODEL = ModelInfo(name="m", model_hash="ab", factor=2, channel=None)
INFO = Info(worker="w", models=(MODEL,), record_credit=CREDIT, most_pixel_bytes=4096, busy_s=0.0)
FRAME = Frame(
    session="a",
    sequence=1,
    shape_yx=(3, 4),
    dtype="uint16",
    captured_ns=0,
    sent_ns=0,
    delivery=Delivery.RECORD,
)
ENHANCED = Enhanced(
    session="a", sequence=1, shape_yx=(3, 2), pixel_size_um=0.3, channel=None, delivery=Delivery.RECORD,
    model_name="m", model_hash="ab", out_of_domain=(), received_ns=0, started_ns=0, finished_ns=0,
    photometry=StreamPhotometry(model_hash="ab", background=0.0, scale=1.0),
)  # fmt: skip
KNOWN = [
    Hello(session="a"), Ping(), Bye(), Watch(), FRAME, ENHANCED, INFO, PROGRESS,
    Dropped(session="a", sequence=1, superseded_by=2),
    Failed(session="a", sequence=1, code=FailureCode.NO_MODEL, reason="r"),
    ErrorReply(code=ErrorCode.BAD_HEADER, message="m", session="a", sequence=1),
]  # fmt: skip
KEYS = sorted({key for header in KNOWN for key in type(header).model_fields} | {"more"})
VALUES = (
    st.none() | st.booleans() | st.integers(-2, 5) | st.integers() | st.floats() | st.text(max_size=8)
    | st.sampled_from(["record", "preview", "uint8", "float32", "hello", "frame", "enhanced", "a", "b"])
    | st.sampled_from([[3, 4], {}])
    | st.lists(st.integers(-1, 5), max_size=3)
)  # fmt: skip


@st.composite
def messages(draw):
    """Known messages with none to three fields changed, cut short, with odd pixels; or anything at all."""
    if draw(st.integers(0, 9)) == 0:
        return draw(st.lists(st.binary(max_size=40), max_size=4))
    fields = draw(st.sampled_from(KNOWN)).model_dump(mode="json")
    fields |= draw(st.dictionaries(st.sampled_from(KEYS), VALUES, max_size=3))
    for key in draw(st.lists(st.sampled_from(KEYS), max_size=1)):
        fields.pop(key, None)
    header = json.dumps(fields).encode()
    if draw(st.integers(0, 9)) == 0:
        header = header[: draw(st.integers(0, len(header)))]
    pixels = draw(
        st.sampled_from([(), (bytes(24),), (bytes(24),), (bytes(12),), (b"",), (bytes(5000),), (b"", b"")])
    )
    return [header, *pixels]


def assert_a_conversation_stays_within_its_bounds(conversation):
    """Feed messages of several clients to a reception, and all of them to both decoders."""
    room = WaitingRoom(CREDIT)
    reception = Reception(INFO, LIMITS, room)
    for client, parts in conversation:
        for decode in (decode_request, decode_reply):
            with suppress(MessageError):
                header, pixels = decode(parts, LIMITS)
                assert (pixels is None) or pixels.shape == header.shape_yx
        for addressee, reply in reception.handle(client, parts, PROGRESS):
            assert isinstance(addressee, bytes)
            decode_reply([bytes(part) for part in encode(reply)])
    assert len(reception) <= min(3, MOST_CLIENTS)
    assert len(room) <= 3 * (CREDIT + MOST_PREVIEW_STREAMS)
    assert len(room) <= reception.received - reception.dropped


CLIENTS = st.sampled_from([b"1", b"2", b"3"])


@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(st.tuples(CLIENTS, messages()), min_size=10, max_size=10))
def test_no_message_raises_or_outgrows_the_bounds(conversation):
    assert_a_conversation_stays_within_its_bounds(conversation)


@pytest.mark.slow
@pytest.mark.timeout(3000)
def test_two_hundred_thousand_messages_raise_nothing_and_outgrow_no_bound():
    seen = 0
    for round_ in range(50):  # Hypothesis remembers every example of a run: many runs keep that small

        @seed(round_)
        @settings(
            max_examples=100,
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
            phases=[Phase.generate, Phase.shrink],
        )
        @given(st.lists(st.tuples(CLIENTS, messages()), min_size=40, max_size=40))
        def check(conversation):
            nonlocal seen
            seen += len(conversation)
            assert_a_conversation_stays_within_its_bounds(conversation)

        check()
    assert seen >= 200_000


class Canary:
    """Pickled, it makes a file when it is unpickled."""

    def __init__(self, path) -> None:
        self._path = str(path)

    def __reduce__(self):
        return os.mkdir, (self._path,)


def test_the_canary_sings(tmp_path):
    pickle.loads(pickle.dumps(Canary(tmp_path / "sang")))
    assert (tmp_path / "sang").exists()


@pytest.mark.parametrize("protocol", [0, 2, 5])
def test_a_pickle_in_any_part_of_a_message_is_never_unpickled(
    protocol, run_worker, raw_client, nearest_engine, numbered, tmp_path
):
    canary = pickle.dumps(Canary(tmp_path / "sang"), protocol)
    client = raw_client(run_worker(nearest_engine))
    client.hello()
    client.send(canary)
    assert client.receive()[0].code is ErrorCode.BAD_HEADER
    client.send(canary, canary)
    assert client.receive()[0].code is ErrorCode.BAD_HEADER
    as_pixels = np.frombuffer(canary.ljust(4 * (len(canary) // 4 + 1), b"."), np.uint8).reshape(2, -1)
    client.send(*client.frame(as_pixels, 1))
    assert isinstance(client.receive()[0], Enhanced)
    text = canary.decode("latin-1")[:200]
    client.send(*client.frame(numbered(0), 2, channel=text, model="nearest"))
    assert isinstance(client.receive()[0], Enhanced)
    assert not (tmp_path / "sang").exists()


@pytest.mark.parametrize("suffix", [".safetensors", ".onnx", ".npy", "rdf.yaml"])
def test_a_pickle_in_a_model_package_is_never_unpickled(suffix, model_zip, tmp_path):
    canary = pickle.dumps(Canary(tmp_path / "sang"))
    if suffix == "rdf.yaml":
        canary = f"!!python/object/apply:os.mkdir ['{tmp_path / 'sang'}']\n".encode()
    elif suffix == ".npy":
        canary = (
            b"\x93NUMPY\x01\x00v\x00"
            + b"{'descr': '|O', 'fortran_order': False, 'shape': (), }".ljust(117)
            + (b"\n" + canary)
        )  # an array of objects
    poisoned = tmp_path / "model.zip"
    with zipfile.ZipFile(model_zip) as source, zipfile.ZipFile(poisoned, "w") as sink:
        changed = [name for name in source.namelist() if name.endswith(suffix)]
        assert changed
        for name in source.namelist():
            sink.writestr(name, canary if name in changed else source.read(name))
    for device in ("cpu", "torch-cpu"):
        with suppress(Exception):
            load_engine(poisoned, device).enhance(np.full((32, 32), 500, np.uint16), allow_out_of_domain=True)
    assert not (tmp_path / "sang").exists()


@pytest.mark.slow
def test_giant_and_many_part_messages_leave_the_workers_memory_as_it_was(start_worker, raw_client, numbered):
    worker = start_worker("tcp://127.0.0.1:*", 0.0, 1 << 20)
    memory = psutil.Process(worker.process.pid).memory_info
    client = raw_client(worker)
    client.hello()
    for _ in range(5):  # whatever a library allocates once is allocated now
        client.send(*client.frame(numbered(0), 0))
        client.receive()
    before = memory().rss
    for round_ in range(5):
        client.send(*[b"x"] * 100_000)
        assert client.receive()[0].code is ErrorCode.WRONG_PART_COUNT
        client.send(client.frame(numbered(0), 1)[0], bytes(2 << 20))
        assert client.receive()[0].code is ErrorCode.TOO_LARGE
        giant = raw_client(worker, f"giant{round_}")
        giant.hello()
        giant.send(bytes(200 << 20))  # beyond what the transport takes: it costs the connection
        giant.send(*giant.frame(numbered(0), 1))
    client.send(*client.frame(numbered(0), 2))
    assert isinstance(client.receive()[0], Enhanced)
    assert memory().rss - before < 64 << 20
