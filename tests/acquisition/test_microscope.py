"""Moves that must be safe, in the order in which MMCore gets them."""

import pytest

from acquisition.configuration import Configuration
from acquisition.micro_manager import load_cfg
from acquisition.microscope import FocusWindowError, Microscope, MicroscopeError
from acquisition.plan import MotionRules, load_experiment
from acquisition.virtual import load
from configs.document import WrongInputError

WITHDRAW_UM = -200.0


class RecordingCore:
    """A real core whose calls are written down; some answers can be made to lie."""

    def __init__(self, core):
        self.core, self.calls, self.lies = core, [], {}

    def __getattr__(self, name):
        real = getattr(self.core, name)

        def call(*args):
            self.calls.append((name, *args))
            return self.lies[name] if name in self.lies else real(*args)

        return call


@pytest.fixture
def states():
    return load_experiment("virtual_widefield").states


@pytest.fixture
def recording():
    return RecordingCore(load("widefield", camera_shape_yx=(64, 64)))


@pytest.fixture
def microscope(recording, states):
    return Microscope(recording, states, WITHDRAW_UM)


def moves(recording):
    return [call for call in recording.calls if call[0] in {"setPosition", "getPosition", "setConfig"}]


def test_focus_drive_is_withdrawn_and_read_back_before_the_turret_turns(recording, microscope):
    microscope.change_state("high")
    assert moves(recording) == [
        ("getPosition",),
        ("setPosition", WITHDRAW_UM),
        ("getPosition",),
        ("setConfig", "Objective", "20X"),
    ]
    assert recording.core.getCurrentConfig("Objective") == "20X"
    assert recording.core.getPosition() == pytest.approx(WITHDRAW_UM)


def test_turret_does_not_turn_when_the_drive_does_not_withdraw(recording, microscope):
    before = recording.core.getCurrentConfig("Objective")
    recording.lies["getPosition"] = 0.0
    with pytest.raises(MicroscopeError, match="reads 0"):
        microscope.change_state("high")
    assert recording.core.getCurrentConfig("Objective") == before
    assert microscope.state is None


def test_a_turret_that_sticks_is_noticed_and_the_drive_stays_withdrawn(recording, microscope):
    recording.lies["getCurrentConfig"] = "10X"
    with pytest.raises(MicroscopeError, match="reads '10X'"):
        microscope.change_state("high")
    with pytest.raises(MicroscopeError, match="before an imaging state"):
        microscope.move_focus(0.0)
    assert recording.core.getPosition() == pytest.approx(WITHDRAW_UM)


def test_same_state_moves_nothing(recording, microscope):
    microscope.change_state("low")
    recording.calls.clear()
    microscope.change_state("low")
    assert moves(recording) == []


@pytest.mark.parametrize(("state", "allowed_um", "refused_um"), [("low", 119.0, 121.0), ("high", 59.0, 61.0)])
def test_every_focus_move_is_checked_against_the_objective_s_window(
    recording, microscope, state, allowed_um, refused_um
):
    microscope.change_state(state)
    microscope.move_focus(allowed_um)
    with pytest.raises(FocusWindowError, match=r"focus_window_um") as refusal:
        microscope.move_focus(refused_um)
    assert refusal.value.asked_um == refused_um
    assert recording.core.getPosition() == pytest.approx(allowed_um)


def test_a_stage_that_does_not_arrive_is_noticed(recording, microscope):
    recording.lies["getXYPosition"] = (0.0, 0.0)
    with pytest.raises(MicroscopeError, match="stopped 500"):
        microscope.move_stage(300.0, 400.0)


def test_central_roi_is_put_back(recording, microscope):
    with microscope.central_roi(32):
        assert microscope.snap(10.0).shape == (32, 32)
        assert recording.core.getROI() == [16, 16, 32, 32]
    assert recording.core.getROI() == [0, 0, 64, 64]


def test_central_roi_inside_a_part_of_the_chip_puts_that_part_back(recording, microscope):
    recording.core.setROI(8, 4, 40, 48)
    with microscope.central_roi(32):
        assert recording.core.getROI() == [12, 12, 32, 32]
    assert recording.core.getROI() == [8, 4, 40, 48]


def test_affine_of_each_state_is_known_without_turning(recording, microscope):
    assert microscope.configuration.pixel_size_affine("high") == pytest.approx((0.325, 0, 0, 0, 0.325, 0))
    assert microscope.configuration.pixel_size_affine("low") == pytest.approx((0.65, 0, 0, 0, 0.65, 0))
    assert moves(recording) == []


def test_a_pixel_size_that_contradicts_the_cfg_is_named(recording, states):
    wrong = {**states, "low": states["low"].model_copy(update={"pixel_size_um": 0.5})}
    with pytest.raises(WrongInputError, match=r"pixel_size_um is 0\.5.*0\.65"):
        Configuration(recording, wrong).pixel_size_affine("low")


