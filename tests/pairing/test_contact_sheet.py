"""The contact sheet, written from real pair sets on disk; known answers for the functions that draw."""

import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from training.pairing.contact_sheet import cards as contact_cards
from training.pairing.contact_sheet import write_contact_sheet
from training.pairing.contact_sheet.cards import card_size
from training.pairing.contact_sheet.page import rank
from training.pairing.contact_sheet.pictures import (
    arrows,
    jpeg,
    overlay,
    scale_bar,
    stretched_alike,
    textured_window,
)
from training.pairing.contact_sheet.summary import shifted_overlay
from training.pairing.pairs import (
    Deformation,
    Optics,
    PairRecord,
    PairSet,
    PairSetIndex,
    SignalToNoise,
)

SIDE_PX = 160


def specimen(seed: int = 0, side_px: int = SIDE_PX) -> np.ndarray:
    image = np.random.default_rng(seed).random((side_px, side_px))
    image = ndimage.gaussian_filter((image > 0.99).astype(np.float32), 1.5)
    return (image / image.max() * 200).astype(np.float32)


def record(file: str, *, accepted: bool = True, **fields) -> PairRecord:
    known = {
        "channel": "FITC", "region": 0, "split": "train", "sources": {}, "origin_yx_px": (8, 16),
        "shift_yx_px": (1.5, -2.5), "deformation_rms_px": 0.4, "residual_px": 0.05, "ncc_before": 0.6,
        "ncc_after": 0.97, "reason": None if accepted else "misaligned: 1.20 px are left",
    }  # fmt: skip
    return PairRecord.model_validate({"file": file, "accepted": accepted, **known, **fields})


def pair_set(folder: Path, records: list[PairRecord], **fields) -> PairSet:
    """Write a set; a pair whose name holds the word `absent` has no file."""
    folder.mkdir(exist_ok=True)
    for k, pair in enumerate(records):
        if "absent" not in pair.file:
            high = specimen(k)
            PairSet.write_pair(folder / pair.file, ndimage.gaussian_filter(high, 1.5), high, None)
    settings = {"run_id": "run-7", "factor": 2, "optics": Optics(), "normalisation": {}, **fields}
    index = PairSetIndex.model_validate({**settings, "pairs": records})
    written = PairSet(folder, index)
    written.save_index()
    return PairSet.open(folder)


def page_of(written: PairSet) -> str:
    return write_contact_sheet(written, written.path / "contact_sheet.html").read_text(encoding="utf-8")


def uniform_deformation(y_px: float, x_px: float, **fields) -> Deformation:
    lattice = np.zeros((2, 8, 9), np.float32)
    lattice[0], lattice[1] = y_px, x_px
    known = {"uncertainty_px": np.full((8, 9), 0.05, np.float32), "origin_yx_px": (0.0, 0.0)}
    return Deformation(**{"displacement_yx_px": lattice, "spacing_px": 32.0, **known, **fields})


