import errno
import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import yaozarrs
from typer.testing import CliRunner

from configs.document import WrongInputError
from inference.completion import complete
from inference.journal import Journal
from inference.messages import StreamPhotometry
from inference.outcomes import EnhancedFrame, FrameId
from inference.recording import FrameFacts, Recorder, Recording, UnenhancedLine, recover
from sharpscope.cli import app

FITC = FrameFacts(channel="FITC", pixel_size_um=0.65, exposure_ms=10.0, event_index={"t": 0, "c": 1})
KILLED = Path(__file__).with_name("recorder_process.py")


def enhanced_of(recorder, number, image, model_hash="ab" * 32):
    photometry = StreamPhotometry(model_hash=model_hash, background=1.0, scale=2.0)
    return EnhancedFrame(
        source=FrameId(recorder.session, number),
        image=image.astype(np.float32).repeat(2, 0).repeat(2, 1),
        pixel_size_um=0.325,
        channel="FITC",
        model_name="nearest",
        model_hash=model_hash,
        out_of_domain=("pixel size",),
        photometry=photometry,
        latency_ms=1.0,
        engine_ms=1.0,
        warnings=("blurred",),
        shows_raw=number == 3,
    )


def test_every_frame_reads_back_as_it_was_put_in(tmp_path, numbered):
    with Recorder.create(tmp_path / "r") as recorder:
        numbers = [recorder.put(numbered(number), FITC) for number in range(40)]
    recording = Recording.open(tmp_path / "r")
    assert list(recording.frames) == numbers == list(range(40))
    for number in numbers:
        np.testing.assert_array_equal(recording.read(number), numbered(number))
    assert recording.frames[3].facts == FITC
    assert recording.unenhanced.keys() == set(numbers)


def test_a_reused_camera_buffer_does_not_corrupt_the_recording(tmp_path):
    buffer = np.zeros((64, 64), np.uint16)
    with Recorder.create(tmp_path / "r") as recorder:
        for number in range(60):
            buffer[:] = number
            recorder.put(buffer, FITC)
            buffer[:] = 65535
    recording = Recording.open(tmp_path / "r")
    assert [int(recording.read(number).max()) for number in range(60)] == list(range(60))


def test_each_channel_pixel_size_shape_and_dtype_has_a_stream_of_its_own(tmp_path, numbered):
    facts = [FITC, FrameFacts(channel="DAPI", pixel_size_um=0.65), FrameFacts("FITC", 0.325), FrameFacts()]
    with Recorder.create(tmp_path / "r") as recorder:
        for fact in facts:
            recorder.put(numbered(0), fact)
        recorder.put(numbered(0)[:10], FITC)
        recorder.put(numbered(0).astype(np.uint8), FITC)
        recorder.put(numbered(1), FITC)
    recording = Recording.open(tmp_path / "r")
    assert list(recording.streams) == [
        "raw/FITC.ome.zarr",
        "raw/DAPI.ome.zarr",
        "raw/FITC_2.ome.zarr",
        "raw/image.ome.zarr",
        "raw/FITC_3.ome.zarr",
        "raw/FITC_4.ome.zarr",
    ]
    assert (recording.frames[6].stream, recording.frames[6].index) == ("raw/FITC.ome.zarr", 1)


def test_the_images_are_ome_zarr_of_the_journals_length(tmp_path, numbered):
    with Recorder.create(tmp_path / "r") as recorder:
        recorder.put(numbered(0), FITC)
        recorder.put(numbered(1), FITC)
        recorder.flush()
        recorder.put_enhanced(enhanced_of(recorder, 1, numbered(1)))
    for folder, scale, frames in (("raw", 0.65, 2), ("enhanced", 0.325, 2)):
        path = tmp_path / "r" / folder / "FITC.ome.zarr"
        yaozarrs.validate_zarr_store(path)
        group = json.loads((path / "zarr.json").read_text())
        dataset = group["attributes"]["ome"]["multiscales"][0]["datasets"][0]
        assert dataset["coordinateTransformations"][0]["scale"] == [1.0, scale, scale]
        assert json.loads((path / "0" / "zarr.json").read_text())["shape"][0] == frames
    title = group["attributes"]["ome"]["multiscales"][0]["name"]
    assert "enhanced by nearest" in title
    assert group["attributes"]["sharpscope"]["model_hash"] == "ab" * 32