@pytest.mark.parametrize(
    ("channels", "named"), [([("Chanel", "FITC")], "'Chanel'"), ([("Channel", "Cy5")], "'Cy5'.*DAPI")]
)
def test_what_the_cfg_lacks_is_named(microscope, channels, named):
    with pytest.raises(WrongInputError, match=named):
        microscope.configuration.check_presets(channels)


def test_demo_cfg_loads_as_it_is_with_the_demo_camera():
    core = load_cfg("demo.cfg")
    core.snapImage()
    assert core.getCameraDevice() == "DemoCam"
    assert core.getImage().shape == (512, 512)


def test_a_missing_cfg_is_named():
    with pytest.raises(WrongInputError, match="nosuch"):
        load_cfg("nosuch")


def test_a_cfg_that_micro_manager_refuses_is_one_line(tmp_path):
    broken = tmp_path / "broken.cfg"
    broken.write_text("Device,Camera,NoSuchAdapter,Cam\n")
    with pytest.raises(WrongInputError, match=r"broken\.cfg") as error:
        load_cfg(broken)
    assert "\n" not in str(error.value)


def test_a_long_way_of_the_stage_is_made_withdrawn_and_a_short_one_is_not(recording, microscope):
    microscope.change_state("low")
    microscope.move_focus(0.0)
    microscope.move_stage(2000.0, 0.0)
    assert recording.core.getPosition() == pytest.approx(0.0)
    recording.calls.clear()
    microscope.move_stage(6000.0, 0.0)
    ways = [call for call in recording.calls if call[0] in {"setPosition", "setXYPosition"}]
    assert ways == [("setPosition", WITHDRAW_UM), ("setXYPosition", 6000.0, 0.0)]


def test_a_drive_that_stands_farther_away_than_withdrawn_is_not_brought_nearer(recording, microscope):
    recording.core.setPosition(-250.0)
    microscope.change_state("high")
    assert recording.core.getPosition() == pytest.approx(-250.0)


def test_a_drive_whose_sense_is_unknown_is_not_moved(recording, states):
    recording.lies["getFocusDirection"] = 0
    with pytest.raises(WrongInputError, match="FocusDirection,Z,1"):
        Microscope(recording, states, WITHDRAW_UM)
    assert Microscope(recording, states, WITHDRAW_UM, towards_sample=1).state is None
    assert moves(recording) == []


def test_a_withdrawal_towards_the_sample_is_refused(recording, states):
    for sense, withdraw_um in ((1, 100.0), (-1, -200.0)):
        microscope = Microscope(recording, states, withdraw_um, towards_sample=sense)
        with pytest.raises(WrongInputError, match="is no withdrawal"):
            microscope.check_withdrawal(0.0)


def test_making_safe_closes_every_shutter_and_withdraws(recording, microscope):
    recording.core.setAutoShutter(False)
    recording.core.setShutterOpen(True)
    recording.core.startContinuousSequenceAcquisition(0)
    assert microscope.make_safe() == []
    assert not recording.core.isSequenceRunning()
    assert not recording.core.getShutterOpen()
    assert recording.core.getAutoShutter()
    assert recording.core.getPosition() == pytest.approx(WITHDRAW_UM)


def test_what_cannot_be_made_safe_is_said_and_the_rest_is_done(recording, microscope):
    recording.lies["getShutterOpen"] = True
    assert microscope.make_safe() == ["shutter 'Shutter' does not close"]
    assert recording.core.getPosition() == pytest.approx(WITHDRAW_UM)


def test_a_camera_is_loaded_anew_as_it_was():
    core = load_cfg("demo.cfg")
    core.setProperty("DemoCam", "PixelType", "8bit")
    core.setROI(10, 20, 50, 40)
    microscope = Microscope(core, load_experiment("demo_camera").states, WITHDRAW_UM)
    microscope.snap(5.0)
    microscope.camera.restart()
    assert core.getProperty("DemoCam", "PixelType") == "8bit"
    assert core.getROI() == [10, 20, 50, 40]
    assert microscope.snap(5.0).shape == (40, 50)


def test_a_drive_with_backlash_reaches_every_plane_towards_the_sample(recording, states):
    microscope = Microscope(recording, states, WITHDRAW_UM, motion=MotionRules(approach_um=5.0))
    microscope.change_state("low")
    recording.calls.clear()
    for position_um in (10.0, 4.0, 6.0):
        microscope.move_focus(position_um)
    assert [call[1] for call in recording.calls if call[0] == "setPosition"] == [10.0, -1.0, 4.0, 6.0]
