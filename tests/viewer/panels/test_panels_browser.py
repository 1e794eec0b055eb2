"""The panels in a real Chromium: what is seen of a scan, of pairs and of a run, and what a click does."""

import json
import subprocess
import sys

import numpy as np
import pytest

from acquisition.scan_panel import ScanPanel
from sharpscope.panels import panels_of
from training.run_panel import TrainingPanel

pytestmark = pytest.mark.slow  # a browser's start; .ci/run runs it

PATIENCE_MS = 20_000
COLOURS = {"done": (87, 199, 133), "hole": (255, 107, 94)}
"""As viewer.css or the panels' fallbacks have them; drawn half transparent."""
LIVE_SCAN = """
import sys
from pathlib import Path
from acquisition.area import Area, HighTiles, RegionGrid
from acquisition.plan import load_experiment
from acquisition.scan import run_scan
from acquisition.virtual import load

shipped = load_experiment("virtual_widefield")
microscope = shipped.microscope.model_copy(update={"camera_shape_yx": (192, 192)})
area = Area(regions=RegionGrid(rows=1, columns=2, spacing_um=150.0), high_tiles=HighTiles())
experiment = shipped.model_copy(
    update={"microscope": microscope, "area": area, "focus": shipped.focus.model_copy(update={"roi_px": 160})}
)
core = load("widefield", seed=7, camera_shape_yx=(192, 192), **microscope.imperfections)
run_scan(experiment, core, Path(sys.argv[1]), progress=lambda done, planned: sys.stdin.readline())
"""
"""Goes on to the next field when it is told a line."""


class Person:
    """Somebody at the page, and what it said of problems."""

    def __init__(self, page):
        self.page = page
        self.problems, self.asked = [], []
        page.set_default_timeout(PATIENCE_MS)
        page.on("console", self._hear)
        page.on("pageerror", lambda error: self.problems.append(str(error)))
        page.on("request", lambda request: self.asked.append(request.url))

    def _hear(self, message):
        if message.type == "error":
            self.problems.append(message.text)

    def open(self, server, tab):
        self.page.goto(server.url)
        self.page.click(f"#tab-{tab}")
        self.page.wait_for_selector(f"#panel-{tab}[data-version] .card")

    def wait_for_text(self, selector, text):
        self.page.locator(selector, has_text=text).first.wait_for()

    def place(self, x_um, y_um):
        """Return where a stage position lies on the page, by the map's own account."""
        return self.page.evaluate(
            """([x, y]) => {
                const box = document.querySelector(".stage-map").getBoundingClientRect();
                const [column, row] = document.querySelector(".stage-map").stageMap.place(x, y);
                return [box.x + column, box.y + row];
            }""",
            [x_um, y_um],
        )

    def pixel(self, x_um, y_um):
        """Return the map's colour at a stage position."""
        return self.page.evaluate(
            """([x, y]) => {
                const map = document.querySelector(".stage-map");
                const [column, row] = map.stageMap.place(x, y).map((side) => side * devicePixelRatio);
                return [...map.getContext("2d").getImageData(column, row, 1, 1).data.slice(0, 3)];
            }""",
            [x_um, y_um],
        )


@pytest.fixture
def person(browser, served):
    """Somebody at a window; closed before the servers are, so that no lost server is a problem."""
    context = browser.new_context(viewport={"width": 1366, "height": 900})
    person = Person(context.new_page())
    yield person
    context.close()
    assert person.problems == []


def nearest(colour):
    """Return the status whose hue a colour has."""
    hues = {status: np.array(ink) / np.linalg.norm(ink) for status, ink in COLOURS.items()}
    return max(hues, key=lambda status: float(hues[status] @ colour))


def test_the_map_shows_each_field_at_its_stage_position_and_a_click_chooses_it(person, served, scan):
    scan.field(0, xy_um=(-50.0, 0.0))
    scan.field(1, xy_um=(50.0, 0.0))
    planned = {field["key"]: field for field in ScanPanel(scan.path).content()["fields"]}
    there = planned["region0000_high_tile00"]
    scan.field(0, "high", 0, xy_um=(there["x_um"], there["y_um"]))
    scan.hole(1, "high", 2, reason="<img src=x onerror=document.title=1> the shutter did not open")
    person.open(served(*panels_of(scan.path)), "scan")
    hole = planned["region0001_high_tile02"]
    off_the_sign_um = 8.0
    assert nearest(person.pixel(there["x_um"], there["y_um"] + off_the_sign_um)) == "done"
    assert nearest(person.pixel(hole["x_um"] + off_the_sign_um, hole["y_um"] + off_the_sign_um)) == "hole"
    for field in (there, hole):
        person.page.mouse.click(*person.place(field["x_um"], field["y_um"]))
        person.page.wait_for_selector(f"section[data-key='{field['key']}']")
    person.wait_for_text(".says li", "<img src=x onerror=document.title=1> the shutter did not open")
    assert person.page.locator(".says img").count() == 0


