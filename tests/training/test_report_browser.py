"""The report in a real Chromium: what a mouse, a finger, a keyboard and a printer do with it."""

import re

import numpy as np
import pytest
from scipy import ndimage

from training.evaluation.report.figure_table import TableRow, figure_table
from training.evaluation.report.page import Section, write_report
from training.evaluation.report.plots import Curve, ring_correlation_plot
from training.evaluation.report.viewer import ShownField, viewer

pytestmark = pytest.mark.slow  # a browser's start; .ci/run runs it

ENHANCED = "ENHANCED, model 1a2b3c4d"
PIXEL_UM = 0.325
SHAPE_YX = (96, 128)
EVENT_TIMEOUT_MS = 10_000


def shown_field(title, seed):
    noise = np.random.default_rng(seed).normal(size=SHAPE_YX)
    truth = ndimage.gaussian_filter(noise, 1.5)
    images = {
        "input": ndimage.gaussian_filter(truth, 3),
        "black and white": np.where(truth > 0, 1e9, -1e9),
        ENHANCED: truth + 0.1 * noise,
        "truth": truth,
    }
    return ShownField(title, images, {"difference ENHANCED - truth": 0.1 * noise}, PIXEL_UM)


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """The address of a small report on the disk."""
    x = np.linspace(0, 1.5, 50)
    rows = [TableRow("bicubic", {"psnr_db": 20.0}), TableRow(ENHANCED, {"psnr_db": 30.0})]
    sections = [
        Section("Figures", figure_table(rows)),
        Section("Fields", viewer([shown_field("best field", 0), shown_field("worst field", 1)])),
        Section("Plots", ring_correlation_plot([Curve(ENHANCED, x, np.exp(-x), "enhanced")], "Agreement")),
    ]
    path = tmp_path_factory.mktemp("report") / "report.html"
    write_report(path, "A report", sections)
    return path.as_uri()


class Reader:
    """A person at the report: the page, and what was said and asked for while it was open."""

    def __init__(self, page):
        self.page = page
        self.problems, self.requests = [], []
        page.set_default_timeout(EVENT_TIMEOUT_MS)
        page.on("console", lambda message: self.problems.append(message.text))
        page.on("pageerror", lambda error: self.problems.append(str(error)))
        page.on("request", lambda request: self.requests.append(request.url))

    @property
    def viewer(self):
        return self.page.locator(".viewer")

    def open(self, address):
        self.page.goto(address)
        self.page.wait_for_selector(".viewer[data-ready]")
        self.viewer.scroll_into_view_if_needed()
        # The scrolling is told to the page with the next frame.
        self.page.evaluate("() => new Promise(done => requestAnimationFrame(() => setTimeout(done)))")

    def state(self, name):
        return self.viewer.get_attribute(f"data-{name}")

    def wait_for(self, name, condition):
        """Wait until an attribute meets a condition, in JavaScript, of its `value`; returns it."""
        condition = (
            f"() => {{ const value = document.querySelector('.viewer').dataset.{name}; return {condition}; }}"
        )
        self.page.wait_for_function(condition)
        return self.state(name)

    def choose(self, text):
        self.viewer.get_by_text(text, exact=True).click()

    def swipe(self):
        self.choose("swipe")
        self.wait_for("split", "value !== undefined")
        self.viewer.locator(".swipe").scroll_into_view_if_needed()

    def middle_of(self, selector):
        box = self.viewer.locator(selector).first.bounding_box()
        return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2

    def panels(self):
        """Return the content of every panel's canvas that is shown."""
        return self.page.evaluate(
            "() => [...document.querySelectorAll('.shown .panels canvas')].map(canvas => canvas.toDataURL())"
        )

    def scale_bar_um(self):
        """Return what the first bar says and what its length is."""
        bar = self.viewer.locator(".shown .bar.live").first
        said = float(re.fullmatch(r"([\d.]+) µm", bar.inner_text()).group(1))
        return said, bar.bounding_box()["width"] / float(self.state("zoom")) * PIXEL_UM


@pytest.fixture
def reader(browser, report):
    context = browser.new_context(viewport={"width": 1366, "height": 768})
    reader = Reader(context.new_page())
    reader.open(report)
    yield reader
    context.close()


def test_the_report_opens_without_an_error_and_asks_for_nothing_but_itself(reader):
    reader.swipe()
    assert reader.problems == []
    assert [url for url in reader.requests if not url.startswith(("file:", "data:"))] == []


def test_the_script_leaves_no_name_behind(reader):
    names = "['Viewer', 'Aim', 'Surface', 'Field', 'clamp', 'added']"
    assert (
        reader.page.evaluate(f"() => {names}.filter(name => {{ try {{ return eval(name); }} catch {{}} }})")
        == []
    )


