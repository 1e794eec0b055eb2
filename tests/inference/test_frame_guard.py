"""The frame guard on filaments like those of the shared small model, and on what they are not."""

import numpy as np
import pytest
from scipy import ndimage

from inference.appearance import cosines
from inference.artifact_score import artifact_score, binned
from inference.engine import Engine, OutOfDomainError, load_engine
from inference.frame_guard import FrameGuard
from inference.model_package import FrameStatistics, ServingCard
from inference.preprocess import restore, undo_upsampling, upsample
from inference.saturation import saturated_fraction
from inference.signal_to_noise import signal_to_noise
from training.evaluation.artifacts import artifact_map


@pytest.fixture(scope="module")
def engine(model_zip) -> Engine:
    return load_engine(model_zip, "cpu")


@pytest.fixture(scope="module")
def card(engine) -> ServingCard:
    return engine.package.card


@pytest.fixture(scope="module")
def frame(pair_set) -> np.ndarray:
    """The low frame of the test pair, (96, 96) counts, which no limit was computed from."""
    (record,) = pair_set.select("test", "FITC")
    light = pair_set.index.normalisation["FITC"].low.photometry()
    return np.rint(restore(undo_upsampling(pair_set.read(record)[0], 2), light)).astype(np.uint16)


def warnings_of(card, frame):
    return FrameGuard(card).look(frame).warnings


def test_a_frame_like_the_trainings_is_let_pass(card, frame):
    assert warnings_of(card, frame) == ()


@pytest.mark.parametrize("sigma_px", [2.0, 4.0])
def test_a_blurred_frame_has_less_detail_than_any_training_frame(card, frame, sigma_px):
    (words,) = warnings_of(card, ndimage.gaussian_filter(frame.astype(np.float32), sigma_px))
    assert words.startswith("less detail of")
    assert "out of focus" in words


def test_spots_are_another_specimen_than_filaments(card):
    random = np.random.default_rng(3)
    spots = np.zeros((96, 96))
    spots[random.integers(96, size=12), random.integers(96, size=12)] = 30_000
    frame = random.poisson(ndimage.gaussian_filter(spots, 1.0) + 100)
    (words,) = warnings_of(card, frame.astype(np.uint16))
    assert "another specimen" in words


@pytest.mark.parametrize("full_well", [2500, 4095])
def test_a_saturated_frame_is_named_though_its_wells_are_full_below_the_converters_limit(
    card, frame, full_well
):
    bright = np.minimum(3 * frame.astype(np.int64), full_well).astype(np.uint16)
    assert any(words.startswith("saturated: ") for words in warnings_of(card, bright))


def test_an_unsaturated_frame_has_few_pixels_at_its_brightest_count(frame):
    assert saturated_fraction(frame) < 1e-3


@pytest.mark.parametrize(("noise", "named"), [(0.0, False), (400.0, True)])
def test_a_noisy_frame_is_named(card, frame, noise, named):
    ratio = signal_to_noise(frame, card.background)
    known = FrameStatistics(
        signal_to_noise_min=ratio, signal_to_noise_median=ratio, signal_to_noise_max=ratio,
        saturated_fraction_max=1e-3,
    )  # fmt: skip
    noisy = frame + np.random.default_rng(0).normal(0, noise, frame.shape)
    found = warnings_of(
        card.model_copy(update={"frames": known, "guard": None}), np.maximum(noisy, 0).astype(np.uint16)
    )
    assert any("signal to noise" in words for words in found) is named


@pytest.mark.parametrize("light", [0.1, 10.0])
def test_ten_times_more_or_less_light_is_refused(engine, frame, light):
    with pytest.raises(OutOfDomainError, match="intensity"):
        engine.enhance((frame - 100.0) * light + 100.0, pixel_size_um=0.65)


@pytest.fixture(scope="module")
def explained(card):
    """A sharp image, the frame that it explains, and a card that expects as much."""
    sharp = np.random.default_rng(4).random((192, 192)).astype(np.float32)
    sharp = 1000 * ndimage.gaussian_filter(sharp, 1.0, mode="reflect") + 100
    low = ndimage.gaussian_filter(binned(sharp, 2), 1.0, mode="reflect")
    unexplained = {"unexplained_min": 0.01, "unexplained_max": 0.02, "noise_share_max": None}
    expected = unexplained | {"blur_px": 1.0, "gain_min": 0.98, "gain_max": 1.02}
    limits = card.guard.model_copy(update=expected)
    return sharp, low, card.model_copy(update={"guard": limits})


