"""An image of any size, chunk by chunk: the same as in one piece, whole or to be gone on with."""

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import tensorstore as ts
import tifffile
import yaozarrs
from hypothesis import given, settings
from hypothesis import strategies as st

from configs.document import WrongInputError
from inference import unfinished as unfinished_module
from inference.bulk import enhance_file
from inference.chunk_plan import ChunkPlan
from inference.chunk_work import InThisProcess, Job, on_worker
from inference.engine import Engine, OutOfDomainError, load_engine
from inference.generator import GeneratorPlan, build_generator
from inference.model_package import read_package
from inference.volume import open_volume, stamp_of
from inference.volume_enhancement import enhance_volume
from training.export import ModelSource, export_package
from training.settings import TrainingPlan

SMALL = 64


@pytest.fixture(scope="module")
def engine(model_zip):
    return load_engine(model_zip, "cpu")


def level(path: Path, number=0):
    spec = {"driver": "zarr3", "kvstore": {"driver": "file", "path": f"{path / str(number)}/"}}
    return ts.open(spec, open=True).result().read().result()


def enhanced(engine, source, output, **options):
    options = {"chunk_px": SMALL, **options}
    return enhance_volume(engine.package, source, output, InThisProcess(engine), **options)


@settings(deadline=None, max_examples=8)
@given(height=st.integers(1, 180), width=st.integers(1, 180))
def test_chunks_are_to_the_last_bit_those_of_the_whole_image(
    engine, tmp_path_factory, height, width, picture, write_zarr
):
    folder = tmp_path_factory.mktemp("any")
    image = picture((height, width))
    light = engine.package.card.photometry()
    source = write_zarr(folder / "in.ome.zarr", image)
    enhanced(engine, source, folder / "out.ome.zarr", allow_out_of_domain=True)
    whole = engine.enhance(image, pixel_size_um=0.65, allow_out_of_domain=True)
    tolerance = 0 if whole.photometry == light else 1e-6  # else the gain is a mean of many, summed otherwise
    np.testing.assert_allclose(level(folder / "out.ome.zarr"), whole.image, rtol=tolerance, atol=0)


@pytest.mark.slow
@pytest.mark.parametrize(
    "generator",
    [
        GeneratorPlan(base_width=8, levels=3),
        GeneratorPlan(base_width=4, levels=4),
        GeneratorPlan(kind="attention", base_width=8, levels=1, shuffle=2),
    ],
    ids=["small", "deep", "attention"],
)
def test_chunks_of_networks_that_see_far_are_those_of_the_whole_image(
    pair_set, tmp_path, write_zarr, picture, generator
):
    plan = TrainingPlan(name="any", channel="FITC", generator=generator)
    untrained = ModelSource(build_generator(generator).eval(), plan, pair_set, {}, {})
    engine = load_engine(export_package(untrained, tmp_path / "model.zip"), "cpu")
    image = picture((331, 347))
    source = write_zarr(tmp_path / "in.ome.zarr", image)
    enhanced(engine, source, tmp_path / "out.ome.zarr", chunk_px=128)
    expected = engine.enhance(image, pixel_size_um=0.65).image
    assert len(np.unique(expected)) > 1000
    np.testing.assert_array_equal(level(tmp_path / "out.ome.zarr"), expected)


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_a_time_lapse_of_stacks_keeps_axes_steps_and_channels_and_says_what_it_is(
    engine, tmp_path, version, picture, write_zarr
):
    pixels = picture((2, 2, 2, 70, 90))
    source = write_zarr(tmp_path / "in.ome.zarr", pixels, "tczyx", version=version, channels=["FITC", "fitc"])
    result = enhanced(engine, source, tmp_path / "out.ome.zarr")
    assert (result.planes, result.shape, result.pixel_size_um) == (8, (2, 2, 2, 140, 180), 0.325)
    yaozarrs.validate_zarr_store(tmp_path / "out.ome.zarr")
    facts = open_volume(tmp_path / "out.ome.zarr").facts
    assert (facts.axes, facts.pixel_size_um) == ("TCZYX", 0.325)
    assert facts.channels == ("FITC enhanced", "fitc enhanced")
    assert (facts.steps["Z"].scale, facts.steps["X"].translation) == (2.0, pytest.approx(-0.65 / 4))
    attributes = json.loads((tmp_path / "out.ome.zarr" / "zarr.json").read_text())["attributes"]
    assert "ENHANCED by sharpscope small" in attributes["ome"]["multiscales"][0]["name"]
    own = attributes["sharpscope"]
    assert (own["model_sha256"], own["source"]) == (engine.model_hash, "in.ome.zarr")
    assert (own["out_of_domain"], own["pixel_size_um"]) == ("no", 0.325)
    for index in np.ndindex(2, 2, 2):
        expected = engine.enhance(pixels[index], pixel_size_um=0.65).image
        np.testing.assert_array_equal(level(tmp_path / "out.ome.zarr")[index], expected)