class Document(HTMLParser):
    """Collects what a page shows and what it refers to."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.open: list[str] = []
        self.links: list[str] = []
        self.ids: list[str] = []
        self.pictures_without_words = 0
        self.words = ""
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        known = dict(attrs)
        self.tags.append(tag)
        if tag not in {"meta", "img", "input", "br"}:
            self.open.append(tag)
        self.links += [value for name, value in attrs if name in {"href", "src"}]
        self.ids += [value for name, value in attrs if name == "id"]
        if (tag == "svg" and not known.get("aria-label")) or (tag == "img" and not known.get("alt")):
            self.pictures_without_words += 1

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag in self.open[-1:]:
            self.open.pop()

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open[-1:] != ["style"]:
            self.words += data


@pytest.fixture(scope="module")
def mixed(tmp_path_factory) -> tuple[PairSet, str]:
    """Two channels, many accepted, some left out with and without files."""
    fitc = [record(f"f{k}.ome.tif", residual_px=0.01 * (k + 1), region=k) for k in range(10)]
    noise = SignalToNoise(low=7.25, high=31.5)
    texas = [
        record(f"t{k}.ome.tif", channel="Texas Red", split="test", signal_to_noise=noise) for k in range(3)
    ]
    left_out = [
        record("seen.ome.tif", accepted=False, notes=["tile 2 placed by the stage alone"]),
        record("absent1.ome.tif", accepted=False, reason="low frame is saturated: 12.31 % of the pixels"),
        record(
            "absent2.ome.tif", accepted=False, channel="Texas Red", reason="no specimen: texture in 0.4 %"
        ),
    ]
    optics = Optics(low_pixel_size_um=0.65, high_pixel_size_um=0.325)
    written = pair_set(tmp_path_factory.mktemp("mixed"), [*fitc, *texas, *left_out], optics=optics)
    return written, page_of(written)


def test_every_left_out_pair_is_named_with_its_reason(mixed):
    written, page = mixed
    words = Document(page).words
    for pair in written.index.pairs:
        if not pair.accepted:
            assert pair.file in words
            assert words.count(pair.reason) == 1


def test_the_four_best_and_the_four_worst_of_a_channel_are_shown_in_order(mixed):
    titles = re.findall(r"<h4[^>]*>(f\d)\.ome\.tif</h4>", mixed[1])
    assert titles == ["f0", "f1", "f2", "f3", "f9", "f8", "f7", "f6"]


def test_no_pair_of_a_small_channel_is_shown_twice(mixed):
    assert re.findall(r"<h4[^>]*>(t\d)\.ome\.tif</h4>", mixed[1]) == ["t0", "t1", "t2"]


def test_the_page_refers_to_nothing_outside_itself(mixed):
    page = Document(mixed[1])
    assert all(link.startswith(("data:image/jpeg;base64,", "#")) for link in page.links)
    assert not re.search(r"https?://|@import|url\(", mixed[1])
    assert "script" not in page.tags


def test_every_reference_in_the_page_leads_somewhere(mixed):
    page = Document(mixed[1])
    assert {link[1:] for link in page.links if link.startswith("#")} <= set(page.ids)
    assert len(set(page.ids)) == len(page.ids)


def test_every_picture_has_words_for_those_who_do_not_see_it(mixed):
    page = Document(mixed[1])
    assert page.pictures_without_words == 0
    assert page.open == []  # every element is closed


def test_the_flicker_stops_where_less_motion_is_wanted(mixed):
    _, style = mixed[1].split("@media (prefers-reduced-motion: reduce)")
    assert style.startswith(" {\n  .turn { animation: none;")


def test_the_page_tells_origin_counts_and_signal_to_noise(mixed):
    words = Document(mixed[1]).words
    assert "run run-7" in words
    assert "13 of 16 pairs accepted" in words
    assert "7.2" in words
    assert "31.5" in words
    assert "tile 2 placed by the stage alone" in words


def test_the_scale_bar_is_in_micrometres_where_the_pixel_size_is_known(mixed, tmp_path):
    assert "µm</text>" in mixed[1]
    assert "px</text>" in page_of(pair_set(tmp_path / "plain", [record("a.ome.tif")], run_id=None))


def test_the_overview_is_a_png_beside_the_page(mixed):
    png = (mixed[0].path / "contact_sheet.png").read_bytes()
    assert png.startswith(b"\x89PNG")


def test_names_and_reasons_are_escaped(tmp_path):
    evil = "<script>alert(1)</script>"
    pairs = [
        record("a&b'\"<i>.ome.tif", channel=evil, notes=[evil]),
        record(f"absent{evil}", channel=evil, accepted=False, reason=evil),
    ]
    page = page_of(pair_set(tmp_path / "evil", pairs, run_id=evil))
    document = Document(page)
    assert "script" not in document.tags
    assert "i" not in document.tags
    assert document.words.count(evil) >= 5


def test_an_empty_set_yields_a_page(tmp_path):
    page = page_of(pair_set(tmp_path / "empty", [], run_id=None))
    assert "0 of 0 pairs accepted" in Document(page).words


def test_missing_and_broken_files_become_lines(tmp_path):
    pairs = [record("absent.ome.tif"), record("broken.ome.tif")]
    written = pair_set(tmp_path / "set", pairs)
    (written.path / "broken.ome.tif").write_bytes(b"not a TIFF")
    words = Document(page_of(written)).words
    assert "absent.ome.tif (region 0, train) (no picture: the file is missing)" in words
    assert "broken.ome.tif (region 0, train) (no picture: the file cannot be read" in words


@pytest.mark.parametrize("length", [0, 3, 9, 200, 20_000])
def test_a_file_that_was_cut_off_anywhere_does_not_end_the_page(length, tmp_path):
    written = pair_set(tmp_path / "set", [record("a.ome.tif", deformation="a_deformation.tif")])
    PairSet.write_deformation(written.path / "a_deformation.tif", uniform_deformation(0, 1))
    for file in ("a.ome.tif", "a_deformation.tif"):
        whole = (written.path / file).read_bytes()
        (written.path / file).write_bytes(whole[:length])
    assert "1 of 1 pairs accepted" in page_of(written)


def test_a_deformation_that_cannot_be_read_leaves_the_pictures(tmp_path):
    page = page_of(pair_set(tmp_path / "set", [record("a.ome.tif", deformation="absent.tif")]))
    assert "no deformation to show" in page
    assert page.count("<image ") == 6


def test_the_deformation_is_drawn_with_its_magnification(tmp_path):
    written = pair_set(tmp_path / "set", [record("a.ome.tif", deformation="a_deformation.tif")])
    bent = np.zeros((2, 8, 9), np.float32)
    bent[1] = np.linspace(-1, 1, 8)[:, np.newaxis]
    PairSet.write_deformation(
        written.path / "a_deformation.tif", uniform_deformation(0, 0, displacement_yx_px=bent)
    )
    page = page_of(written)
    assert "arrows 50 ×, longest 0.57 px" in Document(page).words
    assert re.search(r'<path class="certain"[^>]* d="M\d', page)


def test_images_that_are_not_finite_or_smaller_than_the_cut_are_drawn(tmp_path):
    written = pair_set(tmp_path / "set", [record("a.ome.tif")])
    tiny = np.full((40, 60), np.nan, np.float32)
    PairSet.write_pair(written.path / "a.ome.tif", tiny, tiny, None)
    assert "60 × 40 px at" in Document(page_of(written)).words


def test_many_left_out_pairs_have_smaller_pictures_and_keep_the_page_small(tmp_path, monkeypatch):
    monkeypatch.setattr(contact_cards, "PAGE_BYTES", 500_000)
    pairs = [record(f"{k}.ome.tif", accepted=False, region=k) for k in range(12)]
    page = page_of(pair_set(tmp_path / "set", pairs))
    assert "left-out pairs are smaller" in Document(page).words
    assert len(page) < 600_000
    assert all(pair.file in page for pair in pairs)


def test_a_full_page_names_the_remaining_pairs_without_pictures(tmp_path, monkeypatch):
    monkeypatch.setattr(contact_cards, "PAGE_BYTES", 20_000)
    pairs = [record(f"{k}.ome.tif", accepted=False, region=k) for k in range(4)]
    words = Document(page_of(pair_set(tmp_path / "set", pairs))).words
    assert "no picture: the page would exceed" in words
    assert words.count("misaligned: 1.20 px are left") == 4


def test_cards_shrink_as_they_become_many():
    sides = [card_size(count, 45e6).cell_px for count in (1, 100, 300, 800, 100_000)]
    assert sides == sorted(sides, reverse=True)
    assert sides[0] > sides[-1]


def test_pairs_are_ranked_by_residual_then_correlation():
    pairs = [
        record("none", residual_px=None),
        record("b", residual_px=0.1, ncc_after=0.8),
        record("c", residual_px=0.2),
        record("a", residual_px=0.1, ncc_after=0.9),
    ]
    assert [pair.file for pair in rank(pairs)] == ["a", "b", "c", "none"]


def test_the_overlay_of_equal_images_is_grey():
    grey, same = stretched_alike(specimen(), specimen())
    red, green, blue = np.moveaxis(overlay(grey, same), -1, 0)
    np.testing.assert_array_equal(red, green)
    np.testing.assert_array_equal(green, blue)


def test_a_shifted_image_shows_magenta_where_it_went_and_green_where_it_was():
    dot = np.zeros((32, 32), np.uint8)
    dot[16, 16] = 255
    shifted = shifted_overlay(dot, dot, 3, 4)
    assert shifted[16, 12].tolist() == [0, 255, 0]
    assert shifted[16, 15].tolist() == [255, 0, 255]


def test_a_thin_fringe_keeps_its_colour_in_the_jpeg():
    from io import BytesIO

    from PIL import Image

    line = np.zeros((32, 32), np.uint8)
    line[:, 16] = 255
    drawn = np.asarray(Image.open(BytesIO(jpeg(overlay(line, np.roll(line, 1, axis=1)), 85)))).astype(int)
    assert drawn[8:24, 16, 1].min() > drawn[8:24, 16, 0].max() + 120
    assert drawn[8:24, 17, 0].min() > drawn[8:24, 17, 1].max() + 120


def test_a_pair_of_equal_flux_is_shown_by_one_window_and_another_by_two():
    low = specimen()
    dim_low, dim_high = stretched_alike(low, np.float32(0.8) * low)
    assert dim_high.mean() < 0.9 * dim_low.mean()
    low_alone, high_alone = stretched_alike(low, np.float32(0.1) * low)
    assert np.abs(low_alone.astype(int) - high_alone).max() <= 1


def test_the_detail_is_cut_where_the_texture_is():
    image = np.zeros((300, 400), np.uint8)
    image[200:260, 300:360] = specimen(side_px=60).astype(np.uint8)
    window = textured_window(image, image, 64)
    assert abs(window.top - 198) <= 4
    assert abs(window.left - 298) <= 4


def test_arrows_point_along_the_displacement_without_the_mean_shift():
    bent = np.zeros((2, 8, 9), np.float32)
    bent[0], bent[1] = 5.0, 3.0
    bent[1, :4] += 0.25
    bent[1, 4:] -= 0.25
    drawn = arrows(uniform_deformation(0, 0, displacement_yx_px=bent), (0, 0), (256, 288))
    steps = (drawn.tips_yx_px - drawn.tails_yx_px) / drawn.magnification
    upper = drawn.tails_yx_px[:, 0] < 4 * 32
    np.testing.assert_allclose(steps[:, 0], 0, atol=1e-6)
    np.testing.assert_allclose(steps[upper, 1], 0.25, atol=1e-6)
    np.testing.assert_allclose(steps[~upper, 1], -0.25, atol=1e-6)
    assert drawn.mean_yx_px == pytest.approx((5.0, 3.0))
    assert drawn.largest_px == pytest.approx(0.25)


def test_arrows_stand_on_the_pixels_of_the_pair_and_only_inside_it():
    drawn = arrows(uniform_deformation(0, 1, origin_yx_px=(4.0, 6.0)), (40, 20), (100, 120))
    assert sorted(set(drawn.tails_yx_px[:, 0])) == [28.0, 60.0, 92.0]
    assert sorted(set(drawn.tails_yx_px[:, 1])) == [18.0, 50.0, 82.0, 114.0]


def test_arrows_are_doubtful_where_the_uncertainty_is_large_or_infinite():
    spread = np.full((8, 9), 0.05, np.float32)
    spread[0], spread[1] = np.inf, 1.0
    drawn = arrows(uniform_deformation(0, 0, uncertainty_px=spread), (0, 0), (256, 288))
    np.testing.assert_array_equal(drawn.certain, drawn.tails_yx_px[:, 0] >= 64)


def test_the_head_of_an_arrow_is_at_its_tip_and_opens_backwards():
    bent = np.zeros((2, 8, 9), np.float32)
    bent[1, 0, 0] = 4.0
    drawn = arrows(uniform_deformation(0, 0, displacement_yx_px=bent), (0, 0), (256, 288))
    tail, tip, one, _, other = drawn.strokes(True, head_px=2.0)[0]
    assert tip[1] > tail[1] + 3
    assert one[1] == pytest.approx(other[1])
    assert one[1] < tip[1]
    assert one[0] - tip[0] == pytest.approx(-(other[0] - tip[0]))


def test_a_dense_lattice_is_thinned():
    dense = np.zeros((2, 100, 100), np.float32)
    spread = np.zeros((100, 100), np.float32)
    fine = Deformation(dense, spread, (0.0, 0.0), 8.0)
    assert 100 <= len(arrows(fine, (0, 0), (800, 800)).tails_yx_px) <= 14 * 14


def test_scale_bars_have_round_lengths_up_to_a_third_of_the_width():
    assert scale_bar(256, 0.325, "µm") == (pytest.approx(20 / 0.325), "20 µm")
    assert scale_bar(300, 1.0, "px") == (pytest.approx(100.0), "100 px")
