"""One browser and several, over real sockets: who gets which view, and when."""

import json
import threading
import time
from contextlib import suppress
from functools import partial

import numpy as np
import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from inference.viewer.viewing import MOST_VIEWINGS


def test_the_hello_says_what_there_is(screen, serve, browse, take):
    take(0)

    hello = browse(serve(screen)).hello

    assert (hello["title"], hello["actions"], hello["panels"]) == ("a stand", [], [])
    assert [(series["name"], series["length"]) for series in hello["series"]] == [("FITC", 1)]


def test_the_next_view_waits_for_the_acknowledgement_and_is_then_the_newest(screen, serve, browse, take):
    browser = browse(serve(screen))
    browser.show("FITC")
    take(0)
    first = browser.view()
    between = browser.views_during(*(partial(take, number) for number in range(1, 4)))
    browser.ack(first)

    assert between == []
    assert (first.numbers, browser.view().numbers) == ([0], [3])


def test_frames_that_went_by_are_counted(screen, serve, browse, take):
    browser = browse(serve(screen))
    browser.show("FITC")
    take(0)
    first = browser.view()
    for number in range(1, 10):
        take(number)
    browser.ack(first)
    browser.ack(browser.until(9))

    while browser.said("status")["skipped"] != 8:
        pass
    assert browser.said("status")["skipped"] == 8  # and it stays so


def test_a_frame_is_sent_again_when_its_enhanced_image_came(screen, serve, browse, take):
    browser = browse(serve(screen))
    browser.show("FITC")
    take(0)
    waiting = browser.view()
    browser.ack(waiting)
    screen.enhanced(
        0, waiting_plane(waiting), model_name="actin", model_hash="abc", latency_ms=80.0, warnings=("dim",)
    )

    image = browser.view().images[0]

    assert (waiting.images[0]["reason"], waiting.images[0]["enhanced"]) == ("waiting", None)
    assert (image["model_name"], image["model_hash"], image["warnings"]) == ("actin", "abc", ["dim"])
    assert (image["reason"], image["enhanced"]["shape_yx"]) == (None, [32, 32])


def waiting_plane(shown):
    from inference.viewer.shown_frame import Plane

    return Plane(np.kron(shown.planes[0]["raw"], np.ones((2, 2))).astype(np.float32), 0.05)


def test_a_frame_that_did_not_change_is_not_sent_again(screen, serve, browse, take):
    browser = browse(serve(screen))
    browser.show("FITC")
    take(0)
    browser.ack(browser.view())
    others = (partial(take, number, channel="DAPI") for number in (1, 2))

    assert browser.views_during(*others) == []


def test_several_series_come_in_one_view(screen, serve, browse, take):
    take(0, channel="FITC")
    take(1, channel="DAPI")
    browser = browse(serve(screen))
    browser.show("FITC", "DAPI")

    shown = browser.view()

    assert [image["series"] for image in shown.images] == ["FITC", "DAPI"]
    assert [plane["raw"][0, 0] for plane in shown.planes] == [0, 1]


def test_a_series_that_does_not_exist_yet_may_be_asked_for(screen, serve, browse, take):
    browser = browse(serve(screen))
    browser.show("FITC")
    browser.said("status")
    take(0)

    assert browser.view().numbers == [0]


def test_the_status_comes_at_most_four_times_a_second(screen, serve, browse, take):
    browser = browse(serve(screen))
    browser.said("status")
    running = threading.Event()

    def camera() -> None:
        for number in range(10_000):
            take(number)
            if running.wait(0.005):
                return

    thread = threading.Thread(target=camera)
    thread.start()
    began_s = time.monotonic()
    for _ in range(4):
        browser.said("status")
    took_s = time.monotonic() - began_s
    running.set()
    thread.join()

    assert took_s >= 0.75 - 0.05  # the first may be due already


def test_a_frame_of_the_past_is_sent_once_and_again_when_asked(album, serve, browse):
    browser = browse(serve(album))
    browser.show("FITC", at=7)
    seventh = browser.view()
    browser.ack(seventh)
    between = browser.views_during(album.changed, album.changed)
    browser.show("FITC", at=7)

    assert (seventh.numbers, between, browser.view().numbers) == ([7], [], [7])


def test_a_frame_of_the_past_is_sent_again_when_its_enhanced_image_came(album, serve, browse):
    album.waiting.add(3)
    browser = browse(serve(album))
    browser.show("FITC", at=3)
    first = browser.view()
    browser.ack(first)
    album.waiting.clear()
    album.changed()

    assert (first.images[0]["enhanced"], browser.view().images[0]["reason"]) == (None, None)


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OSError("the disk\nis gone"), "the disk is gone"),
        (ValueError("a torn chunk"), "a torn chunk"),
        (ZeroDivisionError(), "ZeroDivisionError"),
    ],
)
def test_a_frame_that_cannot_be_had_is_told_in_one_line(album, serve, browse, error, said):
    album.broken[5] = error
    browser = browse(serve(album))
    browser.show("FITC", at=5)
    refused = browser.said("refused")
    browser.show("FITC", at=6)

    assert (refused["reason"], browser.view().numbers) == (said, [6])


def test_an_index_that_is_not_there_is_told(album, serve, browse):
    browser = browse(serve(album))
    browser.show("FITC", at=100)

    assert browser.said("refused")["reason"] == "no frame 100 in 'FITC'"


