"""A scan that is paused, cancelled, unplugged, resumed elsewhere: what is promised then."""

import json
import os
import signal
import threading

import pytest

from acquisition.area import Area, HighTiles
from acquisition.locks import lock_folder
from acquisition.manifest import BeginRecord, ExtraLightRecord, FocusRecord, ResumeRecord, ScanFolder
from acquisition.microscope import Microscope, MicroscopeError
from acquisition.patience import DeviceHangsError
from acquisition.plan import MotionRules, QualityLimits
from acquisition.preparation import settle
from acquisition.resumption import journal_interrupted
from acquisition.scan import ScanIncompleteError, plan_scan, run_scan
from acquisition.virtual import Sensor, faults_of, load, stand_of
from configs.document import WrongInputError

PATIENCE_S = 60.0


@pytest.fixture
def make_core(short_experiment):
    def make(seed=7, **faults):
        imperfections = short_experiment.microscope.imperfections
        return load("widefield", seed=seed, sensor=Sensor((192, 192)), **{**imperfections, **faults})

    return make


def changed(experiment, **parts):
    return experiment.model_copy(update=parts)


def one_tile(experiment, regions=1):
    """One low field and one high tile a region, in FITC alone."""
    area = Area(positions=[(150.0 * n, 0.0) for n in range(regions)], high_tiles=HighTiles(rows=1, columns=1))
    return changed(experiment, area=area, channels=experiment.channels[:1])


def wait_until(condition):
    pause, left = threading.Event(), PATIENCE_S
    while not condition():
        pause.wait(0.01)
        left -= 0.01
        assert left > 0, "waited in vain"


def in_background(act):
    """Run something in a thread; returns a function that waits for its end and raises what it raised."""
    failures = []

    def run():
        try:
            act()
        except Exception as error:
            failures.append(error)

    thread = threading.Thread(target=run)
    thread.start()

    def finish():
        thread.join(PATIENCE_S)
        assert not thread.is_alive(), "did not end"
        if failures:
            raise failures[0]

    return finish


# ---- pausing and cancelling ------------------------------------------------------------------------------


def test_cancel_ends_a_long_wait_for_a_stage_and_makes_no_hole_of_it(make_core, short_experiment, tmp_path):
    core = make_core(stage_times_out=(1,))
    experiment = changed(short_experiment, motion=MotionRules(stage_s=3600))
    finish = in_background(lambda: run_scan(experiment, core, tmp_path / "scan"))
    wait_until(lambda: faults_of(core).happened["stage_times_out"])
    core.mda.cancel()
    with pytest.raises(ScanIncompleteError):
        finish()
    folder = ScanFolder.open(tmp_path / "scan")
    assert (len(folder.fields()), folder.holes()) == (1, [])


def test_cancel_is_heard_in_the_middle_of_an_autofocus(make_core, short_experiment, tmp_path):
    core = make_core()
    focus_exposures = []

    def cancel_at_the_third(*_):
        focus_exposures.append(core.getROI())
        if len(focus_exposures) == 3:
            core.mda.cancel()

    core.events.imageSnapped.connect(cancel_at_the_third)
    with pytest.raises(ScanIncompleteError):
        run_scan(short_experiment, core, tmp_path / "scan")
    assert len(focus_exposures) == 3
    assert ScanFolder.open(tmp_path / "scan").lines()[1:] == []  # that it began, and nothing else


def test_a_paused_scan_exposes_nothing_and_goes_on_where_it_was(make_core, short_experiment, tmp_path):
    core, exposures = make_core(), []

    def pause_at_the_third(*_):
        exposures.append(None)
        if len(exposures) == 3:
            core.mda.set_paused(True)

    core.events.imageSnapped.connect(pause_at_the_third)
    summaries = []
    experiment = one_tile(short_experiment)
    finish = in_background(lambda: summaries.append(run_scan(experiment, core, tmp_path / "scan")))
    wait_until(lambda: core.mda.status.pause_requested)
    assert len(exposures) == 3
    core.mda.set_paused(False)
    finish()
    assert summaries[0].complete
    assert len(exposures) > 3


