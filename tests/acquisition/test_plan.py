"""Experiment files, and the sequences made of them."""

from itertools import pairwise

import pytest
import useq
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

import configs
from acquisition.area import Area, HighTiles, RegionGrid
from acquisition.plan import Experiment, load_experiment
from acquisition.sequences import (
    fields_of,
    paired_scan_sequences,
    state_of,
    take_of,
    time_lapse_sequence,
    with_fields,
)
from configs.document import WrongInputError

FRAME_YX = (512, 512)


@pytest.fixture
def shipped():
    return load_experiment("virtual_widefield")


@pytest.fixture
def edited(tmp_path):
    """Load the shipped file after a change."""

    def load(change):
        content = yaml.safe_load(configs.find("virtual_widefield").read_text())
        change(content)
        path = tmp_path / "experiment.yaml"
        path.write_text(yaml.safe_dump(content))
        return load_experiment(path)

    return load


@pytest.mark.parametrize("name", ["virtual_widefield", "demo_camera"])
def test_shipped_experiments_are_valid(name):
    assert isinstance(load_experiment(name), Experiment)


def test_shipped_exposures_are_the_paper_s(shipped):
    exposures = {channel.name: channel.exposure_ms for channel in shipped.channels}
    assert exposures == {
        "FITC": {"low": 800, "high": 400},
        "DAPI": {"low": 60, "high": 50},
        "Texas Red": {"low": 350, "high": 150},
    }


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda c: c["focus"].update(chanel="FITC"), "focus.chanel"),
        (lambda c: c["focus"].update(channel="GFP"), "'GFP' is not among"),
        (lambda c: c["microscope"].update(cfg="demo.cfg"), "not both"),
        (lambda c: c["microscope"].pop("virtual"), "not neither"),
        (lambda c: c["states"].pop("high"), "'low' and 'high'"),
        (lambda c: c["focus"].update(withdraw_um=-300), "withdraw_um"),
        (lambda c: c["states"]["low"].update(focus_window_um=[100, -100]), "lower, upper"),
        (lambda c: c["area"].update(positions=[[0, 0]]), "exactly one of regions"),
        (lambda c: c["channels"][0]["exposure_ms"].pop("high"), "needs both"),
        (lambda c: c.update(area={"positions": [[float("nan"), 0]]}), "area.positions.0.0"),
        (lambda c: c["channels"].append(c["channels"][0]), "names must differ"),
    ],
)
def test_what_is_wrong_in_a_file_is_named_in_one_line(edited, change, named):
    with pytest.raises(WrongInputError, match=named) as error:
        edited(change)
    assert "\n" not in str(error.value)


def test_low_fields_come_first_and_the_objective_turns_once(shipped):
    sequences = paired_scan_sequences(shipped, FRAME_YX)
    assert [state_of(sequence) for sequence in sequences] == ["low", "high"]
    assert [len(fields_of(sequence)) for sequence in sequences] == [8, 32]


def test_change_per_region_turns_once_a_region(shipped):
    per_region = shipped.model_copy(update={"objective_change": "per_region"})
    sequences = paired_scan_sequences(per_region, FRAME_YX)
    states = [state_of(sequence) for sequence in sequences]
    assert states[:6] == ["low", "high", "high", "low", "low", "high"]
    assert sorted(fields_of(sequences[0]) + fields_of(sequences[3])) == [(0, 0), (1, 0)]


def test_every_position_is_focused_once_and_then_exposed_in_every_channel(shipped):
    events = list(paired_scan_sequences(shipped, FRAME_YX)[1])
    kinds = ["focus" if isinstance(e.action, useq.HardwareAutofocus) else e.channel.config for e in events]
    assert kinds == ["focus", "FITC", "DAPI", "Texas Red"] * 32


@given(rows=st.integers(1, 3), columns=st.integers(1, 3), overlap=st.floats(0.0, 0.5))
@settings(max_examples=40, deadline=None)
def test_high_tiles_are_covered_by_the_low_field_or_refused(rows, columns, overlap):
    area = Area(
        regions=RegionGrid(rows=1, columns=1, spacing_um=1),
        high_tiles=HighTiles(rows=rows, columns=columns, overlap=overlap),
    )
    experiment = load_experiment("virtual_widefield").model_copy(update={"area": area})
    try:
        high = paired_scan_sequences(experiment, FRAME_YX)[1]
    except WrongInputError:
        assert max(rows, columns) == 3 or overlap == 0
        return
    assert len(high.stage_positions) == rows * columns
    half_high_um, half_low_um = 512 * 0.325 / 2, 512 * 0.65 / 2
    for position in high.stage_positions:
        assert max(abs(position.x), abs(position.y)) + half_high_um <= half_low_um + 1e-6


def test_neighbouring_tiles_overlap_by_the_fraction_asked_for(shipped):
    tiles = paired_scan_sequences(shipped, FRAME_YX)[1].stage_positions[:4]
    steps = [abs(a.x - b.x) + abs(a.y - b.y) for a, b in pairwise(tiles)]
    assert steps == pytest.approx([0.9 * 512 * 0.325] * 3)


def test_a_part_of_the_fields_can_be_taken_again(shipped):
    low = paired_scan_sequences(shipped, FRAME_YX)[0]
    rest = with_fields(low, {(7, 0)}, take=2)
    assert (fields_of(rest), take_of(rest)) == ([(7, 0)], 2)
    assert rest.stage_positions == low.stage_positions[7:]
    assert with_fields(low, set()) is None


def test_a_field_that_is_taken_again_is_focused_again(shipped):
    low = paired_scan_sequences(shipped, FRAME_YX)[0]
    first = with_fields(low, {(7, 0)})
    again = with_fields(first, {(7, 0)}, take=2)
    for sequence in (first, again):
        assert type(next(iter(sequence)).action).__name__ == "HardwareAutofocus"


def test_time_lapse_has_its_frames_in_one_channel(shipped):
    sequence = time_lapse_sequence(shipped)
    assert [(e.index["t"], e.channel.config, e.exposure) for e in sequence] == [
        (t, "FITC", 800) for t in range(20)
    ]


def test_an_experiment_without_an_area_cannot_be_scanned():
    with pytest.raises(WrongInputError, match="area"):
        paired_scan_sequences(load_experiment("demo_camera"), FRAME_YX)
