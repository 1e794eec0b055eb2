"""A recording as a source: finished, growing, interrupted, damaged."""

import json
import os
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from configs.document import WrongInputError
from inference.image_stream import ImageStream
from inference.journal_follower import JournalFollower
from inference.messages import StreamPhotometry
from inference.outcomes import EnhancedFrame, FrameId
from inference.recording import FrameFacts, Recorder, UnenhancedLine
from inference.viewer.kept import Kept
from inference.viewer.recording_source import RecordingSource

RECORDER = Path(__file__).parents[1] / "live" / "recorder_process.py"
FITC = FrameFacts(channel="FITC", pixel_size_um=0.65)


def pixels(number):
    return np.arange(24 * 32, dtype=np.uint16).reshape(24, 32) + np.uint16(number)


def enhanced(recorder, number, model_hash="ab" * 32, offset=0.5):
    image = pixels(number).astype(np.float32).repeat(2, 0).repeat(2, 1) + offset
    photometry = StreamPhotometry(model_hash=model_hash, background=1.0, scale=2.0)
    source = FrameId(recorder.session, number)
    return EnhancedFrame(
        source, image, 0.325, "FITC", "nearest", model_hash, ("pixel size",), photometry, 1.0, 1.0,
        warnings=("blurred",),
    )  # fmt: skip


@pytest.fixture
def recorder(tmp_path):
    with Recorder.create(tmp_path / "r") as recorder:
        yield recorder


@contextmanager
def writing_process(path, frames):
    """Another process that records, from the moment when so many frames are on the disk."""
    process = subprocess.Popen([sys.executable, str(RECORDER), str(path)], stdout=subprocess.PIPE, text=True)
    try:
        for line in process.stdout:
            if int(line) >= frames:
                break
        yield process
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def test_a_frame_of_a_series_arrives_in_counts_with_its_facts(recorder):
    for number, channel in enumerate(["FITC", "DAPI", "FITC"]):
        recorder.put(
            pixels(number), FrameFacts(channel=channel, pixel_size_um=0.65, elapsed_ms=40.0 * number)
        )
    recorder.flush()
    source = RecordingSource(recorder.path)
    assert [(series.name, series.length) for series in source.series()] == [("FITC", 2), ("DAPI", 1)]
    frame = source.at("FITC", 1)
    np.testing.assert_array_equal(frame.raw.pixels, pixels(2))
    assert frame.raw.pixels.dtype == np.uint16
    assert (frame.number, frame.index, frame.session) == (2, 1, recorder.session)
    assert (frame.elapsed_ms, frame.raw.pixel_size_um, frame.channel) == (80.0, 0.65, "FITC")
    assert (frame.enhanced, frame.reason) == (None, "waiting")


def test_positions_are_series_of_their_own_named_or_numbered(recorder):
    for position, name in ((0, None), (1, None), (2, "cell 3")):
        recorder.put(pixels(0), FrameFacts("FITC", event_index={"p": position}, position_name=name))
    recorder.flush()
    names = [series.name for series in RecordingSource(recorder.path).series()]
    assert names == ["FITC at p0", "FITC at p1", "FITC at cell 3"]


def test_without_a_camera_clock_the_time_counts_from_the_first_frame(recorder):
    start = datetime(2026, 1, 1, tzinfo=UTC)
    for number in range(3):
        recorder.put(pixels(0), FrameFacts("FITC", time=start + timedelta(seconds=2 * number)))
    recorder.flush()
    assert RecordingSource(recorder.path).at("FITC", 2).elapsed_ms == 4000.0


def test_an_enhanced_image_appears_when_it_comes(recorder):
    recorder.put(pixels(0), FITC)
    recorder.flush()
    with RecordingSource(recorder.path) as source:
        assert source.at("FITC", 0).enhanced is None
        changed = threading.Event()
        source.subscribe(changed.set)
        recorder.put_enhanced(enhanced(recorder, 0))
        assert changed.wait(10)
        frame = source.at("FITC", 0)
    np.testing.assert_array_equal(frame.enhanced.pixels, pixels(0).repeat(2, 0).repeat(2, 1) + 0.5)
    assert (frame.model_name, frame.model_hash, frame.reason) == ("nearest", "ab" * 32, None)
    assert (frame.out_of_domain, frame.warnings) == (("pixel size",), ("blurred",))
    assert frame.enhanced.pixel_size_um == 0.325


