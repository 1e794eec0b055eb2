"""The report's page, table, pictures and plots: known answers, no browser."""

import base64
import csv
import io
import re
from dataclasses import replace
from html import escape

import numpy as np
import pytest
from PIL import Image

from training.evaluation.figures import COLUMNS, NotMeasured
from training.evaluation.report import Section, paragraph, table, write_report
from training.evaluation.report.composite import channel_colours, composite, windows_of
from training.evaluation.report.error_map import colours_of
from training.evaluation.report.figure_table import ImageFigures, TableRow, csv_text, figure_table
from training.evaluation.report.intensity_window import IntensityWindow, window_of
from training.evaluation.report.plots import (
    Curve,
    Sample,
    calibration_plot,
    ratio_db,
    ring_correlation_plot,
    spectra_plot,
    strip_plot,
)
from training.evaluation.report.viewer import ShownField, viewer
from training.evaluation.report.width_histograms import width_histograms

MAGENTA, GREEN, BLUE, GREY = (255, 0, 255), (0, 255, 0), (0, 0, 255), (255, 255, 255)
UNIT = IntensityWindow(0.0, 1.0)


def noise(side=32, seed=0):
    return np.random.default_rng(seed).normal(100, 10, (side, side)).astype(np.float32)


def pictures(html):
    """Return the pictures inside some HTML, (Y, X) or (Y, X, 3)."""
    found = re.findall(r'src="data:image/png;base64,([^"]+)"', html)
    return [np.asarray(Image.open(io.BytesIO(base64.b64decode(each)))) for each in found]


# The page


def test_the_contents_lead_to_every_section(tmp_path):
    write_report(
        tmp_path / "a" / "report.html", "T", [Section("One", ""), Section("Two <2>", paragraph("x < y"))]
    )
    page = (tmp_path / "a" / "report.html").read_text(encoding="utf-8")
    links = re.findall(r'<li><a href="#([^"]+)">([^<]+)</a>', page)
    assert [title for _, title in links] == ["One", "Two &lt;2&gt;"]
    assert all(f'id="{target}"' in page for target, _ in links)
    assert "<p>x &lt; y</p>" in page


def test_the_page_forbids_the_browser_to_load_anything_from_elsewhere(tmp_path):
    write_report(tmp_path / "report.html", "T", [Section("One", "")])
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "default-src 'none'" in page
    assert not re.findall(r'(?:src|href)="(?!data:|#)', page)
    assert '<html lang="en">' in page


def test_the_first_cell_of_a_table_s_row_names_it():
    html = table(["", "value"], [["a < b", "1"]])
    assert '<th scope="row">a &lt; b</th><td>1</td>' in html
    assert "<thead>" in html


def test_a_table_without_words_in_its_head_has_none():
    assert "<thead>" not in table(["", ""], [["a", "1"]])


# The table of figures


def cells(html):
    """Return the texts of the table's body, row label to cells, marks and notes in plain text."""
    rows = re.findall(r'<th scope="row">(.*?)</th>(.*?)</tr>', html)
    plain = {}
    for label, row in rows:
        found = [re.sub(r"<[^>]+>", "", cell) for cell in re.findall(r"<td[^>]*>(.*?)</td>", row)]
        plain[label] = plain.get(label, []) + found
    return plain


def test_the_best_is_marked_even_where_it_is_the_input_but_for_what_explains_the_input():
    rows = [
        TableRow("input", {"psnr_db": 40.0, "rse": 1.0}, "input"),
        TableRow("bicubic", {"psnr_db": 20.0, "rse": 3.0}),
        TableRow("ENHANCED", {"psnr_db": 30.0, "rse": 5.0}),
        TableRow("truth", {"rse": 0.0}, "truth"),
    ]
    assert cells(figure_table(rows)) == {
        "input": ["40.00 best", "1.000"],
        "bicubic": ["20.00", "3.000 best"],
        "ENHANCED": ["30.00", "5.000"],
        "truth": ["", "0.000"],
    }


