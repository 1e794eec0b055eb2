"""Live enhancement on the viewer's screen: the same frames under the same places as in the recording."""

import socket

import numpy as np
import pytest
import useq

from acquisition.live import LiveEnhancer
from acquisition.live_controller import LiveController
from acquisition.time_lapse import run_time_lapse
from configs.document import WrongInputError
from inference.engine import load_engine
from inference.viewer.recording_source import RecordingSource
from sharpscope.live_page import page_beside
from sharpscope.live_screen import LiveScreen
from sharpscope.viewing import Doorway

NOWHERE = "tcp://127.0.0.1:9"


@pytest.fixture
def worker(model_zip, run_worker):
    return run_worker(load_engine(model_zip, "cpu-float32")).address


def two_channels(frames):
    return useq.MDASequence(channels=["DAPI", "FITC"], time_plan={"interval": 0, "loops": frames})


def test_what_the_screen_shows_last_is_what_the_recording_holds_there(core, worker, tmp_path):
    with (
        LiveEnhancer(core, worker, tmp_path / "r", allow_out_of_domain=True) as live,
        LiveScreen(live, "beads") as look,
    ):
        assert live.wait_ready(30)
        report = run_time_lapse(core, two_channels(6), live)
        assert report.status.enhanced == 12
        screen = look.screen
        assert [(series.name, series.length) for series in screen.series()] == [("DAPI", 6), ("FITC", 6)]
        newest = screen.newest("FITC")
        assert (newest.index, newest.number, newest.full_scale) == (5, 11, 65535)
        assert newest.out_of_domain
        past = look.screen.at("FITC", 0)
        assert past.full_scale == 65535
        assert (past.index, past.number, past.channel) == (0, 1, "FITC")
        again = RecordingSource(tmp_path / "r").at("FITC", 5)
        assert again.number == newest.number
        np.testing.assert_array_equal(again.raw.pixels, newest.raw.pixels)
        np.testing.assert_array_equal(again.enhanced.pixels, newest.enhanced.pixels)
        status = screen.status()
        assert (status.state, status.frames_in, status.recorded, status.worker) == ("running", 12, 12, worker)
        assert status.model_name


def test_the_state_says_what_is_wrong_and_the_frames_say_why_they_are_raw(core, tmp_path):
    with (
        LiveEnhancer(core, NOWHERE, tmp_path / "r") as live,
        LiveScreen(live, "beads") as look,
    ):
        controller = LiveController(core, live)
        controller.snap()
        live.pause()
        assert look.screen.status().state == "paused"
        live.resume()
        assert look.screen.status().state.startswith("worker ")
        assert NOWHERE in look.screen.status().reason
        live.close(patience_s=0)
        assert not look.screen.status().live
        shown = look.screen.newest(look.screen.series()[0].name)
        assert shown.enhanced is None
        assert shown.reason.startswith("failed: ")


def test_where_the_port_is_taken_another_one_is(core, capsys):
    with socket.create_server(("127.0.0.1", 0)) as taken, LiveEnhancer(core, NOWHERE) as live:
        doorway = Doorway(port=taken.getsockname()[1])
        with page_beside(doorway, "beads", browser=False)(live, LiveController(core, live)):
            said = capsys.readouterr().err
    assert f"port {doorway.port}" in said
    assert f"http://127.0.0.1:{doorway.port}/" not in said.split("the page is at")[1]


@pytest.mark.parametrize("doorway", [Doorway(port=0, token="short"), Doorway("no.such.host.invalid", 0)])
def test_a_page_that_cannot_be_is_told_before_a_microscope_moves(doorway):
    with pytest.raises(WrongInputError):
        page_beside(doorway, "beads", browser=False)


def test_what_goes_wrong_with_the_page_costs_the_page_alone(core, capsys, monkeypatch):
    beside = page_beside(Doorway(port=0), "beads", browser=False)
    monkeypatch.setattr("sharpscope.live_page.open_viewer", broken)
    with LiveEnhancer(core, NOWHERE) as live, beside(live, LiveController(core, live)):
        pass
    assert "there is no page: no more threads; everything else goes on" in capsys.readouterr().err


def broken(*_arguments):
    raise RuntimeError("no more threads")
