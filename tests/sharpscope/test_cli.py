"""The command line as a person meets it: exit codes and one clear line for what is wrong."""

import json
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import tifffile

from acquisition.manifest import ScanFolder


def run(*arguments, cwd=None):
    command = [sys.executable, "-m", "sharpscope", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=200, check=False, cwd=cwd)


@pytest.fixture
def place(tmp_path, model_zip):
    """A folder with a frame that suits the model, a folder of nothing and a wrong experiment."""
    frame = np.full((64, 80), 120, np.uint16)
    frame[::7, ::5] = 4000
    metadata = {"axes": "YX", "PhysicalSizeX": 0.65, "PhysicalSizeY": 0.65}
    tifffile.imwrite(tmp_path / "frame.ome.tif", frame, metadata=metadata, ome=True)
    tifffile.imwrite(tmp_path / "rgb.tif", np.zeros((9, 9, 3), np.uint8), photometric="rgb")
    (tmp_path / "empty").mkdir()
    (tmp_path / "wrong.yaml").write_text("microscop: {virtual: widefield}\n")
    (tmp_path / "training.yaml").write_text("name: mine\nchannel: FITC\nbatsch: 3\n")
    return tmp_path


WRONG = [
    (["enhance", "none.zip", "frame.ome.tif", "-o", "out.ome.tiff"], "none.zip"),
    (["enhance", "MODEL", "none.tif", "-o", "out.ome.tiff"], "none.tif"),
    (["enhance", "MODEL", "rgb.tif", "-o", "out.ome.tiff"], "rgb.tif"),
    (["enhance", "MODEL", "frame.ome.tif", "-o", "out.png"], ".ome.tiff"),
    (
        ["enhance", "MODEL", "frame.ome.tif", "-o", "out.ome.tiff", "--pixel-size-um", "0.1"],
        "pixel size 0.1 um",
    ),
    (["scan", "wrong.yaml", "-o", "out"], "microscop"),
    (["scan", "none", "-o", "out"], "virtual_widefield"),
    (["pair", "empty", "-o", "out"], "empty"),
    (["pair", "-o", "out"], "--low"),
    (["pair", "--low", "empty", "--high", "empty", "-o", "out"], "empty"),
    (["pair", "--low", "empty", "-o", "out"], "--high"),
    (["pair", "empty", "--sim", "empty", "-o", "out"], "--sim"),
    (["pair", "empty", "--alignment", "bent", "-o", "out"], "elastic or drift"),
    (["pair", "--sim", "empty", "-o", "out"], "numerical aperture"),
    (["train", "training.yaml", "--pairs", "empty", "-o", "out"], "batsch"),
    (["train", "demo", "--pairs", "empty", "-o", "out"], "empty"),
    (["train", "demo", "--pairs", "empty", "-o", "out", "--minutes", "0"], "--minutes 0"),
    (["evaluate", "MODEL", "--pairs", "empty", "-o", "out"], "empty"),
    (["serve", "none.zip"], "none.zip"),
    (["serve", "MODEL", "--bind", "tcp://0.0.0.0:5555"], "0.0.0.0"),
    (["live", "virtual_widefield", "-o", "out", "--worker", "nonsense"], "nonsense"),
]


QUICK_TO_SAY = [case for case in WRONG if case[0][0] in ("scan", "pair", "live") or case in WRONG[:2]]
"""The others load a network's library first, seconds each; one of its kind stands among these."""


@pytest.mark.parametrize(
    ("arguments", "named"),
    [pytest.param(*case, marks=[] if case in QUICK_TO_SAY else [pytest.mark.slow]) for case in WRONG],
)
def test_wrong_input_exits_2_with_one_line_that_names_it_and_writes_nothing(
    place, model_zip, arguments, named
):
    before = sorted(place.rglob("*"))
    result = run(*[model_zip if word == "MODEL" else word for word in arguments], cwd=place)
    assert result.returncode == 2, result.stderr
    lines = [line for line in result.stderr.splitlines() if line.startswith("sharpscope:")]
    assert len(lines) == 1, result.stderr
    assert named in lines[0]
    assert "Traceback" not in result.stderr
    assert sorted(place.rglob("*")) == before


def test_a_model_of_another_scale_is_refused(place, model_zip, pair_set):
    other = place / "pairs"
    other.mkdir()
    index = json.loads((pair_set.path / "pairs.json").read_text())
    (other / "pairs.json").write_text(json.dumps(index | {"factor": 4}))
    result = run("evaluate", model_zip, "--pairs", other, "-o", place / "out")
    assert result.returncode == 2
    assert "enlarges 2 times" in result.stderr
    assert not (place / "out").exists()


def test_enhance_writes_the_file_and_one_json_line(place, model_zip):
    result = run("enhance", model_zip, "frame.ome.tif", "-o", "out.ome.tiff", "--json", cwd=place)
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout.splitlines()[-1])["shape"] == [128, 160]
    assert tifffile.imread(place / "out.ome.tiff").shape == (128, 160)


def test_doctor_finds_the_device_adapters():
    result = run("doctor", "--json")
    assert result.returncode == 0, result.stderr
    found = json.loads(result.stdout.splitlines()[-1])
    assert found["device adapters"] != "none"


@pytest.mark.parametrize(
    "command",
    [
        "demo",
        "doctor",
        "scan",
        "pair",
        "stitch",
        "train",
        "export",
        "evaluate",
        "serve",
        "enhance",
        "live",
        "complete",
        "view",
        "clip",
    ],
)
def test_every_command_explains_itself_with_an_example(command):
    result = run(command, "--help")
    assert result.returncode == 0
    assert f"Example: sharpscope {command}" in result.stdout


def test_an_unknown_option_is_wrong_use():
    assert run("scan", "--nonsense").returncode == 2


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGINT for one child process")
def test_ctrl_c_exits_130_and_a_scan_can_be_resumed(tmp_path):
    command = [sys.executable, "-m", "sharpscope", "scan", "virtual_widefield", "-o", str(tmp_path / "scan")]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    journal = tmp_path / "scan" / "journal.jsonl"
    deadline = time.monotonic() + 120
    while not (journal.exists() and '"field"' in journal.read_text()):
        assert time.monotonic() < deadline
        assert process.poll() is None, process.stderr.read()
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=120)
    assert process.returncode == 130, stderr
    committed = ScanFolder.open(tmp_path / "scan").fields()
    assert 1 <= len(committed) < 40
    assert len({(f.region, f.state, f.tile) for f in committed}) == len(committed)