@pytest.mark.parametrize(
    ("name", "figures", "best"),
    [
        ("slope", [0.8, 1.1], 1),
        ("offset", [-0.1, 0.2], 0),
        ("fwhm_um", [0.2, 0.5], 1),  # the truth's is 0.4
        ("ssim", [0.90004, 0.90001], None),  # alike at the digits shown
    ],
)
def test_what_is_best_follows_the_column_s_aim(name, figures, best):
    rows = [TableRow(str(number), {name: value}) for number, value in enumerate(figures)]
    found = cells(figure_table([*rows, TableRow("truth", {"fwhm_um": 0.4}, "truth")]))
    marked = [number for number in range(2) if any("best" in cell for cell in found[str(number)])]
    assert marked == ([] if best is None else [best])


def test_without_the_truth_s_own_figure_nothing_is_best_in_its_likeness():
    rows = [TableRow("a", {"snr": 10.0}), TableRow("b", {"snr": 20.0})]
    assert cells(figure_table(rows)) == {"a": ["10.0"], "b": ["20.0"]}


def test_each_reason_is_one_note_that_its_cells_refer_to():
    small, dark = NotMeasured("too small"), NotMeasured("dark < black")
    rows = [
        TableRow("a", {"psnr_db": small, "ssim": dark}),
        TableRow("b", {"psnr_db": small, "ssim": 0.5}),
    ]
    html = figure_table(rows)
    assert cells(html) == {
        "a": ["–not measurable, note 1", "–not measurable, note 2"],
        "b": ["–not measurable, note 1", "0.5000"],
    }
    assert re.findall(r"<li>(.*?)</li>", html) == ["too small", "dark &lt; black"]


def test_a_mean_over_some_of_the_fields_says_of_how_many():
    rows = [TableRow("a", {"ssim": 0.5}, counts={"ssim": "3 of 5"}), TableRow("b", {"ssim": 0.4})]
    html = figure_table(rows)
    assert html.count("3 of 5") == 1
    assert "of how many fields it is the mean" in html
    assert "of how many fields" not in figure_table(rows[1:])


def test_all_columns_fit_on_paper_in_parts_of_at_most_nine():
    html = figure_table([TableRow("a", {column.name: 1.0 for column in COLUMNS})])
    counts = [part.count('scope="col"') - 1 for part in html.split("<table>")[1:]]
    assert sum(counts) == len(COLUMNS)
    assert max(counts) <= 9


def test_a_column_is_explained_where_it_is_shown_and_left_out_where_nobody_has_it():
    html = figure_table([TableRow("a", {"frc_um": 1.0})])
    assert "FRC (µm)" in html
    meaning = next(column for column in COLUMNS if column.name == "frc_um").meaning
    assert f"<dd>{escape(meaning)}</dd>" in html
    assert "PSNR" not in html


def test_the_csv_has_an_empty_cell_and_the_reason_beside_it():
    rows = [
        ImageFigures({"region": 5, "image": "ENHANCED, model 1"}, {"psnr_db": 30.125, "ssim": 0.9}),
        ImageFigures({"region": 6, "image": "bicubic"}, {"psnr_db": NotMeasured("empty, all of it")}),
    ]
    assert list(csv.DictReader(io.StringIO(csv_text(rows)))) == [
        {
            "region": "5",
            "image": "ENHANCED, model 1",
            "psnr_db": "30.125",
            "psnr_db_reason": "",
            "ssim": "0.9",
        },
        {"region": "6", "image": "bicubic", "psnr_db": "", "psnr_db_reason": "empty, all of it", "ssim": ""},
    ]


# Colours


def test_stains_have_their_colours_whatever_their_order():
    assert channel_colours(["DAPI", "FITC", "Texas Red"]) == {
        "DAPI": BLUE,
        "FITC": GREEN,
        "Texas Red": MAGENTA,
    }


def test_unknown_channels_take_what_is_left_and_then_grey():
    assert channel_colours(["a", "b", "c", "d"]) == {"a": MAGENTA, "b": GREEN, "c": BLUE, "d": GREY}
    assert channel_colours(["a", "FITC", "b"]) == {"a": MAGENTA, "FITC": GREEN, "b": BLUE}
    assert channel_colours(["a"]) == {"a": GREY}


def test_a_composite_adds_the_channels_up_and_ends_at_255():
    one, none, half = (np.full((1, 1), value) for value in (1.0, 0.0, 0.5))
    windows = {"Texas Red": UNIT, "FITC": UNIT, "DAPI": UNIT}

    def colour(red, green, blue):
        channels = {"Texas Red": red, "FITC": green, "DAPI": blue}
        return tuple(composite(channels, windows)[0, 0].tolist())

    assert colour(one, none, none) == MAGENTA
    assert colour(none, half, none) == (0, 128, 0)
    assert colour(one, one, none) == (255, 255, 255)
    assert colour(one, none, one) == MAGENTA  # blue is full already


