"""A camera that replays what it has rendered: rendering must not eat the cores of what is measured."""

import itertools
import threading

import numpy as np
import pytest

from acquisition.virtual import load
from acquisition.virtual.frame_ring import FrameRing
from configs.document import WrongInputError


def frames_of(core, count):
    core.startSequenceAcquisition(count, 0, True)
    ended = threading.Event()
    while core.isSequenceRunning():
        ended.wait(0.005)
    return [core.popNextImageAndMD() for _ in range(core.getRemainingImageCount())]


@pytest.fixture
def ring_core():
    core = load("tirf_sim", replay=6, camera_shape_yx=(64, 64))
    core.setExposure(10)
    return core


def test_the_ring_is_gone_through_again_and_again_and_tells_each_frame_s_place(ring_core):
    frames = frames_of(ring_core, 20)
    images = [image for image, _ in frames]
    assert [int(tags["FrameNumber"]) for _, tags in frames] == list(range(20))
    assert [int(tags["RingPlace"]) for _, tags in frames] == [number % 6 for number in range(20)]
    assert len({image.tobytes() for image in images[:6]}) == 6
    for number in range(6, 20):
        np.testing.assert_array_equal(images[number], images[number - 6])
    again = [image for image, _ in frames_of(ring_core, 6)]
    np.testing.assert_array_equal(again, images[:6])  # nothing was rendered anew


def test_frames_come_no_earlier_than_the_exposure_lets_them_and_lateness_does_not_add_up(ring_core):
    ring_core.setExposure(20)
    elapsed_ms = [float(tags["ElapsedTime-ms"]) for _, tags in frames_of(ring_core, 30)]
    for number, ms in enumerate(elapsed_ms):
        assert ms > 20 * (number + 1) - 1
    late_ms = [ms - 20 * (number + 1) for number, ms in enumerate(elapsed_ms)]
    assert min(late_ms[20:]) < 20  # a pause between frames would have added up by now


def test_a_ring_shows_the_stage_where_it_is(ring_core):
    here = [image for image, _ in frames_of(ring_core, 6)]
    ring_core.setXYPosition(30, 0)
    ring_core.waitForSystem()
    there = [image for image, _ in frames_of(ring_core, 6)]
    assert not any(np.array_equal(a, b) for a, b in itertools.product(here, there))
    ring_core.setAutoShutter(False)
    ring_core.setShutterOpen(False)
    assert frames_of(ring_core, 1)[0][0].mean() == pytest.approx(100, abs=1)


def test_a_ring_of_striped_light_holds_whole_rounds_of_patterns():
    core = load("tirf_sim", replay=20, camera_shape_yx=(64, 64))
    core.setExposure(5)
    core.setConfig("Modality", "SIM")
    places = [int(tags["RingPlace"]) for _, tags in frames_of(core, 20)]
    assert places == [*range(18), 0, 1]


@pytest.mark.parametrize("period", [1, 7, 9, 64, 100])
def test_a_filled_ring_has_nothing_left_to_render(period):
    ring, rendered = FrameRing(64), []

    def render(place):
        rendered.append(place)
        return np.zeros((2, 2), np.uint16)

    ring.fill("here", render, period)
    filled = len(rendered)
    for number in range(200):
        ring.image("here", ring.place(number, period), render)
    assert len(rendered) == filled


def test_live_mode_of_a_ring_is_stopped_in_mid_exposure(ring_core):
    ring_core.setExposure(60_000)
    ring_core.startContinuousSequenceAcquisition()
    ring_core.stopSequenceAcquisition()
    assert ring_core.getRemainingImageCount() == 0


def test_a_snap_is_rendered_and_not_waited_for(ring_core):
    ring_core.setExposure(100_000)
    ring_core.snapImage()
    assert ring_core.getImage().shape == (64, 64)


def test_a_negative_ring_is_refused():
    with pytest.raises(WrongInputError, match="replay"):
        load("tirf_sim", replay=-1)
