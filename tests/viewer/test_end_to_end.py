"""An evening at the microscope, end to end: the commands as a person types them, and their page in Chromium.

The stand is the virtual TIRF microscope; worker, camera and viewer are processes of their own. Of each step a
picture goes to the folder that SHARPSCOPE_SCREENSHOTS names. SHARPSCOPE_LIVE_MODEL names a package to serve
instead of one that only enlarges; the frames are then of full size.
"""

import base64
import io
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace

import av
import numpy as np
import pytest
import tifffile
import yaml
from PIL import Image
from scipy import ndimage

from acquisition.plan import load_experiment
from acquisition.virtual import from_choice
from inference.generator import GeneratorPlan, build_generator
from inference.preprocess import Photometry, normalise, prepare
from inference.recording import Recorder
from inference.recording_lines import FrameFacts
from inference.recovery import Recording
from inference.viewer.annotation import AMBER, Annotation, annotate
from training.export import ModelSource, export_package
from training.pairing.pairs import ChannelNormalisation, Linear, Optics, PairRecord, PairSet, PairSetIndex
from training.settings import TrainingPlan

pytestmark = [pytest.mark.slow, pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGKILL")]

READY = "virtual_tirf_sim"
PATIENCE_S = 90.0
PATIENCE_MS = 1000 * PATIENCE_S
SIDE, FULL_SIDE = 192, 512
BACKGROUND_COUNTS, BRIGHT_COUNTS = 100.0, 2600.0
MODEL = os.environ.get("SHARPSCOPE_LIVE_MODEL")
WINDOW = {"width": 1440, "height": 860}


class Program:
    """`sharpscope` with its arguments, as a process; what it says is remembered."""

    def __init__(self, *arguments):
        command = [sys.executable, "-m", "sharpscope", *map(str, arguments)]
        self._process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        self._said, self._ended = [], False
        self._heard = threading.Condition()
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self):
        for line in self._process.stderr:
            with self._heard:
                self._said.append(line)
                self._heard.notify_all()
        with self._heard:
            self._ended = True
            self._heard.notify_all()

    def says(self, pattern):
        """Wait for a line, and return what the pattern's group found in it."""
        with self._heard:
            self._heard.wait_for(lambda: self._ended or re.search(pattern, "".join(self._said)), PATIENCE_S)
            found = re.search(pattern, "".join(self._said))
        assert found is not None, "".join(self._said)
        return found[1]

    def page(self):
        return self.says(r"the page is at (\S+)")

    @property
    def has_ended(self):
        return self._process.poll() is not None

    def exit_code(self):
        """Wait for its end."""
        return self._process.wait(PATIENCE_S)

    def kill(self):
        self._process.kill()
        self._process.wait()

    def close(self):
        if not self.has_ended:
            self._process.send_signal(signal.SIGINT)
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self.kill()


class Service:
    """A worker at one address, that can be killed and started again."""

    def __init__(self, model):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.address = f"tcp://127.0.0.1:{free.getsockname()[1]}"
        self._command = ("serve", model, "--bind", self.address, "--no-supervisor")
        self.start()

    def start(self):
        self.program = Program(*self._command)

    def ready(self):
        self.program.says("(listening on)")
        return self


class Person:
    """Looks at a page and touches it; remembers what was complained of and asked for meanwhile."""

    def __init__(self, context, pictures):
        self.page, self._pictures = context.new_page(), pictures
        self.problems, self.requests = [], []
        self.page.set_default_timeout(PATIENCE_MS)
        self.page.on("console", lambda message: self.problems.append(message.text))
        self.page.on("pageerror", lambda error: self.problems.append(str(error)))
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.on("websocket", lambda socket: self.requests.append(socket.url))

    def wait(self, condition):
        self.page.wait_for_function(f"() => window.sharpscope && {condition}")

    def ask(self, expression):
        return self.page.evaluate(f"() => {expression}")

    def text(self, selector):
        return self.page.locator(selector).inner_text()

    @property
    def number(self):
        """Of the frame that is drawn."""
        return self.ask("sharpscope.last.number")

    def sees_later_than(self, number):
        self.wait(f"sharpscope.last?.number > {number}")

    def sees_enhanced_later_than(self, number):
        self.wait(f"sharpscope.last?.number > {number} && document.querySelector('#reason').hidden")

    def hold_an_enhanced_frame(self):
        """Press Hold while one is shown."""
        self.wait(
            "document.querySelector('#reason').hidden && (document.querySelector('#play').click(), true)"
        )
        self.says("#play", "Play")

    def says(self, selector, words):
        self.wait(f"document.querySelector('{selector}').textContent.startsWith('{words}')")

    def type(self, selector, text):
        self.page.fill(selector, str(text))
        self.page.press(selector, "Enter")

    def download(self, selector):
        """Click, and return the file that comes."""
        with self.page.expect_download() as download:
            self.page.click(selector)
        return Path(download.value.path())

    def picture(self, name):
        self.page.screenshot(path=self._pictures / f"{name}.png")

    def brightest(self):
        """Of the raw canvas."""
        png = self.ask("document.querySelector('#canvas-raw').toDataURL().split(',')[1]")
        return np.asarray(Image.open(io.BytesIO(base64.b64decode(png))).convert("L")).max()

    def abroad(self):
        """What was asked of anybody but this machine."""
        home = re.compile(r"(http|ws)://127\.0\.0\.1:\d+/|blob:http://127\.0\.0\.1:\d+/")
        return [url for url in self.requests if not home.match(url)]