def test_channels_of_different_shape_make_no_composite():
    with pytest.raises(ValueError, match="one shape"):
        composite({"a": np.zeros((2, 2)), "b": np.zeros((3, 2))})


def test_all_images_of_a_field_can_be_composed_by_the_truth_s_windows():
    truth = {"FITC": np.linspace(0, 100, 10_000).reshape(100, 100)}
    windows = windows_of(truth)
    assert windows["FITC"].black == pytest.approx(1.0, abs=0.1)
    assert windows["FITC"].white == pytest.approx(99.8, abs=0.1)


def test_a_window_stretches_its_ends_to_black_and_white_and_no_number_to_black():
    image = np.array([[-5.0, 10.0, 20.0, 30.0, 99.0, np.nan]])
    assert IntensityWindow(10.0, 30.0).stretch(image).tolist() == [[0, 0, 128, 255, 255, 0]]
    assert window_of(np.full((4, 4), 7)).stretch(np.full((4, 4), 7)).max() == 0


def test_maps_of_one_kind_share_a_range_and_those_of_both_signs_are_symmetric():
    maps = {
        "SQUIRREL error, a": np.full((8, 8), 2.0),
        "SQUIRREL error, b": np.full((8, 8), 6.0),
        "difference, b": np.linspace(-4, 1, 64).reshape(8, 8),
    }
    colours = colours_of(maps)
    assert colours["SQUIRREL error, a"] == colours["SQUIRREL error, b"]
    assert (colours["SQUIRREL error, a"].low, colours["SQUIRREL error, a"].high) == (0.0, 6.0)
    signed = colours["difference, b"]
    assert signed.low == -signed.high
    assert signed.indices(np.array([[-9.0, 0.0, 9.0]])).tolist() == [[0, 128, 255]]
    assert signed.name != colours["SQUIRREL error, a"].name


# The viewer's pictures


def field(**more):
    images = {"input": noise(seed=1), "ENHANCED, model 1a2b": noise(seed=2), "truth": noise(seed=3)}
    return ShownField("FITC, <best>", images, {"difference": noise() - 100}, 0.325, **more)


def test_all_images_of_a_field_are_stored_by_the_truth_s_window():
    shown = field()
    html = viewer([shown])
    window = window_of(shown.images["truth"])
    stored = pictures(html)
    for image, expected in zip(stored, shown.images.values(), strict=False):
        np.testing.assert_array_equal(image, window.stretch(expected))
    assert f"from {window.black:.4g} (black) to {window.white:.4g}" in html
    assert len(stored) == 4


def test_every_panel_has_its_label_in_the_picture_and_in_the_alternative_text():
    html = viewer([field()])
    assert re.findall(r'alt="([^"]+)"', html) == [
        f"{label}: FITC, &lt;best&gt;" for label in ("input", "ENHANCED, model 1a2b", "truth", "difference")
    ]
    assert '<span class="label enhanced">ENHANCED, model 1a2b</span>' in html


def test_the_static_scale_bar_has_a_round_length_and_is_in_pixels_where_the_size_is_unknown():
    known, unknown = viewer([field()]), viewer([replace(field(), pixel_size_um=None)])
    assert set(re.findall(r'bar whole" style="width:([^%]+)%"><b>(.*?)</b>', known)) == {("19.231", "2 µm")}
    assert set(re.findall(r"<b>(.*?)</b>", unknown)) == {"10 px"}


def test_colours_are_stored_as_they_are():
    colours = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    html = viewer([ShownField("composite", {"truth": colours}, {}, None, composite=True)])
    np.testing.assert_array_equal(pictures(html)[0], colours)


def test_a_large_page_gives_up_grey_levels_and_then_size_and_says_so():
    whole = len(viewer([field()]))
    fewer = viewer([field()], budget_bytes=int(0.95 * whole))
    assert "64 grey levels" in fewer
    assert len(np.unique(pictures(fewer)[0])) <= 64
    smaller = viewer([field()], budget_bytes=int(0.5 * whole))
    assert "averaged to one" in smaller
    assert pictures(smaller)[0].shape == (16, 16)
    assert 'data-pixel="0.65"' in smaller