def test_an_enhanced_frame_stands_at_its_raw_frames_index_and_holes_read_as_nan(tmp_path, numbered):
    with Recorder.create(tmp_path / "r") as recorder:
        for number in range(4):
            recorder.put(numbered(number), FITC)
        recorder.flush()
        recorder.put_enhanced(enhanced_of(recorder, 3, numbered(3)))
        recorder.put_enhanced(enhanced_of(recorder, 1, numbered(1)))
        recorder.put_unenhanced(UnenhancedLine(frame=2, outcome="dropped", reason="superseded"))
    recording = Recording.open(tmp_path / "r")
    line = recording.enhanced[3]
    assert (line.index, line.session, line.out_of_domain) == (3, recording.header.session, ("pixel size",))
    assert (line.warnings, line.shows_raw) == (("blurred",), True)
    np.testing.assert_array_equal(recording.read_enhanced(1), numbered(1).repeat(2, 0).repeat(2, 1))
    assert recording.unenhanced == {0: "no answer", 2: "superseded"}
    stream = recording.enhanced[3].stream
    from_disk = yaozarrs.open_group(tmp_path / "r" / stream)["0"].to_tensorstore().read().result()
    assert np.isnan(from_disk[[0, 2]]).all()


def test_models_do_not_share_an_enhanced_stream(tmp_path, numbered):
    with Recorder.create(tmp_path / "r") as recorder:
        for number, model_hash in enumerate(["ab" * 32, "cd" * 32]):
            recorder.put(numbered(number), FITC)
            recorder.flush()
            recorder.put_enhanced(enhanced_of(recorder, number, numbered(number), model_hash))
    recording = Recording.open(tmp_path / "r")
    assert [line.stream for line in recording.enhanced.values()] == [
        "enhanced/FITC.ome.zarr",
        "enhanced/FITC_2.ome.zarr",
    ]


def test_a_recording_is_never_written_over(tmp_path, numbered):
    with Recorder.create(tmp_path / "r") as recorder:
        recorder.put(numbered(0), FITC)
    with pytest.raises(WrongInputError, match="already holds a recording"):
        Recorder.create(tmp_path / "r")
    with pytest.raises(WrongInputError, match="not a recording"):
        Recording.open(tmp_path)


def test_a_recording_that_is_being_written_is_neither_completed_nor_recovered(tmp_path, numbered):
    """Trimming under the recorder's hands would delete frames that are on the disk and not yet named."""
    script = "import sys; from pathlib import Path; from inference.completion import complete;"
    command = [
        sys.executable,
        "-c",
        script + "complete(Path(sys.argv[1]), 'tcp://127.0.0.1:9', patience_s=0)",
    ]
    path = tmp_path / "r"
    with Recorder.create(path) as recorder:
        recorder.put(numbered(0), FITC)
        result = subprocess.run([*command, str(path)], capture_output=True, text=True, check=False)
        assert "is being written by another process; wait for it" in result.stderr
        for again in (recover, Recorder.resume):
            with pytest.raises(WrongInputError, match="is being written"):
                again(path)
        assert list(Recording.open(path).frames) in ([], [0])  # readers take no lock
    assert list(recover(path).frames) == [0]
    subprocess.run([*command, str(path)], check=True)


def test_a_colour_frame_is_lost_with_a_reason_and_the_next_is_stored(tmp_path, numbered):
    told = []
    with Recorder.create(tmp_path / "r") as recorder:
        recorder.put(np.zeros((4, 4, 3), np.uint8), FITC, lambda frame, reason: told.append((frame, reason)))
        recorder.put(numbered(1), FITC, lambda frame, reason: told.append((frame, reason)))
    recording = Recording.open(tmp_path / "r")
    assert "grey pixel type" in recording.lost[0]
    assert list(recording.frames) == [1]
    assert told[0][0] == 0
    assert "grey pixel type" in told[0][1]
    assert told[1] == (1, None)


