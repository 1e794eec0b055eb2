"""What the page makes of counts: levels, automatic contrast, colours of channels, the saturation mask."""

import numpy as np
import pytest

SIDE = 32
GREY_OF_MASK = (255, 140, 0)


def ramp(dtype=np.uint16, step=40):
    """Counts from 0 on, another in every pixel of the first rows."""
    return (step * np.arange(SIDE * SIDE).reshape(SIDE, SIDE) % 4096).astype(dtype)


def level(counts, black, white):
    """The grey of a pixel, by hand."""
    return int(np.floor(255 * min(max((counts - black) / (white - black), 0), 1) + 0.5))


def test_black_and_white_change_pixels_as_computed_by_hand(microscope, person):
    raw, enhanced = ramp(), np.kron(ramp(), np.ones((2, 2), np.uint16))
    person.see(microscope.take(raw, enhanced))
    for black, white in ((0, 4095), (100, 1100), (800.5, 801.5)):
        person.type("#black", 0)
        person.type("#white", white)
        person.type("#black", black)
        assert person.ask("sharpscope.levels.raw") == {"black": black, "white": white}
        for y, x in ((0, 0), (0, 7), (0, 20), (0, 21), (2, 3), (31, 31)):
            expected = 3 * (level(int(raw[y, x]), black, white),)
            assert person.colour("raw", x + 0.5, y + 0.5) == expected
            assert person.colour("enhanced", x + 0.5, y + 0.5) == expected


