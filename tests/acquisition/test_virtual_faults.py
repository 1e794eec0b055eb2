"""Faults on demand: each happens when it was asked for, and at no other time."""

import threading

import pytest

from acquisition.virtual import faults_of, load
from configs.document import WrongInputError


def small(**faults):
    return load("widefield", camera_shape_yx=(32, 32), **faults)


def wait_for_end(core):
    pause = threading.Event()
    while core.isSequenceRunning():
        pause.wait(0.005)


def test_without_a_wish_nothing_fails():
    core = small()
    for x in range(20):
        core.setXYPosition(float(x), 0.0)
        core.setPosition(float(x))
        core.setConfig("Objective", ("10X", "20X")[x % 2])
        core.waitForSystem()
        core.snapImage()
    assert not faults_of(core).happened


def test_the_snap_that_was_asked_to_fails():
    core = small(snap_fails=(1,))
    core.snapImage()
    with pytest.raises(RuntimeError, match="exposure failed"):
        core.snapImage()
    core.snapImage()
    assert faults_of(core).happened == {"snap_fails": 1}


def test_a_chance_strikes_about_as_often_as_it_says():
    core = small(snap_fails=0.3)
    failed = 0
    for _ in range(200):
        try:
            core.snapImage()
        except RuntimeError:
            failed += 1
    assert failed == faults_of(core).happened["snap_fails"]
    assert 35 < failed < 85


def test_a_stalled_snap_is_given_up_and_a_stalled_sequence_delivers_nothing_more():
    core = small(camera_stalls=(1, 4))
    core.snapImage()
    with pytest.raises(RuntimeError, match="time-out"):
        core.snapImage()
    core.startContinuousSequenceAcquisition()
    pause = threading.Event()
    while core.getRemainingImageCount() < 2:
        pause.wait(0.005)
    assert core.isSequenceRunning()
    core.stopSequenceAcquisition()
    assert core.getRemainingImageCount() == 2
    core.snapImage()


def test_an_overflow_ends_the_sequence_and_is_told():
    core = small(buffer_overflows=(3,))
    core.startSequenceAcquisition(10, 0, True)
    wait_for_end(core)
    assert core.isBufferOverflowed()
    assert core.getRemainingImageCount() == 3
    core.startSequenceAcquisition(4, 0, True)
    wait_for_end(core)
    assert not core.isBufferOverflowed()
    assert core.getRemainingImageCount() == 4


def test_a_stage_that_lies_stops_short_and_its_position_says_so():
    core = small(stage_lies=(0,))
    core.setXYPosition(100.0, -50.0)
    core.waitForDevice(core.getXYStageDevice())
    assert core.getXYPosition() == pytest.approx((90.0, -45.0), abs=0.05)
    core.setXYPosition(100.0, -50.0)
    core.waitForSystem()
    assert core.getXYPosition() == pytest.approx((100.0, -50.0), abs=0.05)


def test_a_stage_that_hangs_times_out_until_it_is_moved_again():
    core = small(stage_times_out=(0,))
    core.setXYPosition(10.0, 0.0)
    assert core.deviceBusy(core.getXYStageDevice())
    assert core.systemBusy()
    for wait in (core.waitForSystem, lambda: core.waitForDevice(core.getXYStageDevice())):
        with pytest.raises(RuntimeError, match="timed out"):
            wait()
    core.setXYPosition(20.0, 0.0)
    core.waitForSystem()


def test_a_turret_that_sticks_stays_where_it_was():
    core = small(turret_sticks=(0,))
    core.setConfig("Objective", "20X")
    assert core.getCurrentConfig("Objective") == "10X"
    core.setConfig("Objective", "20X")
    assert core.getCurrentConfig("Objective") == "20X"


def test_a_focus_drive_that_jumps_says_where_it_is():
    core = small(focus_jumps=(1,))
    core.setPosition(5.0)
    assert core.getPosition() == pytest.approx(5.0)
    core.setPosition(6.0)
    assert core.getPosition() == pytest.approx(21.0)


def test_a_focus_lock_follows_the_sample_until_it_slips():
    core = small(sample_tilt_um_per_mm=(10.0, 0.0), focus_lock_slips=(1,))
    core.setPosition(2.0)
    core.enableContinuousFocus(True)
    core.setXYPosition(1000.0, 0.0)
    core.waitForSystem()
    assert core.isContinuousFocusLocked()
    assert core.getPosition() == pytest.approx(12.0, abs=0.05)
    core.setXYPosition(2000.0, 0.0)
    assert core.isContinuousFocusEnabled()
    assert not core.isContinuousFocusLocked()
    assert core.getPosition() == pytest.approx(12.0, abs=0.05)
    core.enableContinuousFocus(True)
    assert core.isContinuousFocusLocked()


def test_a_shutter_that_sticks_keeps_it_dark_until_the_stage_moves():
    core = small(shutter_sticks=(0,))
    means = []
    for x_um in (10.0, 20.0):
        core.setXYPosition(x_um, 0.0)
        core.snapImage()
        means.append(core.getImage().mean())
    assert means[0] == pytest.approx(100.0, abs=2.0)
    assert means[1] > 2 * means[0]


def test_a_camera_that_hangs_ends_when_its_device_is_unloaded():
    core = small(camera_hangs=(0,))
    snap = threading.Thread(target=core.snapImage)
    snap.start()
    snap.join(0.3)
    assert snap.is_alive()
    core.unloadDevice("Camera")
    snap.join(30)
    assert not snap.is_alive()


@pytest.mark.parametrize("faults", [{"snap_fails": 2.0}, {"turret_sticks": (-1,)}, {"stage_lies": "often"}])
def test_a_wrong_fault_is_named(faults):
    with pytest.raises(WrongInputError, match=next(iter(faults))):
        small(**faults)
