"""The live source: what is newest for a person, what is kept, and who is woken."""

import threading
import time
import weakref

import numpy as np
import pytest

from inference.viewer.screen import MOST_PENDING, Screen
from inference.viewer.shown_frame import Plane


def test_a_series_is_a_channel_at_a_position(screen):
    plane = Plane(np.zeros((2, 2), np.uint16))
    for number, (channel, position) in enumerate(
        [("FITC", "A1"), ("FITC", "B2"), ("FITC", "A1"), (None, None)]
    ):
        screen.raw(number, channel, position, plane)

    named = {series.name: series.length for series in screen.series()}

    assert named == {"FITC at A1": 2, "FITC at B2": 1, "image": 1}
    assert (screen.newest("FITC at A1").index, screen.newest("FITC at A1").number) == (1, 2)


def test_there_is_no_newest_frame_of_an_unknown_series(screen):
    assert screen.newest("FITC") is None


def test_pixels_are_shown_without_a_copy(screen):
    pixels = np.zeros((2, 2), np.uint16)
    screen.raw(0, "FITC", None, Plane(pixels))

    assert screen.newest("FITC").raw.pixels is pixels


def test_an_enhanced_frame_stays_until_the_next_one_comes(screen, take):
    take(0, enhance=True)
    take(1)
    while_waiting = screen.newest("FITC")
    take(2, enhance=True)

    assert (while_waiting.number, screen.newest("FITC").number) == (0, 2)
    assert screen.newest("FITC").enhanced is not None


def test_without_enhanced_images_the_raw_frames_go_on(screen, take, monkeypatch):
    take(0, enhance=True)
    take(1)
    now_s = time.monotonic()
    monkeypatch.setattr("inference.viewer.screen.time.monotonic", lambda: now_s + 2)

    newest = screen.newest("FITC")

    assert (newest.number, newest.enhanced, newest.reason) == (1, None, "waiting")


def test_a_frame_that_failed_says_why(screen, take):
    take(0)
    screen.ended(0, "failed: the worker has no model for FITC")

    assert screen.newest("FITC").reason == "failed: the worker has no model for FITC"


def test_an_older_enhanced_image_does_not_take_a_newer_ones_place(screen, take):
    take(0)
    take(1, enhance=True)
    screen.enhanced(0, Plane(np.zeros((4, 4), np.float32)), model_name="m", model_hash="h")

    assert screen.newest("FITC").number == 1


def test_what_waits_for_a_slow_worker_is_bounded_and_thinned_out(screen):
    pixels = [np.zeros((2, 2), np.uint16) for _ in range(100 * MOST_PENDING)]
    watched = [weakref.ref(each) for each in pixels]
    while pixels:
        screen.raw(len(watched) - len(pixels), "FITC", None, Plane(pixels.pop(0)))

    kept = [number for number, each in enumerate(watched) if each() is not None]
    assert len(kept) <= MOST_PENDING
    assert (kept[0], kept[-1]) == (0, 100 * MOST_PENDING - 1)


def test_an_enhanced_image_whose_raw_frame_was_let_go_is_counted(screen):
    screen.enhanced(5, Plane(np.zeros((4, 4), np.float32)), model_name="m", model_hash="h")

    assert screen.status().enhanced == 1


def test_older_frames_are_asked_of_the_recording(album, take):
    screen = Screen("a stand", past=album)
    screen.raw(200, "FITC", None, Plane(np.zeros((2, 2), np.uint16)), index=120)

    assert [series.length for series in screen.series()] == [121]
    assert screen.at("FITC", 7).session == "album"
    assert screen.at("FITC", 120).number == 200


def test_without_a_recording_an_older_frame_is_not_there(screen, take):
    take(0)
    take(1)

    assert not screen.series()[0].kept
    with pytest.raises(IndexError, match="nothing is recorded here"):
        screen.at("FITC", 0)


def test_of_many_positions_those_used_last_keep_their_pixels(screen, monkeypatch):
    monkeypatch.setattr("inference.viewer.screen.MOST_NEWEST_BYTES", 10 * 40)  # four frames with their images
    planes = [Plane(np.zeros((2, 5), np.uint16)) for _ in range(60)]
    watched = [weakref.ref(plane.pixels) for plane in planes]
    for number in range(60):
        screen.raw(number, "FITC", f"p{number}", planes.pop(0))
        enhanced = Plane(np.zeros((4, 5), np.float32))
        screen.enhanced(number, enhanced, model_name="m", model_hash="h")
        screen.newest("FITC at p3")

    kept = [number for number, each in enumerate(watched) if each() is not None]
    assert kept == [3, 57, 58, 59]
    assert len(screen.series()) == 60
    assert screen.newest("FITC at p8") is None


def test_pixels_that_were_let_go_are_asked_of_the_recording(album, monkeypatch):
    monkeypatch.setattr("inference.viewer.screen.MOST_NEWEST_BYTES", 1)
    screen = Screen("a stand", past=album)
    for number, channel in enumerate(["FITC", "DAPI"]):
        screen.raw(number, channel, None, Plane(np.zeros((2, 2), np.uint16)))

    assert screen.newest("FITC").session == "album"
    assert screen.at("FITC", 0).session == "album"
    assert screen.newest("DAPI").number == 1


def test_large_frames_that_wait_for_a_slow_worker_are_bounded_by_their_size(screen, monkeypatch):
    monkeypatch.setattr("inference.viewer.screen.MOST_PENDING_BYTES", 8 * 20)
    pixels = [np.zeros((2, 5), np.uint16) for _ in range(100)]
    watched = [weakref.ref(each) for each in pixels]
    while pixels:
        screen.raw(len(watched) - len(pixels), "FITC", None, Plane(pixels.pop(0)))

    assert sum(each() is not None for each in watched) <= 8


def test_whoever_subscribed_is_woken_until_it_ends(screen, take):
    woken = []
    unsubscribe = screen.subscribe(lambda: woken.append(1))
    take(0, enhance=True)
    unsubscribe()
    take(1)

    assert len(woken) == 2


def test_the_camera_is_not_held_up_by_those_who_look(screen, take):
    done = threading.Event()

    def look() -> None:
        while not done.is_set():
            screen.newest("FITC"), screen.series(), screen.status()

    lookers = [threading.Thread(target=look) for _ in range(3)]
    for looker in lookers:
        looker.start()
    took_s = []
    for number in range(50):
        began_s = time.perf_counter()
        take(number)
        took_s.append(time.perf_counter() - began_s)
    done.set()
    for looker in lookers:
        looker.join()

    assert np.median(took_s) < 0.05


def test_the_cameras_rate_is_measured(screen, take, monkeypatch):
    now_s = 1000.0
    monkeypatch.setattr("inference.viewer.screen.time.monotonic", lambda: now_s)
    for number in range(10):
        take(number)
        now_s += 0.1

    assert screen.camera_fps() == pytest.approx(10.0)
