"""A person at the viewer's page: real Chromium, the real server, and a microscope whose frames are known."""

import base64
import io
from contextlib import ExitStack

import numpy as np
import pytest
from PIL import Image

from inference.viewer.screen import Screen
from inference.viewer.server import ViewerServer
from inference.viewer.shown_frame import Plane, ShownFrame
from inference.viewer.source import Series, SourceStatus

PATIENCE_MS = 10_000
PIXEL_UM = 0.65
MODEL_HASH = "9f3a1c77" + 56 * "0"


class Recording:
    """What was recorded so far, in memory."""

    title = "a recording"

    def __init__(self):
        self.frames = {}

    def series(self):
        return tuple(
            Series(name, frames[0].channel, None, len(frames))
            for name, frames in self.frames.items()
            if frames
        )

    def newest(self, series):
        return self.frames[series][-1] if series in self.frames else None

    def at(self, series, index):
        return self.frames[series][index]

    def status(self):
        return SourceStatus(live=False, state="finished")

    def subscribe(self, changed):
        return lambda: None


class Microscope:
    """Takes frames, has them enhanced, and shows them; with a recording, if one is kept."""

    def __init__(self, title="dish 3", is_recording=True):
        self.recording = Recording() if is_recording else None
        self.state = SourceStatus(live=True, state="running", worker="tcp://127.0.0.1:5555")
        self.screen = Screen(title, status=lambda: self.state, past=self.recording)
        self.number = 0

    def take(self, raw, enhanced=None, *, channel="FITC", reason="dropped: a newer frame came", **facts):
        """Show a frame (Y, X) with its enhanced image, or why there is none; returns its number."""
        number, self.number = self.number, self.number + 1
        pixel_um = facts.pop("pixel_size_um", PIXEL_UM)
        full_scale = facts.pop("full_scale", 4095.0)
        plane = Plane(np.asarray(raw), pixel_um)
        times = {"elapsed_ms": 100.0 * number, "full_scale": full_scale}
        self.screen.raw(number, channel, None, plane, **times)
        made = {}
        if enhanced is None:
            self.screen.ended(number, reason)
            made = {"reason": reason}
        else:
            size_um = None if pixel_um is None else pixel_um * len(raw) / len(enhanced)
            named = {"model_name": "small", "model_hash": MODEL_HASH, "latency_ms": 83.0, **facts}
            self.screen.enhanced(number, Plane(np.asarray(enhanced), size_um), **named)
            made = {"enhanced": Plane(np.asarray(enhanced), size_um), **named}
        if self.recording is not None:
            frames = self.recording.frames.setdefault(channel, [])
            frames.append(
                ShownFrame(
                    number=number, index=len(frames), session="", raw=plane, channel=channel, **times, **made
                )
            )
        return number


class Person:
    """Looks at the page and touches it; remembers what was complained of and asked for meanwhile."""

    def __init__(self, page):
        self.page = page
        self.problems, self.requests = [], []
        page.set_default_timeout(PATIENCE_MS)
        page.on("console", lambda message: self.problems.append(message.text))
        page.on("pageerror", lambda error: self.problems.append(str(error)))
        page.on("request", lambda request: self.requests.append(request.url))
        page.on("websocket", lambda socket: self.requests.append(socket.url))

    def open(self, server):
        self.page.goto(server.url)
        return self

    def see(self, number):
        """Wait until a frame is drawn, with its enhanced image or why there is none."""
        is_waiting = "document.querySelector('#reason').textContent.endsWith(': waiting')"
        self.wait(f"sharpscope.last?.number === {number} && !{is_waiting}")
        return self

    def wait(self, condition):
        self.page.wait_for_function(f"() => window.sharpscope && {condition}")

    def ask(self, expression):
        return self.page.evaluate(f"() => {expression}")

    def drawn(self):
        """Wait until what was touched is drawn."""
        self.page.evaluate("() => new Promise(done => requestAnimationFrame(() => setTimeout(done)))")

    def press(self, key):
        self.page.keyboard.press(key)
        self.drawn()

    def click(self, selector):
        self.page.click(selector)
        self.drawn()

    def type(self, selector, text):
        self.page.fill(selector, str(text))
        self.page.press(selector, "Enter")
        self.drawn()

    def text(self, selector):
        return self.page.locator(selector).inner_text()

    def is_visible(self, selector):
        return self.page.locator(selector).is_visible()

    def colour(self, canvas, x, y):
        """Return the red, green and blue of a canvas where a place of the sample (raw pixels) lies in it."""
        return tuple(
            self.page.evaluate(
                "([canvas, x, y]) => {"
                " const at = sharpscope.place(x, y);"
                " return sharpscope.pixel(canvas, Math.floor(at.x), Math.floor(at.y)).slice(0, 3); }",
                [canvas, x, y],
            )
        )

    def canvas(self, canvas):
        """Return all pixels of a canvas, (Y, X, 3) uint8."""
        png = self.page.evaluate(f"() => document.querySelector('#canvas-{canvas}').toDataURL()")
        return _pixels(base64.b64decode(png.split(",")[1]))

    def screenshot(self):
        """Return what is on the screen, (Y, X, 3) uint8, a pixel for a CSS px."""
        return _pixels(self.page.screenshot())

    def middle(self, selector):
        box = self.page.locator(selector).bounding_box()
        return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2


def _pixels(png):
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB"))


@pytest.fixture
def microscope():
    """A microscope that records."""
    return Microscope()


@pytest.fixture
def camera():
    """A microscope that records nothing."""
    return Microscope(is_recording=False)


@pytest.fixture
def open_page(browser):
    """Opens the page of a source, or of a server; what was opened is closed after the test."""
    with ExitStack() as stack:

        def opened(source, width=1280, height=800, **of_server):
            server = source
            if not isinstance(source, ViewerServer):
                server = stack.enter_context(ViewerServer(source, port=0, **of_server))
            context = browser.new_context(viewport={"width": width, "height": height})
            stack.callback(context.close)
            return Person(context.new_page()).open(server)

        yield opened


@pytest.fixture
def person(microscope, open_page):
    """Someone who looks at the microscope."""
    return open_page(microscope.screen)