def test_each_level_is_the_mean_of_the_one_below(engine, tmp_path, picture, write_zarr):
    source = write_zarr(tmp_path / "in.ome.zarr", picture((301, 1030)), chunk=256)
    enhanced(engine, source, tmp_path / "out.ome.zarr", chunk_px=512)
    fine, coarse, last = (level(tmp_path / "out.ome.zarr", number) for number in (0, 1, 2))
    assert (fine.shape, coarse.shape, last.shape) == ((602, 2060), (301, 1030), (151, 515))
    np.testing.assert_array_equal(coarse, fine.reshape(301, 2, 1030, 2).mean(axis=(1, 3), dtype=np.float32))
    even = np.pad(coarse, ((0, 1), (0, 0)), mode="edge")
    np.testing.assert_array_equal(last, even.reshape(151, 2, 515, 2).mean(axis=(1, 3), dtype=np.float32))


def test_a_foreign_channel_keeps_its_flux_and_one_light_through_the_series(
    engine, tmp_path, picture, write_zarr
):
    pixels = (picture((3, 90, 100)) * np.float32(1e-3) + 7).astype(np.float32)
    source = write_zarr(tmp_path / "in.ome.zarr", pixels, "tyx")
    with pytest.raises(OutOfDomainError, match="intensity"):
        enhanced(engine, source, tmp_path / "out.ome.zarr")
    assert [path.name for path in tmp_path.iterdir()] == ["in.ome.zarr"]
    result = enhanced(engine, source, tmp_path / "out.ome.zarr", allow_out_of_domain=True)
    assert "intensity" in result.out_of_domain[0]
    photometry = None
    for index, plane in enumerate(pixels):
        whole = engine.enhance(plane, pixel_size_um=0.65, allow_out_of_domain=True, photometry=photometry)
        photometry = whole.photometry
        np.testing.assert_allclose(level(tmp_path / "out.ome.zarr")[index], whole.image, rtol=1e-5)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"tile": (32, 48), "compression": "zlib"},
        {"rowsperstrip": 7, "compression": "zlib", "predictor": True},
        {"byteorder": ">"},
    ],
)
def test_a_tiff_is_read_window_by_window_however_it_is_cut(engine, tmp_path, options, picture):
    pixels = picture((3, 70, 90))
    metadata = {"axes": "CYX", "PhysicalSizeX": 0.65, "Channel": {"Name": ["FITC"] * 3}}
    byteorder = options.pop("byteorder", "<")
    with tifffile.TiffWriter(tmp_path / "in.ome.tif", ome=True, byteorder=byteorder) as tiff:
        tiff.write(pixels, metadata=metadata, photometric="minisblack", **options)
    enhanced(engine, tmp_path / "in.ome.tif", tmp_path / "out.ome.zarr")
    for channel in range(3):
        expected = engine.enhance(pixels[channel], pixel_size_um=0.65).image
        np.testing.assert_array_equal(level(tmp_path / "out.ome.zarr")[channel], expected)


def test_an_ome_zarr_becomes_a_tiff_as_well(engine, tmp_path, picture, write_zarr):
    pixels = picture((2, 40, 50))
    source = write_zarr(tmp_path / "in.ome.zarr", pixels, "zyx")
    enhance_file(engine, source, tmp_path / "out.ome.tiff")
    enhance_file(engine, source, tmp_path / "out.ome.zarr")
    np.testing.assert_array_equal(
        tifffile.imread(tmp_path / "out.ome.tiff"), level(tmp_path / "out.ome.zarr")
    )


