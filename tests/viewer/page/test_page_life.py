"""The page over time: looking back, acting on the acquisition, reloading, a server that goes and comes."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from starlette.responses import Response
from starlette.routing import Route

from configs.document import WrongInputError
from inference.viewer.export_routes import export_routes
from inference.viewer.server import ViewerServer

SIDE = 32


def image(counts):
    return np.full((SIDE, SIDE), counts, np.uint16)


class Tab:
    """A panel of a kind that no page knows."""

    name, title = "scan", "Scan"

    def version(self):
        return "1"

    def content(self):
        return {"kind": "none"}

    def picture(self, name):
        raise KeyError(name)


class Hands:
    """Does what a person asks for: notes it, and cannot snap."""

    def __init__(self):
        self.done = []

    def actions(self):
        return ("pause", "resume", "stop", "snap", "repoint")

    def do(self, action, **arguments):
        if action == "snap":
            raise WrongInputError("the camera is busy; wait for the burst")
        self.done.append((action, arguments))


def record(microscope, person, frames):
    for counts in range(frames):
        number = microscope.take(image(counts), image(counts))
    person.see(number)
    person.wait(f"document.querySelector('#slider').max === '{frames - 1}'")


def test_one_looks_back_while_the_recording_grows_and_returns_to_the_newest(microscope, person):
    record(microscope, person, 5)
    person.page.locator("#slider").fill("2")
    person.see(2)
    microscope.take(image(5), image(5))
    person.wait("document.querySelector('#slider').max === '5'")
    assert person.ask("sharpscope.last.index") == 2
    assert person.page.input_value("#slider") == "2"
    assert person.page.get_attribute("#live", "aria-pressed") == "false"
    person.page.click("#live")
    person.see(5)
    person.see(microscope.take(image(6), image(6)))


@pytest.mark.slow
def test_keys_step_through_the_frames(microscope, person):
    record(microscope, person, 4)
    for key, number in ((",", 2), ("ArrowLeft", 1), (".", 2), ("ArrowRight", 3), ("Home", 0)):
        person.page.keyboard.press(key)
        person.see(number)
    person.page.keyboard.press("End")
    person.see(3)
    person.see(microscope.take(image(4), image(4)))


@pytest.mark.slow
def test_a_recording_is_played_to_its_end(microscope, open_page):
    for counts in range(6):
        microscope.take(image(counts), image(counts))
    person = open_page(microscope.recording)
    person.see(5)
    drawn = person.ask("sharpscope.frames_drawn")
    person.page.select_option("#speed", "2")
    person.page.keyboard.press(" ")
    person.see(0)
    person.page.select_option("#speed", "30")
    person.wait("document.querySelector('#play').textContent === 'Play'")
    person.see(5)
    assert person.ask("sharpscope.frames_drawn") == drawn + 6


@pytest.mark.slow
def test_space_holds_a_live_image_though_nothing_is_recorded(open_page, camera):
    person = open_page(camera.screen)
    person.see(camera.take(image(1), image(1)))
    person.wait("document.querySelector('#play').textContent === 'Hold'")
    person.page.keyboard.press(" ")
    person.wait("document.querySelector('#play').textContent === 'Play'")
    drawn = person.ask("sharpscope.frames_drawn")
    camera.take(image(2), image(2))
    person.wait("document.querySelector('#place').textContent.includes('0–1')")
    assert person.ask("sharpscope.frames_drawn") == drawn
    person.page.keyboard.press("End")
    person.see(1)


@pytest.mark.slow
def test_buttons_act_on_the_acquisition_and_stop_asks_twice(microscope, open_page):
    hands = Hands()
    person = open_page(microscope.screen, controls=hands)
    with person.page.expect_response("**/api/control"):
        person.page.click("#pause")
    with person.page.expect_response("**/api/control"):
        person.page.click("#snap")
    person.page.wait_for_selector("text=snap: the camera is busy; wait for the burst")
    person.page.click("#stop")
    assert person.text("#stop") == "Really stop?"
    with person.page.expect_response("**/api/control"):
        person.page.click("#stop")
    person.page.click("#repoint")
    person.page.fill("#repoint-address", "tcp://10.0.0.7:5555")
    with person.page.expect_response("**/api/control"):
        person.page.click("#repoint-dialog >> text=Use it")
    assert hands.done == [("pause", {}), ("stop", {}), ("repoint", {"worker": "tcp://10.0.0.7:5555"})]


@pytest.mark.slow
def test_a_recording_has_no_buttons_for_an_acquisition(microscope, open_page):
    microscope.take(image(1))
    person = open_page(microscope.recording)
    person.see(0)
    assert not person.is_visible("#actions")


@pytest.mark.slow
def test_the_state_of_the_source_stands_at_the_foot(microscope, person):
    microscope.state = replace(
        microscope.state, state="worker lost", reason="no answer for 3 s", dropped=3, latency_ms_p50=81.4,
        latency_ms_p99=140.0, camera_fps=10.0,
    )  # fmt: skip
    person.see(microscope.take(image(1), image(1)))
    person.wait("document.querySelector('#state').textContent === 'worker lost'")
    shown = {name: person.text(f"#{name}") for name in ("state-reason", "drops", "latency", "camera-fps")}
    assert shown == {
        "state-reason": "no answer for 3 s", "drops": "3", "latency": "83 ms", "camera-fps": "10.0/s",
    }  # fmt: skip
    assert person.text("#latency-percentiles") == "81 ms / 140 ms"


@pytest.mark.slow
def test_a_snapshot_asks_for_what_is_shown_and_saves_the_answer(microscope, open_page):
    asked = []

    async def export(request):
        asked.append(await request.json())
        return Response(b"png", headers={"Content-Disposition": 'attachment; filename="dish.png"'})

    routes = [Route("/api/export", export, methods=["POST"])]
    person = open_page(microscope.screen, routes=routes)
    record(microscope, person, 3)
    person.type("#white", 100)
    with person.page.expect_download() as download:
        person.page.click("#snapshot")
    assert download.value.suggested_filename == "dish.png"
    person.page.click("#movie")
    assert person.text("#export-indices") == "Indices count in FITC alone, from 0: shown is index 2, frame 2."
    person.page.fill("#export-first", "1")
    with person.page.expect_download():
        person.page.click("#export-start")
    png, movie = asked
    assert (png["format"], png["series"], png["first"], png["last"]) == ("png", "FITC", 2, 2)
    assert (movie["format"], movie["first"], movie["last"], movie["fps"]) == ("mp4", 1, 2, 10)
    assert png["look"] == movie["look"] | {"white": 100}
    assert set(png["look"]) == {"black", "white", "show", "colour", "scale_bar", "time_stamp"}


def test_a_reloaded_page_goes_on(microscope, person):
    person.see(microscope.take(image(1), image(1)))
    person.page.reload()
    person.see(0)
    person.see(microscope.take(image(2), image(2)))


@pytest.mark.slow
def test_the_page_says_that_the_server_is_gone_and_comes_back_with_it(microscope, open_page):
    with ViewerServer(microscope.screen, port=0) as server:
        person = open_page(server)
        person.see(microscope.take(image(1), image(1)))
    person.page.wait_for_selector("#connection[data-state=lost]")
    assert person.text("#connection").startswith("connection lost")
    with ViewerServer(microscope.screen, port=server.port):
        person.page.wait_for_selector("#connection[data-state=open]")
        person.see(microscope.take(image(2), image(2)))


def test_the_page_asks_nobody_but_its_server_and_complains_of_nothing(microscope, open_page):
    with ViewerServer(microscope.screen, port=0) as server:
        person = open_page(server)
        person.see(microscope.take(image(1), image(1)))
        for key in (
            "s",
            "b",
            "r",
            "e",
            "d",
            "c",
            "m",
            "a",
            "h",
            "A",
            "1",
            "f",
            "+",
            "-",
            "?",
            "Escape",
            "End",
        ):
            person.press(key)
        person.page.click("#movie")
        person.page.keyboard.press("Escape")
        own = (f"http://127.0.0.1:{server.port}/", f"ws://127.0.0.1:{server.port}/ws")
        assert [url for url in person.requests if not url.startswith(own)] == []
        assert len(person.requests) > 20
        assert person.problems == []


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "place", "begin"), [("png", 0, b"\x89PNG"), ("mp4", 4, b"ftyp"), ("ome-tiff", 0, b"II*")]
)
def test_the_server_understands_what_the_export_dialog_asks(microscope, open_page, kind, place, begin):
    person = open_page(microscope.screen, routes=export_routes(microscope.screen))
    record(microscope, person, 3)
    person.page.click("#movie")
    person.page.select_option("#export-format", kind)
    with person.page.expect_download() as download:
        person.page.click("#export-start")
    content = Path(download.value.path()).read_bytes()
    assert content[place : place + len(begin)] == begin
    person.page.wait_for_selector("#export-state >> text=Written")


@pytest.mark.slow
def test_a_panel_is_open_until_there_are_images_or_a_person_chooses(microscope, open_page):
    person = open_page(microscope.screen, panels=[Tab()])
    person.page.wait_for_selector("#tab-scan[aria-selected=true]")
    assert not person.is_visible("#stage")
    person.see(microscope.take(image(1), image(1)))
    person.page.wait_for_selector("#tab-image[aria-selected=true]")
    assert person.is_visible("#stage")
    person.page.click("#tab-scan")
    person.see(microscope.take(image(2), image(2)))
    assert not person.is_visible("#stage")


@pytest.mark.slow
def test_help_lists_the_keys(microscope, person):
    person.press("?")
    assert person.is_visible("#help-dialog")
    assert "automatic contrast" in person.text("#help-keys")
    person.press("Escape")
    assert not person.is_visible("#help-dialog")


@pytest.mark.slow
@pytest.mark.parametrize(("width", "height"), [(1280, 800), (1920, 1080)])
def test_nothing_is_cut_off_and_nothing_jumps(microscope, open_page, width, height):
    """What changes with frames moves no other thing."""
    person = open_page(microscope.screen, controls=Hands(), width=width, height=height)
    boxes = """[...document.querySelectorAll('button, select, h2, #stage, #slider, #status')]
        .filter(each => each.checkVisibility()).map(each => { const box = each.getBoundingClientRect();
        return [each.id, box.left, box.top, box.right, box.bottom].join(' '); })"""
    person.see(microscope.take(image(1), image(1)))
    person.wait("document.querySelector('#slider').max === '0'")
    before = person.ask(boxes)
    warned = {"warnings": ("a",), "out_of_domain": ("b",)}
    person.see(microscope.take(image(4095), image(4095), **warned))
    person.press("m")
    person.see(microscope.take(image(4095)))
    after = person.ask(boxes)
    assert after == before
    assert person.ask("[document.documentElement.scrollWidth, document.documentElement.scrollHeight]") == [
        width,
        height,
    ]
    assert all(float(box.split()[-2]) <= width and float(box.split()[-1]) <= height for box in after)
