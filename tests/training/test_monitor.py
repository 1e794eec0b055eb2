"""What a person sees of a run: history, picture, TensorBoard files, and the words at its end."""

import io
import json
import struct

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from training.monitor import Monitor, read_history, trim_history
from training.progress_picture import FixedField, curves_png, progress_png
from training.run_history import Trend, duration, shares, summary_lines, trend
from training.trainer import TrainingResult

SIDE = 96


@pytest.fixture(scope="module")
def fixed():
    """A field whose only structure lies at the lower right."""
    truth = np.zeros((SIDE, SIDE), np.float32)
    truth[60:90:6, 60:90] = 200
    return ndimage.gaussian_filter(truth, 3).astype(np.float32), truth


def line(iteration, validation=0.1, **more):
    terms = {"adversarial": 0.9, "mse": 0.06, "ssim": 0.04, "discriminator": 1.2}
    return {"iteration": iteration, "seconds": iteration / 10, **terms, "validation": validation, **more}


def events(folder):
    """Read all event files in TensorBoard's order: (step, content)."""
    from tensorboardX.proto.event_pb2 import Event

    found = []
    for path in sorted((folder / "tensorboard").iterdir()):
        raw, place = path.read_bytes(), 0
        while place < len(raw):
            (length,) = struct.unpack_from("<Q", raw, place)
            found.append(Event.FromString(raw[place + 12 : place + 12 + length]))
            place += length + 16
    return found


def curve(folder, tag):
    """Return a curve as TensorBoard shows it: a session's start hides what was at or after its step."""
    shown = {}
    for event in events(folder):
        if event.HasField("session_log"):
            shown = {step: value for step, value in shown.items() if step < event.step}
        for value in event.summary.value:
            if value.tag == tag:
                shown[event.step] = value.simple_value
    return shown


def test_every_line_stands_in_the_history_and_in_tensorboard(tmp_path, fixed):
    with Monitor(tmp_path, fixed, tensorboard=True) as monitor:
        for k in (5, 10):
            monitor.record(line(k, validation=1 / k, mse_weight=20.0))
    assert read_history(tmp_path) == monitor.history == [line(k, 1 / k, mse_weight=20.0) for k in (5, 10)]
    assert curve(tmp_path, "loss/validation") == pytest.approx({5: 0.2, 10: 0.1})
    assert curve(tmp_path, "generator/mse") == pytest.approx({5: 0.06, 10: 0.06})
    assert curve(tmp_path, "run/mse_weight") == pytest.approx({5: 20, 10: 20})


def test_a_killed_and_resumed_run_has_one_curve(tmp_path, fixed):
    with Monitor(tmp_path, fixed, tensorboard=True) as monitor:
        for k in (5, 10, 15):
            monitor.record(line(k, validation=1))
    with (tmp_path / "history.jsonl").open("a") as stream:
        stream.write('{"iteration":20,"sec')  # the kill
    trim_history(tmp_path, 10)
    with Monitor(tmp_path, fixed, tensorboard=True) as monitor:
        monitor.record(line(15, validation=0.5))
        assert [entry["iteration"] for entry in monitor.history] == [5, 10, 15]
    assert [entry["validation"] for entry in read_history(tmp_path)] == [1, 1, 0.5]
    assert curve(tmp_path, "loss/validation") == {5: 1, 10: 1, 15: 0.5}


def test_a_run_that_is_rolled_back_while_it_is_watched_has_one_curve(tmp_path, fixed):
    with Monitor(tmp_path, fixed, tensorboard=True) as monitor:
        for k in (5, 10, 15):
            monitor.record(line(k, validation=1))
        trim_history(tmp_path, 5)
        monitor.record(line(10, validation=0.5))
        assert read_history(tmp_path) == monitor.history == [line(5, 1), line(10, 0.5)]
    assert curve(tmp_path, "loss/validation") == {5: 1, 10: 0.5}


@pytest.mark.parametrize(("iteration", "left"), [(0, []), (7, [5]), (10, [5, 10]), (99, [5, 10])])
def test_trimming_keeps_what_the_checkpoint_knows(tmp_path, iteration, left):
    lines = [json.dumps(line(k)) + "\n" for k in (5, 10)]
    (tmp_path / "history.jsonl").write_text("".join(lines))
    trim_history(tmp_path, iteration)
    assert [entry["iteration"] for entry in read_history(tmp_path)] == left
    trim_history(tmp_path / "none", iteration)  # a run that has recorded nothing


