"""A scan that a hardware autofocus holds in focus, and the order in which it is switched."""

import pytest

from acquisition.area import Area, HighTiles, RegionGrid
from acquisition.hardware_focus import HardwareFocus, LockLostError
from acquisition.manifest import FocusRecord
from acquisition.patience import NotLeftSafeError
from acquisition.scan import plan_scan, run_scan
from acquisition.virtual import Sensor, load, stand_of
from configs.document import WrongInputError


@pytest.fixture
def experiment(short_experiment):
    area = Area(
        regions=RegionGrid(rows=1, columns=4, spacing_um=200.0), high_tiles=HighTiles(rows=1, columns=1)
    )
    focus = short_experiment.focus.model_copy(update={"method": "hardware"})
    return short_experiment.model_copy(
        update={"area": area, "focus": focus, "channels": short_experiment.channels[:1]}
    )


def tilted_core(**faults):
    return load(
        "widefield",
        sensor=Sensor((192, 192)),
        sample_tilt_um_per_mm=(15.0, 0.0),
        parfocal_offset_um=6.0,
        **faults,
    )


def test_the_first_field_of_each_objective_is_searched_and_the_others_are_held(experiment, tmp_path):
    core = tilted_core()
    summary = run_scan(experiment, core, tmp_path / "scan")
    planes = [line for line in summary.folder.lines() if isinstance(line, FocusRecord)]
    assert [plane.method for plane in planes] == 2 * ["searched", "hardware", "hardware", "hardware"]
    for field in summary.folder.fields():
        objective, quarter_um = {"low": ("10X", 5.1 / 4), "high": ("20X", 1.4 / 4)}[field.state]
        true_um = stand_of(core).best_focus_um(objective, (field.stage_x_um, field.stage_y_um))
        assert abs(field.focus_um - true_um) < quarter_um


def test_a_lock_that_slips_is_noticed_and_the_plane_searched_again(experiment, tmp_path):
    core = tilted_core(focus_lock_slips=(1,))
    experiment = experiment.model_copy(
        update={"motion": experiment.motion.model_copy(update={"focus_s": 0.2})}
    )
    summary = run_scan(experiment, core, tmp_path / "scan")
    planes = [line for line in summary.folder.lines() if isinstance(line, FocusRecord)]
    assert [plane.method for plane in planes[:4]] == ["searched", "hardware", "searched", "hardware"]
    assert summary.complete


def test_the_lock_is_off_before_the_drive_withdraws_and_on_again_after_the_approach(experiment, tmp_path):
    core, calls = tilted_core(), []
    for name in ("enableContinuousFocus", "setPosition", "setConfig"):
        original = getattr(core, name)
        setattr(core, name, lambda *a, _n=name, _o=original: (calls.append((_n, *a)), _o(*a))[1])
    run_scan(experiment, core, tmp_path / "scan")
    turn = calls.index(("setConfig", "Objective", "20X"))
    before, after = calls[:turn], calls[turn + 1 :]
    assert before[-2:] == [("enableContinuousFocus", False), ("setPosition", -200.0)]
    lock = after.index(("enableContinuousFocus", True))
    moves = [call for call in after[:lock] if call[0] == "setPosition"]
    assert moves
    assert all(call[1] > -200.0 for call in moves)
    assert calls[-2:] == [("enableContinuousFocus", False), ("setPosition", -200.0)]


def test_a_lock_that_stays_on_keeps_the_turret_from_turning(experiment, tmp_path):
    core = tilted_core()
    switch = core.enableContinuousFocus
    core.enableContinuousFocus = lambda on: switch(True) if on else None
    with pytest.raises(NotLeftSafeError, match="does not switch off"):
        run_scan(experiment, core, tmp_path / "scan")
    assert core.getCurrentConfig("Objective") == "10X"


def test_a_stand_without_such_a_device_is_refused(experiment):
    core = tilted_core()
    core.setProperty("Core", "AutoFocus", "")
    with pytest.raises(WrongInputError, match="no autofocus device"):
        plan_scan(experiment, core)


def test_a_surface_out_of_reach_is_not_waited_for_for_ever():
    core = tilted_core()
    core.setPosition(-150.0)
    with pytest.raises(LockLostError, match=r"does not lock within 0\.1 s"):
        HardwareFocus(core, patience_s=0.1).lock()
    assert not core.isContinuousFocusEnabled()  # it would go on hunting