def experiment(folder, side_px, **lapse):
    """Write the ready experiment with a smaller camera and another time-lapse; returns the file."""
    document = load_experiment(READY).model_dump(mode="json", exclude_none=True)
    document["microscope"] |= {"camera_shape_yx": [side_px, side_px], "replay": 24}
    document["time_lapse"] |= lapse
    path = folder / "tirf.yaml"
    path.write_text(yaml.safe_dump(document), encoding="utf-8")
    return path


def options_of_live(worker, folder):
    beside = ("--preview", "--view", "--view-port", 0, "--no-browser")
    return ("--worker", worker.address, "-o", folder, *beside)


def frames_of_the_stand(count):
    """Frames such as the time-lapse takes, (count, Y, X) uint16."""
    choice = load_experiment(READY).microscope.model_copy(
        update={"camera_shape_yx": (SIDE, SIDE), "replay": count}
    )
    core = from_choice(choice)
    for group, preset in (("Objective", "100X"), ("Modality", "TIRF")):
        core.setConfig(group, preset)
    core.setExposure(33.333)
    return np.stack([core.snap() for _ in range(count)])


def enlarging_model(folder):
    """Package a model of the stand that enlarges by two and changes nothing: nothing of it can be flagged."""
    linear = Linear(background=BACKGROUND_COUNTS, scale=255 / BRIGHT_COUNTS)
    photometry = Photometry(linear.background, linear.scale)
    records = []
    for region, split in enumerate(["train", "train", "validation", "test"]):
        low = frames_of_the_stand(4)[region]
        high = ndimage.zoom(low.astype(np.float32), 2, order=1)
        name = f"region{region:04d}_GFP.ome.tif"
        PairSet.write_pair(folder / name, prepare(low, photometry, 2), normalise(high, photometry), 0.0325)
        records.append(
            PairRecord(
                file=name, channel="GFP", region=region, split=split, accepted=True,
                sources={f"low{region}.tif": f"{region + 1:064x}"},
                origin_yx_px=(0, 0), shift_yx_px=(0.0, 0.0), deformation_rms_px=0.0,
                ncc_before=1.0, ncc_after=1.0,
            )
        )  # fmt: skip
    optics = Optics(
        low_pixel_size_um=0.065, high_pixel_size_um=0.0325,
        low_numerical_aperture=1.49, high_numerical_aperture=1.49, emission_nm={"GFP": 525.0},
    )  # fmt: skip
    normalisation = {"GFP": ChannelNormalisation(low=linear, high=linear)}
    index = PairSetIndex(run_id="stand", factor=2, optics=optics, normalisation=normalisation, pairs=records)
    pairs = PairSet(folder, index)
    pairs.save_index()
    network = GeneratorPlan(base_width=4, levels=1, shuffle=2, global_residual=True)  # begins as the identity
    plan = TrainingPlan(name="enlarger", channel="GFP", generator=network)
    source = ModelSource(
        build_generator(network).eval(), plan, pairs, {"validation loss": 1.0}, {"pairs": "0" * 64}
    )
    return export_package(source, folder / "model.zip")


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return Path(MODEL) if MODEL else enlarging_model(tmp_path_factory.mktemp("model"))


@pytest.fixture
def closing():
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def run(closing):
    """Starts `sharpscope`."""

    def started(*arguments):
        program = Program(*arguments)
        closing.callback(program.close)
        return program

    return started


@pytest.fixture(scope="module")
def service(model):
    service = Service(model)
    yield service
    service.program.close()


@pytest.fixture
def worker(service):
    """A worker that is there, or will be."""
    if service.program.has_ended:
        service.start()
    return service


@pytest.fixture
def person(browser, closing, tmp_path):
    """Opens pages."""
    pictures = Path(os.environ.get("SHARPSCOPE_SCREENSHOTS") or tmp_path)
    pictures.mkdir(parents=True, exist_ok=True)

    def opens(url):
        context = browser.new_context(viewport=WINDOW)
        closing.callback(context.close)
        person = Person(context, pictures)
        person.page.goto(url)
        return person

    return opens


