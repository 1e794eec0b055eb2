"""Scans as processes of their own: experiments in files, and the command line run on them."""

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

import configs

SIDE_PX = 128


@dataclass(frozen=True)
class Scan:
    """An experiment file, the folder it is scanned into, and how to run it."""

    file: Path
    folder: Path

    def command(self, *options):
        return [sys.executable, "-m", "sharpscope", "scan", str(self.file), "-o", str(self.folder), *options]

    def start(self, *options):
        return subprocess.Popen(
            self.command(*options), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    def run(self, *options, timeout=200):
        return subprocess.run(self.command(*options), capture_output=True, text=True, timeout=timeout)

    def journal(self):
        path = self.folder / "journal.jsonl"
        whole = path.read_text().rsplit("\n", 1)[0] if path.exists() else ""
        return [json.loads(line) for line in whole.splitlines()]

    def files(self):
        """The committed fields and their hashes, in the order of commitment."""
        return [(line["file"], line["sha256"]) for line in self.journal() if line["kind"] == "field"]


@pytest.fixture
def make_scan(tmp_path):
    """Write the shipped wide-field experiment with some parts changed."""

    def make(name="scan", **parts):
        content = yaml.safe_load(configs.find("virtual_widefield").read_text())
        content["microscope"] |= {"camera_shape_yx": [SIDE_PX, SIDE_PX]}
        content["channels"] = content["channels"][:1]
        content["area"] = {
            "regions": {"rows": 2, "columns": 3, "spacing_um": 100.0},
            "high_tiles": {"rows": 1, "columns": 1},
        }
        for part, value in parts.items():
            content[part] = {**content.get(part, {}), **value} if isinstance(value, dict) else value
        file = tmp_path / f"{name}.yaml"
        file.write_text(yaml.safe_dump(content))
        return Scan(file, tmp_path / name)

    return make
