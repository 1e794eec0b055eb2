import itertools
import threading
from contextlib import suppress

import numpy as np
import pytest
import useq

from acquisition.live import LiveEnhancer
from acquisition.time_lapse import run_time_lapse
from configs.document import WrongInputError
from inference.client import ClientSettings
from inference.completion import complete
from inference.recording import Recording

NOWHERE = "tcp://127.0.0.1:9"
QUICK = ClientSettings(ping_interval_s=0.05, silence_limit_s=0.5)


def time_lapse(frames):
    return useq.MDASequence(channels=["FITC"], time_plan={"interval": 0, "loops": frames})


def moving(frames):
    """Beads look the same for ever, but move with the stage: every frame is another."""
    return useq.MDASequence(channels=["FITC"], stage_positions=[(3.0 * step, 0, 0) for step in range(frames)])


def paced(frames, interval_s):
    """The same at a camera's pace."""
    return [
        useq.MDAEvent(channel="FITC", index={"t": step}, x_pos=3.0 * step, min_start_time=interval_s * step)
        for step in range(frames)
    ]


def twice(image):
    return image.astype(np.float32).repeat(2, 0).repeat(2, 1)


@pytest.fixture
def taken(core):
    """Every frame that the core gave to a listener that came before the recorder."""
    images = []
    core.mda.events.frameReady.connect(lambda image, event, meta: images.append(image.copy()))
    return images


def test_fifty_frames_of_the_demo_camera_are_recorded_and_enhanced_in_order(
    core, taken, start_worker, tmp_path
):
    path = tmp_path / "r"
    shown = []
    with LiveEnhancer(core, start_worker().address, path) as live:
        live.enhanced.connect(lambda image, frame: shown.append((frame.number, image.shape)))
        report = run_time_lapse(core, moving(50), live)
    assert (report.finish_reason, report.frames_expected) == ("completed", 50)
    assert report.complete
    status = report.status
    assert (status.frames_in, status.recorded, status.enhanced) == (50, 50, 50)
    assert (status.dropped, status.failed, status.waiting, status.missed) == (0, 0, 0, 0)
    assert 0 < status.latency_ms_p50 <= status.latency_ms_p99
    assert shown == [(number, (1024, 1024)) for number in range(50)]
    recording = Recording.open(path)
    assert list(recording.frames) == list(recording.enhanced) == list(range(50))
    assert len({image.tobytes() for image in taken}) == 50
    for number, image in enumerate(taken):
        np.testing.assert_array_equal(recording.read(number), image)
        np.testing.assert_array_equal(recording.read_enhanced(number), twice(image))


def test_a_recorded_frame_knows_its_event_channel_position_and_pixel_size(core, tmp_path):
    sequence = useq.MDASequence(
        channels=["DAPI", {"config": "FITC", "exposure": 3}],
        stage_positions=[{"x": 10, "y": 20, "z": 5, "name": "well"}],
        time_plan={"interval": 0, "loops": 2},
    )
    core.mda.engine.use_hardware_sequencing = False
    with LiveEnhancer(core, NOWHERE, tmp_path / "r") as live:
        core.run_mda(sequence, block=True)
        live.close(patience_s=0)
    recording = Recording.open(tmp_path / "r")
    assert list(recording.streams) == ["raw/DAPI.ome.zarr", "raw/FITC.ome.zarr"]
    last = recording.frames[3]
    facts = last.facts
    assert (last.stream, last.index) == ("raw/FITC.ome.zarr", 1)
    assert (facts.channel, facts.pixel_size_um, facts.exposure_ms) == ("FITC", 1.0, 3.0)
    assert (facts.position_name, facts.event_index["t"], facts.event_index["c"]) == ("well", 1, 1)
    assert facts.stage_x_um == pytest.approx(10, abs=0.1)
    assert facts.focus_um == pytest.approx(5, abs=0.1)
    assert facts.camera == "Camera"