def test_what_is_not_a_number_is_named_with_plane_and_place_and_nothing_is_written(
    engine, tmp_path, picture, write_zarr
):
    pixels = picture((2, 90, 90)).astype(np.float32)
    pixels[1, 77, 66] = np.nan
    source = write_zarr(tmp_path / "in.ome.zarr", pixels, "tyx")
    with pytest.raises(WrongInputError, match=r"plane \(1,\) of the input: pixel \(y 77, x 66\)"):
        enhanced(engine, source, tmp_path / "out.ome.zarr")
    assert [path.name for path in tmp_path.iterdir()] == ["in.ome.zarr"]


class Broken(Engine):
    """Its network computes no numbers."""

    def run_network(self, prepared):
        return np.full_like(prepared, np.nan)


def test_a_network_that_computes_no_numbers_ends_the_work_and_no_chunk_counts(
    engine, tmp_path, write_zarr, picture
):
    source = write_zarr(tmp_path / "in.ome.zarr", picture((90, 90)))
    with pytest.raises(RuntimeError, match=r"plane \(\), chunk \(row 0, column 0\): 4096 pixels"):
        enhanced(Broken(engine.package, engine.backend), source, tmp_path / "out.ome.zarr")
    assert (tmp_path / "out.ome.zarr.unfinished" / "journal.jsonl").read_bytes() == b""
    assert not (tmp_path / "out.ome.zarr").exists()


def test_a_kill_right_after_the_last_rename_leaves_the_result_and_nothing_else(
    engine, tmp_path, write_zarr, picture
):
    source = write_zarr(tmp_path / "in.ome.zarr", picture((90, 90)))
    unfinished = interrupted(engine, source, tmp_path / "out.ome.zarr")
    (unfinished / "image").rename(tmp_path / "out.ome.zarr")
    with pytest.raises(WrongInputError, match="is there already"):
        enhanced(engine, source, tmp_path / "out.ome.zarr")
    assert not unfinished.exists()


class Interrupting(InThisProcess):
    """Ctrl-C after so many pieces."""

    def __init__(self, engine, pieces):
        super().__init__(engine)
        self.pieces = pieces

    def results(self, task, job, pieces):
        for number, result in enumerate(super().results(task, job, pieces), start=1):
            yield result
            if number == self.pieces:
                raise KeyboardInterrupt


def interrupted(engine, source, output, pieces=4, **options):
    with pytest.raises(KeyboardInterrupt):
        enhance_volume(
            engine.package, source, output, Interrupting(engine, pieces), **{"chunk_px": SMALL, **options}
        )
    return output.with_name(f"{output.name}.unfinished")


def test_two_at_once_do_not_make_the_same_image(engine, tmp_path, write_zarr, picture):
    source = write_zarr(tmp_path / "in.ome.zarr", picture((90, 90)))
    output = tmp_path / "out.ome.zarr"
    with (
        unfinished_module.Unfinished(output).alone(),
        pytest.raises(WrongInputError, match=r"out\.ome\.zarr: another sharpscope is making it"),
    ):
        enhanced(engine, source, output)
    enhanced(engine, source, output)
    assert output.is_dir()


def test_what_was_interrupted_is_gone_on_with_and_what_is_done_is_not_done_again(
    engine, tmp_path, picture, write_zarr, hashes
):
    source = write_zarr(tmp_path / "in.ome.zarr", picture((150, 150)))
    enhanced(engine, source, tmp_path / "undisturbed.ome.zarr")
    unfinished = interrupted(engine, source, tmp_path / "out.ome.zarr")
    assert not (tmp_path / "out.ome.zarr").exists()
    (unfinished / "image" / "0" / "c" / "4").mkdir()
    (unfinished / "image" / "0" / "c" / "4" / "4.__lock").write_bytes(bytes(99_999))  # killed in mid-write
    seen = []
    enhanced(engine, source, tmp_path / "out.ome.zarr", progress=lambda *told: seen.append(told))
    assert seen == [(done, 25) for done in range(4, 26)]
    assert hashes(tmp_path / "out.ome.zarr") == hashes(tmp_path / "undisturbed.ome.zarr")
    assert not unfinished.exists()


