"""A multi-position time-lapse of a specimen that drifts: every frame is taken in focus, and says where."""

import numpy as np
import pytest

from acquisition.focus_keeping import FocusKeepingEngine
from acquisition.focus_search import depth_of_field_um
from acquisition.microscope import Microscope
from acquisition.plan import NamedPosition, TimeLapse
from acquisition.preparation import settle
from acquisition.sequences import time_lapse_sequence
from acquisition.virtual import load, stand_of, stand_time_s
from configs.document import WrongInputError

PLACES = (
    NamedPosition(name="edge", xy_um=(0.0, 0.0)),
    NamedPosition(name="middle", xy_um=(400.0, -200.0)),
    NamedPosition(name="far", xy_um=(900.0, 300.0)),
)
TIMES = 8
DRIFT_UM_PER_MIN = 0.7
PAUSE_MS = 60_000.0
"""Between two rounds; the stand's clock is the sum of all exposures, so this one stands for waiting."""


def lapse(experiment, method="software", every_field=False, **facts):
    usual = {"frames": TIMES, "positions": PLACES}
    time_lapse = TimeLapse(interval_s=0, state="high", channel="FITC", **{**usual, **facts})
    focus = experiment.focus.model_copy(update={"method": method, "every_field": every_field})
    return experiment.model_copy(update={"time_lapse": time_lapse, "focus": focus})


def fails(*_facts):
    raise RuntimeError("does not answer")


class SecondFrameFails(FocusKeepingEngine):
    """The camera gives no image for the second frame, however often it is asked."""

    asked = 0

    def _expose(self, event):
        self.asked += 1
        with pytest.MonkeyPatch.context() as patch:
            if self.asked == 2:
                patch.setattr(self._microscope, "snap", fails)
            yield from super()._expose(event)


class SecondVisitFails(FocusKeepingEngine):
    """No plane is found at the second visit, and the drive does not go back to the last one."""

    visits = 0

    def _keep_focus(self, event):
        self.visits += 1
        with pytest.MonkeyPatch.context() as patch:
            if self.visits == 2:
                patch.setattr(self._focus, "focus", fails)
                patch.setattr(self._microscope, "move_focus", fails)
            super()._keep_focus(event)


class Kept:
    """A finished time-lapse: how far off the true plane each frame was taken."""

    def __init__(self, experiment, engine_type=FocusKeepingEngine, **departures):
        core = load(
            "widefield",
            camera_shape_yx=(192, 192),
            sample_height_um=2.0,
            sample_tilt_um_per_mm=(2.0, -1.0),
            drift_um_per_min=(0.0, 0.0, DRIFT_UM_PER_MIN),
            **departures,
        )
        microscope = Microscope.for_experiment(core, experiment)
        experiment = settle(experiment, microscope).experiment
        microscope.change_state("high")
        microscope.move_focus(1.0)
        self.visits, self.frames, self.off_um = [], [], []
        stand = stand_of(core)

        def judge(image, event, meta):
            x_um, y_um = core.getXYPosition()
            truth_um = stand.best_focus_um("20X", (x_um, y_um), channel="FITC", time_s=stand_time_s(core))
            self.off_um.append(core.getPosition() - truth_um)
            if event.index["p"] == len(experiment.time_lapse.positions or (0,)) - 1:
                core.setExposure(PAUSE_MS)
                core.snapImage()
            self.frames.append((event.index["t"], event.pos_name, round(x_um), round(y_um)))

        core.mda.events.frameReady.connect(judge)
        engine = engine_type(
            core, microscope, experiment, self.visits.append, clock=lambda: stand_time_s(core)
        )
        core.register_mda_engine(engine)
        core.run_mda(time_lapse_sequence(experiment), block=True)
        self.drifted_um = DRIFT_UM_PER_MIN * stand_time_s(core) / 60
        self.depth_um = depth_of_field_um(experiment, "high")


@pytest.mark.parametrize("method", ["software", "hardware"])
@pytest.mark.slow
def test_focus_stays_within_the_depth_of_field_at_every_position(short_experiment, method):
    kept = Kept(lapse(short_experiment, method))
    places = [(place.name, *map(round, place.xy_um)) for place in PLACES]
    assert kept.frames == [(t, *place) for t in range(TIMES) for place in places]
    assert kept.drifted_um > kept.depth_um  # unkept, the last frames would be out of focus
    assert np.abs(kept.off_um).max() < kept.depth_um / 2
    methods = {visit.method for visit in kept.visits}
    assert methods <= {"searched", "predicted"} if method == "software" else methods == {"searched", method}
    assert [visit.position_name for visit in kept.visits] == [place.name for place in PLACES] * TIMES


@pytest.mark.slow
def test_focus_is_kept_where_the_stage_stands_without_positions(short_experiment):
    kept = Kept(lapse(short_experiment, positions=(), keep_focus=True))
    assert len(kept.frames) == TIMES
    assert np.abs(kept.off_um).max() < kept.depth_um / 2


@pytest.mark.slow
def test_a_visit_without_a_plane_is_imaged_in_the_last_one_and_says_so(short_experiment):
    """No light after one of the moves: that search finds nothing."""
    kept = Kept(lapse(short_experiment, every_field=True), shutter_sticks=(4,))
    assert len(kept.frames) == TIMES * len(PLACES)
    (lost,) = (visit for visit in kept.visits if visit.method == "kept")
    before = next(v for v in kept.visits if v.position_index == lost.position_index)
    assert (lost.time_index, lost.focus_um) == (1, before.focus_um)
    assert "autofocus" in lost.reason


@pytest.mark.slow
def test_a_visit_that_the_stage_does_not_reach_is_left_out_and_the_rest_goes_on(short_experiment):
    kept = Kept(lapse(short_experiment), stage_times_out=(4, 5))  # the move, and its second try
    (missed,) = (visit for visit in kept.visits if visit.method == "missed")
    assert len(kept.frames) == TIMES * len(PLACES) - 1
    assert (missed.time_index, missed.position_name) not in {frame[:2] for frame in kept.frames}


@pytest.mark.parametrize("engine_type", [SecondFrameFails, SecondVisitFails])
def test_a_visit_that_camera_or_drive_fail_at_is_left_out_and_the_rest_goes_on(short_experiment, engine_type):
    kept = Kept(lapse(short_experiment, "hardware", frames=2), engine_type)
    (missed,) = (visit for visit in kept.visits if visit.method == "missed")
    assert len(kept.frames) == 2 * len(PLACES) - 1
    assert (missed.time_index, missed.position_name) == (0, "middle")
    assert "does not answer" in missed.reason


def test_a_position_outside_the_stage_s_window_is_refused(short_experiment):
    window = {"x_um": (-10.0, 500.0), "y_um": (-500.0, 500.0)}
    experiment = type(short_experiment).model_validate(
        {**lapse(short_experiment).model_dump(), "stage_window_um": window}
    )
    with pytest.raises(WrongInputError, match="far lies at x = 900"):
        time_lapse_sequence(experiment)
