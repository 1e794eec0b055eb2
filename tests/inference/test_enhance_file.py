import hashlib

import numpy as np
import pytest
import tifffile
from ome_types import from_tiff

from configs.document import WrongInputError
from inference.bulk import enhance_file
from inference.engine import OutOfDomainError, load_engine
from inference.image_file import read_image_file

RGB = np.zeros((9, 9, 3), np.uint8)


@pytest.fixture(scope="module")
def engine(model_zip):
    return load_engine(model_zip, "cpu")


@pytest.mark.parametrize(
    ("name", "channels", "pixel_size_um", "named"),
    [("cell_dna_mts_actin", 3, 0.1325, "pixel size"), ("bpae_actin", 1, None, "states no pixel size")],
)
def test_a_foreign_micrograph_is_refused_or_enhanced_and_flagged(
    engine, micrographs, tmp_path, name, channels, pixel_size_um, named
):
    source, output = micrographs / "cells" / f"{name}.tif", tmp_path / "out.ome.tiff"
    with pytest.raises(OutOfDomainError, match=named):
        enhance_file(engine, source, output)
    assert list(tmp_path.iterdir()) == []
    enhance_file(engine, source, output, allow_out_of_domain=True)
    before, after = tifffile.imread(source), tifffile.imread(output)
    assert after.dtype == np.float32
    assert after.shape == (*before.shape[:-2], 2 * before.shape[-2], 2 * before.shape[-1])
    for plane_in, plane_out in zip(
        np.atleast_3d(before).reshape(channels, -1), after.reshape(channels, -1), strict=True
    ):
        background = np.percentile(plane_in, 1.0)
        above = np.maximum(plane_in - background, 0).mean(dtype=np.float64)
        assert plane_out.mean(dtype=np.float64) - background == pytest.approx(above, rel=0.02)
    ome = from_tiff(output)
    pixels = ome.images[0].pixels
    assert (pixels.size_c, pixels.size_x) == (channels, after.shape[-1])
    expected_um = None if pixel_size_um is None else pytest.approx(pixel_size_um / 2, rel=1e-3)
    assert pixels.physical_size_x == expected_um
    facts = {m.k: m.value for m in ome.structured_annotations.map_annotations[0].value.ms}
    assert named in facts["out_of_domain"]
    assert facts["model_sha256"] == engine.model_hash
    assert facts["source_sha256"] == hashlib.sha256(source.read_bytes()).hexdigest()


def test_a_stack_keeps_its_axes_and_channel_names(engine, tmp_path):
    stack = np.full((2, 3, 24, 20), 2000, np.uint16)
    source, output = tmp_path / "in.ome.tif", tmp_path / "out.ome.tiff"
    metadata = {"axes": "TCYX", "PhysicalSizeX": 0.65, "Channel": {"Name": ["FITC", "FITC", "fitc"]}}
    tifffile.imwrite(source, stack, ome=True, metadata=metadata, photometric="minisblack")
    enhance_file(engine, source, output)
    image = read_image_file(output)
    assert (image.axes, image.pixels.shape) == ("TCYX", (2, 3, 48, 40))
    assert image.channels == ("FITC enhanced", "FITC enhanced", "fitc enhanced")
    assert image.pixel_size_um == pytest.approx(0.325)


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (lambda path: None, "no such file"),
        (lambda path: path.write_bytes(b"not a tiff"), "cannot be read as an image"),
        (
            lambda path: tifffile.imwrite(path, np.zeros((9, 9, 3), np.uint8), photometric="rgb"),
            "colour picture",
        ),
        (lambda path: tifffile.imwrite(path, np.zeros(9, np.uint8)), "is needed"),
        (lambda path: tifffile.imwrite(path, np.full((9, 9), np.nan, np.float32)), "not finite"),
    ],
)
def test_a_wrong_file_is_named_and_nothing_is_written(engine, tmp_path, make, named):
    source, output = tmp_path / "in.tif", tmp_path / "out" / "out.ome.tiff"
    make(source)
    with pytest.raises(WrongInputError, match=named):
        enhance_file(engine, source, output, pixel_size_um=0.65)
    assert not output.parent.exists()


def test_nothing_is_written_over_without_being_told_to(engine, tmp_path):
    output = tmp_path / "out.ome.tiff"
    output.write_text("mine")
    with pytest.raises(WrongInputError, match="is no enhanced image"):
        enhance_file(engine, tmp_path / "in.tif", output)
    assert output.read_text() == "mine"


def test_a_printers_resolution_is_not_a_pixel_size(tmp_path):
    tifffile.imwrite(tmp_path / "in.tif", np.zeros((9, 9), np.uint8), resolution=(72, 72), resolutionunit=2)
    assert read_image_file(tmp_path / "in.tif").pixel_size_um is None


def test_a_raw_image_is_never_written_over_whatever_is_asked(engine, tmp_path):
    raw = tmp_path / "cells.tif"
    tifffile.imwrite(raw, np.full((40, 40), 3000, np.uint16))
    before = raw.read_bytes()
    with pytest.raises(WrongInputError, match="is no enhanced image"):
        enhance_file(engine, raw, raw, pixel_size_um=0.65, overwrite=True)
    assert raw.read_bytes() == before
    output = tmp_path / "cells-enhanced.ome.tiff"
    enhance_file(engine, raw, output, pixel_size_um=0.65, allow_out_of_domain=True)
    with pytest.raises(WrongInputError, match="--overwrite"):
        enhance_file(engine, raw, output, pixel_size_um=0.65, allow_out_of_domain=True)
    enhance_file(engine, raw, output, pixel_size_um=0.65, overwrite=True, allow_out_of_domain=True)