def test_without_any_worker_every_raw_frame_is_on_disk_and_named_as_unenhanced(core, taken, tmp_path):
    failed = []
    with LiveEnhancer(core, NOWHERE, tmp_path / "r") as live:
        live.failed.connect(lambda frame, reason: failed.append((frame.number, reason)))
        core.run_mda(moving(40), block=True)
        live.close(patience_s=0)
        assert live.unenhanced() == tuple(range(40))
        status = live.status()
    assert (status.recorded, status.enhanced, status.failed, status.waiting) == (40, 0, 40, 0)
    assert sorted(number for number, _ in failed) == list(range(40))
    assert all(reason for _, reason in failed)
    recording = Recording.open(tmp_path / "r")
    assert list(recording.unenhanced) == list(range(40))
    for number, image in enumerate(taken):
        np.testing.assert_array_equal(recording.read(number), image)


def test_a_worker_killed_and_restarted_during_a_recording_costs_nothing(
    core, taken, start_worker, tmp_path, wait_for
):
    worker = start_worker(seconds=0.01)
    with LiveEnhancer(core, worker.address, tmp_path / "r", settings=QUICK) as live:
        acquisition = core.run_mda(paced(60, 0.03))
        wait_for(lambda: live.status().enhanced >= 5)
        worker.kill()
        wait_for(lambda: live.status().worker == "lost")
        recorded = live.status().recorded
        wait_for(lambda: live.status().recorded > recorded + 3 or not acquisition.is_alive())
        unenhanced = live.unenhanced()
        assert unenhanced == tuple(range(unenhanced[0], unenhanced[-1] + 1))
        assert unenhanced[0] == live.status().enhanced
        assert unenhanced[-1] >= live.status().recorded - 2
        start_worker(bind=worker.address)
        acquisition.join()
        assert live.drain()
        status = live.status()
    assert (status.frames_in, status.recorded, status.enhanced, status.failed) == (60, 60, 60, 0)
    recording = Recording.open(tmp_path / "r")
    assert list(recording.enhanced) == list(range(60))
    for number, image in enumerate(taken):
        np.testing.assert_array_equal(recording.read(number), image)
        np.testing.assert_array_equal(recording.read_enhanced(number), twice(image))


def test_unenhanced_frames_are_completed_later_with_the_photometry_of_the_first(
    core, start_worker, tmp_path, wait_for
):
    worker = start_worker(seconds=0.05)
    with LiveEnhancer(core, worker.address, tmp_path / "r", settings=QUICK) as live:
        core.run_mda(moving(20), block=True)
        wait_for(lambda: live.status().enhanced >= 3)
        worker.kill()
        live.close(patience_s=0)
    before = Recording.open(tmp_path / "r")
    assert 3 <= len(before.enhanced) < 20
    steps = []
    report = complete(
        tmp_path / "r", start_worker().address, progress=lambda done, total: steps.append((done, total))
    )
    assert (report.enhanced, report.unenhanced) == (20 - len(before.enhanced), {})
    assert steps[-1] == (report.enhanced, report.enhanced)
    after = Recording.open(tmp_path / "r")
    assert list(after.enhanced) == list(range(20))
    assert len({line.photometry for line in after.enhanced.values()}) == 1
    for number in range(20):
        np.testing.assert_array_equal(after.read_enhanced(number), twice(after.read(number)))


def test_preview_counts_every_drop(core, start_worker, tmp_path):
    dropped = []
    worker = start_worker(seconds=0.1)
    with LiveEnhancer(core, worker.address, tmp_path / "r", delivery="preview") as live:
        assert live.wait_ready(10)
        live.dropped.connect(lambda frame, reason: dropped.append(frame.number))
        report = run_time_lapse(core, time_lapse(60), live)
    status = report.status
    assert (status.frames_in, status.recorded) == (60, 60)
    assert status.frames_in == status.enhanced + status.dropped + status.failed
    assert status.failed == 0
    assert len(dropped) == status.dropped > 0
    recording = Recording.open(tmp_path / "r")
    assert 59 in recording.enhanced
    assert sorted(recording.unenhanced) == sorted(dropped)


def test_snaps_are_recorded_and_enhanced(core, start_worker, tmp_path):
    with LiveEnhancer(core, start_worker().address, tmp_path / "r") as live:
        images = [core.snap() for _ in range(3)]
        assert live.drain()
        assert live.status().enhanced == 3
    recording = Recording.open(tmp_path / "r")
    for number, image in enumerate(images):
        np.testing.assert_array_equal(recording.read(number), image)
    facts = recording.frames[0].facts
    assert (facts.channel, facts.pixel_size_um, facts.stage_x_um) == ("DAPI", 1.0, 0.0)


