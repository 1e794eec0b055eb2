"""Exports of recordings: whole or absent, true counts, and what always stands in the picture."""

import errno
import os
import re
import subprocess
import zipfile

import av
import numpy as np
import pytest
import tifffile
from ome_types import from_xml
from PIL import Image

from configs.document import WrongInputError
from inference.image_file import is_enhanced, read_image_file
from inference.messages import StreamPhotometry
from inference.outcomes import EnhancedFrame, FrameId
from inference.recording import FrameFacts, Recorder, UnenhancedLine
from inference.viewer.clip import Clip
from inference.viewer.export import export_recording, own_pace_fps, write_movie, write_ome_tiff
from inference.viewer.look import Look
from inference.viewer.recording_source import RecordingSource
from inference.viewer.shown_frame import Plane, ShownFrame

SHAPE_YX = (121, 163)
HASHES = ("ab" * 32, "cd" * 32)
FRAMES = 12
DROPPED = 6


def raw_of(number):
    noise = np.random.default_rng(5).integers(0, 400, SHAPE_YX, dtype=np.uint16)
    return noise + np.uint16(100 * number)


def enhanced_of(number):
    return raw_of(number).astype(np.float32).repeat(2, 0).repeat(2, 1) + 0.25


@pytest.fixture(scope="module")
def recording(tmp_path_factory):
    """Frames of which one was dropped; from frame 8 on another model."""
    path = tmp_path_factory.mktemp("recordings") / "r"
    with Recorder.create(path, session="s1") as recorder:
        for number in range(FRAMES):
            recorder.put(raw_of(number), FrameFacts("FITC", 0.1, elapsed_ms=50.0 * number))
        recorder.flush()
        for number in range(FRAMES):
            digest = HASHES[number >= 8]
            photometry = StreamPhotometry(model_hash=digest, background=0.0, scale=1.0)
            outcome = EnhancedFrame(
                FrameId("s1", number), enhanced_of(number), 0.05, "FITC", "nuclei", digest, (), photometry,
                latency_ms=1.0, engine_ms=1.0,
            )  # fmt: skip
            if number == DROPPED:
                recorder.put_unenhanced(UnenhancedLine(frame=number, outcome="dropped", reason="superseded"))
            else:
                recorder.put_enhanced(outcome)
    return path


@pytest.fixture
def clip(recording):
    with RecordingSource(recording) as source:
        yield Clip.of(source, None, None, None)


def flat(number, counts, shape_yx=(300, 300)):
    plane = Plane(np.full(shape_yx, counts, np.uint16), 0.1)
    return ShownFrame(number=number, index=number, session="s", raw=plane, elapsed_ms=100.0 * number)


def decoded(path):
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        return stream, [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]


def test_a_raw_tiff_is_the_recording(recording, tmp_path):
    export_recording(recording, tmp_path / "raw.ome.tif", look=Look(show="raw"), first=2, last=9)
    pixels = tifffile.imread(tmp_path / "raw.ome.tif")
    assert pixels.dtype == np.uint16
    np.testing.assert_array_equal(pixels, [raw_of(number) for number in range(2, 10)])
    assert not is_enhanced(tmp_path / "raw.ome.tif")


def test_an_enhanced_tiff_is_the_recording_with_its_hole_as_nan_and_listed(recording, tmp_path):
    path = tmp_path / "enhanced.ome.tif"
    export_recording(recording, path, look=Look(), first=4, last=9)
    image = read_image_file(path)
    assert (image.axes, image.pixels.dtype, image.pixel_size_um) == ("TYX", np.float32, 0.05)
    assert image.channels == ("FITC enhanced",)
    for plane, number in zip(image.pixels, range(4, 10), strict=True):
        expected = np.full_like(plane, np.nan) if number == DROPPED else enhanced_of(number)
        np.testing.assert_array_equal(plane, expected)
    said = map_of(path)
    assert said["model"] == "nuclei"
    assert said["model_sha256"] == f"{HASHES[0]} (frames 4-5, 7); {HASHES[1]} (frames 8-9)"
    assert (said["session"], said["source_frames"]) == ("s1", "4-9")
    assert (said["not_enhanced"], said["not_enhanced_because"]) == ("6", "dropped: superseded")
    assert is_enhanced(path)


def test_the_ome_metadata_hold_size_and_times(recording, tmp_path):
    path = tmp_path / "raw.ome.tif"
    export_recording(recording, path, look=Look(show="raw"))
    ome = from_xml(tifffile.tiffcomment(path))
    pixels = ome.images[0].pixels
    assert (pixels.size_t, pixels.size_y, pixels.size_x) == (FRAMES, *SHAPE_YX)
    assert [plane.delta_t for plane in pixels.planes] == [50.0 * number for number in range(FRAMES)]
    with tifffile.TiffFile(path) as tiff:
        assert tiff.is_ome
        assert tiff.pages[0].resolution == pytest.approx((1e5, 1e5))


