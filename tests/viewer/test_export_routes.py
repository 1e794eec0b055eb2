"""The export route over real sockets: files, refusals, and that nothing stays on the disk."""

import http.client
import json
import shutil
import socket
import tempfile
import threading
import time
from contextlib import suppress

import numpy as np
import pytest
import tifffile

from inference.messages import StreamPhotometry
from inference.outcomes import EnhancedFrame, FrameId
from inference.recording import FrameFacts, Recorder
from inference.viewer.export_routes import export_routes
from inference.viewer.recording_source import RecordingSource
from inference.viewer.screen import Screen
from inference.viewer.server import ViewerServer
from inference.viewer.shown_frame import Plane, ShownFrame
from inference.viewer.source import Series, SourceStatus

FRAMES = 5


def raw_of(number):
    return np.full((48, 64), 100 + number, np.uint16)


@pytest.fixture(scope="module")
def recording(tmp_path_factory):
    path = tmp_path_factory.mktemp("recordings") / "my cells"
    photometry = StreamPhotometry(model_hash="ab" * 32, background=0.0, scale=1.0)
    with Recorder.create(path, session="s1") as recorder:
        for number in range(FRAMES):
            recorder.put(raw_of(number), FrameFacts("FITC", 0.1, elapsed_ms=50.0 * number))
        recorder.flush()
        for number in range(FRAMES):
            image = raw_of(number).astype(np.float32).repeat(2, 0).repeat(2, 1)
            frame = EnhancedFrame(
                FrameId("s1", number), image, 0.05, "FITC", "nuclei", "ab" * 32, (), photometry, 1.0, 1.0
            )
            recorder.put_enhanced(frame)
    return path


@pytest.fixture
def temporary(tmp_path, monkeypatch):
    """Where exports are written before they are sent."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


@pytest.fixture
def ask(recording, temporary):
    with RecordingSource(recording) as source, serving(source) as server:
        yield lambda **asked: post(server, asked)


def serving(source):
    return ViewerServer(source, port=0, routes=export_routes(source))


def post(server, asked):
    """Return status, headers and body of the answer."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
    try:
        body = asked if isinstance(asked, bytes) else json.dumps(asked).encode()
        connection.request("POST", "/api/export", body, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        return answer.status, answer.headers, answer.read()
    finally:
        connection.close()


class GatedSource:
    """Frames of which each waits for a permit."""

    title = "gated"

    def __init__(self):
        self.permits = threading.Semaphore(0)
        self.asked = threading.Semaphore(0)

    def series(self):
        return (Series("FITC", "FITC", None, 1000),)

    def newest(self, series):
        return self.at(series, 0)

    def at(self, series, index):
        self.asked.release()
        self.permits.acquire()
        return ShownFrame(number=index, index=index, session="s", raw=Plane(raw_of(0), 0.1))

    def status(self):
        return SourceStatus(live=False, state="finished")

    def subscribe(self, changed):
        return lambda: None


@pytest.mark.parametrize(
    ("asked", "name", "media_type", "begins"),
    [
        ({"format": "mp4", "last": 3, "fps": 10}, "my_cells_FITC_enhanced_1-3.mp4", "video/mp4", b"ftyp"),
        ({"format": "png"}, "my_cells_FITC_enhanced_1.png", "image/png", b"PNG"),
        ({"format": "png", "last": 2}, "my_cells_FITC_enhanced_1-2.zip", "application/zip", b"PK"),
        ({"format": "ome-tiff", "last": 2}, "my_cells_FITC_raw_1-2.ome.tif", "image/tiff", b"II*"),
    ],
)
def test_an_export_comes_as_an_attachment_and_leaves_nothing(ask, temporary, asked, name, media_type, begins):
    status, headers, body = ask(series="FITC", first=1, **asked)
    assert status == 200, body
    assert headers["Content-Disposition"] == f'attachment; filename="{name}"'
    assert headers["Content-Type"] == media_type
    assert begins in body[:12]
    wait_for(lambda: not any(temporary.iterdir()))


def test_a_tiff_of_the_page_is_the_recording(ask, tmp_path):
    _, _, body = ask(format="ome-tiff", series="FITC", first=0, last=4, look={"show": "enhanced"})
    (tmp_path / "e.tif").write_bytes(body)
    pixels = tifffile.imread(tmp_path / "e.tif")
    assert (pixels.shape, pixels.dtype) == ((5, 96, 128), np.float32)
    assert pixels[:, 0, 0].tolist() == [100, 101, 102, 103, 104]


def test_without_a_range_it_is_the_frame_to_look_at_now(ask):
    status, headers, _ = ask(format="png", series="FITC", first=None)
    assert status == 200
    assert headers["Content-Disposition"].endswith('_enhanced_4.png"')


@pytest.mark.parametrize(
    ("asked", "complaint"),
    [
        ({"first": 2, "last": 5}, "frames 2 to 5 are not in 'FITC'; it has frames 0 to 4"),
        ({"first": -1}, "it has frames 0 to 4"),
        ({"last": 3}, "'last' is given without 'first'"),
        ({"series": "DAPI", "first": 0}, "there is no series 'DAPI'"),
        ({"series": "DAPI"}, "there is no frame in a series 'DAPI' yet"),
        ({"series": "../../etc/passwd"}, "no frame in a series"),
        ({"format": "avi"}, "format"),
        ({"format": "ome-tiff", "first": 0, "look": {"show": "side_by_side"}}, "not both"),
        ({"first": "0"}, "first"),
        ({"fps": 0, "first": 0, "format": "mp4"}, "fps is 0"),
        ({"look": {"black": 9, "white": 1}}, "raise white"),
        ({"look": {"colour": "#12345"}}, "colour"),
        ({"look": {"label": False}}, "label"),
        ({"path": "/tmp/x"}, "path"),
    ],
)
def test_what_cannot_be_exported_is_refused_in_one_line(ask, temporary, asked, complaint):
    status, _, body = ask(**{"format": "png", "series": "FITC", **asked})
    assert status == 400
    reason = json.loads(body)["reason"]
    assert complaint in reason
    assert "\n" not in reason
    assert not any(temporary.iterdir())


@pytest.mark.parametrize("level", ["NaN", "Infinity", "-Infinity", "1e999"])
def test_levels_that_are_not_finite_are_refused(recording, temporary, level):
    asked = f'{{"format": "png", "series": "FITC", "look": {{"black": 0, "white": {level}}}}}'.encode()
    with RecordingSource(recording) as source, serving(source) as server:
        status, _, body = post(server, asked)
    assert status == 400
    assert b"white" in body


def test_one_export_is_written_at_a_time(temporary):
    source = GatedSource()
    with serving(source) as server:
        first = []
        asked = {"format": "ome-tiff", "series": "FITC", "first": 0, "last": 1}
        thread = threading.Thread(target=lambda: first.append(post(server, asked)))
        thread.start()
        assert source.asked.acquire(timeout=10)
        status, _, body = post(server, asked)
        assert (status, b"another export" in body) == (429, True)
        source.permits.release(1000)
        thread.join()
        assert first[0][0] == 200
        assert post(server, asked)[0] == 200


def test_a_browser_that_goes_away_ends_its_export(temporary):
    source = GatedSource()
    asked = {"format": "ome-tiff", "series": "FITC", "first": 0, "last": 999}
    with serving(source) as server:
        body = json.dumps(asked).encode()
        head = [
            "POST /api/export HTTP/1.1",
            f"Host: 127.0.0.1:{server.port}",
            "Content-Type: application/json",
            f"Content-Length: {len(body)}",
        ]
        with socket.create_connection(("127.0.0.1", server.port)) as browser:
            browser.sendall("\r\n".join([*head, "", ""]).encode() + body)
            assert source.asked.acquire(timeout=10)
        # Gone. Frames are given until nobody asks for more, which is long before the thousandth.
        given = 0
        while any(temporary.iterdir()):
            source.permits.release()
            given += 1
            time.sleep(0.005)
        assert given < 900
        source.permits.release(2000)
        wait_for(lambda: post(server, {**asked, "last": 1})[0] == 200)


def test_an_export_that_would_fill_half_of_the_free_disk_is_refused(ask, temporary, monkeypatch):
    usage = type(shutil.disk_usage(temporary))
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: usage(10**6, 0, 40_000))
    asked = {"format": "ome-tiff", "series": "FITC", "first": 0}
    assert ask(**asked, last=2)[0] == 200
    status, _, body = ask(**asked, last=4)
    assert (status, b"export fewer frames" in body) == (507, True)
    wait_for(lambda: not any(temporary.iterdir()))