def test_the_divider_follows_the_mouse_and_the_left_image_with_it(reader):
    reader.swipe()
    opaque = """() => {
        const canvas = document.querySelector(".swipe canvas");  // of the left image
        return canvas.getContext("2d").getImageData(0.7 * canvas.width, canvas.height / 2, 1, 1).data[3];
    }"""
    x, y = reader.middle_of(".swipe .frame")
    width = reader.viewer.locator(".swipe .frame").bounding_box()["width"]
    right_of_it = {"x": x + 0.05 * width, "y": y, "width": 0.2 * width, "height": 40}
    before = reader.page.screenshot(clip=right_of_it)
    assert reader.state("split") == "0.5000"
    assert reader.page.evaluate(opaque) == 0
    reader.page.mouse.move(x, y)
    reader.page.mouse.down()
    reader.page.mouse.move(x + 0.3 * width, y, steps=3)
    reader.page.mouse.up()
    assert float(reader.wait_for("split", "value > 0.7")) == pytest.approx(0.8, abs=0.01)
    assert reader.page.evaluate(opaque) == 255
    assert reader.page.screenshot(clip=right_of_it) != before


def test_the_wheel_zooms_all_panels_at_the_cursor(reader):
    before, zoom = reader.panels(), float(reader.state("zoom"))
    box = reader.viewer.locator(".shown .frame").nth(2).bounding_box()
    reader.page.mouse.move(box["x"] + 9, box["y"] + 9)
    reader.page.mouse.move(box["x"] + 5, box["y"] + 5)
    reader.page.mouse.wheel(0, -240)
    assert float(reader.wait_for("zoom", f"value > {zoom}")) == pytest.approx(zoom * np.exp(0.36), rel=0.01)
    assert all(now != then for now, then in zip(reader.panels(), before, strict=True))
    assert max(map(float, reader.state("centre").split())) < 0.4  # the corner under the cursor stays in view


def test_the_wheel_scrolls_the_page_where_there_is_nothing_to_zoom_out(reader):
    x, y = reader.middle_of(".shown .frame")
    before, zoom = reader.page.evaluate("() => window.scrollY"), reader.state("zoom")
    reader.page.mouse.move(x, y)
    reader.page.mouse.move(x + 4, y)
    reader.page.mouse.wheel(0, 240)
    reader.page.wait_for_function(f"() => window.scrollY > {before}")
    assert reader.state("zoom") == zoom


def test_dragging_moves_all_panels_and_a_double_click_shows_the_whole_field(reader):
    whole = reader.state("zoom")
    x, y = reader.middle_of(".shown .frame")
    reader.viewer.get_by_role("button", name="zoom in").click(click_count=4)
    reader.wait_for("zoom", f"value > {whole}")
    before = reader.panels()
    reader.page.mouse.move(x, y)
    reader.page.mouse.down()
    reader.page.mouse.move(x + 20, y + 10, steps=2)
    reader.page.mouse.up()
    reader.wait_for("centre", "value !== '0.5000 0.5000'")
    assert all(now != then for now, then in zip(reader.panels(), before, strict=True))
    reader.page.mouse.dblclick(x, y)
    reader.wait_for("zoom", f"value === '{whole}'")


@pytest.mark.parametrize("clicks", [0, 3, 7, 11])
def test_the_scale_bar_is_true_and_of_a_round_length_at_every_zoom(reader, clicks):
    zoom = float(reader.state("zoom"))
    for _ in range(clicks):
        reader.viewer.get_by_role("button", name="zoom in").click()
    if clicks:
        reader.wait_for("zoom", f"value > {zoom * 1.25**clicks * 0.99}")
    said, length = reader.scale_bar_um()
    assert length == pytest.approx(said, rel=0.02)
    assert float(f"{said:e}".split("e")[0]) in (1, 2, 5)


def test_pixels_are_squares_beyond_their_own_size(reader):
    assert float(reader.state("zoom")) > 1
    levels = """() => {
        const canvas = document.querySelectorAll(".shown .panels canvas")[1];
        const pixels = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
        return [...new Set(pixels.filter((_, index) => index % 4 === 0))].sort();
    }"""
    assert reader.page.evaluate(levels) == [0, 255]


