"""What the pages tell a reader to type runs."""

import re
import threading
from pathlib import Path
from typing import get_args

import pytest

from inference.engine import load_engine
from inference.messages import (
    Delivery,
    ErrorCode,
    FailureCode,
    ModelInfo,
    SharedPlace,
    StreamPhotometry,
)
from inference.protocol import Reply, Request
from inference.recovery import Recording
from inference.worker import Worker

PAGE = Path(__file__).parent.parent / "docs" / "virtual_microscope.md"


@pytest.mark.parametrize("number", [0, 1])
def test_the_examples_of_the_virtual_microscope_s_page_run(number):
    examples = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), flags=re.DOTALL)
    assert len(examples) == 2
    names: dict[str, object] = {}
    exec(compile(examples[number], str(PAGE), "exec"), names)  # the page is ours
    image = names["image"] if number == 0 else names["sharp"]
    assert image.shape == ((512, 512) if number == 0 else (1024, 1024))


PROTOCOL = Path(__file__).parent.parent / "docs" / "protocol.md"
MESSAGES = (*get_args(Request), *get_args(Reply), SharedPlace, StreamPhotometry, ModelInfo)
CODES = (*FailureCode, *ErrorCode, *Delivery)


def test_the_page_on_the_wire_names_every_message_key_and_code():
    page = PROTOCOL.read_text(encoding="utf-8")
    words = {key for message in MESSAGES for key in message.model_fields}
    kinds = {message.model_fields["kind"].default for message in MESSAGES if "kind" in message.model_fields}
    assert {word for word in {*words, *kinds, *map(str, CODES)} if f"`{word}`" not in page} == set()


def test_the_client_on_the_page_on_the_wire_gets_its_frame_enhanced(model_zip):
    (example,) = re.findall(r"```python\n(.*?)```", PROTOCOL.read_text(encoding="utf-8"), flags=re.DOTALL)
    names: dict[str, object] = {}
    with Worker([load_engine(model_zip, "cpu")], "tcp://127.0.0.1:*") as worker:
        thread = threading.Thread(target=worker.run)
        thread.start()
        try:
            exec(
                compile(example.replace("tcp://127.0.0.1:5555", worker.address), str(PROTOCOL), "exec"), names
            )
        finally:
            worker.stop()
            thread.join()
    names["socket"].close(linger=0)
    assert names["info"]["models"][0]["factor"] == 2
    assert names["sharp"].shape == (128, 128)
    assert names["header"]["model_hash"] == names["info"]["models"][0]["model_hash"]


LIVE = Path(__file__).parent.parent / "docs" / "live.md"


@pytest.mark.slow
def test_the_example_of_the_page_on_live_use_runs(model_zip, tmp_path, monkeypatch):
    (example,) = re.findall(r"```python\n(.*?)```", LIVE.read_text(encoding="utf-8"), flags=re.DOTALL)
    monkeypatch.chdir(tmp_path)
    with Worker([load_engine(model_zip, "cpu")], "tcp://127.0.0.1:*") as worker:
        thread = threading.Thread(target=worker.run)
        thread.start()
        try:
            for said, meant in (
                ("tcp://127.0.0.1:5555", worker.address),
                ("timeout_s=60", "timeout_s=1"),
                ("browser=True", "browser=False"),
                ("Doorway()", "Doorway(port=0)"),
            ):
                assert said in example
                example = example.replace(said, meant)
            exec(compile(example, str(LIVE), "exec"), {})  # the page is ours
        finally:
            worker.stop()
            thread.join()
    assert len(Recording.open(tmp_path / "my-recording").frames) > 1
