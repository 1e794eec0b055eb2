import numpy as np
import pytest
from scipy import ndimage

from acquisition.manifest import (
    ChannelRecord,
    FocusRecord,
    HoleRecord,
    Manifest,
    ObjectiveRecord,
    ScanFolder,
)
from configs.document import WrongInputError
from inference.preprocess import prepare
from training.pairing.build import pair_scan
from training.pairing.pairs import PairSet
from training.pairing.settings import PairingSettings
from training.pairing.split import SplitRule
from training.pairing.truth import attach_truth

SIDE_PX, TILE_PX, STEP_PX = 384, 208, 176
CHANNELS = ("FITC", "Texas Red")
PARCENTRIC_PX = np.array([9.0, -6.0])


def manifest(low_px_um=0.65, high_affine=(0.325, 0.0, 0.0, 0.0, 0.325, 0.0)):
    def objective(magnification, aperture, affine):
        return ObjectiveRecord(
            name=f"{magnification}x",
            magnification=magnification,
            numerical_aperture=aperture,
            immersion="air",
            pixel_size_um=abs(affine[0]),
            pixel_size_affine=affine,
        )

    return Manifest(
        run_id="run-1",
        microscope="synthetic",
        camera_pixel_um=6.5,
        objectives={
            "low": objective(10, 0.4, (low_px_um * np.sign(high_affine[0]), 0, 0, 0, low_px_um, 0)),
            "high": objective(20, 0.75, high_affine),
        },
        channels=[
            ChannelRecord(name=name, emission_nm=nm, exposure_ms={"low": 100, "high": 50})
            for name, nm in zip(CHANNELS, (522, 624), strict=True)
        ],
        plan={},
        software={},
    )


def commit_region(scan, scenes, region, leave_out=(), mirror=1):
    """One low field and four high tiles; a mirrored camera sees the stage's x run backwards."""
    views = [scenes(SIDE_PX, seed=2 * region + k, density=1.5) for k in range(len(CHANNELS))]
    centre = np.array([1000.0 * region, -500.0])
    low = np.stack([view.low() for view in views])
    scan.commit_field(low, region=region, state="low", tile=0, stage_xy_um=tuple(centre), focus_um=0.0)
    high = np.stack([ndimage.shift(view.high(), PARCENTRIC_PX, order=1, mode="nearest") for view in views])
    for tile, (row, column) in enumerate(np.ndindex(2, 2)):
        if tile in leave_out:
            continue
        y, x = row * STEP_PX, column * STEP_PX
        offset_px = np.array([x, y]) + TILE_PX / 2 - SIDE_PX / 2
        stage = centre + offset_px * 0.325 * np.array([mirror, 1])
        frame = high[:, y : y + TILE_PX, x : x + TILE_PX]
        scan.commit_field(
            frame, region=region, state="high", tile=tile, stage_xy_um=tuple(stage), focus_um=5.0
        )
    return views


@pytest.fixture(scope="module")
def scan(tmp_path_factory, scenes):
    folder = ScanFolder.create(tmp_path_factory.mktemp("scan") / "scan", manifest())
    for region in range(3):
        commit_region(folder, scenes, region)
    commit_region(folder, scenes, 3, leave_out=(2,))
    folder.log(HoleRecord(region=3, state="high", tile=2, reason="camera timed out"))
    commit_region(folder, scenes, 4)
    folder.log(
        FocusRecord(
            region=4, state="low", tile=0, succeeded=False, focus_um=None, reason="flat curve", curve=[(0, 1)]
        )
    )
    folder.log(HoleRecord(region=5, state="low", tile=0, reason="stage stuck"))
    return folder


RULE = SplitRule(validation_regions=frozenset({1}), test_regions=frozenset({2, 3}))


@pytest.fixture(scope="module")
def pair_set(scan, tmp_path_factory):
    return pair_scan(scan.path, tmp_path_factory.mktemp("out") / "pairs", PairingSettings(split=RULE))


def test_every_field_and_channel_is_listed_and_the_good_ones_are_accepted(pair_set):
    listed = [(pair.region, pair.channel, pair.accepted) for pair in pair_set.index.pairs]
    assert listed == [(region, channel, region < 3) for region in range(6) for channel in CHANNELS]