def test_what_cannot_be_compared_is_refused():
    with pytest.raises(ValueError, match="at least one field"):
        viewer([])
    with pytest.raises(ValueError, match="has no image"):
        viewer([ShownField("empty", {}, {}, None)])
    with pytest.raises(ValueError, match="'small' of 'x'"):
        viewer([ShownField("x", {"a": noise(), "small": noise(16)}, {}, None)])
    with pytest.raises(ValueError, match="the map 'm' of 'x'"):
        viewer([ShownField("x", {"a": noise()}, {"m": noise(16)}, None)])


# Plots


def curves(role="enhanced"):
    x = np.linspace(0.1, 1.5, 60)
    return [Curve("ENHANCED, model 1", x, np.exp(-x), role), Curve("truth", x, np.exp(-x / 2), "truth")]


def samples(count=40):
    values = np.random.default_rng(0).normal(0.5, 0.05, count)
    return [Sample("bicubic", values + 0.2, "interpolated"), Sample("truth", values, "truth")]


def all_plots():
    return {
        "spectra": spectra_plot(curves(), "Spectra & more", marks={"cutoff of 10x/0.4": 0.9}),
        "ring": ring_correlation_plot(curves(), "Ring correlation"),
        "widths": width_histograms(samples(), "Widths"),
        "strip": strip_plot(samples(12), "SSIM of each field", value_label="SSIM"),
        "calibration": calibration_plot(curves("other"), "Calibration"),
    }


@pytest.fixture(scope="module")
def plots():
    """One of each kind, name to HTML."""
    return all_plots()


def test_the_words_of_plots_are_text(plots):
    texts = {name: re.findall(r"<text[^>]*>([^<]+)</text>", html) for name, html in plots.items()}
    assert {"ENHANCED, model 1", "power", "power over truth's (dB)", "cutoff of 10x/0.4"} <= set(
        texts["spectra"]
    )
    assert {"ring correlation", "threshold 1/7"} <= set(texts["ring"])
    assert "full width at half maximum (µm); dotted: median of the truth" in texts["widths"]
    assert any(re.match(r"median 0\.\d+ µm, 40 spots, main peak 0", text) for text in texts["widths"])
    assert {"SSIM", "bicubic"} <= set(texts["strip"])
    assert {"expected error", "observed error", "both agree"} <= set(texts["calibration"])


def test_plots_do_not_clash_in_one_page(plots):
    page = "".join(plots.values())
    names = re.findall(r'\bid="([^"]+)"', page)
    assert len(names) == len(set(names))
    used = re.findall(r'(?:url\(#|href="#)([^")]+)', page)
    assert used
    assert set(used) <= set(names)
    assert "<style" not in page


def test_the_same_plot_is_the_same_text(plots):
    assert all_plots() == plots


def test_a_plot_names_itself_for_a_screen_reader(plots):
    assert 'role="img" aria-label="Spectra &amp; more"' in plots["spectra"]
    assert "<figcaption>Spectra &amp; more</figcaption>" in plots["spectra"]


def test_half_the_truth_s_power_is_three_decibels_below():
    assert ratio_db(np.array([1.0, 0.5]), np.array([1.0, 1.0])) == pytest.approx([0.0, -3.0103], abs=1e-4)


def test_the_main_peak_of_widths_stands_in_words_and_few_widths_have_none():
    random = np.random.default_rng(0)
    widths = np.concatenate([random.normal(0.6, 0.05, 2000), random.uniform(1.2, 2.0, 200)])
    html = width_histograms([Sample("truth", widths, "truth")], "Widths")
    centre, spread = re.search(r"main peak ([\d.]+) ± ([\d.]+) µm", html).groups()
    assert float(centre) == pytest.approx(0.6, abs=0.005)
    assert float(spread) == pytest.approx(0.05, rel=0.1)
    few = width_histograms([Sample("truth", widths[:7], "truth")], "Widths")
    assert "7 spots" in few
    assert "main peak" not in few


def test_an_image_without_a_spot_says_so_in_its_histogram():
    html = width_histograms([*samples(), Sample("input", np.full(3, np.nan), "input")], "Widths")
    assert "no spot could be fitted" in html