# ---- what is done twice ------------------------------------------------------------------------------------


def test_a_retried_exposure_stands_in_the_journal_with_its_light(make_core, short_experiment, tmp_path):
    summary = run_scan(one_tile(short_experiment), make_core(snap_fails=(1,)), tmp_path / "scan")
    (extra,) = [line for line in summary.folder.lines() if isinstance(line, ExtraLightRecord)]
    assert (extra.device, extra.region, extra.state) == ("camera", 0, "low")
    assert extra.light_ms == pytest.approx(800 / 12)


def test_a_hole_is_taken_again_before_the_objective_turns(make_core, short_experiment, tmp_path):
    experiment = changed(short_experiment, quality=QualityLimits(takes=2))
    summary = run_scan(experiment, make_core(snap_fails=(40, 41)), tmp_path / "scan")
    assert summary.complete
    kinds = [line.kind for line in summary.folder.lines() if line.kind in ("hole", "field")]
    assert kinds.count("hole") == 1
    assert [field.take for field in summary.folder.fields()].count(2) == 1


def test_a_field_that_stays_bad_is_flagged_and_kept_once(make_core, short_experiment, tmp_path):
    fitc = short_experiment.channels[0].model_copy(update={"exposure_ms": {"low": 20_000, "high": 400}})
    experiment = changed(one_tile(short_experiment), channels=[fitc], quality=QualityLimits(takes=2))
    summary = run_scan(experiment, make_core(), tmp_path / "scan")
    (flagged,) = summary.flagged
    assert flagged.state == "low"
    assert "of FITC is saturated" in flagged.flags[0]
    assert not summary.complete
    extra = [line for line in summary.folder.lines() if isinstance(line, ExtraLightRecord)]
    assert [(line.reason, line.light_ms) for line in extra] == [("taken again, and no better", 20_000)]


def test_a_bump_between_focus_and_image_is_seen(make_core, short_experiment, tmp_path):
    core = make_core()
    set_config = core.setConfig

    def bump(group, preset):
        set_config(group, preset)
        if group == "Channel" and core.getROI()[2] == 192 and core.getPosition() > -100:
            core.setPosition(core.getPosition() + 8.0)

    core.setConfig = bump
    fields = run_scan(one_tile(short_experiment), core, tmp_path / "scan").flagged
    assert fields
    assert all("sharpness" in " ".join(field.flags) for field in fields)


# ---- devices that are gone ---------------------------------------------------------------------------------


def test_a_camera_that_hangs_is_loaded_anew(make_core, short_experiment, tmp_path):
    experiment = changed(one_tile(short_experiment), motion=MotionRules(camera_s=1.0))
    summary = run_scan(experiment, make_core(camera_hangs=(3,)), tmp_path / "scan")
    assert summary.complete
    reasons = [line.reason for line in summary.folder.lines() if isinstance(line, ExtraLightRecord)]
    assert ["gave no image" in reason for reason in reasons] == [True]


def test_a_camera_that_hangs_again_ends_the_scan_dark_and_withdrawn(make_core, short_experiment, tmp_path):
    core = make_core(camera_hangs=(3, 4))
    experiment = changed(one_tile(short_experiment), motion=MotionRules(camera_s=1.0))
    with pytest.raises(DeviceHangsError, match="what is committed is safe"):
        run_scan(experiment, core, tmp_path / "scan")
    assert core.getPosition() == pytest.approx(-200.0)
    assert not core.getShutterOpen("Shutter")
    core.unloadDevice("Camera")  # let the thread that hangs go


def test_an_unplugged_stage_ends_the_scan_and_it_can_be_resumed(make_core, short_experiment, tmp_path):
    core = make_core()
    experiment = changed(one_tile(short_experiment, regions=4), motion=MotionRules(failed_fields=2))

    def unplug(done, _planned):
        if done == 1:
            core.unloadDevice("XY")

    with pytest.raises(MicroscopeError, match="2 fields in a row failed"):
        run_scan(experiment, core, tmp_path / "scan", progress=unplug)
    assert core.getPosition() == pytest.approx(-200.0)
    folder = ScanFolder.open(tmp_path / "scan")
    assert (len(folder.fields()), len(folder.holes())) == (1, 2)
    assert run_scan(experiment, make_core(), tmp_path / "scan", resume=True).complete