def test_of_several_models_the_newest_line_of_a_frame_counts(tmp_path):
    with Recorder.create(tmp_path / "r") as recorder:
        recorder.put(pixels(0), FITC)
        recorder.put(pixels(1), FITC)
        recorder.flush()
        for number, digest in ((0, "ab" * 32), (1, "ab" * 32), (1, "cd" * 32)):
            recorder.put_enhanced(enhanced(recorder, number, digest, offset=float(digest == "cd" * 32)))
    source = RecordingSource(tmp_path / "r")
    first, second = source.at("FITC", 0), source.at("FITC", 1)
    assert (first.model_hash, second.model_hash) == ("ab" * 32, "cd" * 32)
    assert second.enhanced.pixels[0, 0] == 2.0
    assert source.status().model_hash == "cd" * 32


def test_a_dropped_frame_says_why_until_it_is_enhanced(recorder):
    recorder.put(pixels(0), FITC)
    recorder.flush()
    recorder.put_unenhanced(UnenhancedLine(frame=0, outcome="dropped", reason="superseded"))
    source = RecordingSource(recorder.path)
    wait_for(lambda: source.at("FITC", 0).reason == "dropped: superseded")
    status = source.status()
    assert (status.dropped, status.waiting) == (1, 0)
    recorder.put_enhanced(enhanced(recorder, 0))
    wait_for(lambda: source.at("FITC", 0).enhanced is not None)
    assert (source.status().dropped, source.status().enhanced) == (0, 1)


def test_while_it_runs_the_frame_to_look_at_is_the_newest_enhanced_one(tmp_path):
    with Recorder.create(tmp_path / "r") as recorder:
        source = RecordingSource(tmp_path / "r")
        assert source.newest("FITC") is None
        for number in range(4):
            recorder.put(pixels(number), FITC)
        recorder.flush()
        assert source.newest("FITC").number == 3
        recorder.put_enhanced(enhanced(recorder, 2))
        wait_for(lambda: source.newest("FITC").number == 2)
    assert source.newest("FITC").number == 3


def test_a_recording_of_another_process_is_followed_while_it_grows(tmp_path):
    with writing_process(tmp_path / "r", 1), RecordingSource(tmp_path / "r") as source:
        grown = threading.Event()
        source.subscribe(lambda: source.series()[0].length > 70 and grown.set())
        assert source.status().state == "running"
        assert source.status().live
        assert grown.wait(60)
        for index in (0, 40, 70):
            assert (source.at("FITC", index).raw.pixels == index).all()
        wait_for(lambda: source.at("FITC", 69).enhanced is not None)  # written in a lane of its own
        assert (source.at("FITC", 69).enhanced.pixels == 69).all()


def test_a_killed_recording_shows_every_journalled_frame_and_is_not_called_finished(tmp_path, monkeypatch):
    with writing_process(tmp_path / "r", 40):
        pass
    source = RecordingSource(tmp_path / "r")
    length = source.series()[0].length
    assert length >= 40
    for index in range(length):
        assert (source.at("FITC", index).raw.pixels == index).all()
    monkeypatch.setattr("inference.viewer.recording_source.LEAST_SILENCE_S", -1.0)
    status = source.status()
    assert (status.state, status.live) == ("interrupted", False)
    assert status.waiting == 0  # nobody is left who could answer
    assert status.enhanced + status.failed == status.recorded == length
    assert source.at("FITC", length - length % 3 - 2).reason == "no answer"  # every third is enhanced
    assert "was not closed" in status.reason


def test_a_closed_recording_is_finished_and_running_again_when_resumed(tmp_path):
    with Recorder.create(tmp_path / "r") as recorder:
        recorder.put(pixels(0), FITC)
    source = RecordingSource(tmp_path / "r")
    assert (source.status().state, source.status().live) == ("finished", False)
    assert source.at("FITC", 0).reason == "no answer"
    with Recorder.resume(tmp_path / "r") as recorder:
        recorder.put(pixels(1), FITC)
        recorder.flush()
        assert source.status().state == "running"
        np.testing.assert_array_equal(source.at("FITC", 1).raw.pixels, pixels(1))


