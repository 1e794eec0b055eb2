"""How the page shows raw and enhanced: linked zoom and pan, swipe, blink, scale bar, the label ENHANCED."""

import numpy as np
import pytest

SIDE = 64
PLACE_YX = (24, 40)
"""Of the one bright raw pixel."""
MODES = ("#side", "#mode-swipe", "#blink", "#mode-enhanced")
"""Layouts with an enhanced image."""
GROUND = (5, 7, 10)
WHITE, BLACK = (255, 255, 255), (0, 0, 0)


def with_a_point():
    """A raw frame of one bright pixel, and its enhanced image with the same place bright."""
    raw = np.zeros((SIDE, SIDE), np.uint16)
    raw[PLACE_YX] = 4000
    return raw, np.kron(raw, np.ones((2, 2), np.uint16))


def show_point(microscope, person):
    person.see(microscope.take(*with_a_point()))


def assert_point_is_shown(person):
    """In both canvases at the place that the view says, and nowhere beside it."""
    y, x = PLACE_YX
    for canvas in ("raw", "enhanced"):
        for dy, dx in ((0.1, 0.1), (0.9, 0.9), (0.5, 0.5)):
            assert person.colour(canvas, x + dx, y + dy) == WHITE
        for dy, dx in ((-0.2, 0.5), (1.2, 0.5), (0.5, -0.2), (0.5, 1.2)):
            assert person.colour(canvas, x + dx, y + dy) == BLACK


def sample_at(person, x, y):
    """The sample's place under a place of the left pane, as the view tells it."""
    box = person.page.locator("#canvas-raw").bounding_box()
    view = person.ask("sharpscope.view")
    return (
        view["x"] + (x - box["x"] - box["width"] / 2) / view["zoom"],
        view["y"] + (y - box["y"] - box["height"] / 2) / view["zoom"],
    )


def test_frames_change(microscope, person):
    person.see(microscope.take(np.full((SIDE, SIDE), 100, np.uint16)))
    person.type("#white", 200)
    person.type("#black", 0)
    dark = person.colour("raw", 5, 5)
    person.see(microscope.take(np.full((SIDE, SIDE), 200, np.uint16)))
    assert (dark, person.colour("raw", 5, 5)) == ((128, 128, 128), WHITE)
    assert person.ask("sharpscope.frames_drawn") >= 2
    assert person.ask("sharpscope.last.age_ms_at_draw") is None  # no time of capture was told


@pytest.mark.slow
def test_the_wheel_zooms_both_panes_about_the_cursor(microscope, person):
    show_point(microscope, person)
    assert_point_is_shown(person)
    x, y = person.middle("#canvas-raw")
    x, y = x + 40, y - 30
    before, zoom = sample_at(person, x, y), person.ask("sharpscope.view.zoom")
    person.page.mouse.move(x, y)
    person.page.mouse.wheel(0, -480)
    person.wait(f"sharpscope.view.zoom > {1.5 * zoom}")
    person.drawn()
    assert sample_at(person, x, y) == pytest.approx(before, abs=0.1)
    assert_point_is_shown(person)


@pytest.mark.slow
def test_wide_images_stand_one_below_the_other(microscope, person):
    wide = np.zeros((SIDE, 4 * SIDE), np.uint16)
    wide[PLACE_YX] = 4000
    person.see(microscope.take(wide, np.kron(wide, np.ones((2, 2), np.uint16))))
    upper, lower = (person.page.locator(f"#canvas-{each}").bounding_box() for each in ("raw", "enhanced"))
    assert lower["y"] >= upper["y"] + upper["height"]
    assert (upper["x"], upper["width"]) == (lower["x"], lower["width"])
    x, y = person.middle("#canvas-enhanced")
    person.page.mouse.move(x - 100, y)
    person.page.mouse.wheel(0, -240)
    person.drawn()
    assert_point_is_shown(person)


@pytest.mark.slow
def test_dragging_moves_both_panes_and_a_double_click_fits(microscope, person):
    show_point(microscope, person)
    whole = person.ask("sharpscope.view")
    x, y = person.middle("#canvas-enhanced")
    for _ in range(3):
        person.press("+")
    person.page.mouse.move(x, y)
    person.page.mouse.down()
    person.page.mouse.move(x - 40, y + 24, steps=2)
    person.page.mouse.up()
    person.drawn()
    view = person.ask("sharpscope.view")
    assert (view["x"], view["y"]) == (
        pytest.approx(whole["x"] + 40 / view["zoom"]),
        pytest.approx(whole["y"] - 24 / view["zoom"]),
    )
    assert_point_is_shown(person)
    person.page.mouse.dblclick(x, y)
    person.drawn()
    assert person.ask("sharpscope.view") == whole