def test_keys_zoom_blink_and_move_the_divider(reader):
    whole = reader.state("zoom")
    reader.viewer.locator(".shown .panels").focus()
    reader.page.keyboard.press("+")
    reader.wait_for("zoom", f"value > {whole}")
    reader.page.keyboard.press("ArrowRight")
    reader.wait_for("centre", "value.split(' ')[0] > 0.5")
    reader.page.keyboard.press("0")
    reader.wait_for("zoom", f"value === '{whole}'")
    reader.swipe()
    reader.viewer.get_by_role("slider", name="divider").focus()
    reader.page.keyboard.press("ArrowRight")
    reader.wait_for("split", "value === '0.5200'")
    reader.page.keyboard.press("b")
    reader.wait_for("blink", "value === 'left'")
    reader.wait_for("blink", "value === 'right'")
    reader.page.keyboard.press("b")
    reader.wait_for("blink", "value === 'off'")
    assert (reader.state("split"), reader.state("blink")) == ("0.5200", "off")


def test_arrows_choose_the_field_by_its_tab(reader):
    before = reader.panels()
    reader.viewer.get_by_role("radio", name="best field").focus()
    reader.page.keyboard.press("ArrowRight")
    reader.wait_for("field", "value === '1'")
    assert reader.viewer.locator(".field.shown h3").text_content() == "worst field"
    reader.page.wait_for_function("() => document.querySelector('.shown canvas').height !== 150")  # drawn
    assert reader.panels() != before


def test_the_first_swipe_is_from_the_input_to_the_enhanced_image_and_says_so(reader):
    reader.swipe()
    assert (reader.state("left"), reader.state("right")) == ("input", ENHANCED)
    assert reader.viewer.locator(".swipe .label.right").inner_text().strip(" ▶\xa0") == ENHANCED
    reader.viewer.get_by_label("left").select_option(label="difference ENHANCED - truth")
    reader.wait_for("left", "value.startsWith('difference')")
    assert reader.viewer.locator(".swipe .colours").is_visible()


def test_the_word_enhanced_stays_on_its_panel_when_zoomed(reader):
    label = reader.viewer.locator(".shown .label.enhanced")
    reader.viewer.get_by_role("button", name="zoom in").click(click_count=5)
    assert label.inner_text() == ENHANCED
    assert label.is_visible()


def test_the_sliders_stretch_images_but_not_maps(reader):
    reader.viewer.locator("input.white").fill("50")
    reader.page.wait_for_function("() => document.querySelector('.shown canvas').style.filter !== ''")
    slope = reader.viewer.locator("feFuncR").first.get_attribute("slope")
    assert float(slope) == pytest.approx(2.0)
    assert reader.viewer.locator(".shown .map canvas").evaluate("canvas => canvas.style.filter") == ""


@pytest.mark.parametrize(
    ("selector", "text"), [("td.best strong", "30.00"), ("svg text >> text=correlation", "correlation")]
)
def test_the_text_of_tables_and_plots_can_be_selected(reader, selector, text):
    reader.page.locator(selector).first.dblclick()
    selected = reader.page.evaluate("() => window.getSelection().toString()").strip()
    assert selected == text


def test_print_shows_every_field_as_a_row_of_panels_without_controls(reader):
    reader.swipe()
    reader.page.emulate_media(media="print")
    for gone in (".controls", ".swipe", ".contents", "canvas >> nth=0"):
        assert not reader.page.locator(gone).first.is_visible()
    assert all(image.is_visible() for image in reader.viewer.locator("img").all())
    assert all(label.is_visible() for label in reader.viewer.locator(".field .label").all())
    assert reader.viewer.locator(".bar.whole").first.is_visible()


def test_a_phone_needs_no_sideways_scroll(browser, report):
    context = browser.new_context(viewport={"width": 420, "height": 800}, is_mobile=True, has_touch=True)
    reader = Reader(context.new_page())
    reader.open(report)
    assert reader.page.evaluate("() => [document.documentElement.scrollWidth, innerWidth]") == [420, 420]
    reader.swipe()
    assert reader.page.evaluate("() => document.documentElement.scrollWidth") == 420
    context.close()


def test_two_fingers_zoom(browser, report):
    context = browser.new_context(viewport={"width": 420, "height": 800}, is_mobile=True, has_touch=True)
    reader = Reader(context.new_page())
    reader.open(report)
    zoom = float(reader.state("zoom"))
    x, y = reader.middle_of(".shown .frame")
    touch = context.new_cdp_session(reader.page)
    for kind, apart in (("touchStart", 20), ("touchMove", 30), ("touchMove", 40)):
        points = [{"x": x - apart, "y": y, "id": 0}, {"x": x + apart, "y": y, "id": 1}]
        touch.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})
    touch.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
    reader.wait_for("zoom", f"value > {1.8 * zoom}")
    assert float(reader.state("zoom")) == pytest.approx(2 * zoom, rel=0.05)
    context.close()


def test_without_a_script_the_panels_are_there(browser, report):
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(report)
    assert page.locator(".panel img").first.is_visible()
    assert page.locator(".controls").count() == 0
    context.close()
