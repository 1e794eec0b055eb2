"""A scan on a stand whose devices fail: what fails once costs nothing, what fails again is never silent."""

import pytest

from acquisition.microscope import MicroscopeError
from acquisition.scan import run_scan
from acquisition.virtual import Sensor, faults_of, load


@pytest.fixture
def scan(short_experiment, tmp_path):
    """Scan with faults; returns the summary and how often each fault has happened."""

    def run(**faults):
        core = load(
            "widefield", sensor=Sensor((192, 192)), **short_experiment.microscope.imperfections, **faults
        )
        summary = run_scan(short_experiment, core, tmp_path / "scan")
        return summary, dict(faults_of(core).happened)

    return run


@pytest.mark.parametrize(
    "faults",
    [
        {"snap_fails": (3, 40)},
        {"camera_stalls": (5, 60)},
        {"stage_lies": (1, 4)},
        {"stage_times_out": (2, 6)},
        {"focus_jumps": (0, 7, 30)},
        {"turret_sticks": (0,)},
    ],
    ids=lambda faults: next(iter(faults)),
)
def test_what_fails_once_costs_no_field(scan, faults):
    (name, calls), *_ = faults.items()
    summary, happened = scan(**faults)
    assert summary.complete
    assert happened == {name: len(calls)}


@pytest.mark.parametrize(
    ("faults", "reason"),
    [
        ({"snap_fails": (40, 41)}, "exposure failed"),
        ({"camera_stalls": (40, 41)}, "time-out"),
        ({"stage_times_out": (1, 2)}, "timed out"),
        ({"focus_jumps": (9, 10)}, "focus drive was sent to"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_what_fails_twice_is_a_hole_with_its_reason_and_the_scan_goes_on(scan, faults, reason):
    summary, _ = scan(**faults)
    assert [reason in hole.reason for hole in summary.holes] == [True]
    assert summary.committed_fields == summary.planned_fields - 1


@pytest.mark.parametrize(
    ("faults", "message"),
    [({"turret_sticks": (0, 1)}, "stays withdrawn"), ({"focus_jumps": (0, 1)}, "reads -185")],
)
def test_an_objective_that_cannot_be_changed_safely_ends_the_scan_withdrawn(
    short_experiment, tmp_path, faults, message
):
    core = load("widefield", sensor=Sensor((192, 192)), **faults)
    with pytest.raises(MicroscopeError, match=message):
        run_scan(short_experiment, core, tmp_path / "scan")
    assert core.getPosition() == pytest.approx(-200.0, abs=0.01)
    assert core.getCurrentConfig("Objective") == "10X"


def test_after_a_night_of_small_failures_every_field_is_accounted_for(scan):
    summary, happened = scan(snap_fails=0.01, stage_lies=0.05, focus_jumps=0.01)
    assert sum(happened.values()) >= 2
    assert len(summary.holes) + summary.committed_fields == summary.planned_fields
