"""A person at the camera: snaps, live mode, bursts of any length and time-lapses, beside other programs."""

import threading

import numpy as np
import pytest
import useq
from pymmcore_plus import CMMCorePlus

from acquisition.live import LiveEnhancer
from acquisition.live_controller import CameraActivity, LiveController
from acquisition.sequence_reader import SequenceReader
from configs.document import WrongInputError
from inference.recording import Recording

NOWHERE = "tcp://127.0.0.1:9"


@pytest.fixture
def small_core(core):
    """A camera whose buffer holds 32 frames."""
    core.setProperty("Camera", "Binning", "2")
    core.setCircularBufferMemoryFootprint(4)
    core.setExposure(12)
    return core


@pytest.fixture
def live(core, tmp_path):
    with LiveEnhancer(core, NOWHERE, tmp_path / "r") as enhancer:
        yield enhancer
        enhancer.close(patience_s=0)


def ended(core, wait_for):
    wait_for(lambda: not core.isSequenceRunning())


def numbers_of(recording):
    return [line.facts.camera_frame for line in recording.frames.values()]


def test_a_burst_is_recorded_whole(core, live, tmp_path, wait_for):
    core.startSequenceAcquisition(20, 0, True)
    ended(core, wait_for)
    wait_for(lambda: live.status().recorded == 20)
    assert numbers_of(Recording.open(tmp_path / "r")) == list(range(20))


def test_a_burst_six_times_as_long_as_the_buffer_is_recorded_whole(small_core, tmp_path, wait_for):
    core = small_core
    with LiveEnhancer(core, NOWHERE, tmp_path / "r") as live:
        controller = LiveController(core, live)
        frames = 200
        assert core.getBufferTotalCapacity() == 32
        controller.burst(frames)
        wait_for(lambda: live.status().recorded == frames)
        ended(core, wait_for)
        assert not core.isBufferOverflowed()
        assert core.getLastImage().shape == (256, 256)  # the newest is left for others to look at
        assert (live.status().missed, live.status().frames_in) == (0, frames)
        live.close(patience_s=0)
    assert numbers_of(Recording.open(tmp_path / "r")) == list(range(frames))


@pytest.fixture
def two_cameras():
    """Two cameras behind one device, as Micro-Manager has them; each counts its frames by itself."""
    core = CMMCorePlus()
    for label in ("A", "B"):
        core.loadDevice(label, "DemoCamera", "DCam")
    core.loadDevice("Both", "Utilities", "Multi Camera")
    core.initializeAllDevices()
    core.setProperty("Both", "Physical Camera 1", "A")
    core.setProperty("Both", "Physical Camera 2", "B")
    core.setCameraDevice("Both")
    core.setExposure(5)
    yield core
    core.unloadAllDevices()


@pytest.mark.parametrize("ours", [True, False])
def test_a_burst_of_two_cameras_is_recorded_whole(two_cameras, tmp_path, wait_for, ours):
    core = two_cameras
    with LiveEnhancer(core, NOWHERE, tmp_path / "r") as live:
        begin = live.burst if ours else lambda frames: core.startSequenceAcquisition(frames, 0, True)
        begin(30)
        wait_for(lambda: live.status().recorded == 60)
        assert live.status().missed == 0
        live.close(patience_s=0)
    facts = [line.facts for line in Recording.open(tmp_path / "r").frames.values()]
    for camera in ("A", "B"):
        assert [fact.camera_frame for fact in facts if fact.camera == camera] == list(range(30))


def test_live_mode_of_two_cameras_is_joined_where_it_stands(two_cameras, tmp_path, wait_for):
    core = two_cameras
    core.startContinuousSequenceAcquisition()
    wait_for(lambda: core.getRemainingImageCount() > 20)
    with LiveEnhancer(core, NOWHERE, tmp_path / "r") as live:
        wait_for(lambda: live.status().recorded >= 30)
        core.stopSequenceAcquisition()
        live.close(patience_s=0)
    assert live.status().missed == 0
    facts = [line.facts for line in Recording.open(tmp_path / "r").frames.values()]
    for camera in ("A", "B"):
        numbers = [fact.camera_frame for fact in facts if fact.camera == camera]
        assert len(numbers) >= 14
        assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))


