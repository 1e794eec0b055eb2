import os
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import yaml

from configs.document import WrongInputError
from inference.backends import open_backend
from inference.model_package import read_package


def test_zip_and_folder_are_the_same_model(model_zip, tmp_path):
    with zipfile.ZipFile(model_zip) as archive:
        archive.extractall(tmp_path / "folder")
    assert read_package(tmp_path / "folder").model_hash == read_package(model_zip).model_hash


def test_both_weights_reproduce_the_test_tensor(model_zip):
    package = read_package(model_zip)
    for device in ("cpu-float32", "torch-cpu"):
        output = open_backend(package, device).run(package.test_input)
        assert np.abs(output - package.test_output).max() < 1e-4 * package.test_output.std()


def test_the_package_passes_bioimageio_test_without_network(model_zip, tmp_path):
    tool = Path(sys.executable).with_name("bioimageio")
    environment = {**os.environ, "BIOIMAGEIO_CACHE_PATH": str(tmp_path), "http_proxy": "http://127.0.0.1:1",
                   "https_proxy": "http://127.0.0.1:1", "COLUMNS": "200"}  # fmt: skip
    result = subprocess.run(
        [tool, "test", model_zip], env=environment, capture_output=True, text=True, timeout=240, check=False
    )
    assert result.returncode == 0, result.stdout + result.stderr
    assert "Reproduce test outputs" in result.stdout


def test_the_rdf_declares_step_and_serving_card(model_zip):
    with zipfile.ZipFile(model_zip) as archive:
        rdf = yaml.safe_load(archive.read("rdf.yaml"))
    assert rdf["format_version"].startswith("0.5")
    sizes = [axis["size"] for axis in rdf["inputs"][0]["axes"] if axis.get("id") in ("y", "x")]
    assert sizes == [{"min": 4, "step": 4}] * 2
    assert rdf["config"]["sharpscope"]["factor"] == 2


def test_what_is_no_package_is_named(tmp_path):
    with pytest.raises(WrongInputError, match="no such model"):
        read_package(tmp_path / "none.zip")
    (tmp_path / "torn.zip").write_bytes(b"PK\x03\x04torn")
    with pytest.raises(WrongInputError, match=r"torn.zip is not a sharpscope model package"):
        read_package(tmp_path / "torn.zip")
    (tmp_path / "empty").mkdir()
    with pytest.raises(WrongInputError, match=r"rdf.yaml"):
        read_package(tmp_path / "empty")


def test_other_weights_of_either_kind_are_another_model(model_zip, tmp_path):
    folder = tmp_path / "model"
    with zipfile.ZipFile(model_zip) as archive:
        archive.extractall(folder)
    known = read_package(folder).model_hash
    assert known == read_package(model_zip).model_hash
    for name in ("weights.onnx", "weights.safetensors"):
        before = (folder / name).read_bytes()
        (folder / name).write_bytes(before + b" ")
        assert read_package(folder).model_hash != known
        (folder / name).write_bytes(before)