# ---- leaving and entering ----------------------------------------------------------------------------------


def test_the_first_act_is_to_close_the_shutter_and_the_last_is_to_withdraw(
    make_core, short_experiment, tmp_path
):
    core, calls = make_core(), []
    core.setAutoShutter(False)
    core.setShutterOpen(True)
    for name in ("setShutterOpen", "setPosition", "setXYPosition", "setConfig", "snapImage"):
        original = getattr(core, name)
        setattr(core, name, lambda *a, _n=name, _o=original: (calls.append((_n, *a)), _o(*a))[1])
    run_scan(one_tile(short_experiment), core, tmp_path / "scan")
    assert calls[0] == ("setShutterOpen", "Shutter", False)
    assert calls[-1] == ("setPosition", -200.0)
    assert not core.getShutterOpen()


def test_a_folder_that_another_scan_writes_to_is_left_alone(make_core, short_experiment, tmp_path):
    experiment = one_tile(short_experiment)
    run_scan(experiment, make_core(), tmp_path / "scan")
    with lock_folder(tmp_path / "scan"), pytest.raises(WrongInputError, match="another scan writes"):
        run_scan(experiment, make_core(), tmp_path / "scan", resume=True)


def test_an_immersion_that_nobody_could_change_is_refused(make_core, short_experiment):
    oil = short_experiment.states["high"].model_copy(update={"immersion": "oil"})
    experiment = changed(short_experiment, states={**short_experiment.states, "high": oil})
    with pytest.raises(WrongInputError, match="cannot change the immersion"):
        plan_scan(experiment, make_core())


def test_a_pixel_size_that_is_left_out_is_the_cfg_s(make_core, short_experiment):
    states = {
        state: settings.model_copy(update={"pixel_size_um": None})
        for state, settings in short_experiment.states.items()
    }
    with_size, without = (
        plan_scan(experiment, make_core())[1]
        for experiment in (short_experiment, changed(short_experiment, states=states))
    )
    assert [s.stage_positions for s in with_size] == [s.stage_positions for s in without]


# ---- resuming ----------------------------------------------------------------------------------------------


def begun(core, experiment, path, fields=2):
    def cancel(done, _planned):
        if done == fields:
            core.mda.cancel()

    with pytest.raises(ScanIncompleteError):
        run_scan(experiment, core, path, progress=cancel)


def test_resume_looks_at_a_committed_field_first(make_core, short_experiment, tmp_path):
    experiment = one_tile(short_experiment, regions=3)
    begun(make_core(), experiment, tmp_path / "scan")
    summary = run_scan(experiment, make_core(), tmp_path / "scan", resume=True)
    assert summary.complete
    (resumed,) = [line for line in summary.folder.lines() if isinstance(line, ResumeRecord)]
    assert resumed.compared_with == "region0001_low_tile00.ome.tif"
    assert max(map(abs, resumed.shift_xy_um)) < 1.0
    lights = [line.reason for line in summary.folder.lines() if isinstance(line, ExtraLightRecord)]
    assert any("looked at again" in reason for reason in lights)


def test_resume_remembers_the_planes_that_were_found(make_core, short_experiment, tmp_path):
    experiment = one_tile(short_experiment, regions=3)
    begun(make_core(), experiment, tmp_path / "scan")
    folder = run_scan(experiment, make_core(), tmp_path / "scan", resume=True).folder
    planes = [line for line in folder.lines() if isinstance(line, FocusRecord)]
    looked_at_again = planes.pop(2)
    assert (looked_at_again.region, looked_at_again.expected_um) == (1, None)
    assert [plane.expected_uncertainty_um < 3.0 for plane in planes[:3]] == [False, True, True]