def change_a_chunk(source):
    first = source / "0" / "c" / "0" / "0"
    first.write_bytes(first.with_name("1").read_bytes())
    return {}


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (change_a_chunk, "source_sha256"),
        (lambda source: {"pixel_size_um": 0.66}, "pixel_size_um"),
        (lambda source: {"chunk_px": 2 * SMALL}, "chunk_px"),
    ],
)
def test_another_undertaking_is_not_gone_on_with(engine, tmp_path, change, named, picture, write_zarr):
    source = write_zarr(tmp_path / "in.ome.zarr", picture((150, 150)))
    interrupted(engine, source, tmp_path / "out.ome.zarr")
    options = change(source)
    with pytest.raises(WrongInputError, match=named):
        enhanced(engine, source, tmp_path / "out.ome.zarr", **options)
    enhanced(engine, source, tmp_path / "out.ome.zarr", overwrite=True, **options)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.ome.zarr", "out.ome.zarr"]


def test_only_an_enhanced_image_is_written_over(engine, tmp_path, picture, write_zarr, hashes):
    source = write_zarr(tmp_path / "in.ome.zarr", picture((50, 50)))
    before = hashes(source)
    with pytest.raises(WrongInputError, match="no enhanced image"):
        enhanced(engine, source, source, overwrite=True)
    assert hashes(source) == before
    enhanced(engine, source, tmp_path / "out.ome.zarr")
    with pytest.raises(WrongInputError, match="--overwrite"):
        enhanced(engine, source, tmp_path / "out.ome.zarr")
    enhanced(engine, source, tmp_path / "out.ome.zarr", overwrite=True)


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (lambda path: path.mkdir(), "neither zarr.json nor .zattrs"),
        (lambda path: None, "no such image"),
        (lambda path: path.write_bytes(b"what"), "only TIFF and OME-Zarr"),
        (lambda path: (path.mkdir(), (path / "zarr.json").write_text("{}")), "without an image of its own"),
        (lambda path: (path.mkdir(), (path / "zarr.json").write_text("no")), "is not the metadata"),
    ],
)
def test_a_wrong_source_is_named_and_nothing_is_written(engine, tmp_path, make, named):
    make(tmp_path / "in.ome.zarr")
    with pytest.raises(WrongInputError, match=named):
        enhanced(engine, tmp_path / "in.ome.zarr", tmp_path / "out.ome.zarr")
    assert {path.name for path in tmp_path.iterdir()} <= {"in.ome.zarr"}


@pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() != 0, reason="mounting a small disk needs root"
)
def test_a_full_disk_is_one_error_and_the_work_goes_on_when_there_is_room(
    engine, tmp_path, picture, write_zarr, hashes
):
    source = write_zarr(tmp_path / "in.ome.zarr", picture((500, 500)))
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = partial(subprocess.run, capture_output=True, check=False)
    if mount(["mount", "-t", "tmpfs", "-o", "size=2m", "none", str(disk)]).returncode != 0:
        pytest.skip("this system does not let a test mount a small disk")
    try:
        with pytest.raises(OSError, match="cannot be written") as told:
            enhanced(engine, source, disk / "out.ome.zarr", chunk_px=256)
        assert told.value.errno == 28
        mount(["mount", "-o", "remount,size=50m", str(disk)])
        seen = []
        enhanced(engine, source, disk / "out.ome.zarr", chunk_px=256, progress=lambda *n: seen.append(n))
        assert seen[0][0] > 0
        enhanced(engine, source, tmp_path / "undisturbed.ome.zarr", chunk_px=256)
        assert hashes(disk / "out.ome.zarr") == hashes(tmp_path / "undisturbed.ome.zarr")
    finally:
        subprocess.run(["umount", "--lazy", str(disk)], check=True)


def started(model, source, output):
    command = [sys.executable, "-m", "sharpscope", "enhance", str(model), str(source), "-o", str(output)]
    return subprocess.Popen([*command, "--device", "cpu"], stderr=subprocess.PIPE, text=True)


def wait_for_a_chunk(process, output):
    journal = output.with_name(f"{output.name}.unfinished") / "journal.jsonl"
    while process.poll() is None and not (journal.exists() and journal.stat().st_size):
        try:
            process.wait(0.01)
        except subprocess.TimeoutExpired:
            continue
    assert process.poll() is None, "it ended before it could be stopped"