def test_an_export_ends_when_the_disk_fills_meanwhile(ask, temporary, monkeypatch):
    usage, free = type(shutil.disk_usage(temporary)), iter([80_000, 80_000, 60_000])
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: usage(10**6, 0, next(free, 30_000)))
    status, _, _ = ask(format="ome-tiff", series="FITC", first=0, last=4)
    assert status == 507
    wait_for(lambda: not any(temporary.iterdir()))


def test_a_server_that_closes_ends_its_export(temporary):
    source = GatedSource()
    server = serving(source)
    asked = {"format": "ome-tiff", "series": "FITC", "first": 0, "last": 999}

    def ask_in_vain():
        with suppress(OSError, http.client.HTTPException):
            post(server, asked)

    threading.Thread(target=ask_in_vain).start()
    assert source.asked.acquire(timeout=10)
    source.permits.release(3)
    start = time.monotonic()
    closing = threading.Thread(target=server.close)
    closing.start()
    while closing.is_alive():
        source.permits.release()
        time.sleep(0.02)
    assert time.monotonic() - start < 5
    source.permits.release(1000)
    wait_for(lambda: not any(temporary.iterdir()))


def test_a_snapshot_of_what_is_not_kept_is_the_newest_frame(temporary):
    screen = Screen("live", session="s")
    with serving(screen) as server:
        for number in range(3):
            screen.raw(number, "FITC", None, Plane(raw_of(number), 0.1))
        asked = {"format": "png", "series": "FITC", "first": 1, "last": 1, "look": {"show": "raw"}}
        status, headers, _ = post(server, asked)
        assert (status, headers["Content-Disposition"][-10:]) == (200, 'raw_2.png"')
        status, _, body = post(server, {**asked, "first": 0, "last": 2, "format": "mp4"})
        assert (status, b"not kept" in body) == (400, True)


def wait_for(condition, timeout_s=10.0):
    end = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end, "it has not come about"
        time.sleep(0.01)