def map_of(path):
    ome = from_xml(tifffile.tiffcomment(path))
    return {entry.k: entry.value for entry in ome.structured_annotations[0].value.ms}


def test_an_odd_sized_movie_has_every_frame_at_the_pace_asked_for(recording, tmp_path):
    path = tmp_path / "raw.mp4"
    export_recording(recording, path, look=Look(show="raw"), fps=12.5)
    stream, pictures = decoded(path)
    assert len(pictures) == FRAMES
    assert float(stream.average_rate) == pytest.approx(12.5)
    height, width = (side + side % 2 for side in (3 * SHAPE_YX[0], 3 * SHAPE_YX[1]))  # enlarged to 512
    assert pictures[0].shape == (height, width, 3)
    assert (stream.codec_context.name, stream.codec_context.pix_fmt) == ("h264", "yuv420p")


def test_a_movie_can_be_played_while_it_loads(recording, tmp_path):
    export_recording(recording, tmp_path / "raw.mp4", look=Look(show="raw"))
    content = (tmp_path / "raw.mp4").read_bytes()
    assert 0 < content.index(b"moov") < content.index(b"mdat")


@pytest.mark.parametrize("colour", ["grey", "#00ff00", "#ff0000"])
def test_a_movie_shows_counts_within_the_codecs_tolerance_and_does_not_flicker(tmp_path, colour):
    """One level for the whole clip: a frame twice as bright is shown twice as bright."""
    counts = [100, 200, 300, 400, 500]
    look = Look(0, 500, "raw", colour)
    write_movie([flat(number, value) for number, value in enumerate(counts)], tmp_path / "m.mp4", look, 10)
    _, pictures = decoded(tmp_path / "m.mp4")
    for picture, value in zip(pictures, counts, strict=True):
        middle = picture[100:200, 100:200].reshape(-1, 3).mean(0)
        expected = np.array(Look(colour=colour).brightest_rgb) * value / 500
        assert np.abs(middle - expected).max() <= 6


def test_levels_that_are_not_given_are_those_of_the_whole_clip(tmp_path):
    write_movie([flat(0, 100), flat(1, 300), flat(2, 500)], tmp_path / "m.mp4", Look(show="raw"), 10)
    _, pictures = decoded(tmp_path / "m.mp4")
    assert [round(picture[100:200, 100:200].mean() / 127.5) for picture in pictures] == [0, 1, 2]


def test_side_by_side_shows_the_same_place_of_both(recording, tmp_path):
    export_recording(recording, tmp_path / "s.png", look=Look(0, 1500, "side_by_side"), first=3, last=3)
    picture = np.asarray(Image.open(tmp_path / "s.png")).astype(int)
    height, width = 2 * SHAPE_YX[0], 2 * SHAPE_YX[1]
    assert picture.shape == (height, 2 * width + 2, 3)
    raw, enhanced = picture[:, :width], picture[:, width + 2 :]
    middle = slice(100, 180)
    assert np.abs(raw[middle] - enhanced[middle]).max() <= 1


def test_a_png_names_model_hash_and_source_in_its_text_too(recording, tmp_path):
    export_recording(recording, tmp_path / "e.png", look=Look(), first=3, last=3)
    said = Image.open(tmp_path / "e.png").text
    assert said["sharpscope model_sha256"] == HASHES[0]
    assert (said["sharpscope session"], said["sharpscope frame"]) == ("s1", "3")


def test_a_range_of_pngs_is_a_zip_of_them(recording, tmp_path):
    export_recording(recording, tmp_path / "e.zip", look=Look(show="raw"), first=3, last=5)
    with zipfile.ZipFile(tmp_path / "e.zip") as archive:
        assert archive.namelist() == [f"frame00000{number}.png" for number in (3, 4, 5)]
        with archive.open("frame000004.png") as stream:
            assert Image.open(stream).size == (3 * SHAPE_YX[1], 3 * SHAPE_YX[0])
    with pytest.raises(WrongInputError, match=r"give a \.zip"):
        export_recording(recording, tmp_path / "e.png", look=Look(show="raw"), first=3, last=5)


def test_a_large_picture_is_shrunk_to_what_players_decode(tmp_path):
    write_movie([flat(0, 100, (3000, 3000))], tmp_path / "m.mp4", Look(0, 200, "raw"), 10)
    _, pictures = decoded(tmp_path / "m.mp4")
    assert pictures[0].shape == (2304, 2304, 3)


