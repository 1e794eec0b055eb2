"""Folders of striped exposures as fields of view: a real microscope's nine, and what is wrong with others."""

import numpy as np
import pytest
import tifffile

from configs.document import WrongInputError
from inference.preprocess import prepare
from training.pairing.background import estimate_background
from training.pairing.build import pair_sim_folder
from training.pairing.pairs import Optics
from training.pairing.settings import PairingSettings
from training.pairing.sim_source import read_sim_folder
from training.pairing.sources import UnusableFieldError

CHANNEL = "microtubules"
OPTICS = Optics(low_pixel_size_um=0.0626, low_numerical_aperture=1.35, emission_nm={CHANNEL: 525.0})


@pytest.fixture(scope="session")
def exposures(shared_data):
    return tifffile.imread(shared_data / "sim" / "microtubules_sim_raw_9frames.tif")


@pytest.fixture(scope="module")
def folder(tmp_path_factory, exposures):
    """The real exposures, and the same seen from behind."""
    path = tmp_path_factory.mktemp("raw")
    tifffile.imwrite(path / "cell1.tif", exposures)
    tifffile.imwrite(path / "cell2.tif", exposures[:, :, ::-1])
    return path


@pytest.fixture(scope="module")
def acquisition(folder):
    return read_sim_folder(folder, CHANNEL, OPTICS)


@pytest.fixture(scope="module")
def frames(acquisition):
    return acquisition.fields[0].read()


@pytest.fixture(scope="module")
def part(exposures):
    """As much of the exposures as is paired quickly."""
    return exposures[:, 40:200, 40:200]


@pytest.fixture(scope="module")
def pair_set(part, tmp_path_factory):
    raw = tmp_path_factory.mktemp("part")
    tifffile.imwrite(raw / "cell1.tif", part)
    drift = PairingSettings(alignment="drift")
    return pair_sim_folder(raw, raw / "pairs", drift, optics=OPTICS, channel=CHANNEL)


def test_every_file_is_a_region_on_a_grid_twice_as_fine(acquisition):
    assert [field.name for field in acquisition.fields] == ["region0000_cell1", "region0001_cell2"]
    assert acquisition.factor == 2
    assert acquisition.optics.high_pixel_size_um == pytest.approx(0.0313)
    assert acquisition.optics.high_numerical_aperture == 1.35
    assert acquisition.optics.modality == "tirf_sim"


def test_low_is_the_mean_of_the_nine(frames, exposures):
    assert frames.low.dtype == np.float32
    np.testing.assert_array_equal(frames.low[0], exposures.mean(axis=0).astype(np.float32))


def test_high_lies_on_low_and_holds_what_low_cannot(frames):
    (high,) = frames.tiles[0]
    assert high.shape == (512, 512)
    binned = high.reshape(256, 2, 256, 2).mean(axis=(1, 3))
    inside = (slice(16, -16), slice(16, -16))
    shifted = [
        np.corrcoef(np.roll(binned, (dy, dx), (0, 1))[inside].ravel(), frames.low[0][inside].ravel())[0, 1]
        for dy in (-1, 0, 1)
        for dx in (-1, 0, 1)
    ]
    assert np.argmax(shifted) == 4
    assert shifted[4] > 0.8
    power = np.abs(np.fft.fft2(high - high.mean())) ** 2
    frequency = np.hypot(np.fft.fftfreq(512, 0.0313)[:, np.newaxis], np.fft.fftfreq(512, 0.0313))
    cutoff = 2 * 1.35 / 0.525
    beyond = (frequency > 1.1 * cutoff) & (frequency < 1.6 * cutoff)
    assert power[beyond].mean() > 100 * power[frequency > 2.2 * cutoff].mean()


def test_both_stand_on_one_background_and_have_the_same_light(frames):
    low, (high,) = frames.low[0], frames.tiles[0]
    background = estimate_background([low])
    assert estimate_background([high]) == pytest.approx(background, abs=0.01 * float(low.max()))
    assert high.mean() == pytest.approx(low.mean(), rel=1e-3)