def test_live_mode_outlives_the_end_of_its_channel_group(core, live, wait_for):
    core.startContinuousSequenceAcquisition()
    wait_for(lambda: live.status().recorded >= 3)
    core.deleteConfigGroup("Channel")
    recorded = live.status().recorded
    wait_for(lambda: live.status().recorded > recorded + 5)
    assert live.status().missed == 0


def test_a_frame_that_cannot_be_taken_is_missed_and_those_after_it_are_read(core, wait_for):
    missed, taken = [], []

    def take(_image, tags):
        if tags["ImageNumber"] == "3":
            raise RuntimeError("no room")
        taken.append(int(tags["ImageNumber"]))

    core.startSequenceAcquisition(8, 0, True)
    reader = SequenceReader(core, take, missed.append)
    wait_for(lambda: len(taken) == 7)
    reader.stop()
    assert (taken, missed) == ([0, 1, 2, 4, 5, 6, 7], [1])


def test_a_reader_that_always_fails_gives_up_and_says_so(core, live, monkeypatch, wait_for):
    def fails(_core):
        raise RuntimeError("nothing is known")

    monkeypatch.setattr("acquisition.core_frames.core_facts", fails)
    core.startContinuousSequenceAcquisition()
    wait_for(lambda: live.status().camera_reason)
    assert "nothing is known" in live.status().camera_reason
    assert live.status().missed == 100
    core.stopSequenceAcquisition()
    monkeypatch.undo()
    core.startContinuousSequenceAcquisition()
    wait_for(lambda: live.status().recorded >= 3)
    assert live.status().camera_reason == ""


def test_nothing_is_begun_after_the_end(core):
    with LiveEnhancer(core, NOWHERE) as live:
        pass
    for begin in (lambda: live.burst(3), lambda: live.repoint(NOWHERE)):
        with pytest.raises(WrongInputError, match="closed"):
            begin()
    assert not core.isSequenceRunning()


def test_somebody_s_burst_is_theirs_to_pop(core, live, wait_for):
    """Nothing is taken out of another's hands; what they pop before it was read is missed here."""
    core.startSequenceAcquisition(30, 0, True)
    ended(core, wait_for)
    popped = [int(core.popNextImageAndMD()[1]["ImageNumber"]) for _ in range(30)]
    assert popped == list(range(30))
    live.stop()
    assert live.status().frames_in + live.status().missed <= 30


def test_live_mode_is_stopped_by_a_button(core, live, wait_for):
    controller = LiveController(core, live)
    controller.live_mode()
    controller.live_mode()
    wait_for(lambda: live.status().recorded >= 5)
    assert controller.activity is CameraActivity.SEQUENCE
    assert "stop" in controller.actions()
    assert not controller.wait_stopped(0)
    controller.do("stop")
    assert controller.wait_stopped(0)
    assert controller.activity is CameraActivity.IDLE
    assert live.status().missed == 0


def test_a_snap_interrupts_our_own_live_mode_and_nobody_else_s(core, live, tmp_path, wait_for):
    controller = LiveController(core, live)
    controller.live_mode()
    wait_for(lambda: live.status().recorded >= 3)
    controller.do("snap")
    assert core.isSequenceRunning()
    controller.stop()
    wait_for(lambda: live.status().recorded == live.status().frames_in)
    assert numbers_of(Recording.open(tmp_path / "r")).count(None) == 1  # a snap has no number
    core.startContinuousSequenceAcquisition()
    assert "snap" not in controller.actions()
    with pytest.raises(WrongInputError, match="another program runs the camera"):
        controller.do("snap")
    controller.stop()
    assert not core.isSequenceRunning()


def test_a_time_lapse_ends_when_it_is_stopped(core, live):
    controller = LiveController(core, live)
    sequence = useq.MDASequence(channels=["FITC"], time_plan={"interval": 0.02, "loops": 10_000})
    reports = []
    three = threading.Event()
    core.mda.events.frameReady.connect(lambda *_: three.set())
    thread = threading.Thread(target=lambda: reports.append(controller.time_lapse(sequence)))
    thread.start()
    assert three.wait(30)
    assert controller.activity is CameraActivity.TIME_LAPSE
    for action in ("snap",):
        with pytest.raises(WrongInputError, match="time-lapse"):
            controller.do(action)
    with pytest.raises(WrongInputError, match="a time-lapse is running"):
        controller.burst(5)
    live.pause()  # or the end would wait for the worker
    controller.do("stop")
    thread.join(30)
    assert reports[0].finish_reason == "canceled"
    assert not reports[0].complete