def test_a_resumed_recording_goes_on_with_its_numbers_and_streams(tmp_path, numbered):
    with Recorder.create(tmp_path / "r") as recorder:
        for number in range(3):
            recorder.put(numbered(number), FITC)
    with Recorder.resume(tmp_path / "r") as recorder:
        assert recorder.put(numbered(3), FITC) == 3
        recorder.flush()
        np.testing.assert_array_equal(recorder.read(1), numbered(1))
    recording = Recording.open(tmp_path / "r")
    assert [line.index for line in recording.frames.values()] == [0, 1, 2, 3]
    np.testing.assert_array_equal(recording.read(3), numbered(3))


def test_a_torn_journal_line_does_not_exist(tmp_path, numbered):
    with Recorder.create(tmp_path / "r") as recorder:
        for number in range(3):
            recorder.put(numbered(number), FITC)
    journal = tmp_path / "r" / "journal.jsonl"
    killed = journal.read_bytes().removesuffix(b'{"kind":"end"}\n')
    journal.write_bytes(killed[:-5])
    assert list(Recording.open(tmp_path / "r").frames) == [0, 1]
    with Recorder.resume(tmp_path / "r") as recorder:
        recorder.put(numbered(2), FITC)
    recording = Recording.open(tmp_path / "r")
    assert [line.index for line in recording.frames.values()] == [0, 1, 2]