def test_what_dips_below_the_background_is_little_light(frames):
    (high,) = frames.tiles[0]
    above = high - estimate_background([high])
    assert -above[above < 0].sum() < 0.01 * above[above > 0].sum()


def test_the_low_plane_is_what_serving_feeds_the_network_bit_for_bit(pair_set, part):
    (pair,) = pair_set.index.pairs
    served = prepare(part.mean(axis=0), pair_set.index.normalisation[CHANNEL].low.photometry(), 2)
    low, high = pair_set.read(pair)
    top, left = pair.origin_yx_px
    np.testing.assert_array_equal(low, served[top : top + low.shape[0], left : left + low.shape[1]])
    assert high.shape == low.shape
    assert high.min() >= 0


def test_registration_leaves_the_reconstruction_where_it_is(pair_set):
    (pair,) = pair_set.index.pairs
    assert pair.reason is None
    assert np.hypot(*pair.shift_yx_px) < 0.1
    assert pair.deformation_rms_px < 0.1


@pytest.mark.parametrize(
    ("optics", "words"),
    [
        (
            Optics(),
            f"pixel size .*in um and the numerical aperture and the emission wavelength of {CHANNEL} in nm",
        ),
        (
            OPTICS.model_copy(update={"emission_nm": {"GFP": 509.0}}),
            f"needs the emission wavelength of {CHANNEL}",
        ),
        (
            OPTICS.model_copy(update={"low_numerical_aperture": 0.0}),
            "needs the numerical aperture; .* above 0",
        ),
        (OPTICS.model_copy(update={"high_pixel_size_um": 0.0626}), "0.0626 um, but .*0.0313 um"),
    ],
)
def test_missing_optics_are_named_all_at_once(folder, optics, words):
    with pytest.raises(WrongInputError, match=words):
        read_sim_folder(folder, CHANNEL, optics)


def test_a_folder_without_images_is_named(tmp_path):
    with pytest.raises(WrongInputError, match="holds no image"):
        read_sim_folder(tmp_path, CHANNEL, OPTICS)
    with pytest.raises(WrongInputError, match="is not a folder"):
        read_sim_folder(tmp_path / "elsewhere", CHANNEL, OPTICS)


def too_few(exposures):
    return exposures[:8]


def one_plane(exposures):
    return exposures[0]


def with_nan(exposures):
    return np.where(exposures == exposures.max(), np.nan, exposures).astype(np.float32)


def all_black(exposures):
    return np.zeros_like(exposures)


def shutter_closed_once(exposures):
    return np.where(np.arange(9)[:, np.newaxis, np.newaxis] == 4, 0, exposures).astype(np.uint16)


def saturated(exposures):
    return np.where(exposures > np.percentile(exposures, 90), 65535, exposures).astype(np.uint16)


def without_stripes(exposures):
    mean = np.broadcast_to(exposures.mean(axis=0) / 100, exposures.shape)
    return np.random.default_rng(0).poisson(mean).astype(np.uint16)


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (too_few, r"\(8, 256, 256\), expected 9 striped exposures"),
        (one_plane, r"\(256, 256\), expected 9 striped exposures"),
        (with_nan, "field.tif holds NaN"),
        (all_black, "exposure 1 is black"),
        (shutter_closed_once, "exposure 5 is black"),
        (saturated, "saturated"),
        (without_stripes, "cannot be reconstructed: orientation 1 shows stripes of depth"),
    ],
)
def test_a_file_that_cannot_be_used_says_why(tmp_path, exposures, spoil, words):
    tifffile.imwrite(tmp_path / "field.tif", spoil(exposures))
    (field,) = read_sim_folder(tmp_path, CHANNEL, OPTICS).fields
    with pytest.raises(UnusableFieldError, match=words):
        field.read()


def test_a_text_file_named_as_an_image_says_so(tmp_path):
    (tmp_path / "notes.tif").write_text("nine exposures, honestly")
    (field,) = read_sim_folder(tmp_path, CHANNEL, OPTICS).fields
    with pytest.raises(UnusableFieldError, match=r"notes.tif cannot be read"):
        field.read()