def test_before_a_time_lapse_the_camera_is_its_own_and_stop_keeps_it_from_beginning(core, live):
    controller = LiveController(core, live)
    controller.prepare()
    assert controller.activity is CameraActivity.PREPARING
    assert controller.actions() == ("pause", "stop", "repoint")
    for action in (controller.snap, controller.live_mode, lambda: controller.burst(3)):
        with pytest.raises(WrongInputError, match="about to begin"):
            action()
    controller.do("stop")
    report = controller.time_lapse(useq.MDASequence(channels=["FITC"], time_plan={"interval": 0, "loops": 3}))
    assert (report.finish_reason, report.frames_taken, report.complete) == ("canceled", 0, False)
    assert controller.activity is CameraActivity.IDLE


def test_frames_from_before_a_time_lapse_do_not_make_it_complete(core, start_worker):
    with LiveEnhancer(core, start_worker().address) as live:
        controller = LiveController(core, live)
        for _ in range(3):
            controller.snap()
        sequence = useq.MDASequence(channels=["FITC"], time_plan={"interval": 0, "loops": 3})
        core.mda.events.frameReady.connect(lambda *_: live.stop())
        report = controller.time_lapse(sequence)
        assert report.finish_reason == "completed"
        assert report.frames_taken < report.frames_expected <= report.status.frames_in
        assert not report.complete


def test_the_buttons_do_what_they_say(core, tmp_path, start_worker):
    with LiveEnhancer(core, NOWHERE, tmp_path / "r") as live:
        controller = LiveController(core, live)
        assert controller.actions() == ("pause", "snap", "repoint")
        controller.do("pause")
        assert live.status().state == "paused"
        assert controller.actions() == ("resume", "snap", "repoint")
        controller.do("snap")
        controller.do("repoint", worker=start_worker().address)
        controller.do("resume")
        assert live.drain()
        assert live.status().enhanced == 1
        for wrong, options in (("warp", {}), ("repoint", {}), ("snap", {"worker": NOWHERE})):
            with pytest.raises(WrongInputError):
                controller.do(wrong, **options)
    assert controller.actions() == ()


def test_another_program_on_the_same_core_goes_on_as_if_it_were_alone(core, start_worker, tmp_path, wait_for):
    """It moves focus and stage, snaps, runs live mode and its own MDA; all of it is recorded."""
    theirs = []
    core.mda.events.frameReady.connect(lambda image, event, meta: theirs.append(image.copy()))

    def other_program():
        for step in range(5):
            core.setXYPosition(10.0 * step, -5.0)
            core.setPosition(float(step))
            core.waitForSystem()
            theirs.append(core.snap())
        core.startContinuousSequenceAcquisition()
        wait_for(lambda: core.getRemainingImageCount() > 5)
        core.setPosition(2.5)  # focusing while it looks
        core.getLastImage()
        core.stopSequenceAcquisition()
        core.run_mda(useq.MDASequence(channels=["DAPI", "FITC"], z_plan={"range": 2, "step": 1}), block=True)
        positions.append((core.getXPosition(), core.getPosition()))
        theirs.append(core.snap())

    positions = []
    with LiveEnhancer(core, start_worker().address, tmp_path / "r") as live:
        thread = threading.Thread(target=other_program)
        thread.start()
        thread.join(60)
        assert live.drain()
        status = live.status()
    assert positions[0][0] == pytest.approx(40, abs=0.1)
    assert positions[0][1] == pytest.approx(1, abs=0.1)  # where their MDA left it
    assert (status.enhanced, status.missed) == (status.frames_in, 0)
    recording = Recording.open(tmp_path / "r")
    snaps_and_mda = [n for n, line in recording.frames.items() if line.facts.camera_frame is None]
    assert len(snaps_and_mda) == len(theirs) == 5 + 6 + 1
    for number, image in zip(snaps_and_mda, theirs, strict=True):
        np.testing.assert_array_equal(recording.read(number), image)
    places = [recording.frames[n].facts.stage_x_um for n in snaps_and_mda[:5]]
    assert places == pytest.approx([0, 10, 20, 30, 40], abs=0.1)