def test_the_picture_is_whole_and_tensorboard_gets_the_panels(tmp_path, fixed):
    with Monitor(tmp_path, fixed, tensorboard=True) as monitor:
        monitor.picture(0, fixed[0])  # before anything was recorded
        monitor.record(line(100))
        monitor.picture(100, fixed[1])
        monitor.picture(101, fixed[1])  # too soon for TensorBoard
    with Image.open(tmp_path / "progress.png") as picture:
        assert picture.size == (1520, 760)
    assert not list(tmp_path.glob(".*"))
    images = [
        (e.step, v.tag, v.image.width) for e in events(tmp_path) for v in e.summary.value if v.image.width
    ]
    assert images == [
        (step, tag, width)
        for step in (0, 100)
        for tag, width in (("input-output-truth/field", 288), ("input-output-truth/detail", 144))
    ]


def test_without_tensorboard_there_is_no_folder(tmp_path, fixed):
    with Monitor(tmp_path, fixed, tensorboard=False) as monitor:
        monitor.record(line(5))
    assert not (tmp_path / "tensorboard").exists()


def test_the_detail_lies_where_the_structure_is_and_all_panels_have_one_grey_window(fixed):
    field = FixedField(*fixed)
    assert 40 <= field.detail.top <= 60
    assert 40 <= field.detail.left <= 60
    assert field.grey(fixed[1]).max() == 255
    assert field.grey(fixed[0]).max() < 255
    assert field.away_from_truth(fixed[1] + 3) == pytest.approx(3, rel=1e-5)
    assert field.grey(np.full((SIDE, SIDE), np.nan, np.float32)).max() == 0


HISTORIES = {
    "long": [line(500 * (k + 1), 0.1 + 1 / (k + 1)) for k in range(200)],
    "without a discriminator": [{"iteration": 5, "seconds": 1, "adversarial": 0, "mse": 1, "validation": 1}],
    "hinge": [line(5 * k, adversarial=-0.5 * k) for k in range(1, 9)],
    "terms alone": [{"iteration": 5, "seconds": 1, "mse": 1}],
}


@pytest.mark.parametrize("name", HISTORIES)
def test_any_history_can_be_drawn(fixed, name):
    png = progress_png(HISTORIES[name], FixedField(*fixed), fixed[1], "run", 5)
    assert Image.open(io.BytesIO(png)).size == (1520, 760)
    assert Image.open(io.BytesIO(curves_png(HISTORIES[name]))).width == 720


def test_shares_are_those_of_the_latest_lines():
    early = [line(k, mse=100) for k in range(5)]
    parts = shares([*early, *(line(k) for k in range(5, 20))])
    assert parts == pytest.approx({"adversarial": 0.9, "mse": 0.06, "ssim": 0.04})


RNG = np.random.default_rng(0)
X = np.linspace(0, 1, 60)
LOSSES = {
    "exponential": (0.1 + np.exp(-2 * X), Trend.FALLING),
    "levelled off": (0.1 + np.exp(-20 * X) + RNG.normal(0, 0.002, 60), Trend.LEVEL),
    "risen at the end": (0.1 + np.exp(-8 * X) + 0.3 * np.maximum(0, X - 0.5), Trend.TURNED),
    "risen long ago": (np.where(X < 0.6, 0.4 - 0.5 * X, 0.2) + RNG.normal(0, 0.001, 60), Trend.TURNED),
    "short": (X[:4], Trend.UNKNOWN),
}


@pytest.mark.parametrize("name", LOSSES)
def test_the_trend_of_a_known_curve(name):
    losses, expected = LOSSES[name]
    assert trend(list(losses)) is expected


def test_the_end_is_told_in_plain_words():
    result = TrainingResult(20_000, 4800.0, 19_500, 0.0123, 1, "bfloat16", 0, 1.0)
    told = summary_lines(result, [line(500 * k, 1 / k) for k in range(1, 41)])
    assert told == [
        "20,000 iterations in 80 min, computed in bfloat16",
        "best validation loss 0.0123 at iteration 19,500; the model is the generator of that moment",
        "the generator's loss at the end: adversarial 90.0 %, MSE 6.0 %, SSIM 4.0 %",
        "validation was still falling: more time would help",
    ]


@pytest.mark.parametrize(("seconds", "said"), [(42.4, "42 s"), (720, "12 min"), (11_100, "3 h 05 min")])
def test_a_time_is_said_as_a_person_says_it(seconds, said):
    assert duration(seconds) == said