@pytest.mark.parametrize("frames_before_kill", [1, 7, 33, 70])
def test_after_sigkill_every_journalled_frame_is_readable_and_right(tmp_path, frames_before_kill):
    """Killed while it goes on writing: where in its work the kill finds it is left to chance."""
    path = tmp_path / "r"
    command = [sys.executable, str(KILLED), str(path)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    for line in process.stdout:
        if int(line) >= frames_before_kill:
            break
    process.kill()
    process.wait()
    process.stdout.close()
    recording = recover(path)
    assert len(recording.frames) >= frames_before_kill
    assert list(recording.frames) == list(range(len(recording.frames)))
    for frame in recording.frames:
        assert (recording.read(frame) == frame).all()
    for frame in recording.enhanced:
        assert (recording.read_enhanced(frame) == frame).all()
    shape = json.loads((path / "raw" / "FITC.ome.zarr" / "0" / "zarr.json").read_text())["shape"]
    assert shape[0] == len(recording.frames)
    with Recorder.resume(path) as recorder:
        assert recorder.put(np.zeros((128, 128), np.uint16), FITC) == recording.next_frame


def test_only_a_closed_recording_ends_with_its_end(tmp_path, numbered):
    journal = tmp_path / "r" / "journal.jsonl"
    with Recorder.create(tmp_path / "r") as recorder:
        recorder.put(numbered(0), FITC)
        recorder.flush()
        assert b'"end"' not in journal.read_bytes()
    assert journal.read_bytes().endswith(b'{"kind":"end"}\n')


def test_a_refused_write_is_told_and_costs_no_journalled_frame(tmp_path):
    """A limit on the size of files stands in for a full disk: the system refuses the chunk in mid-write."""
    pytest.importorskip("resource", reason="file size limits exist on POSIX systems only")
    script = f"""
import resource, numpy as np
from pathlib import Path
from inference.recording import FrameFacts, Recorder
noise = np.random.default_rng(1).integers(0, 65535, (256, 256), dtype=np.uint16)
told = []
with Recorder.create(Path({str(tmp_path / "r")!r})) as recorder:
    for number in range(6):
        recorder.flush()
        limit = 30_000 if number in (2, 3) else resource.RLIM_INFINITY
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
        recorder.put(noise + np.uint16(number), FrameFacts(), lambda *news: told.append(news))
        recorder.flush()
print([number for number, reason in told if reason is not None and "cannot be written" in reason])
print([number for number, reason in told if reason is None])
"""
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert result.stdout.splitlines() == ["[2, 3]", "[0, 1, 4, 5]"]
    recording = Recording.open(tmp_path / "r")
    noise = np.random.default_rng(1).integers(0, 65535, (256, 256), dtype=np.uint16)
    assert list(recording.frames) == [0, 1, 4, 5]
    assert list(recording.lost) == [2, 3]
    for frame in recording.frames:
        np.testing.assert_array_equal(recording.read(frame), noise + np.uint16(frame))


@pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() != 0, reason="mounting a small disk needs root"
)
def test_a_full_disk_is_told_and_costs_no_journalled_frame(tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=2m", "none", str(disk)]
    if subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        pytest.skip("this system does not let a test mount a small disk")
    try:
        noise = np.random.default_rng(1).integers(0, 65535, (256, 256), dtype=np.uint16)
        told = []
        with Recorder.create(disk / "r") as recorder:
            for number in range(30):
                recorder.put(noise + np.uint16(number), FrameFacts(), lambda *news: told.append(news))
        stored = [number for number, reason in told if reason is None]
        assert len(told) == 30
        assert 5 < len(stored) < 20
        recording = recover(disk / "r")
        assert list(recording.frames) == stored
        for frame in stored:
            np.testing.assert_array_equal(recording.read(frame), noise + np.uint16(frame))
    finally:
        subprocess.run(["umount", "--lazy", str(disk)], check=True)


def test_a_disk_that_comes_back_costs_only_the_frames_while_it_was_away(tmp_path, numbered, monkeypatch):
    """The journal can neither be written nor opened again for one frame: a share on the network."""
    told, away = [], threading.Event()

    class Share(Journal):
        def __init__(self, path):
            self._refuse()
            super().__init__(path)

        def append(self, line, *, sync=True):
            self._refuse()
            super().append(line, sync=sync)

        def _refuse(self):
            if away.is_set():
                raise OSError(errno.EIO, "the share is away")

    monkeypatch.setattr("inference.recording.Journal", Share)
    with Recorder.create(tmp_path / "r") as recorder:
        for number in range(4):
            if number == 1:
                away.set()
            recorder.put(numbered(number), FITC, lambda *news: told.append(news))
            recorder.flush()
            away.clear()
    assert [number for number, reason in told if reason is None] == [0, 2, 3]
    assert "the share is away" in told[1][1]
    recording = Recording.open(tmp_path / "r")
    assert list(recording.frames) == [0, 2, 3]
    for number in recording.frames:
        np.testing.assert_array_equal(recording.read(number), numbered(number))


def test_put_waits_while_the_disk_is_behind(tmp_path, numbered):
    gate, entered = threading.Event(), threading.Event()
    finished = threading.Event()

    def hold(_frame, _reason):
        entered.set()
        gate.wait()

    with Recorder.create(tmp_path / "r", depth=2) as recorder:
        recorder.put(numbered(0), FITC, hold)
        entered.wait(10)
        recorder.put(numbered(1), FITC)
        recorder.put(numbered(2), FITC)

        def put_the_fourth():
            recorder.put(numbered(3), FITC)
            finished.set()

        thread = threading.Thread(target=put_the_fourth)
        thread.start()
        waited = not finished.wait(0.2)
        gate.set()
        thread.join()
    assert waited
    assert len(Recording.open(tmp_path / "r").frames) == 4


def test_complete_sends_a_channel_to_its_worker_and_says_that_nobody_answers(
    tmp_path, numbered, start_worker
):
    path = tmp_path / "r"
    with Recorder.create(path) as recorder:
        for number in range(4):
            recorder.put(
                numbered(number), FrameFacts(channel=("FITC", "DAPI")[number % 2], pixel_size_um=0.65)
            )
        recorder.flush()
        recorder.put_unenhanced(UnenhancedLine(frame=1, outcome="failed", reason="old reason of frame 1"))
        recorder.put_unenhanced(UnenhancedLine(frame=3, outcome="failed", reason="old reason of frame 3"))
    result = CliRunner().invoke(app, ["complete", str(path), "--worker", f"FITC={start_worker().address}"])
    assert "2 more frames of FITC enhanced" in result.output
    assert "because, 2 times: old reason of frame N" in result.output
    assert sorted(Recording.open(path).enhanced) == [0, 2]
    assert complete(path, "tcp://127.0.0.1:9", patience_s=0.1).worker.startswith("connecting")