def test_resume_refuses_a_stage_that_calls_another_place_zero(make_core, short_experiment, tmp_path):
    experiment = one_tile(short_experiment, regions=3)
    begun(make_core(), experiment, tmp_path / "scan")
    journal = tmp_path / "scan" / "journal.jsonl"
    lines = [json.loads(line) for line in journal.read_text().splitlines()]
    for line in lines:
        if line["kind"] == "field":
            line["stage_x_um"] -= 23.0  # as it was called before the power went
    journal.write_text("".join(json.dumps(line) + "\n" for line in lines))
    core = make_core()
    with pytest.raises(WrongInputError, match=r"shifted by \(-?2[0-9]\.\d, "):
        run_scan(experiment, core, tmp_path / "scan", resume=True)
    assert core.getPosition() == pytest.approx(-200.0)
    assert len(ScanFolder.open(tmp_path / "scan").fields()) == 2


def test_resume_refuses_another_sample(make_core, short_experiment, tmp_path):
    experiment = one_tile(short_experiment, regions=3)
    begun(make_core(), experiment, tmp_path / "scan")
    with pytest.raises(WrongInputError, match="not found"):
        run_scan(experiment, make_core(seed=8), tmp_path / "scan", resume=True)


def test_the_focus_map_lets_a_level_sample_be_scanned_with_few_searches(short_experiment, tmp_path):
    experiment = one_tile(short_experiment, regions=12)
    experiment = changed(experiment, focus=experiment.focus.model_copy(update={"every_field": False}))
    core = load("widefield", sensor=Sensor((192, 192)), sample_tilt_um_per_mm=(1.5, -1.0))
    summary = run_scan(experiment, core, tmp_path / "scan")
    planes = [line for line in summary.folder.lines() if isinstance(line, FocusRecord)]
    assert sum(plane.method == "predicted" for plane in planes) >= 8
    for field in summary.folder.fields():
        objective, quarter_um = {"low": ("10X", 5.1 / 4), "high": ("20X", 1.4 / 4)}[field.state]
        true_um = stand_of(core).best_focus_um(objective, (field.stage_x_um, field.stage_y_um))
        assert abs(field.focus_um - true_um) < quarter_um


# ---- what a reviewer found ---------------------------------------------------------------------------------


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
def test_whoever_presses_ctrl_c_twice_still_finds_the_drive_withdrawn(make_core, short_experiment, tmp_path):
    # The second one once ended the wait for the run, whose next move came after the withdrawal.
    core, presses = make_core(), []

    def press(*_):
        if len(presses) < 3:
            presses.append(None)
            os.kill(os.getpid(), signal.SIGINT)

    core.events.imageSnapped.connect(press)
    with pytest.raises(KeyboardInterrupt):
        run_scan(short_experiment, core, tmp_path / "scan")
    assert not core.mda.is_running()
    assert core.getPosition() == pytest.approx(-200.0)


def test_a_second_channel_that_always_fails_ends_the_scan_too(make_core, short_experiment, tmp_path):
    core = make_core()
    set_config = core.setConfig

    def stuck(group, preset):
        if preset == "DAPI":
            raise RuntimeError("the filter wheel does not turn")
        set_config(group, preset)

    core.setConfig = stuck
    experiment = changed(short_experiment, motion=MotionRules(failed_fields=2))
    with pytest.raises(MicroscopeError, match="2 fields in a row"):
        run_scan(experiment, core, tmp_path / "scan")
    holes = ScanFolder.open(tmp_path / "scan").holes()
    assert [hole.light_ms for hole in holes] == [800.0, 800.0]  # FITC was there already


def test_a_flagged_field_is_taken_again_after_a_kill_and_not_a_third_time(
    make_core, short_experiment, tmp_path
):
    fitc = short_experiment.channels[0].model_copy(update={"exposure_ms": {"low": 20_000, "high": 400}})
    experiment = changed(
        one_tile(short_experiment, regions=2), channels=[fitc], quality=QualityLimits(takes=2)
    )
    begun(make_core(), experiment, tmp_path / "scan", fields=2)
    takes = []
    for _ in range(2):
        folder = run_scan(experiment, make_core(), tmp_path / "scan", resume=True).folder
        lines = [line for line in folder.lines() if line.kind == "begin" and line.state == "low"]
        takes.append(sorted((line.region, line.take) for line in lines))
        assert folder.interrupted() == []
    assert takes[0] == takes[1] == [(0, 1), (0, 2), (1, 1), (1, 2)]


