"""Confocal and STED foci against theory and an independent library."""

import numpy as np
import pytest
from scipy.optimize import brentq
from scipy.special import j1

from acquisition.virtual.scanning import Scanner

CRIMSON = {"numerical_aperture": 1.4, "refractive_index": 1.518, "excitation_nm": 633.0, "emission_nm": 645.0}


def full_width_um(scanner, defocus_um=0.0):
    peak = scanner.spread(np.zeros(1), defocus_um)[0]
    return 2 * brentq(lambda r: scanner.spread(np.array([r]), defocus_um)[0] / peak - 0.5, 1e-3, 0.6)


def test_with_an_open_pinhole_the_width_is_that_of_the_excitation():
    opened = full_width_um(Scanner(**CRIMSON, pinhole_airy_units=20.0))
    assert opened == pytest.approx(0.51 * 0.633 / 1.4, rel=0.05)


def test_with_a_pinhole_of_no_size_it_is_that_of_two_patterns_multiplied():
    closed = full_width_um(Scanner(**CRIMSON, pinhole_airy_units=1e-3))
    assert closed == pytest.approx(0.37 * 0.639 / 1.4, rel=0.05)  # Wilson 1990: 0.37 wavelength / NA


def test_confocal_width_at_one_airy_unit_agrees_with_psfmodels():
    psfmodels = pytest.importorskip("psfmodels")
    oracle = psfmodels.confocal_psf(
        z=[0.0], nx=101, dxy=0.01, ex_wvl=0.633, em_wvl=0.645, pinhole_au=1.0, NA=1.4, ns=1.518, ni=1.518,
        ni0=1.518, tg=0, tg0=0, pz=0, model="scalar",
    )[0]  # fmt: skip
    profile = oracle[50, 50:] / oracle.max()
    expected_um = 2 * 0.01 * np.interp(-0.5, -profile, np.arange(51))
    assert full_width_um(Scanner(**CRIMSON)) == pytest.approx(expected_um, rel=0.03)


@pytest.mark.parametrize("saturation", [5.0, 11.0, 30.0])
def test_depletion_narrows_as_the_square_root_law_says(saturation):
    depleted = Scanner(**CRIMSON, saturation=saturation)
    confocal_um = full_width_um(Scanner(**CRIMSON))
    # Near its axis the doughnut rises as the square of the radius: J1(x) = x / 2 and the crest is known.
    rho, weights = np.polynomial.legendre.leggauss(200)
    rho, weights = (rho + 1) / 2, weights / 2
    wave_number = 2 * np.pi * 1.4 / 0.775
    amplitudes = [j1(rho * wave_number * r) @ (rho * weights) for r in np.linspace(0.1, 0.6, 2000)]
    curvature = (wave_number / 6 / max(amplitudes)) ** 2
    expected_um = confocal_um / np.sqrt(1 + saturation * curvature * confocal_um**2 / 4)
    assert full_width_um(depleted) == pytest.approx(expected_um, rel=0.05)


def test_a_confocal_focus_in_focus_keeps_its_light_and_loses_it_out_of_focus():
    scanner = Scanner(**CRIMSON)
    at_rest = np.zeros(1)
    assert scanner.transfer(at_rest, 0.0)[0] == pytest.approx(1, abs=1e-3)
    assert scanner.transfer(at_rest, 1.0)[0] < 0.2  # optical sectioning
    assert Scanner(**CRIMSON, saturation=10.0).transfer(at_rest, 0.0)[0] < 0.3  # depleted


def test_what_lies_beyond_the_rendered_frequencies_is_next_to_nothing():
    for saturation in (0.0, 5.0, 11.0):
        scanner = Scanner(**CRIMSON, saturation=saturation)
        frequency = np.array([0.0, 0.995 * scanner.cutoff_per_um])
        at_rest, at_end = scanner.transfer(frequency, 0.0)
        assert abs(at_end) < 5e-3 * at_rest


def test_aberration_and_an_underfilled_pupil_widen_the_focus():
    ideal = full_width_um(Scanner(**CRIMSON))
    assert full_width_um(Scanner(**CRIMSON, underfill=1.5)) > 1.15 * ideal
    assert full_width_um(Scanner(**CRIMSON, spherical_waves=0.1)) > ideal