def test_places_on_the_map_are_to_scale(person, served, scan):
    scan.field(0, xy_um=(-50.0, 0.0))
    person.open(served(*panels_of(scan.path)), "scan")
    (x0, y0), (x1, _), (_, y1) = (person.place(*place) for place in ((0, 0), (100, 0), (0, 100)))
    assert x1 - x0 == pytest.approx(y1 - y0)  # the camera's rows go the stage's way: y is downwards
    assert x1 > x0


def test_the_page_counts_fields_as_the_journal_grows(person, served, scan):
    person.open(served(*panels_of(scan.path)), "scan")
    person.wait_for_text("#panel-scan .headline", "0 of 10 fields")
    for number in range(2):
        scan.field(number, xy_um=(100.0 * number - 50, 0.0))
        person.wait_for_text("#panel-scan .headline", f"{number + 1} of 10 fields")
    scan.hole(0, "high", 3, reason="no focus was found")
    person.wait_for_text(".trouble li.hole", "no focus was found")
    person.wait_for_text("#panel-scan .headline", "1 hole")
    assert person.page.locator(".tile").count() == 2
    person.page.wait_for_function(
        "() => [...document.querySelectorAll('.tile img')].every(i => i.naturalWidth)"
    )


def test_a_focus_curve_shows_its_plane_and_what_was_expected(person, served, scan):
    scan.focus(0)
    scan.focus(1, focus_um=4.25)
    person.open(served(*panels_of(scan.path)), "scan")
    person.wait_for_text(".focus-card .legend li[data-label='plane (µm)'] output", "4.25")
    person.page.locator(".stage-map").focus()
    person.page.keyboard.press("ArrowRight")
    person.wait_for_text(".focus-card .legend li[data-label='plane (µm)'] output", "3")
    person.wait_for_text(".focus-card", "expected 2.50 ± 0.50 µm")


def test_the_map_follows_a_scan_that_another_process_runs(person, served, tmp_path):
    folder = tmp_path / "scan"
    command = [sys.executable, "-c", LIVE_SCAN, str(folder)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, text=True) as running:
        try:
            while not (folder / "manifest.json").exists():
                assert running.poll() is None
            person.open(served(*panels_of(folder)), "scan")
            for done in range(1, 11):
                person.wait_for_text("#panel-scan .headline", f"{done} of 10 fields")
                running.stdin.write("\n")
                running.stdin.flush()
            running.stdin.close()
            assert running.wait(60) == 0
        finally:
            running.kill()
    person.wait_for_text("#panel-scan .headline", "finished in")
    assert person.page.locator(".tile").count() == 10
    assert ScanPanel(folder).content()["progress"]["done"] == 10


def test_the_legends_of_a_run_say_the_last_values_of_its_history(person, served, run_folder, history):
    person.open(served(*panels_of(run_folder)), "training")
    for label, name in (
        ("validation loss", "validation"),
        ("MSE", "mse"),
        ("discriminator", "discriminator"),
    ):
        said = person.page.locator(f".legend li[data-label='{label}'] output").inner_text()
        assert float(said) == pytest.approx(history[-1][name], rel=1e-3)
    with (run_folder / "history.jsonl").open("a") as stream:
        stream.write(json.dumps({**history[-1], "iteration": 1100, "validation": 0.0125}) + "\n")
    person.wait_for_text(".legend li[data-label='validation loss'] output", "0.0125")
    assert TrainingPanel(run_folder).content()["best"]["iteration"] == 1100


def test_pairs_are_filtered_by_split_and_open_to_a_detail(person, served, pair_set):
    person.open(served(*panels_of(pair_set.path)), "pairs")
    assert person.page.locator(".pair").count() == 4
    person.page.get_by_label("Split").select_option("train")
    person.wait_for_text("#panel-pairs output", "2 of 4 pairs")
    assert person.page.locator(".pair").count() == 2
    person.page.locator(".pair .open").first.click()
    person.page.wait_for_function(
        "() => [...document.querySelectorAll('.detail img')].filter(i => i.naturalWidth === 192).length === 4"
    )


def test_a_panel_that_is_not_seen_is_not_asked_for(person, served, scan):
    person.open(served(*panels_of(scan.path)), "scan")
    person.page.click("#tab-image")
    person.page.wait_for_timeout(1200)  # a look may be on its way
    person.asked.clear()
    person.page.wait_for_timeout(2500)
    assert [url for url in person.asked if "/api/panels/" in url] == []
    person.page.click("#tab-scan")
    person.page.wait_for_event("request", lambda request: request.url.endswith("/api/panels/scan"))


def test_a_scan_that_cannot_be_read_is_said_and_comes_back(person, served, scan):
    person.open(served(*panels_of(scan.path)), "scan")
    pattern = "**/api/panels/scan"
    person.page.route(pattern, lambda route: route.fulfill(status=500, body="{}"))
    person.wait_for_text(".trouble-line", "the server says 500")
    person.page.unroute(pattern)
    person.page.locator(".trouble-line").first.wait_for(state="hidden")
    person.problems = [said for said in person.problems if "500" not in said]