def test_frames_of_two_binnings_fit_into_one_movie_and_not_into_one_tiff(tmp_path):
    frames = [flat(0, 100), flat(1, 100, (150, 150))]
    write_movie(frames, tmp_path / "m.mp4", Look(0, 200, "raw"), 10)
    _, pictures = decoded(tmp_path / "m.mp4")
    assert np.abs(pictures[0][100:200].astype(int) - pictures[1][100:200]).max() <= 6
    with pytest.raises(WrongInputError, match="frame 1 is 150 x 150 uint16"):
        write_ome_tiff(frames, tmp_path / "m.ome.tif", Look(show="raw"))
    assert [path.name for path in tmp_path.iterdir()] == ["m.mp4"]


@pytest.mark.parametrize("name", ["c.mp4", "c.png", "c.ome.tif", "c.zip"])
def test_nothing_is_written_over_unasked(recording, tmp_path, name):
    (tmp_path / name).write_text("mine")
    with pytest.raises(WrongInputError, match="is there already"):
        export_recording(recording, tmp_path / name, look=Look(show="raw"), first=0, last=0)
    assert (tmp_path / name).read_text() == "mine"
    export_recording(recording, tmp_path / name, look=Look(show="raw"), first=0, last=0, overwrite=True)
    assert (tmp_path / name).stat().st_size > 1000


@pytest.mark.parametrize("name", ["c.mp4", "c.ome.tif", "c.zip"])
def test_an_export_that_is_broken_off_leaves_no_file(recording, tmp_path, name):
    def break_off(done, _frames):
        if done == 3:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        export_recording(recording, tmp_path / name, look=Look(), progress=break_off)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("choice", "complaint"),
    [
        ({"first": 5, "last": 4}, "frames 5 to 4 are not in 'FITC'; it has frames 0 to 11"),
        ({"first": 0, "last": 12}, "it has frames 0 to 11"),
        ({"first": -1}, "it has frames 0 to 11"),
        ({"series": "DAPI"}, "no series 'DAPI'; there are 'FITC'"),
        ({"fps": 0.0}, "fps is 0"),
        ({"fps": float("nan")}, "fps is nan"),
    ],
)
def test_what_is_not_there_is_refused_in_one_line(recording, tmp_path, choice, complaint):
    with pytest.raises(WrongInputError, match=re.escape(complaint)):
        export_recording(recording, tmp_path / "c.mp4", look=Look(show="raw"), **choice)
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_ending_a_wrong_folder_and_both_in_a_tiff_are_refused(recording, tmp_path):
    with pytest.raises(WrongInputError, match=r"no export ends in '\.avi'"):
        export_recording(recording, tmp_path / "c.avi", look=Look())
    with pytest.raises(WrongInputError, match="is not a recording"):
        export_recording(tmp_path, tmp_path / "c.mp4", look=Look())
    with pytest.raises(WrongInputError, match="not both"):
        export_recording(recording, tmp_path / "c.tif", look=Look(show="side_by_side"))


def test_an_enhanced_tiff_of_nothing_enhanced_is_refused(recording, tmp_path):
    with pytest.raises(WrongInputError, match="export them raw"):
        export_recording(recording, tmp_path / "c.tif", look=Look(), first=DROPPED, last=DROPPED)


def test_a_recording_without_frames_has_nothing_to_export(tmp_path):
    with Recorder.create(tmp_path / "empty"):
        pass
    with pytest.raises(WrongInputError, match="no frames yet"):
        export_recording(tmp_path / "empty", tmp_path / "c.mp4", look=Look())


def test_without_a_pace_a_movie_plays_as_it_was_taken(clip):
    assert own_pace_fps(clip) == pytest.approx(20.0)
    assert own_pace_fps([clip[0]]) == 10.0


def test_an_export_tells_its_progress(recording, tmp_path):
    told = []
    export_recording(
        recording, tmp_path / "c.mp4", look=Look(show="raw"), last=3,
        progress=lambda done, frames: told.append((done, frames)),
    )  # fmt: skip
    assert told == [(done, 4) for done in range(5)]


@pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() != 0, reason="mounting a small disk needs root"
)
@pytest.mark.parametrize("name", ["c.mp4", "c.ome.tif", "c.zip"])
def test_a_full_disk_is_told_and_leaves_no_file(recording, tmp_path, name):
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=40k", "none", str(disk)]
    if subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        pytest.skip("this system does not let a test mount a small disk")
    try:
        with pytest.raises(OSError, match=r"(?i)no (space|room)") as told:
            export_recording(recording, disk / name, look=Look())
        assert told.value.errno == errno.ENOSPC
        assert list(disk.iterdir()) == []
    finally:
        subprocess.run(["umount", "--lazy", str(disk)], check=True)