@pytest.mark.slow
def test_black_and_white_come_from_the_first_frame_and_stay(microscope, person):
    """At 0.1 % and 99.9 % of the pixels, of raw and enhanced together."""
    random = np.random.default_rng(0)
    raw = random.poisson(500, (SIDE, SIDE)).astype(np.uint16)
    enhanced = random.normal(500, 90, (2 * SIDE, 2 * SIDE)).astype(np.float32).clip(0)
    person.see(microscope.take(raw, enhanced))
    ends = [np.percentile(image, [0.1, 99.9], method="inverted_cdf") for image in (raw, np.rint(enhanced))]
    expected = {"black": min(e[0] for e in ends), "white": max(e[1] for e in ends)}
    assert person.ask("sharpscope.levels.raw") == pytest.approx(expected)
    person.see(microscope.take(raw // 2, enhanced / 2))
    assert person.ask("sharpscope.levels.raw") == pytest.approx(expected)
    person.press("a")
    assert person.ask("sharpscope.levels.raw.white") == pytest.approx(expected["white"] / 2, rel=0.01)


@pytest.mark.slow
@pytest.mark.parametrize(("brightest", "white"), [(900, 900), (7, 8)])
def test_an_even_frame_is_black_up_to_its_brightest_point(microscope, person, brightest, white):
    raw = np.full((64, 64), 7, np.uint16)
    raw[3, 5] = brightest
    person.see(microscope.take(raw))
    assert person.ask("sharpscope.levels.raw") == {"black": 7, "white": white}


@pytest.mark.slow
def test_raw_and_enhanced_can_have_their_own_levels(microscope, person):
    raw = ramp()
    person.see(microscope.take(raw, np.kron(raw, np.ones((2, 2), np.uint16))))
    person.click("#linked")
    person.page.select_option("#levels-kind", "enhanced")
    person.type("#white", 1000)
    assert person.ask("sharpscope.levels.enhanced.white") == 1000
    assert person.ask("sharpscope.levels.raw.white") > 3000


@pytest.mark.slow
def test_a_handle_of_the_histogram_moves_the_level(microscope, person):
    person.see(microscope.take(ramp()))
    before = person.ask("sharpscope.levels.raw")
    x, y = person.middle("#handle-white")
    person.page.mouse.move(x, y)
    person.page.mouse.down()
    person.page.mouse.move(x - 60, y, steps=3)
    person.page.mouse.up()
    after = person.ask("sharpscope.levels.raw")
    assert after["black"] == before["black"]
    assert before["black"] < after["white"] < 0.8 * before["white"]
    assert float(person.page.input_value("#white")) == pytest.approx(after["white"])


@pytest.mark.slow
def test_a_histogram_is_the_same_in_whatever_steps_the_counts_travel(person):
    """Float images with a negative pixel travel in fractions of a count."""
    counts = np.random.default_rng(3).normal(500, 60, 100_000).clip(0, 999)
    step = 1001 / 65535
    planes = [
        {"values": np.rint(counts).astype(int).tolist(), "zero": 0, "step": 1, "hasNan": False},
        {
            "values": np.rint((counts + 1) / step).astype(int).tolist(),
            "zero": -1,
            "step": step,
            "hasNan": False,
        },
    ]
    binned = """async (plane) => {
        const { Histogram } = await import(new URL("histogram.js", document.baseURI));
        const histogram = new Histogram(), density = new Float64Array(50);
        histogram.measure(plane);
        histogram.bin(density, -0.5, 999.5);
        return [...density]; }"""
    whole, fine = (np.array(person.page.evaluate(binned, plane)) for plane in planes)
    assert whole.sum() * 20 == pytest.approx(len(counts), rel=0.01)
    np.testing.assert_allclose(fine, whole, atol=0.05 * whole.max())


def test_the_mask_marks_exactly_the_saturated_pixels(microscope, person):
    raw = np.random.default_rng(1).integers(0, 4090, (SIDE, SIDE)).astype(np.uint16)
    saturated = np.random.default_rng(2).random((SIDE, SIDE)) < 0.05
    raw[saturated] = 4095
    raw[0, 0] = 4094
    person.see(microscope.take(raw, np.kron(raw, np.ones((2, 2), np.uint16))))
    person.press("1")  # one screen pixel for one raw pixel
    person.press("m")
    place = person.ask("sharpscope.place(0, 0)")
    left, top = int(place["x"]), int(place["y"])
    shown = person.canvas("raw")[top : top + SIDE, left : left + SIDE]
    np.testing.assert_array_equal((shown == GREY_OF_MASK).all(axis=2), saturated)
    assert person.text("#saturated").startswith(f"{saturated.sum()} px at 4095")
    for y, x in np.argwhere(saturated)[:5]:
        person.page.keyboard.press("f")
        person.drawn()
        assert person.colour("enhanced", x + 0.25, y + 0.75) == GREY_OF_MASK


@pytest.mark.slow
def test_without_a_known_full_scale_nothing_is_called_saturated(microscope, person):
    person.see(microscope.take(ramp(), full_scale=None))
    assert person.page.locator("#mask").is_disabled()


@pytest.mark.slow
def test_channels_are_added_in_their_colours(microscope, person):
    green, red = ramp(), ramp()[::-1].copy()
    microscope.take(green, channel="FITC")
    person.see(microscope.take(red, channel="TRITC") - 1)
    person.click("#composite")
    person.wait("document.querySelector('#raw-facts').textContent.startsWith('composite')")
    for name in ("FITC", "TRITC"):
        person.click(f"[data-name={name}] input[type=radio]")
        person.wait(f"document.querySelector('#levels-of').textContent === '{name}'")
        person.type("#black", 0)
        person.type("#white", 4095)
    person.page.locator("[data-name=TRITC] input[type=color]").fill("#ff0000")
    person.drawn()
    for y, x in ((0, 10), (5, 5), (31, 31)):
        expected = (level(int(red[y, x]), 0, 4095), level(int(green[y, x]), 0, 4095), 0)
        assert person.colour("raw", x + 0.5, y + 0.5) == expected


@pytest.mark.slow
def test_the_sum_of_two_channels_stops_at_white(microscope, person):
    bright = np.full((SIDE, SIDE), 3000, np.uint16)
    bright[0] = 0
    microscope.take(bright, channel="one")
    person.see(microscope.take(bright, channel="two") - 1)
    person.press("c")
    person.wait("document.querySelector('#raw-facts').textContent.startsWith('composite')")
    assert person.colour("raw", 9.5, 9.5) == (255, 255, 255)
    assert person.colour("raw", 9.5, 0.5) == (0, 0, 0)


@pytest.mark.slow
def test_the_cursor_reads_place_and_counts(microscope, person):
    raw = ramp()
    enhanced = (
        np.kron(raw, np.ones((2, 2))).astype(np.float32) / 8192 - 0.25
    )  # spread over the steps that travel
    person.see(microscope.take(raw, enhanced))
    box = person.page.locator("#stage").bounding_box()
    at = person.ask("sharpscope.place(7.25, 1.25)")
    person.page.mouse.move(box["x"] + at["x"], box["y"] + at["y"])
    assert person.text("#cursor-px") == "7, 1"
    x_um, y_um = map(float, person.text("#cursor-um").split(", "))
    assert (x_um, y_um) == (pytest.approx(7.25 * 0.65, abs=0.03), pytest.approx(1.25 * 0.65, abs=0.03))
    assert person.text("#cursor-raw") == str(raw[1, 7])
    assert float(person.text("#cursor-enhanced")) == pytest.approx(float(enhanced[2, 14]), abs=1e-4)