def test_a_recording_of_version_1_is_finished_when_nothing_is_written_any_more(tmp_path):
    """Its recorder did not write that it was closed."""
    path = tmp_path / "r"
    with Recorder.create(path) as recorder:
        recorder.put(pixels(0), FITC)
    header, journal = path / "recording.json", path / "journal.jsonl"
    header.write_text(header.read_text().replace('"version": 2', '"version": 1'))
    journal.write_bytes(journal.read_bytes().removesuffix(b'{"kind":"end"}\n'))
    with RecordingSource(path) as source:
        assert source.status().state == "running"
        an_hour_ago = time.time() - 3600
        os.utime(journal, (an_hour_ago, an_hour_ago))
        assert (source.status().state, source.status().reason) == ("finished", "")


def test_an_empty_recording_has_no_series(tmp_path):
    with Recorder.create(tmp_path / "r"):
        pass
    source = RecordingSource(tmp_path / "r")
    assert (source.series(), source.newest("FITC"), source.status().frames_in) == ((), None, 0)
    with pytest.raises(IndexError, match="'FITC' has 0 frames"):
        source.at("FITC", 0)


@pytest.mark.parametrize("index", [-1, 3])
def test_an_index_outside_a_series_is_an_index_error(recorder, index):
    for number in range(3):
        recorder.put(pixels(number), FITC)
    recorder.flush()
    with pytest.raises(IndexError, match="3 frames and none of index"):
        RecordingSource(recorder.path).at("FITC", index)


def test_a_folder_that_is_no_recording_is_refused_with_what_to_give(tmp_path):
    with pytest.raises(WrongInputError, match="give the folder that 'sharpscope live' wrote"):
        RecordingSource(tmp_path)


def test_a_journal_that_turns_unreadable_is_told_and_what_was_read_stays(tmp_path):
    with Recorder.create(tmp_path / "r") as recorder:
        recorder.put(pixels(0), FITC)
    source = RecordingSource(tmp_path / "r")
    with (tmp_path / "r" / "journal.jsonl").open("ab") as stream:
        stream.write(b'{"kind":"future"}\n')
    assert source.status().state == "unreadable"
    assert "no journal of version 1" in source.status().reason
    np.testing.assert_array_equal(source.at("FITC", 0).raw.pixels, pixels(0))


def test_a_look_at_fifty_thousand_frames_costs_what_is_new(tmp_path):
    with Recorder.create(tmp_path / "r") as recorder:
        recorder.put(pixels(0), FITC)
    journal = tmp_path / "r" / "journal.jsonl"
    stored = json.loads(journal.read_text().splitlines()[1])
    with journal.open("a") as stream:
        for frame in range(1, 50_000):
            stream.write(json.dumps({**stored, "frame": frame, "index": frame}) + "\n")
    source = RecordingSource(tmp_path / "r")
    assert source.series()[0].length == 50_000
    start = time.perf_counter()
    for _ in range(100):
        source.series()
    assert (time.perf_counter() - start) / 100 < 0.005


def wait_for(condition, timeout_s=10.0):
    end = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end, "it has not come about"
        time.sleep(0.005)


def test_a_frame_that_is_looked_at_again_is_not_read_again(recorder, monkeypatch):
    recorder.put(pixels(0), FITC)
    recorder.flush()
    reads = []
    read = ImageStream.read
    monkeypatch.setattr(ImageStream, "read", lambda stream, index: reads.append(index) or read(stream, index))
    with RecordingSource(recorder.path) as source:
        looks = [source.newest("FITC") for _ in range(5)]

    assert reads == [0]
    np.testing.assert_array_equal(looks[-1].raw.pixels, pixels(0))


def test_images_are_kept_up_to_a_bound_and_those_asked_for_last():
    kept, read = Kept(most_bytes=3 * 10), []

    def get(key):
        return kept.get(key, lambda: read.append(key) or np.zeros(10, np.uint8))

    for key in (0, 1, 2, 0, 3, 0, 3, 1):
        get(key)

    assert read == [0, 1, 2, 3, 1]


def test_whoever_subscribes_in_an_event_loop_waits_for_no_disk(recorder, monkeypatch):
    readers = set()
    news = JournalFollower.news
    changed = threading.Event()
    with RecordingSource(recorder.path) as source:
        monkeypatch.setattr(
            JournalFollower, "news", lambda journal: readers.add(threading.current_thread()) or news(journal)
        )
        source.subscribe(changed.set)
        recorder.put(pixels(0), FITC)
        assert changed.wait(10)

    assert threading.current_thread() not in readers
    assert readers
