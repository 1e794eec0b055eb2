"""What a calibration measures on the virtual microscope is its truth; a stale calibration is refused."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter, map_coordinates
from skimage.measure import block_reduce

from acquisition.affine_fit import CalibrationFailedError, PairShift, decompose, fit_affine
from acquisition.affine_registration import place
from acquisition.area import StageWindow
from acquisition.calibration import cfg_lines, check_fresh, read_calibration, write_calibration
from acquisition.calibration_lattice import lattice_of
from acquisition.calibration_run import calibrate
from acquisition.image_shift import find_shift, structure
from acquisition.micro_manager import load_cfg
from acquisition.microscope import Microscope
from acquisition.plan import load_experiment
from acquisition.stage_micrometer import pixel_size_of_micrometer
from acquisition.virtual import Beads, from_choice, load
from acquisition.virtual.imperfections import StageError
from configs.document import WrongInputError

TRUTH = {
    "sample_height_um": 3.0,
    "sample_tilt_um_per_mm": (4.0, -3.0),
    "parfocal_offset_um": 6.0,
    "parcentric_offset_um": (-7.5, 4.8),
    "stage_backlash_um": 1.0,
    "camera_rotation_deg": 90.7,
    "camera_mirrored": True,
    "axial_chromatic_um": {"Texas Red": 2.0},
}
SIDE = 256


def experiment_with(imperfections):
    """The shipped experiment with a small camera and two channels."""
    shipped = load_experiment("virtual_widefield")
    choice = {"camera_shape_yx": (SIDE, SIDE), "imperfections": imperfections}
    return shipped.model_copy(
        update={
            "microscope": shipped.microscope.model_copy(update=choice),
            "channels": [shipped.channel("FITC"), shipped.channel("Texas Red")],
        }
    )


def microscope_on(core, experiment):
    return Microscope.for_experiment(core, experiment)


@pytest.fixture(scope="module")
def experiment():
    return experiment_with(TRUTH)


@pytest.fixture(scope="module")
def visited():
    return []


@pytest.fixture(scope="module")
def measured(experiment, visited):
    """A calibration over a short way, which is enough for a stage without error."""
    core = from_choice(experiment.microscope)
    return calibrate(
        experiment,
        microscope_on(core, experiment),
        centre_xy_um=(400.0, -150.0),
        extent_um=500.0,
        progress=lambda *done: visited.append(done),
    )


@pytest.mark.parametrize(("state", "pixel_um"), [("low", 0.65), ("high", 0.325)])
def test_pixel_size_and_orientation_are_the_stand_s(measured, state, pixel_um):
    known = measured.states[state]
    assert known.pixel_size_um == pytest.approx(pixel_um, rel=1e-3)
    assert known.rotation_deg == pytest.approx(90.7, abs=0.02)
    assert known.mirrored


def test_the_affine_is_rotation_after_mirror(measured):
    xx, xy, x0, yx, yy, y0 = measured.states["low"].affine
    angle = np.deg2rad(90.7)
    turned = 0.65 * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    np.testing.assert_allclose([[xx, xy], [yx, yy]], turned @ np.diag([-1, 1]), atol=6e-4)
    assert (x0, y0) == (0, 0)


def test_parfocal_offset_is_the_stand_s(measured):
    assert measured.parfocal_um.mean == pytest.approx(6.0, abs=0.5)
    assert measured.parfocal_um.fields == 9


def test_parcentric_offset_is_the_stand_s_in_the_specimen_whatever_the_camera_s_orientation(measured):
    centre = [offset.mean for offset in measured.parcentric_um]
    assert np.hypot(*np.subtract(centre, (-7.5, 4.8))) < 1.0


@pytest.mark.parametrize("state", ["low", "high"])
def test_the_focus_of_another_channel_is_the_stand_s(measured, state):
    assert measured.channel_focus_um[state]["FITC"].mean == 0
    assert measured.channel_focus_um[state]["Texas Red"].mean == pytest.approx(2.0, abs=0.6)


def test_progress_ends_where_it_said(measured, visited):
    assert visited[-1][0] == visited[-1][1] == len(visited)


def test_standard_errors_are_small_and_not_nothing(measured):
    for known in measured.states.values():
        assert 0 < known.pixel_size_standard_error_um < 1e-3 * known.pixel_size_um
        assert 0 < known.rotation_standard_error_deg < 0.02


def test_an_empty_specimen_is_told_with_a_remedy(experiment):
    empty = load("widefield", source=Beads(spacing_um=1e6, weight=0.0), camera_shape_yx=(64, 64))
    with pytest.raises(CalibrationFailedError, match="move to a place with structure"):
        calibrate(experiment, microscope_on(empty, experiment), centre_xy_um=(3e5, 3e5), extent_um=400.0)


def test_the_stage_window_keeps_the_lattice_small(experiment):
    window = StageWindow(x_um=(-200, 200), y_um=(-90, 90))
    narrow = experiment.model_copy(update={"stage_window_um": window})
    core = load("widefield", camera_shape_yx=(SIDE, SIDE))
    with pytest.raises(CalibrationFailedError, match="stage_window_um"):
        calibrate(narrow, microscope_on(core, narrow))


# The file.


def test_a_calibration_comes_back_from_its_file(measured, tmp_path):
    write_calibration(tmp_path / "calibration.json", measured)
    assert read_calibration(tmp_path / "calibration.json") == measured


def test_a_file_that_is_none_is_refused_in_one_line(tmp_path):
    path = tmp_path / "calibration.json"
    with pytest.raises(WrongInputError, match=r"No such file.*sharpscope calibrate"):
        read_calibration(path)
    path.write_text('{"format": "something else"}')
    with pytest.raises(WrongInputError, match=r"calibration\.json .*format.*sharpscope calibrate") as caught:
        read_calibration(path)
    assert "\n" not in str(caught.value)


def test_a_fresh_calibration_passes(measured, experiment):
    check_fresh(measured, experiment, (SIDE, SIDE), 1)


def _with_high(experiment, **changes):
    states = {**experiment.states, "high": experiment.states["high"].model_copy(update=changes)}
    return experiment.model_copy(update={"states": states})


def _with(experiment, part, **changes):
    return experiment.model_copy(update={part: getattr(experiment, part).model_copy(update=changes)})


STALE = {
    "microscope": lambda e: _with(e, "microscope", virtual="tirf_sim"),
    "objective of 'high'": lambda e: _with_high(e, objective="40x/0.95 dry"),
    "magnification of 'high'": lambda e: _with_high(e, magnification=40),
    "camera pixel": lambda e: _with(e, "microscope", camera_pixel_um=4.25),
    "focus channel": lambda e: _with(e, "focus", channel="Texas Red"),
    "channel 'DAPI'": lambda e: e.model_copy(
        update={"channels": load_experiment("virtual_widefield").channels}
    ),
}


@pytest.mark.parametrize("what", STALE)
def test_what_changed_since_the_calibration_is_named(measured, experiment, what):
    with pytest.raises(WrongInputError, match=what):
        check_fresh(measured, STALE[what](experiment), (SIDE, SIDE), 1)


def test_another_readout_of_the_camera_is_named(measured, experiment):
    with pytest.raises(WrongInputError, match="frame shape"):
        check_fresh(measured, experiment, (SIDE, 2 * SIDE), 1)
    with pytest.raises(WrongInputError, match="binning"):
        check_fresh(measured, experiment, (SIDE, SIDE), 2)


def test_an_old_calibration_is_refused_with_its_age(measured, experiment):
    later = datetime.now(UTC) + timedelta(days=40)
    with pytest.raises(WrongInputError, match="40 days old"):
        check_fresh(measured, experiment, (SIDE, SIDE), 1, now=later)
    check_fresh(measured, experiment, (SIDE, SIDE), 1, now=later, max_age_days=50)


def test_micro_manager_reads_the_calibration_s_lines(measured, experiment, repository, tmp_path):
    lines = (repository / "configs" / "demo.cfg").read_text(encoding="utf-8").splitlines()
    kept = [line for line in lines if "PixelSize" not in line]
    turret = {
        "low": [("Objective", "Label", "10X 0.40 NA dry")],
        "high": [("Objective", "Label", "20X 0.75 NA dry")],
    }
    path = tmp_path / "calibrated.cfg"
    path.write_text("\n".join([*kept, *cfg_lines(measured, turret)]) + "\n", encoding="utf-8")
    microscope = microscope_on(load_cfg(path), experiment)
    for state, known in measured.states.items():
        assert microscope.configuration.pixel_size_affine(state) == pytest.approx(known.affine, abs=1e-7)


def test_micro_manager_gets_unbinned_pixels_for_it_multiplies_itself(measured):
    binned = measured.model_copy(update={"camera": measured.camera.model_copy(update={"binning": 2})})
    lines = cfg_lines(binned, {"low": [("Turret", "State", "1")], "high": [("Turret", "State", "0")]})
    assert lines[0] == "ConfigPixelSize,Res10x040dry,Turret,State,1"
    assert float(lines[1].split(",")[2]) == pytest.approx(measured.states["low"].pixel_size_um / 2)


# The mathematics.


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("rotation_deg", [0.0, 0.7, 90.0, -135.0, 179.0])
def test_a_matrix_is_taken_apart_into_what_it_was_made_of(rotation_deg, mirrored):
    angle = np.deg2rad(rotation_deg)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    found = decompose(0.65 * turn @ np.diag([-1 if mirrored else 1, 1]))
    assert found.pixel_size_um == pytest.approx(0.65)
    assert found.rotation_deg == pytest.approx(rotation_deg)
    assert found.mirrored == mirrored


def shifts_on(nodes, neighbours, matrix, truly_at, noise_px=0.02):
    """What images would say of a stage that goes elsewhere than it was sent."""
    rng = np.random.default_rng(2)
    moves = [(a, b, -np.linalg.solve(matrix, truly_at[b] - truly_at[a])) for a, b in neighbours]
    return [PairShift(a, b, tuple(move + rng.normal(0, noise_px, 2)), 0.9) for a, b, move in moves]


@pytest.fixture(scope="module")
def lattice():
    return lattice_of((100.0, -50.0), 2000.0, 3, 333.0)


@pytest.mark.parametrize("seed", range(8))
def test_a_stage_that_misses_by_half_a_micrometre_is_averaged_out(lattice, seed):
    nodes, error = np.array(lattice.nodes_xy_um), StageError(0.5, seed)
    truly_at = nodes + [error.at(node) for node in lattice.nodes_xy_um]
    matrix = 0.65 * np.array([[0.0, -1.0], [1.0, 0.0]])
    fit = fit_affine(nodes, shifts_on(nodes, lattice.neighbours, matrix, truly_at))
    assert fit.orientation.pixel_size_um == pytest.approx(0.65, rel=1e-3)
    assert fit.orientation.rotation_deg == pytest.approx(90, abs=0.02)
    assert fit.residual_um == pytest.approx(0.5 * np.sqrt(2), rel=0.5)


def test_mismatched_and_weak_pairs_are_left_out(lattice):
    nodes, matrix = np.array(lattice.nodes_xy_um), 0.65 * np.diag([-1.0, 1.0])
    pairs = shifts_on(nodes, lattice.neighbours, matrix, nodes)
    for number in (3, 17, 40):
        pairs[number] = pairs[number]._replace(xy_px=(40.0, -25.0))
    pairs[25] = pairs[25]._replace(xy_px=(3.0, 3.0), correlation=0.1)
    fit = fit_affine(nodes, pairs)
    assert fit.pairs == len(pairs) - 4
    np.testing.assert_allclose(fit.matrix_um, matrix, atol=1e-4)


def test_too_few_pairs_and_a_line_of_fields_are_refused(lattice):
    nodes, matrix = np.array(lattice.nodes_xy_um), 0.65 * np.eye(2)
    pairs = shifts_on(nodes, lattice.neighbours, matrix, nodes)
    with pytest.raises(CalibrationFailedError, match="only 5 of 5 pairs"):
        fit_affine(nodes, pairs[:5])
    along_x = [pair for pair in pairs if nodes[pair.first, 1] == nodes[pair.second, 1] == nodes[0, 1]]
    with pytest.raises(CalibrationFailedError, match="on one line"):
        fit_affine(nodes, along_x)


def grains(shape, seed=0):
    """A specimen that is smooth on a grid of quarter pixels."""
    return 1000 + 4000 * gaussian_filter(np.random.default_rng(seed).standard_normal(shape), 6)


@pytest.mark.parametrize("shift_px", [(3.25, -2.75), (70.5, 4.0), (-66.25, -20.5)])
def test_the_shift_of_two_images_is_found_below_the_pixel(shift_px):
    specimen, (x, y) = grains((1152, 1152)), (round(4 * along) for along in shift_px)
    rng = np.random.default_rng(1)
    images = []
    for left, top in ((300, 300), (300 - x, 300 - y)):
        image = block_reduce(specimen[top : top + 512, left : left + 512], 4, np.mean)
        images.append(structure(image + rng.normal(0, 5, image.shape)))
    near = (shift_px[0] + 3, shift_px[1] - 4)
    found = find_shift(*images, expected_xy_px=near, reach_px=8)
    np.testing.assert_allclose(found.xy_px, shift_px, atol=0.03)
    assert found.correlation > 0.9


def test_a_pattern_that_stands_still_is_no_shift():
    specimen, rng = grains((1024, 1024)), np.random.default_rng(1)
    pattern = 4000.0 * (rng.random((128, 128)) < 0.02)
    first, second = (
        structure(block_reduce(specimen[300 : 300 + 512, left : left + 512], 4, np.mean) + pattern)
        for left in (300, 220)
    )
    assert np.hypot(*find_shift(first, second, reach_px=40).xy_px) < 0.5
    moved = find_shift(first, second, reach_px=40, beyond_px=6)
    np.testing.assert_allclose(moved.xy_px, (20, 0), atol=0.2)


@pytest.mark.parametrize("mirrored", [False, True])
def test_a_finer_image_is_placed_in_a_coarser_one(mirrored):
    specimen = grains((1024, 1024))
    coarse = block_reduce(specimen, 8, np.mean)  # (128, 128); 8 grid pixels each
    angle, flip = np.deg2rad(0.8), -1 if mirrored else 1
    matrix = 0.506 * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    matrix = matrix @ np.diag([flip, 1])
    y, x = np.mgrid[:120, :120] + 0.5 - 60
    places = matrix @ np.stack([x.ravel(), y.ravel()]) + [[6.3], [-4.1]]  # (2, N) coarse px, (x, y)
    at = 8 * places[::-1] + 512 - 0.5
    fine = map_coordinates(specimen, at, order=3).reshape(120, 120)
    found = place(coarse, fine, 0.5 * np.diag([flip, 1.0]), 32)
    np.testing.assert_allclose(found.offset_xy_px, (6.3, -4.1), atol=0.02)
    np.testing.assert_allclose(found.matrix, matrix, atol=5e-4)
    assert found.correlation > 0.95


# The stage micrometer.


def ruling(pixel_um, pitch_um, rotation_deg, line=0.15, shape=(300, 400)):
    """A noisy bright-field image of dark lines."""
    y, x = ((np.arange(4 * length) + 0.5) / 4 - length / 2 for length in shape)
    angle = np.deg2rad(rotation_deg)
    across = (np.cos(angle) * x + np.sin(angle) * y[:, np.newaxis]) * pixel_um / pitch_um + 0.37
    bright = np.where(across % 1 < line, 400.0, 1000.0)
    image = bright.reshape(shape[0], 4, shape[1], 4).mean(axis=(1, 3))
    return image + np.random.default_rng(0).normal(0, 30, shape)


@pytest.mark.parametrize(
    ("pixel_um", "pitch_um", "rotation_deg", "line"),
    [(0.65, 10, 0.0, 0.15), (0.325, 10, 3.3, 0.15), (0.65, 10, -71.0, 0.5), (0.65, 10, 45.0, 0.06)],
)
def test_the_lines_of_a_stage_micrometer_give_the_pixel_size(pixel_um, pitch_um, rotation_deg, line):
    found_um, found_deg = pixel_size_of_micrometer(ruling(pixel_um, pitch_um, rotation_deg, line), pitch_um)
    assert found_um == pytest.approx(pixel_um, rel=1e-3)
    assert found_deg == pytest.approx(rotation_deg, abs=0.02)


@pytest.mark.parametrize("image", [np.ones((64, 64)), np.random.default_rng(0).normal(size=(256, 256))])
def test_an_image_without_lines_is_no_stage_micrometer(image):
    with pytest.raises(CalibrationFailedError, match="no evenly spaced lines"):
        pixel_size_of_micrometer(image, 10.0)