def test_acquisition_faults_leave_pairs_out_in_every_split(pair_set):
    reasons = {pair.region: pair.reason for pair in pair_set.index.pairs if not pair.accepted}
    assert "high tile 2: hole: camera timed out" in reasons[3]
    assert "autofocus failed: flat curve" in reasons[4]
    assert "hole: stage stuck" in reasons[5]


def test_no_region_is_in_two_splits(pair_set):
    for region in range(6):
        assert len({pair.split for pair in pair_set.index.pairs if pair.region == region}) == 1


def test_the_low_plane_is_what_serving_feeds_the_network_bit_for_bit(pair_set, scan):
    frame = scan.read_field(next(field for field in scan.fields() if field.state == "low"))
    for k, pair in enumerate(pair_set.index.pairs[:2]):
        served = prepare(frame[k], pair_set.index.normalisation[pair.channel].low.photometry(), 2)
        low, _ = pair_set.read(pair)
        top, left = pair.origin_yx_px
        np.testing.assert_array_equal(low, served[top : top + low.shape[0], left : left + low.shape[1]])


def test_the_channels_of_a_field_share_their_crop(pair_set):
    first, second = pair_set.index.pairs[:2]
    assert first.origin_yx_px == second.origin_yx_px
    assert pair_set.read(first)[0].shape == pair_set.read(second)[0].shape


def test_the_parcentric_offset_is_found_and_removed(pair_set, scenes):
    for pair in pair_set.index.pairs[:6]:
        np.testing.assert_allclose(pair.shift_yx_px, PARCENTRIC_PX, atol=0.3)
        assert pair.residual_px < 0.1
        scene = scenes(SIDE_PX, seed=2 * pair.region + CHANNELS.index(pair.channel), density=1.5)
        _, high = pair_set.read(pair)
        top, left = pair.origin_yx_px
        ideal = scene.ideal_high()[top : top + high.shape[0], left : left + high.shape[1]]
        assert np.corrcoef(high.ravel(), ideal.ravel())[0, 1] > 0.97


def test_background_and_light_are_those_that_were_put_in(pair_set):
    for factors in pair_set.index.normalisation.values():
        assert factors.low.background == pytest.approx(180, abs=5)
        assert factors.high.background == pytest.approx(120, abs=5)
        assert factors.high.scale / factors.low.scale == pytest.approx(1.5, rel=0.03)


def test_the_deformation_is_stored_with_its_uncertainty(pair_set):
    for pair in pair_set.index.pairs[:2]:
        found = pair_set.read_deformation(pair)
        assert found.displacement_yx_px.shape[1:] == found.uncertainty_px.shape
        assert found.origin_yx_px == (0.5, 0.5)  # the centre of the first low pixel
        assert found.spacing_px * found.uncertainty_px.shape[0] == pytest.approx(SIDE_PX, abs=16)
        # These scenes are not deformed.
        assert np.abs(found.displacement_yx_px).max() < 0.5
        assert 0.001 < np.median(found.uncertainty_px) < 0.2


def test_a_pair_that_was_not_aligned_has_no_deformation(pair_set):
    assert pair_set.read_deformation(pair_set.index.pairs[-1]) is None


def test_the_contact_sheet_lies_in_the_pair_set_and_names_what_was_left_out(pair_set):
    page = (pair_set.path / "contact_sheet.html").read_text(encoding="utf-8")
    for pair in pair_set.index.pairs:
        if not pair.accepted:
            assert pair.file in page
    assert "camera timed out" in page


def test_what_the_set_says_of_its_light_is_recorded(pair_set):
    light = pair_set.index.light["FITC"]
    assert light.low.background == pytest.approx(180, abs=5)
    assert light.low.unevenness is None
    assert "too few" in light.low.even_because
    assert pair_set.index.pairs[0].signal_to_noise.high > 10
    assert pair_set.index.orientation.matrix_yx == ((1.0, 0.0), (0.0, 1.0))


@pytest.mark.slow
def test_a_background_that_is_given_is_taken(scan, tmp_path):
    given = PairingSettings(split=RULE, low_background=50.0, high_background=60.0)
    factors = pair_scan(scan.path, tmp_path / "pairs", given).index.normalisation["FITC"]
    assert (factors.low.background, factors.high.background) == (50.0, 60.0)