def test_live_mode_is_recorded_gaplessly_and_left_to_other_programs(core, start_worker, tmp_path, wait_for):
    with LiveEnhancer(core, start_worker().address, tmp_path / "r") as live:
        for _ in range(2):
            before = live.status().recorded
            core.startContinuousSequenceAcquisition()
            wait_for(lambda before=before: live.status().recorded >= before + 20)
            assert core.getLastImage().shape == (512, 512)
            core.stopSequenceAcquisition()
        taken = live.status().frames_in
        assert live.drain()
        status = live.status()
    assert (status.frames_in, status.recorded, status.enhanced) == (taken, taken, taken)
    assert status.missed == 0
    recording = Recording.open(tmp_path / "r")
    elapsed = [line.facts.elapsed_ms for line in recording.frames.values()]
    restarts = [second < first for first, second in itertools.pairwise(elapsed)]
    assert sum(restarts) == 1
    np.testing.assert_array_equal(recording.read_enhanced(taken - 1), twice(recording.read(taken - 1)))


@pytest.mark.slow
def test_a_slow_or_failing_listener_neither_slows_nor_stops_the_camera(core, start_worker, tmp_path):
    gate = threading.Event()
    shown = []

    def slow(image, frame):
        gate.wait(30)
        shown.append(frame.number)
        raise ValueError("a listener's mistake")

    with LiveEnhancer(core, start_worker().address, tmp_path / "r") as live:
        live.enhanced.connect(slow)
        core.run_mda(time_lapse(60), block=True)
        assert not shown
        gate.set()
        assert live.drain()
        assert live.status().enhanced == 60
    assert shown == list(range(60))


def test_without_a_recording_what_does_not_fit_into_memory_fails_with_that_reason(core):
    reasons = []
    with LiveEnhancer(core, NOWHERE) as live:
        live.failed.connect(lambda frame, reason: reasons.append(reason))
        core.run_mda(time_lapse(60), block=True)
        live.close(patience_s=0)
        status = live.status()
    assert (status.frames_in, status.failed, status.recorded) == (60, 60, 0)
    assert any("no recording" in reason for reason in reasons)


def test_an_mda_that_ends_in_an_error_is_told(core, start_worker, tmp_path):
    class Stumbling:
        def __init__(self, engine):
            self.engine = engine
            self.events = 0

        def __getattr__(self, name):
            return getattr(self.engine, name)

        def setup_sequence(self, sequence):
            return self.engine.setup_sequence(sequence)

        def setup_event(self, event):
            self.events += 1
            if self.events == 4:
                raise RuntimeError("the stage is stuck")
            self.engine.setup_event(event)

        def exec_event(self, event):
            return self.engine.exec_event(event)

        def event_iterator(self, events):
            return iter(events)

    core.register_mda_engine(Stumbling(core.mda.engine))
    caught = []
    hook, threading.excepthook = threading.excepthook, lambda thrown: caught.append(thrown.exc_value)
    try:
        with LiveEnhancer(core, start_worker().address, tmp_path / "r") as live:
            report = run_time_lapse(core, time_lapse(10), live)
    finally:
        threading.excepthook = hook
    assert (report.finish_reason, report.frames_expected, report.status.frames_in) == ("errored", 10, 3)
    assert not report.complete
    assert "stuck" in str(caught[0])


def test_a_wrong_address_is_refused_before_anything_is_written(core, tmp_path):
    with pytest.raises(WrongInputError, match="loopback"):
        LiveEnhancer(core, "tcp://10.0.0.1:5555", tmp_path / "r")
    assert not (tmp_path / "r").exists()


def test_after_the_context_the_core_is_free_of_the_enhancer(core, tmp_path):
    with LiveEnhancer(core, NOWHERE, tmp_path / "r") as live:
        pass
    core.snap()
    assert live.status().frames_in == 0
    with suppress(RuntimeError):
        core.stopSequenceAcquisition()
    assert Recording.open(tmp_path / "r").frames == {}