@pytest.mark.slow
def test_the_divider_of_swipe_follows_the_mouse(microscope, person):
    person.see(
        microscope.take(np.zeros((SIDE, SIDE), np.uint16), np.full((2 * SIDE, 2 * SIDE), 99, np.uint16))
    )
    person.type("#white", 99)
    person.press("s")
    x, y = person.middle("#swipe")
    y += 60  # beside the knob

    def left_and_right(divider):
        shown = person.screenshot()
        return tuple(int(shown[int(y), int(divider + dx)].mean()) for dx in (-30, 30))

    assert left_and_right(x) == (0, 255)
    person.page.mouse.move(x, y)
    person.page.mouse.down()
    person.page.mouse.move(x + 150, y, steps=3)
    person.page.mouse.up()
    assert person.middle("#swipe")[0] == pytest.approx(x + 150, abs=1.5)
    assert left_and_right(x + 150) == (0, 255)
    person.page.focus("#swipe")
    person.press("ArrowLeft")
    assert person.middle("#swipe")[0] < x + 145


def test_no_layout_hides_the_label_of_the_enhanced_image(microscope, person):
    person.see(microscope.take(*with_a_point()))
    stage = person.page.locator("#stage").bounding_box()
    for button in MODES:
        person.click(button)
        for key in ("c", "m", "a", "h"):
            person.press(key)
        person.page.wait_for_selector("#label-enhanced", state="visible")  # of blink, the half with the image
        assert person.text("#label-enhanced") == "ENHANCED small 9f3a1c77"
        label = person.page.locator("#label-enhanced").bounding_box()
        assert stage["x"] <= label["x"]
        assert label["x"] + label["width"] <= stage["x"] + stage["width"]
        assert stage["y"] <= label["y"]


@pytest.mark.slow
def test_blink_shows_one_image_with_its_own_label_and_then_the_other(microscope, person):
    person.see(microscope.take(*with_a_point()))
    person.press("b")
    # Asked in one go, since the phase lasts half a second.
    seen = """[document.querySelector('#stage').dataset.phase, ...['raw', 'enhanced'].filter(kind =>
        document.querySelector(`#label-${kind}`).checkVisibility({visibilityProperty: true}))]"""
    for shown in ("enhanced", "raw", "enhanced"):
        person.wait(f"document.querySelector('#stage').dataset.phase === '{shown}'")
        phase, *labels = person.ask(seen)
        assert labels == [phase]
    person.press("b")
    assert person.is_visible("#label-raw")
    assert person.is_visible("#label-enhanced")


@pytest.mark.slow
@pytest.mark.parametrize(("pixel_um", "unit"), [(0.65, "µm"), (0.0065, "nm"), (100.0, "mm"), (None, "px")])
def test_the_scale_bar_is_of_a_round_length_and_true(microscope, person, pixel_um, unit):
    person.see(microscope.take(np.zeros((SIDE, SIDE), np.uint16), pixel_size_um=pixel_um))
    for _ in range(2):
        bar = person.page.locator("#scale-bar i").bounding_box()["width"]
        said, said_unit = person.text("#scale-bar span").split(" ")
        in_um = {"µm": 1, "nm": 1e-3, "mm": 1e3, "px": 1}[unit] * float(said)
        assert said_unit == unit
        assert bar / person.ask("sharpscope.view.zoom") * (pixel_um or 1) == pytest.approx(in_um, rel=0.02)
        assert f"{float(said):e}"[0] in "125"
        person.press("+")


def test_a_frame_without_an_enhanced_image_says_why_and_shows_no_older_one(microscope, person):
    show_point(microscope, person)
    assert not person.is_visible("#reason")
    raw, _ = with_a_point()
    person.page.keyboard.press("End")
    number = microscope.take(raw, reason="failed: the worker ran out of memory")
    person.see(number)
    assert (
        person.text("#reason") == f"No enhanced image of frame {number}: failed: the worker ran out of memory"
    )
    assert (person.canvas("enhanced") == GROUND).all()
    assert person.is_visible("#label-enhanced")


@pytest.mark.slow
def test_warnings_stand_on_the_image(microscope, person):
    flags = {"warnings": ("noisier than training",), "out_of_domain": ("pixel size 0.65 um",)}
    person.see(microscope.take(*with_a_point(), **flags))
    assert person.page.locator("#warnings p").all_inner_texts() == [
        "Out of the model's domain: pixel size 0.65 um",
        "noisier than training",
    ]
    person.see(microscope.take(*with_a_point()))
    assert person.text("#warnings") == ""


@pytest.mark.slow
def test_a_raw_frame_in_the_place_of_an_enhanced_one_is_not_called_enhanced(microscope, person):
    person.see(microscope.take(*with_a_point(), shows_raw=True))
    assert person.text("#label-enhanced").startswith("NOT ENHANCED")
    assert "The network gave no numbers: the raw frame is shown" in person.text("#warnings")


@pytest.mark.slow
def test_a_composite_names_the_models_of_all_its_channels(microscope, person):
    microscope.take(*with_a_point(), channel="FITC")
    other = {"model_name": "other", "model_hash": "sha256:12345678abcd"}
    person.see(microscope.take(*with_a_point(), channel="TRITC", **other) - 1)
    person.click("#composite")
    person.wait("document.querySelector('#label-enhanced').innerText.includes('+')")
    assert person.text("#label-enhanced") == "ENHANCED small + other 9f3a1c77 + 12345678"
