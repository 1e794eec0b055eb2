"""`sharpscope keys` as a person meets it."""

import json
import subprocess
import sys


def run(*arguments):
    command = [sys.executable, "-m", "sharpscope", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


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
