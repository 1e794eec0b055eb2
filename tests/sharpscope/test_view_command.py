"""`sharpscope view`: what it shows of a target, and that it ends."""

import json
import os
import signal
import subprocess
import sys
import threading
import urllib.error
import urllib.request

import numpy as np
import pytest

from configs.document import WrongInputError
from inference.recording import FrameFacts, Recorder
from sharpscope.view_command import wait_for
from sharpscope.viewing import Doorway, recording_in, shown


def record(path):
    with Recorder.create(path) as recorder:
        recorder.put(np.full((20, 30), 100, np.uint16), FrameFacts(channel="FITC"))
    return path


def test_a_recording_is_shown_with_its_frames(tmp_path):
    with shown(str(record(tmp_path / "r"))) as what:
        assert [series.name for series in what.source.series()] == ["FITC"]
        assert what.panels == ()


def test_a_folder_of_a_scan_pairs_a_run_and_a_recording_is_shown_with_all(tmp_path, pair_set):
    record(tmp_path / "live")
    (tmp_path / "pairs").symlink_to(pair_set.path)
    with shown(str(tmp_path)) as what:
        assert [panel.name for panel in what.panels] == ["pairs"]
        assert what.source.newest("FITC").raw.pixels[0, 0] == 100


def test_a_pair_set_alone_has_a_tab_and_no_frames(pair_set):
    with shown(str(pair_set.path)) as what:
        assert what.source.series() == ()
        assert not what.source.status().live


def test_two_recordings_in_a_folder_are_named_and_none_is_chosen(tmp_path):
    for name in ("first", "second"):
        record(tmp_path / name)
    with pytest.raises(WrongInputError, match=r"2 recordings \(first, second\)"):
        recording_in(tmp_path)


@pytest.mark.parametrize("target", ["nowhere", "."])
def test_a_target_that_is_nothing_is_refused(target, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(WrongInputError), shown(target):
        pass


def test_a_token_is_read_from_its_file_and_a_missing_file_is_named(tmp_path):
    file = tmp_path / "token"
    file.write_text("0123456789abcdef\n")
    assert Doorway.of("127.0.0.1", 0, file).token == "0123456789abcdef"
    assert "0123456789abcdef" not in repr(Doorway.of("127.0.0.1", 0, file))
    with pytest.raises(WrongInputError, match="no token can be read there"):
        Doorway.of("127.0.0.1", 0, tmp_path / "none")


def get(url):
    with urllib.request.urlopen(url, timeout=20) as answer:
        return answer.read()


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGINT for one child process")
def test_the_page_is_served_until_ctrl_c(tmp_path):
    token = tmp_path / "token"
    token.write_text("0123456789abcdef")
    command = [
        sys.executable, "-m", "sharpscope", "view", str(record(tmp_path / "r")), "--port", "0",
        "--no-browser", "--token-file", str(token), "--json",
    ]  # fmt: skip
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=os.environ)
    try:
        url = json.loads(process.stdout.readline())["url"]
        with pytest.raises(urllib.error.HTTPError, match="401"):
            get(url.partition("?")[0])
        opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor())
        with opener.open(url, timeout=20) as answer:
            assert b"sharpscope" in answer.read()
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 0
    finally:
        process.kill()
        process.stdout.close()


class WindowsEvent(threading.Event):
    """Lets Ctrl-C through between two waits alone, as Windows does."""

    def __init__(self) -> None:
        super().__init__()
        self.waits = 0

    def wait(self, timeout=None):
        assert timeout is not None, "nothing would end this wait"
        self.waits += 1
        if self.waits == 3:
            self.set()
        return super().wait(0)


def test_the_wait_for_ctrl_c_comes_to_its_end_again_and_again():
    ended = WindowsEvent()
    wait_for(ended)

    assert ended.waits == 3