def test_light_of_an_interrupted_field_is_entered_once(make_core, short_experiment, tmp_path):
    experiment = one_tile(short_experiment, regions=3)
    begun(make_core(), experiment, tmp_path / "scan")
    folder = ScanFolder.open(tmp_path / "scan")
    assert len(folder.interrupted()) <= 1
    folder.log(BeginRecord(region=2, state="low", tile=0))
    for _ in range(2):
        journal_interrupted(folder, experiment)
    extra = [line for line in folder.lines() if isinstance(line, ExtraLightRecord) and line.region == 2]
    assert len(extra) == 1


def test_defaults_that_were_added_since_do_not_keep_a_scan_from_going_on(
    make_core, short_experiment, tmp_path
):
    experiment = one_tile(short_experiment, regions=2)
    begun(make_core(), experiment, tmp_path / "scan")
    path = tmp_path / "scan" / "manifest.json"
    manifest = json.loads(path.read_text())
    del manifest["plan"]["quality"]["least_overlap"]
    path.write_text(json.dumps(manifest))
    assert run_scan(experiment, make_core(), tmp_path / "scan", resume=True).complete
    other = changed(experiment, quality=QualityLimits(takes=3))
    with pytest.raises(WrongInputError, match="'quality' differs"):
        run_scan(other, make_core(), tmp_path / "scan", resume=True)


def test_high_fields_that_come_before_their_low_one_are_judged_when_it_comes(
    make_core, short_experiment, tmp_path
):
    experiment = changed(one_tile(short_experiment, regions=2), objective_change="per_region")
    folder = run_scan(experiment, make_core(), tmp_path / "scan").folder
    high = [field for field in folder.fields() if field.state == "high"]
    assert [field.quality.registration is not None for field in high] == [True, True]


def test_binned_pixels_are_as_large_as_they_are(make_core, short_experiment):
    core = make_core()
    core.setProperty("Camera", "Binning", 2)
    states = {
        state: settings.model_copy(update={"pixel_size_um": None})
        for state, settings in short_experiment.states.items()
    }
    experiment = changed(short_experiment, states=states)
    settled = settle(experiment, Microscope.for_experiment(core, experiment))
    assert settled.experiment.states["low"].pixel_size_um == pytest.approx(1.3)
    assert settled.affines["high"][0] == pytest.approx(0.65)
    with pytest.raises(WrongInputError, match=r"is 0\.65, but .* 1\.3"):
        settle(short_experiment, Microscope.for_experiment(core, short_experiment))


def test_a_withdrawal_that_is_none_for_the_high_objective_is_refused(make_core, short_experiment):
    focus = short_experiment.focus.model_copy(update={"withdraw_um": -100.0, "parfocal_offset_um": -210.0})
    with pytest.raises(WrongInputError, match="is no withdrawal"):
        plan_scan(changed(short_experiment, focus=focus), make_core())


def test_a_field_without_light_on_the_map_s_word_is_taken_again(short_experiment, tmp_path):
    # Without a search nothing noticed that the shutter had stuck: a dark field was committed as good.
    experiment = one_tile(short_experiment, regions=12)
    focus = experiment.focus.model_copy(update={"every_field": False})
    experiment = changed(experiment, focus=focus, quality=QualityLimits(takes=2))
    core = load("widefield", sensor=Sensor((192, 192)), shutter_sticks=tuple(range(6, 12)))
    summary = run_scan(experiment, core, tmp_path / "scan")
    lines = summary.folder.lines()
    first = {line.region: line for line in reversed(lines) if line.kind == "focus" and line.state == "low"}
    trusted = [region for region in range(6, 12) if first[region].method == "predicted"]
    assert trusted
    flagged = [line for line in lines if line.kind == "field" and line.flags]
    assert [line.region for line in flagged] == trusted
    assert all("nothing shows" in line.flags[0] for line in flagged)
    assert summary.complete