def test_a_person_records_a_time_lapse_and_looks_back_at_it(tmp_path, run, worker, person):
    folder = tmp_path / "recording"
    plan = experiment(tmp_path, FULL_SIDE if MODEL else SIDE, frames=5000, interval_s=0.25)
    live = run("live", plan, *options_of_live(worker, folder))
    worker.ready()
    she = person(live.page())
    she.sees_enhanced_later_than(1)
    see_frames_change(she, worker)
    move_the_swipe(she)
    change_the_levels(she)
    pause_and_resume(she)
    take_a_snapshot(she)
    look_back_and_return(she, folder)
    export_a_movie(she)
    reload(she)
    lose_the_worker_and_get_another(she, worker)
    assert she.abroad() == []
    assert she.problems == []
    stop(she)
    assert live.exit_code() == 3  # stopped before its end: frames are missing
    she.page.close()
    recorded = frames_in(folder)
    assert list(recorded) == list(range(len(recorded)))
    look_at_the_recording(person(run("view", folder, "--port", 0, "--no-browser").page()), folder)


def see_frames_change(she, worker):
    number, drawn = she.number, she.ask("sharpscope.frames_drawn")
    she.sees_enhanced_later_than(number + 3)
    assert she.ask("sharpscope.frames_drawn") > drawn
    assert she.text("#label-enhanced").startswith("ENHANCED")
    assert she.text("#warnings") == "" or MODEL
    assert she.text("#state") == "running"
    assert she.text("#worker") == worker.address
    she.picture("live")


def move_the_swipe(she):
    she.page.keyboard.press("s")
    box = she.page.locator("#swipe").bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 3
    she.page.mouse.move(x, y)
    she.page.mouse.down()
    she.page.mouse.move(x - 120, y, steps=4)
    she.page.mouse.up()
    moved = she.page.locator("#swipe").bounding_box()
    assert moved["x"] == pytest.approx(box["x"] - 120, abs=2)
    stage = she.page.locator("#stage").bounding_box()
    she.page.mouse.move(stage["x"] + stage["width"] / 2, stage["y"] + stage["height"] / 2)
    for _ in range(4):
        she.page.keyboard.press("+")
    she.sees_enhanced_later_than(she.number)
    she.picture("swipe")
    she.page.keyboard.press("f")


def change_the_levels(she):
    she.page.keyboard.press("d")
    she.type("#white", 60000)
    she.wait("sharpscope.levels.raw.white === 60000")
    she.sees_later_than(she.number)
    dark = she.brightest()
    she.page.keyboard.press("a")
    she.wait("sharpscope.levels.raw.white < 10000")
    she.sees_later_than(she.number)
    assert dark < 40
    assert she.brightest() > dark
    x, y = (lambda box: (box["x"] + 1, box["y"] + 30))(she.page.locator("#handle-white").bounding_box())
    before = she.ask("sharpscope.levels.raw.white")
    she.page.mouse.move(x, y)
    she.page.mouse.down()
    she.page.mouse.move(x - 30, y, steps=3)
    she.page.mouse.up()
    assert she.ask("sharpscope.levels.raw.white") < before


def pause_and_resume(she):
    she.page.click("#pause")
    she.says("#state", "paused")
    number = she.number
    she.sees_later_than(number + 3)  # raw goes on
    she.wait("document.querySelector('#reason').textContent.endsWith('waiting, paused')")
    enhanced = she.text("#enhanced-count")
    she.picture("paused")
    she.sees_later_than(she.number + 1)
    assert she.text("#enhanced-count") == enhanced
    she.page.click("#resume")
    she.says("#state", "running")
    she.sees_enhanced_later_than(she.number)


