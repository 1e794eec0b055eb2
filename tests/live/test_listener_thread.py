"""The listeners' thread: what of the pictures waits while a listener is slow."""

import threading

from acquisition.listener_thread import MOST_KINDS, ListenerThread


def test_of_many_kinds_only_the_newest_pictures_wait():
    thread, gate, told = ListenerThread(), threading.Event(), []
    thread.post(gate.wait)
    for number in range(10 * MOST_KINDS):
        thread.post_newest(f"p{number}", lambda number=number: told.append(number))
    gate.set()
    thread.finish()

    assert told == list(range(9 * MOST_KINDS, 10 * MOST_KINDS))


def test_of_one_kind_only_the_newest_picture_waits():
    thread, gate, told = ListenerThread(), threading.Event(), []
    thread.post(gate.wait)
    for number in range(3):
        thread.post_newest("FITC", lambda number=number: told.append(("FITC", number)))
        thread.post_newest("DAPI", lambda number=number: told.append(("DAPI", number)))
    gate.set()
    thread.finish()

    assert told == [("FITC", 2), ("DAPI", 2)]
