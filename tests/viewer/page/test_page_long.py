"""What the page costs: time for a frame, memory over many."""

import numpy as np
import pytest

pytestmark = pytest.mark.slow

FRAMES = 2000
TIMED = 40
KINDS = 8
MOST_DRAW_MS = 30.0
MOST_GROWTH_BYTES = 1_000_000


def frames(raw_px):
    random = np.random.default_rng(0)
    for _ in range(KINDS):
        raw = random.poisson(300, (raw_px, raw_px)).astype(np.uint16)
        yield raw, np.kron(raw, np.ones((2, 2), np.uint16))


def memory(person, session):
    """What is in use after the garbage was collected: bytes of objects, elements, listeners."""
    session.send("HeapProfiler.collectGarbage")
    used = session.send("Runtime.getHeapUsage")
    counts = session.send("Memory.getDOMCounters")
    return used["usedSize"], used["backingStorageSize"], counts["nodes"], counts["jsEventListeners"]


def draw(camera, person, shown, count):
    """Have so many more frames drawn, each after the one before."""
    start = person.ask("sharpscope.frames_drawn")
    for step in range(count):
        number = camera.take(*shown[step % KINDS])
        if step % 10 == 9:
            person.see(number)
    return person.ask("sharpscope.frames_drawn") - start


def test_a_page_does_not_grow_over_2000_frames(open_page, camera):
    shown = list(frames(64))
    person = open_page(camera.screen)
    session = person.page.context.new_cdp_session(person.page)
    drawn = draw(camera, person, shown, 200)
    before = memory(person, session)
    while drawn < FRAMES:
        drawn += draw(camera, person, shown, 200)
    after = memory(person, session)
    assert after[0] - before[0] < MOST_GROWTH_BYTES
    assert after[1] - before[1] < MOST_GROWTH_BYTES
    assert after[2] <= before[2] + 10
    assert after[3] <= before[3]


def test_a_frame_of_512_with_its_image_of_1024_is_drawn_well_within_its_time(open_page, camera):
    shown = list(frames(512))
    person = open_page(camera.screen)
    for step in range(TIMED):
        person.see(camera.take(*shown[step % KINDS]))
    draws_ms = person.ask("sharpscope.draw_ms")
    assert len(draws_ms) >= TIMED
    assert np.median(draws_ms) < MOST_DRAW_MS