def take_a_snapshot(she):
    she.page.keyboard.press("e")
    she.hold_an_enhanced_frame()
    with Image.open(she.download("#snapshot")) as opened:
        assert opened.format == "PNG"
        picture = np.asarray(opened.convert("RGB"))
    name, full_hash = she.text("#model-name"), she.page.get_attribute("#label-enhanced", "title")
    words = annotate(np.zeros_like(picture), Annotation("ENHANCED", True, name, full_hash, "GFP"))
    heading = slice(0, len(picture) // 4)
    letters = (words == AMBER).all(axis=2)[heading]
    assert letters.sum() > 200
    np.testing.assert_array_equal((picture == AMBER).all(axis=2)[heading], letters)
    she.page.keyboard.press("d")
    she.page.keyboard.press("End")


def look_back_and_return(she, folder):
    place = an_enhanced_frame(folder)
    she.page.locator("#slider").fill(str(place))
    she.wait(f"sharpscope.last.index === {place}")
    assert she.page.get_attribute("#live", "aria-pressed") == "false"
    assert not she.page.is_visible("#reason")
    length = int(she.page.get_attribute("#slider", "max"))
    she.wait(f"Number(document.querySelector('#slider').max) > {length + 1}")  # while it records
    assert she.ask("sharpscope.last.index") == place
    she.picture("looking_back")
    she.page.click("#live")
    she.sees_later_than(length)


def export_a_movie(she):
    she.page.click("#movie")
    she.page.fill("#export-first", "1")
    she.page.fill("#export-last", "8")
    she.picture("export")
    film = she.download("#export-start")
    with av.open(str(film)) as opened:
        assert sum(1 for _ in opened.decode(video=0)) == 8
    she.page.keyboard.press("Escape")


def reload(she):
    number = she.number
    she.page.reload()
    she.sees_enhanced_later_than(number)


def lose_the_worker_and_get_another(she, worker):
    worker.program.kill()
    she.says("#state", "worker")
    number = she.number
    she.sees_later_than(number + 2)  # the camera does not care
    she.wait("!document.querySelector('#reason').hidden")
    she.picture("worker_lost")
    worker.start()
    worker.ready()
    she.says("#state", "running")
    she.sees_enhanced_later_than(she.number)
    she.picture("recovered")


def stop(she):
    she.page.click("#stop")
    she.page.click("#stop")
    she.says("#connection", "connection lost: the program has ended")
    she.picture("stopped")


def frames_in(folder):
    """The journal's raw frames, by number."""
    return Recording.open(folder).frames


def an_enhanced_frame(folder):
    """One of the first that has an enhanced image; its number is its place, since there is one series."""
    return sorted(Recording.open(folder).enhanced)[2]


def look_at_the_recording(she, folder):
    she.wait("sharpscope.last")
    count = len(frames_in(folder))
    she.wait(f"document.querySelector('#slider').max === '{count - 1}'")
    she.page.keyboard.press("Home")
    she.wait("sharpscope.last.index === 0")
    place = an_enhanced_frame(folder)
    she.page.locator("#slider").fill(str(place))
    she.wait(f"sharpscope.last.index === {place}")
    assert not she.page.is_visible("#reason")
    she.picture("view")
    recording = Recording.open(folder)
    stack = export_tiff(she, "raw", place - 1, place + 3)
    expected = np.stack([recording.read(number) for number in range(place - 1, place + 4)])
    np.testing.assert_array_equal(stack, expected)
    (enhanced,) = export_tiff(she, "enhanced", place, place)
    np.testing.assert_array_equal(enhanced, recording.read_enhanced(place))
    assert she.abroad() == []
    assert she.problems == []


def export_tiff(she, show, first, last):
    """Return the counts of the file, (T, Y, X)."""
    she.page.click("#movie")
    she.page.select_option("#export-format", "ome-tiff")
    she.page.select_option("#export-show", show)
    she.page.fill("#export-first", str(first))
    she.page.fill("#export-last", str(last))
    stack = tifffile.imread(she.download("#export-start"), is_ome=False)
    she.page.keyboard.press("Escape")
    return stack.reshape(-1, *stack.shape[-2:])


def test_viewers_that_stall_or_are_killed_leave_no_gap_in_the_recording(
    tmp_path, run, worker, person, stalled
):
    folder, frames = tmp_path / "recording", 200
    plan = experiment(tmp_path, 96, frames=frames, interval_s=0)  # at the camera's pace
    live = run("live", plan, *options_of_live(worker, folder))
    url = live.page()
    stalled(SimpleNamespace(port=int(re.search(r":(\d+)", url)[1])), "GFP")
    frozen, killed, well = person(url), person(url), person(url)
    well.sees_later_than(0)
    debugger = frozen.page.context.new_cdp_session(frozen.page)
    debugger.send("Debugger.enable")
    debugger.send("Debugger.pause")
    killed.page.context.close()
    well.sees_later_than(well.number + 30)
    assert live.exit_code() == 0
    facts = [line.facts for line in frames_in(folder).values()]
    assert [fact.camera_frame for fact in facts] == list(range(frames))


def test_the_page_needs_no_network(tmp_path, run, person):
    with Recorder.create(tmp_path / "r") as recorder:
        for number in range(3):
            recorder.put(np.full((64, 64), 100 + number, np.uint16), FrameFacts(channel="GFP"))
    url = run("view", tmp_path / "r", "--port", 0, "--no-browser").page()
    she = person(url)
    she.wait("sharpscope.last")
    for key in ("s", "b", "r", "e", "d", "c", "m", "a", "h", "1", "f", "+", "?", "Escape", "Home", "End"):
        she.page.keyboard.press(key)
    she.page.click("#movie")
    she.download("#export-start")
    assert she.abroad() == []
    assert len(she.requests) > 20
    assert she.problems == []
