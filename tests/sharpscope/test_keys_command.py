"""`sharpscope keys` as a person meets it."""

import json
import shutil
import subprocess
import sys
from contextlib import contextmanager

import pytest

from inference.recording import Recording


def run(*arguments):
    command = [sys.executable, "-m", "sharpscope", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=200, check=False)


def test_keys_for_both_ends_are_made_once_and_say_where_each_file_belongs(tmp_path):
    worker = run("keys", "worker", "-o", tmp_path / "w")
    assert (worker.returncode, worker.stdout) == (0, "")
    assert str(tmp_path / "w" / "clients") in worker.stderr
    client = run(
        "keys", "client", "-o", tmp_path / "c", "--worker", tmp_path / "w" / "worker.public", "--json"
    )
    assert json.loads(client.stdout) == {"folder": str(tmp_path / "c"), "role": "client"}
    assert {file.name for file in (tmp_path / "c").iterdir()} == {
        "client.secret",
        "client.public",
        "worker.public",
    }
    again = run("keys", "worker", "-o", tmp_path / "w")
    assert again.returncode == 2
    assert "never written over" in again.stderr


def test_an_address_beyond_this_machine_without_keys_ends_with_the_remedy(model_zip):
    served = run("serve", model_zip, "--bind", "tcp://0.0.0.0:5555")
    assert served.returncode == 2
    assert "sharpscope keys" in served.stderr


@contextmanager
def serving(model, keys):
    command = [sys.executable, "-m", "sharpscope", "serve", str(model), "--keys", str(keys)]
    command += ["--bind", "tcp://127.0.0.1:*", "--json"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        yield json.loads(process.stdout.readline())["address"]
    finally:
        process.kill()
        process.communicate()


@pytest.mark.slow
def test_live_shares_its_frames_among_workers_with_keys(model_zip, tmp_path):
    for folder in ("w", "c"):
        run("keys", "worker" if folder == "w" else "client", "-o", tmp_path / folder)
    shutil.copy(tmp_path / "w" / "worker.public", tmp_path / "c")
    shutil.copy(tmp_path / "c" / "client.public", tmp_path / "w" / "clients" / "microscope.public")
    with serving(model_zip, tmp_path / "w") as first, serving(model_zip, tmp_path / "w") as second:
        live = run(
            "live", "virtual_widefield", "-o", tmp_path / "r", "--worker", first, "--worker", second,
            "--keys", tmp_path / "c", "--allow-out-of-domain", "--json",
        )  # fmt: skip
    figures = json.loads(live.stdout.splitlines()[-1])
    assert live.returncode == 0, live.stderr
    assert figures["live_frames_enhanced"] == figures["live_frames_in"] > 0
    assert len({line.photometry for line in Recording.open(tmp_path / "r").enhanced.values()}) == 1
