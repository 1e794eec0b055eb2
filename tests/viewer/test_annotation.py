"""Words and scale bar in a picture: what must always be legible, and how long the bar is."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from configs.document import WrongInputError
from inference.viewer.annotation import LEAST_YX_PX, Annotation, annotate, scale_bar, time_text
from inference.viewer.look import Look
from inference.viewer.painter import Painter
from inference.viewer.shown_frame import Plane, ShownFrame

HASH = "3fa9c01b77de" + "0" * 52
AMBER, WHITE = (255, 190, 60), (255, 255, 255)


def frame_of(counts, **facts):
    """A flat frame of 128 x 160 whose enhanced image is twice as large."""
    raw = Plane(np.full((128, 160), counts, np.uint16), 0.1)
    enhanced = Plane(np.full((256, 320), counts, np.float32), 0.05)
    known = {"model_name": "nuclei", "model_hash": HASH, "channel": "FITC", "elapsed_ms": 1234.0}
    return ShownFrame(number=7, index=7, session="s", raw=raw, **{"enhanced": enhanced, **known, **facts})


def pixels_of(picture, colour):
    return (picture == colour).all(axis=-1)


@pytest.mark.parametrize(
    ("pixel_size_um", "width_px", "length_um", "text"),
    [
        (0.065, 512, 5.0, "5 µm"),
        (0.65, 2048, 200.0, "200 µm"),
        (0.01, 128, 0.2, "200 nm"),
        (1.0, 4000, 1000.0, "1 mm"),
        (0.325, 1024, 50.0, "50 µm"),
    ],
)
def test_a_scale_bar_has_the_longest_round_length_within_a_quarter(pixel_size_um, width_px, length_um, text):
    bar = scale_bar(pixel_size_um, width_px)
    assert (bar.length_um, bar.text) == (pytest.approx(length_um), text)


@given(st.floats(1e-4, 1e3), st.integers(256, 8192))
def test_a_scale_bar_is_as_long_as_it_says_within_a_pixel(pixel_size_um, width_px):
    bar = scale_bar(pixel_size_um, width_px)
    assert abs(bar.length_px - bar.length_um / pixel_size_um) <= 1
    assert bar.length_px <= width_px / 4 + 1
    assert bar.length_px >= width_px / 10.5 - 1


@pytest.mark.parametrize(("show", "pixel_size_um"), [("raw", 0.1), ("enhanced", 0.05)])
def test_the_bar_drawn_is_as_long_as_its_text_says(show, pixel_size_um):
    painter = Painter([frame_of(0)], Look(0, 1000, show, time_stamp=False))
    picture = painter.paint(frame_of(0))
    zoom = painter.shape_yx[1] / (160 if show == "raw" else 320)
    bar = scale_bar(pixel_size_um / zoom, painter.shape_yx[1])
    runs = pixels_of(picture, WHITE)[-60:].sum(axis=1)  # the bar's rows have nothing else white
    assert abs(int(runs.max()) - bar.length_um / pixel_size_um * zoom) <= 1


@pytest.mark.parametrize(
    ("elapsed_ms", "text"),
    [(0.0, "00:00.000"), (1234.4, "00:01.234"), (3_723_456.7, "1:02:03.457"), (-50.0, "-00:00.050")],
)
def test_a_time_reads_as_a_clock(elapsed_ms, text):
    assert time_text(elapsed_ms) == text


@pytest.mark.parametrize("background", [0, 128, 255])
def test_words_are_legible_on_any_background(background):
    """Letters of white and amber stand on what is much darker."""
    picture = np.full((256, 320, 3), background, np.uint8)
    said = Annotation("ENHANCED", True, "nuclei", HASH, "FITC", "00:01.234", 0.1, ("blurred",))
    drawn = annotate(picture, said)
    assert (picture == background).all()
    letters = pixels_of(drawn, AMBER) | (pixels_of(drawn, WHITE) & (background != 255))
    assert letters.sum() > 200
    beside = np.roll(letters, 4, axis=1) & ~letters
    assert drawn[beside].mean() < 150


def test_what_does_not_fit_is_cut_from_the_name_and_never_from_the_hash():
    small = np.zeros((*LEAST_YX_PX, 3), np.uint8)
    short, long = (
        annotate(small, Annotation("ENHANCED", True, name * 12, HASH))
        for name in ("nuclei of ", "nuclei or ")
    )
    other = annotate(small, Annotation("ENHANCED", True, "nuclei of " * 12, "4" + HASH[1:]))
    assert (short[:, -12:] == 0).all()  # nothing at the edge
    assert (short != other).any()
    assert short.shape == long.shape


def test_a_name_with_line_ends_is_written_in_one_line():
    small = np.zeros((*LEAST_YX_PX, 3), np.uint8)
    one, broken = (
        annotate(small, Annotation("ENHANCED", True, f"actin{gap}2x", HASH, f"FITC{gap}at A1"))
        for gap in (" ", "\r\n")
    )
    np.testing.assert_array_equal(broken, one)


@pytest.mark.parametrize("height_px", range(LEAST_YX_PX[0], 300, 17))
def test_remarks_never_cover_the_heading(height_px):
    picture = np.full((height_px, 512, 3), 200, np.uint8)
    said = Annotation("ENHANCED", True, "nuclei", HASH, "FITC at A1", "00:01.234", 0.1)
    remarks = tuple(f"remark {number} " + "is longer than its line " * 3 for number in range(3))
    plain, remarked = annotate(picture, said), annotate(picture, replace(said, remarks=remarks))
    heading = np.flatnonzero((plain[: height_px // 2 + 20, 12] != 200).any(axis=-1)).max() + 1

    np.testing.assert_array_equal(remarked[:heading], plain[:heading])
    assert (remarked[heading:] != plain[heading:]).any()


@settings(deadline=None)
@given(
    show=st.sampled_from(["enhanced", "side_by_side"]),
    colour=st.sampled_from(["grey", "green", "#ffbe3c", "#000000"]),
    scale_bar=st.booleans(),
    time_stamp=st.booleans(),
    gamma=st.floats(0.05, 20),
    levels=st.sampled_from([(0.0, 1.0), (None, None), (500.0, 1000.0), (1e6, 2e6)]),
    counts=st.sampled_from([0, 700, 65535]),
)
def test_no_option_takes_enhanced_the_model_or_the_hash_out_of_a_picture(
    show, colour, scale_bar, time_stamp, gamma, levels, counts
):
    look = Look(*levels, show, colour, scale_bar, time_stamp, gamma)
    frame = frame_of(counts)

    def painted(frame):
        return Painter([frame], look).paint(frame)

    drawn = painted(frame)
    assert pixels_of(drawn, AMBER).sum() > 200
    heading = drawn[:80]
    for other in (
        replace(frame, model_name="actin"),
        replace(frame, model_hash="4" + HASH[1:]),
        replace(frame, shows_raw=True),
    ):
        assert (painted(other)[:80] != heading).any()


def test_a_frame_without_an_enhanced_image_says_so_and_shows_none():
    frame = frame_of(700, enhanced=None, model_name=None, model_hash=None, reason="dropped: superseded")
    picture = Painter([frame_of(700)], Look(0, 700)).paint(frame)
    inside = picture[60:-60]
    assert (inside == 0).all()
    assert pixels_of(picture, AMBER)[-60:].any()  # the reason


def test_a_raw_picture_says_raw_and_is_not_amber():
    picture = Painter([frame_of(0)], Look(0, 700, "raw")).paint(frame_of(0))
    assert not pixels_of(picture, AMBER).any()
    assert pixels_of(picture, WHITE)[:60, :200].any()


def test_counts_become_shares_of_white_between_the_levels():
    picture = Painter([frame_of(350)], Look(100, 600, "raw", "#80ff00")).paint(frame_of(350))
    assert picture[200, 250].tolist() == [64, 128, 0]


@pytest.mark.parametrize(
    "options",
    [
        {"black": 5.0, "white": 5.0},
        {"black": float("nan")},
        {"white": float("inf")},
        {"gamma": 0.0},
        {"colour": "blurple"},
        {"show": "both"},
    ],
)
def test_a_look_that_cannot_be_drawn_is_refused(options):
    with pytest.raises(WrongInputError, match=rf"{next(iter(options))}|white"):
        Look(**options)