@pytest.mark.slow
@pytest.mark.parametrize("stop", [signal.SIGKILL, signal.SIGINT])
def test_a_command_that_is_stopped_is_gone_on_with_to_the_identical_file(
    engine, model_zip, tmp_path, stop, picture, write_zarr, hashes
):
    source = write_zarr(tmp_path / "in.ome.zarr", picture((2, 1500, 1500)), "tyx", chunk=500)
    enhance_file(engine, source, tmp_path / "undisturbed.ome.zarr")
    output = tmp_path / "out.ome.zarr"
    process = started(model_zip, source, output)
    wait_for_a_chunk(process, output)
    process.send_signal(stop)
    _, said = process.communicate(timeout=60)
    assert process.returncode == (130 if stop == signal.SIGINT else -stop), said
    assert not output.exists()
    process = started(model_zip, source, output)
    _, said = process.communicate(timeout=120)
    assert process.returncode == 0, said
    assert hashes(output) == hashes(tmp_path / "undisturbed.ome.zarr")


def test_a_kill_while_an_old_result_is_replaced_leaves_one_of_the_two_whole(
    engine, tmp_path, monkeypatch, picture, write_zarr, hashes
):
    source, output = write_zarr(tmp_path / "in.ome.zarr", picture((200, 150))), tmp_path / "out.ome.zarr"
    enhanced(engine, source, output)
    expected = hashes(output)

    for renames in (0, 1):  # before the old one is moved away, and before the new one takes its place
        with monkeypatch.context() as patched:
            patched.setattr(unfinished_module.Path, "replace", _killed_after(renames))
            with pytest.raises(KeyboardInterrupt):
                enhanced(engine, source, output, overwrite=True)
        enhanced(engine, source, output, overwrite=True)
        assert hashes(output) == expected
        assert not output.with_name("out.ome.zarr.unfinished").exists()


def _killed_after(renames):
    """Rename so many folders, and then be killed; files are renamed as always."""
    left = iter([os.replace] * renames)

    def replace(path, target):
        rename = next(left, None) if path.is_dir() else os.replace
        if rename is None:
            raise KeyboardInterrupt
        rename(path, target)

    return replace


def test_what_is_half_deleted_is_not_gone_on_with(engine, tmp_path, monkeypatch, picture, write_zarr):
    source, output = write_zarr(tmp_path / "in.ome.zarr", picture((200, 150))), tmp_path / "out.ome.zarr"
    interrupted(engine, source, output)
    with monkeypatch.context() as patched:
        patched.setattr(unfinished_module.shutil, "rmtree", lambda *_a, **_k: (_ for _ in ()).throw(OSError))
        with pytest.raises(OSError):  # noqa: PT011  the kill in the middle of the deletion
            enhanced(engine, source, output, overwrite=True, chunk_px=32)
    enhanced(engine, source, output)
    assert np.isfinite(level(output)).all()


def test_a_saturated_plane_is_named_in_the_result(engine, tmp_path, picture, write_zarr):
    planes = picture((2, 200, 150))
    planes[1] = np.where(planes[1] > 400, 65535, planes[1])
    source, output = write_zarr(tmp_path / "in.ome.zarr", planes, "tyx"), tmp_path / "out.ome.zarr"
    result = enhanced(engine, source, output, allow_out_of_domain=True)
    assert any(words.startswith("plane (1,): saturated") for words in result.warnings)
    written = json.loads((output / "zarr.json").read_text())["attributes"]["sharpscope"]
    assert "saturated" in written["warnings"]
    assert "middle of each plane" in written["warnings_are_of"]


def test_a_worker_that_computes_otherwise_or_sees_another_source_says_so(
    model_zip, tmp_path, picture, write_zarr
):
    package = read_package(model_zip)
    source = write_zarr(tmp_path / "in.ome.zarr", picture((200, 150)))
    plan = ChunkPlan.of(open_volume(source).facts, package.card, SMALL)
    piece = next(iter(plan.pieces(0, ())))
    job = Job(str(source), "", stamp_of(source), str(tmp_path / "out"), plan, (package.card.photometry(),))
    call = (str(model_zip), package.model_hash, "cpu-float32")
    with pytest.raises(WrongInputError, match="workers compute differently"):
        on_worker(*call, "another backend", "enhance", job, piece)
    here = load_engine(model_zip, "cpu-float32").backend.description
    os.utime(source / "zarr.json", ns=(1, 1))
    with pytest.raises(WrongInputError, match="another file here"):
        on_worker(*call, here, "enhance", replace(job, source_stamp=(5, 6)), piece)
