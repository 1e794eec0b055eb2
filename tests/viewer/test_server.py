"""The server: its start, its port and its end."""

import socket
import threading
import time

import pytest

from configs.document import WrongInputError
from inference.viewer.server import ViewerServer


def is_running(server: ViewerServer) -> bool:
    return any(thread.name == f"sharpscope-viewer-{server.port}" for thread in threading.enumerate())


def test_a_free_port_is_taken_and_said(screen, serve, ask):
    server = serve(screen)

    assert server.url == f"http://127.0.0.1:{server.port}/"
    assert ask(server, "/").status == 200


def test_a_port_that_is_taken_is_refused_with_a_remedy(screen, serve):
    with pytest.raises(WrongInputError, match="or 0 for a free one"):
        ViewerServer(screen, port=serve(screen).port)


@pytest.mark.parametrize("port", [70_000, -1])
def test_a_port_that_is_none_is_refused(screen, port):
    with pytest.raises(WrongInputError, match="or 0 for a free one"):
        ViewerServer(screen, port=port)


def test_the_port_is_free_after_the_end(screen):
    with ViewerServer(screen, port=0) as server:
        port = server.port
    with ViewerServer(screen, port=port) as again:
        assert again.port == port


def test_it_ends_in_time_with_a_stalled_browser(screen, browse, stalled, take, caplog):
    with ViewerServer(screen, port=0) as server:
        stalled(server, "FITC")
        live = browse(server)
        live.show("FITC")
        for number in range(3):
            take(number, side_px=2048)
            live.ack(live.until(number))
        assert server.unsent_bytes() > 0
        began_s = time.monotonic()
    took_s = time.monotonic() - began_s

    assert took_s < 2
    assert not is_running(server)
    assert [record for record in caplog.records if record.levelname == "ERROR"] == []


def test_it_ends_in_time_while_the_disk_does_not_answer(album, browse):
    with ViewerServer(album, port=0) as server:
        browser = browse(server)
        album.gate.clear()
        browser.show("FITC", at=1)
        while not album.asked:
            time.sleep(0.001)
        began_s = time.monotonic()
    took_s = time.monotonic() - began_s
    album.gate.set()

    assert took_s < 2
    assert not is_running(server)


def test_it_ends_in_time_with_requests_that_never_end(screen, closing, caplog):
    with ViewerServer(screen, port=0) as server:
        for start in (
            b"",
            b"GET / HTT",
            b"POST /api/control HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 9\r\n\r\n{",
        ):
            slow = closing.enter_context(socket.create_connection(("127.0.0.1", server.port)))
            slow.sendall(start)
        began_s = time.monotonic()
    took_s = time.monotonic() - began_s

    assert took_s < 2
    assert not is_running(server)
    assert [record for record in caplog.records if record.levelname == "ERROR"] == []


def test_closing_twice_is_once(screen):
    server = ViewerServer(screen, port=0)
    server.close()
    server.close()
    assert not is_running(server)


def test_no_thread_is_left(screen, album):
    before = set(threading.enumerate())
    for _ in range(3):
        with ViewerServer(screen, port=0):
            pass

    assert {thread.name for thread in set(threading.enumerate()) - before} == set()