def test_a_status_that_cannot_be_had_is_told_and_the_frames_go_on(album, serve, browse):
    album.status = lambda: 1 / 0
    browser = browse(serve(album))
    refused = browser.said("refused")
    browser.show("FITC")

    assert (refused["reason"], browser.view().numbers) == ("division by zero", [99])


def test_frames_are_shown_while_the_status_keeps_one_waiting(album, serve, browse):
    answered = threading.Event()
    status = album.status
    album.status = lambda: answered.wait(10) and status()
    browser = browse(serve(album))
    browser.show("FITC")

    assert browser.view().numbers == [99]
    assert not answered.is_set()
    answered.set()


def test_while_a_slow_frame_is_fetched_another_browser_is_served(album, screen, serve, browse):
    server = serve(album)
    slow, quick = browse(server), browse(server)
    album.gate.clear()
    slow.show("FITC", at=1)
    while not album.asked:
        time.sleep(0.001)

    quick.show()
    quick.said("status")  # the loop is free
    album.gate.set()

    assert slow.view().numbers == [1]


def test_of_a_slider_that_is_dragged_only_the_last_place_is_fetched(album, serve, browse):
    browser = browse(serve(album))
    album.gate.clear()
    browser.show("FITC", at=0)
    while not album.asked:
        time.sleep(0.001)
    for index in range(1, 50):
        browser.show("FITC", at=index)
    browser.send("not JSON")
    browser.said("refused")  # everything before it was heard
    album.gate.set()
    browser.ack(browser.view())

    assert browser.view().numbers == [49]
    assert album.asked == [0, 49]


def test_a_stalled_browser_delays_neither_another_one_nor_the_source(screen, serve, browse, stalled, take):
    server = serve(screen)
    stalled(server, "FITC")
    browser = browse(server)
    browser.show("FITC")
    took_s = []
    for number in range(20):
        began_s = time.perf_counter()
        take(number, side_px=1024)  # 2 MiB, more than the sockets hold
        took_s.append(time.perf_counter() - began_s)
        browser.ack(browser.until(number))

    assert max(took_s) < 1


def test_a_stalled_browser_holds_one_view(screen, serve, browse, stalled, take):
    server = serve(screen)
    stalled(server, "FITC")
    browser = browse(server)
    browser.show("FITC")
    for number in range(5):
        take(number, side_px=2048)  # 8 MiB
        browser.ack(browser.until(number))

    assert 0 < server.unsent_bytes() <= 8 * 1024 * 1024


def test_two_browsers_look_at_different_things(album, serve, browse):
    server = serve(album)
    first, second = browse(server), browse(server)
    first.show("FITC", at=1)
    second.show("FITC")

    assert (first.view().numbers, second.view().numbers) == ([1], [99])


def test_a_browser_that_goes_leaves_nothing_behind(album, serve, browse):
    server = serve(album)
    browser = browse(server)
    browser.show("FITC")
    browser.view()
    browser.close()
    deadline_s = time.monotonic() + 5
    while album.listeners and time.monotonic() < deadline_s:
        time.sleep(0.01)

    assert album.listeners == 0


WRONG = [
    "not JSON",
    "[]",
    "null",
    '{"type": "show"}',
    '{"type": "show", "series": "FITC"}',
    '{"type": "show", "series": ["FITC"], "at": -1}',
    '{"type": "show", "series": ["FITC"], "at": 1.5}',
    '{"type": "show", "series": ["FITC"], "at": "1"}',
    '{"type": "show", "series": ["FITC"], "at": 4294967296}',
    '{"type": "show", "series": ["FITC"], "more": 1}',
    json.dumps({"type": "show", "series": [str(n) for n in range(17)]}),
    json.dumps({"type": "show", "series": ["x" * 201]}),
    '{"type": "ack", "id": 1}',
    '{"type": "ack", "id": true}',
    '{"type": "steer"}',
    b"bytes",
    '{"type": "ack", "id": NaN}',
    "[" * 4000,
]


def test_a_wrong_message_is_refused_in_one_line_and_the_connection_goes_on(screen, serve, browse, take):
    take(0)
    server = serve(screen)
    for message in WRONG:
        browser = browse(server)
        browser.send(message)
        refused = browser.said("refused")
        browser.show("FITC")

        assert refused["reason"], message
        assert "\n" not in refused["reason"], message
        assert browser.view().numbers == [0], message


def test_after_ten_wrong_messages_the_connection_ends(screen, serve, browse):
    browser = browse(serve(screen))
    for _ in range(10):
        browser.send("{}")

    assert browser.end() == 1008


def test_a_message_that_is_too_long_ends_the_connection(screen, serve, browse, take):
    server = serve(screen)
    browser = browse(server)
    browser.send("x" * 4097)
    code = browser.end()
    take(0)
    other = browse(server)
    other.show("FITC")

    assert code == 1009
    assert other.view().numbers == [0]


def test_of_many_browsers_those_too_many_are_sent_away_and_the_others_are_served(screen, serve, browse, ask):
    server = serve(screen, port=0)
    browsers = [browse(server) for _ in range(MOST_VIEWINGS)]
    with connect(f"ws://127.0.0.1:{server.port}/ws") as one_more, pytest.raises(ConnectionClosed) as closed:
        one_more.recv(10)

    assert closed.value.rcvd.code == 1013
    assert "close one" in closed.value.rcvd.reason
    assert ask(server, "/").status == 200
    browsers[0].close()
    assert browse_when_there_is_room(browse, server).hello["title"] == "a stand"


def browse_when_there_is_room(browse, server):
    while True:
        with suppress(ConnectionClosed):  # the one that goes is still being let go
            return browse(server)