def test_drift_mode_moves_the_whole_field_alike(scan, tmp_path):
    drift = pair_scan(scan.path, tmp_path / "pairs", PairingSettings("drift", RULE))
    assert drift.index.alignment == "drift"
    for pair in drift.index.pairs[:6]:
        np.testing.assert_allclose(pair.shift_yx_px, PARCENTRIC_PX, atol=0.3)
        assert pair.deformation_rms_px == 0
        assert pair.accepted


def test_lineage_names_the_run_and_every_file(pair_set, scan):
    digests = {field.file: field.sha256 for field in scan.fields() if field.region == 0}
    assert pair_set.index.run_id == "run-1"
    assert pair_set.index.pairs[0].sources == digests
    assert pair_set.index.optics.emission_nm == {"FITC": 522, "Texas Red": 624}


@pytest.mark.slow
def test_pairing_twice_gives_the_same_pairs(pair_set, scan, tmp_path):
    again = pair_scan(scan.path, tmp_path / "pairs", PairingSettings(split=RULE))
    assert again.index == pair_set.index
    for pair in pair_set.index.pairs[:2]:
        np.testing.assert_array_equal(again.read(pair), pair_set.read(pair))


@pytest.mark.slow
def test_truth_is_cropped_to_the_pair_and_remembered(pair_set, tmp_path, scan):
    own = pair_scan(scan.path, tmp_path / "pairs", PairingSettings(split=RULE))
    pair = own.index.pairs[0]
    image = np.arange(SIDE_PX**2, dtype=np.float32).reshape(SIDE_PX, SIDE_PX)
    record = attach_truth(own, pair, image, background=5.0)
    truth = PairSet.open(own.path).read_truth(record)
    top, left = pair.origin_yx_px
    assert truth.shape == own.read(pair)[1].shape
    assert truth[0, 0] == image[top, left] - 5
    assert PairSet.open(own.path).index.pairs[0] == record
    with pytest.raises(WrongInputError, match="not in"):
        attach_truth(own, pair, image)  # the old record
    with pytest.raises(WrongInputError, match="too small"):
        attach_truth(own, own.index.pairs[1], image[:200])


def test_a_mirrored_camera_is_followed_by_the_affine(tmp_path, scenes):
    folder = ScanFolder.create(tmp_path / "scan", manifest(high_affine=(-0.325, 0, 0, 0, 0.325, 0)))
    commit_region(folder, scenes, 0, mirror=-1)
    pairs = pair_scan(folder.path, tmp_path / "pairs").index.pairs
    assert all(pair.accepted for pair in pairs)
    np.testing.assert_allclose(pairs[0].shift_yx_px, PARCENTRIC_PX, atol=0.3)


def test_a_field_changed_after_the_scan_is_left_out(tmp_path, scenes):
    folder = ScanFolder.create(tmp_path / "scan", manifest())
    for region in range(2):
        commit_region(folder, scenes, region)
    victim = folder.path / folder.fields()[0].file
    victim.write_bytes(victim.read_bytes()[:-100])
    pairs = pair_scan(folder.path, tmp_path / "pairs").index.pairs
    assert "SHA-256 differs" in pairs[0].reason
    assert pairs[-1].accepted


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"low_px_um": 0.5}, "not 1, 2 or 4"),
        ({"high_affine": (0.0, 0.325, 0.0, -0.325, 0.0, 0.0)}, "rotation or mirror|no inverse"),
    ],
)
def test_objectives_that_do_not_fit_together_are_named(tmp_path, changes, words):
    ScanFolder.create(tmp_path / "scan", manifest(**changes))
    with pytest.raises(WrongInputError, match=words):
        pair_scan(tmp_path / "scan", tmp_path / "pairs")


def test_a_scan_without_fields_is_named(tmp_path):
    ScanFolder.create(tmp_path / "scan", manifest())
    with pytest.raises(WrongInputError, match="no field of the low state"):
        pair_scan(tmp_path / "scan", tmp_path / "pairs")


def test_a_folder_that_is_no_scan_is_named(tmp_path):
    with pytest.raises(WrongInputError, match="not a scan folder"):
        pair_scan(tmp_path, tmp_path / "pairs")
