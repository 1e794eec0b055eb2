"""Tests run against what is installed, and importing the front door is cheap."""

import json
import subprocess
import sys

import pytest

from inference.engine import OutOfDomainError

PACKAGES = ["acquisition", "configs", "inference", "sharpscope", "training"]


def test_a_subprocess_imports_the_same_files_as_the_tests(tmp_path):
    code = (
        f"import json, importlib as i; print(json.dumps([i.import_module(p).__file__ for p in {PACKAGES}]))"
    )
    output = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True, timeout=60
    )
    here = [__import__(package).__file__ for package in PACKAGES]
    assert json.loads(output.stdout) == here


def test_importing_sharpscope_loads_no_torch_zmq_or_micromanager():
    code = "import sys, sharpscope; print([m for m in ('torch', 'zmq', 'pymmcore_plus') if m in sys.modules])"
    output = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert output.stdout.strip() == "[]"


def test_an_unknown_public_name_is_an_attribute_error():
    import sharpscope

    with pytest.raises(AttributeError, match="sharpen"):
        _ = sharpscope.sharpen


def test_the_readmes_python_lines_enhance_an_image(model_zip):
    import numpy as np

    import sharpscope

    model = sharpscope.load_model(model_zip)
    image = np.full((40, 60), 100, np.uint16)
    image[::6, ::6] = 4000
    sharp = model.enhance(image, pixel_size_um=0.65)
    assert (sharp.shape, sharp.dtype) == ((80, 120), np.float32)
    with pytest.raises(OutOfDomainError, match="pixel size"):
        model.enhance(image, pixel_size_um=0.1)