def judged(card, low, sharp):
    guard = FrameGuard(card)
    seen = guard.look(low)
    return guard.judge(seen, sharp)[len(seen.warnings) :]


def test_an_image_that_explains_its_frame_is_let_pass(explained):
    sharp, low, card = explained
    assert judged(card, low, sharp) == ()


def test_what_was_invented_or_made_brighter_is_named(explained):
    sharp, low, card = explained
    invented = sharp.copy()
    invented[80:90, 60:70] += 300
    assert "does not explain the frame: RSP" in judged(card, low, invented)[0]
    assert "contrast is 2 of the frame's" in judged(card, low, 2 * sharp)[0]
    assert "does not explain" in judged(card, low, np.full_like(sharp, 7.0))[0]


def test_a_noisier_frame_may_leave_more_unexplained(explained):
    sharp, low, card = explained
    noisy = low + np.random.default_rng(5).normal(0, 0.2 * low.std(), low.shape).astype(np.float32)
    assert judged(card, noisy, sharp)
    tolerant = card.guard.model_copy(update={"noise_share_max": 0.02})
    assert not judged(card.model_copy(update={"guard": tolerant}), noisy, sharp)


def test_the_score_is_squirrels_with_the_blur_that_squirrel_finds(explained):
    sharp, low, _ = explained
    low = low + ndimage.gaussian_filter(np.random.default_rng(6).normal(0, 30, low.shape), 1.0)
    found = artifact_map(binned(sharp, 2), low)
    score = artifact_score(sharp, cosines(low), found.sigma_px)
    assert score.rsp == pytest.approx(found.rsp, abs=1e-5)
    assert score.rse == pytest.approx(found.rse, rel=1e-3)
    assert score.gain == pytest.approx(found.gain, rel=1e-3)


def test_only_the_middle_is_looked_at_where_that_is_asked_for(card, frame):
    wide = np.pad(frame, 48, mode="symmetric")
    wide[:8] = 65535
    assert warnings_of(card, wide)
    assert FrameGuard(card, window_px=96).look(wide).warnings == ()


def test_frames_smaller_than_any_that_was_measured_are_not_judged_by_their_looks(card, frame):
    assert warnings_of(card, np.full((20, 20), 900, np.uint16) + frame[:20, :20] % 7) == ()


class NoNumbers:
    """A backend whose network has gone bad."""

    description, under_way, item_bytes, memory_factor = "no numbers", 1, 4, 1.0

    def run(self, batch):
        return np.full_like(batch, np.nan)

    def begin(self, image, photometry, factor, padded_yx, *, counts, out=None):
        output = np.zeros((factor * image.shape[0], factor * image.shape[1]), np.float32)
        output[3, 4] = np.nan
        return lambda: output


@pytest.mark.parametrize("limit_px", [0, 10**7])
def test_where_the_network_computes_no_numbers_the_raw_frame_is_shown_and_says_so(engine, frame, limit_px):
    bad = Engine(engine.package, NoNumbers(), whole_image_limit_px=limit_px)
    shown = bad.enhance(frame, pixel_size_um=0.65)
    assert shown.shows_raw
    assert "not finite: this is the raw frame" in shown.warnings[0]
    np.testing.assert_array_equal(shown.image, upsample(frame.astype(np.float32), 2))


def test_the_limits_survive_the_cards_way_through_json(card):
    assert card.guard is not None
    assert ServingCard.model_validate_json(card.model_dump_json()) == card


def test_a_package_of_before_the_limits_still_enhances(engine, frame):
    old = {key: value for key, value in engine.package.card.model_dump().items() if key != "guard"}
    card = ServingCard.model_validate(old)
    assert card.guard is None
    assert FrameGuard(card).look(ndimage.gaussian_filter(frame, 3)).warnings == ()
