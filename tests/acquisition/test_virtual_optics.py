"""The blur of the virtual objectives against theory and an independent library."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import brentq
from scipy.special import j0

from acquisition.virtual.optics import cutoff_per_um, depth_of_field_um, point_spread, transfer_function

APERTURES = {"10x": 0.4, "20x": 0.75}
EMISSIONS_NM = {"DAPI": 447.0, "FITC": 522.0, "Texas Red": 624.0}


@pytest.mark.parametrize("aperture", APERTURES.values(), ids=APERTURES)
@pytest.mark.parametrize("emission_nm", EMISSIONS_NM.values(), ids=EMISSIONS_NM)
def test_full_width_at_half_maximum_is_0_51_wavelength_over_aperture(aperture, emission_nm):
    peak = point_spread(np.zeros(1), aperture, emission_nm)[0]
    expected_um = 0.51 * emission_nm * 1e-3 / aperture

    def above_half(radius_um):
        return point_spread(np.array([radius_um]), aperture, emission_nm)[0] / peak - 0.5

    assert 2 * brentq(above_half, 0, expected_um) == pytest.approx(expected_um, rel=0.05)


def test_transfer_function_in_focus_is_the_closed_form_of_a_circular_pupil():
    v = np.linspace(0, 1, 101)
    closed = 2 / np.pi * (np.arccos(v) - v * np.sqrt(1 - v**2))
    computed = transfer_function(v * cutoff_per_um(0.75, 522.0), 0.75, 522.0, 0.0)
    np.testing.assert_allclose(computed, closed, atol=1e-5)


@given(
    aperture=st.floats(0.1, 0.9),
    emission_nm=st.floats(400, 700),
    defocus_um=st.floats(-40, 40),
)
@settings(max_examples=40, deadline=None)
def test_optics_conserve_energy_and_never_amplify(aperture, emission_nm, defocus_um):
    frequency = np.linspace(0, 1.2, 50) * cutoff_per_um(aperture, emission_nm)
    transfer = transfer_function(frequency, aperture, emission_nm, defocus_um)
    assert transfer[0] == pytest.approx(1.0, abs=1e-3)
    assert np.abs(transfer).max() <= 1.001
    assert np.all(transfer[frequency >= cutoff_per_um(aperture, emission_nm)] == 0)


def test_defocus_blurs_alike_above_and_below():
    frequency = np.linspace(0, 2, 30)
    above = transfer_function(frequency, 0.75, 522.0, 2.0)
    np.testing.assert_allclose(above, transfer_function(frequency, 0.75, 522.0, -2.0), atol=1e-12)


@pytest.mark.parametrize("aperture", APERTURES.values(), ids=APERTURES)
def test_on_axis_intensity_through_focus_is_the_closed_form_of_an_exact_pupil(aperture):
    # The integral of u exp(i k u) from the edge's cosine to 1, which partial integration gives.
    defocus_um = np.array([0.4, 0.8, 1.5, 2.0, 6.0])
    k, edge = 2 * np.pi * defocus_um / 0.522, np.sqrt(1 - aperture**2)
    amplitude = [(u / (1j * k) + 1 / k**2) * np.exp(1j * k * u) for u in (1.0, edge)]
    expected = (2 / aperture**2 * np.abs(amplitude[0] - amplitude[1])) ** 2
    in_focus = point_spread(np.zeros(1), aperture, 522.0)[0]
    axial = [point_spread(np.zeros(1), aperture, 522.0, z)[0] / in_focus for z in defocus_um]
    np.testing.assert_allclose(axial, expected, atol=1e-9)


@pytest.mark.parametrize("aperture", APERTURES.values(), ids=APERTURES)
@pytest.mark.parametrize("defocus_um", [0.0, 2.0, -12.0])
def test_point_spread_and_transfer_function_are_each_other_s_transform(aperture, defocus_um):
    nodes, weights = np.polynomial.legendre.leggauss(600)
    frequency = (nodes + 1) / 2 * cutoff_per_um(aperture, 522.0)
    transfer = transfer_function(frequency, aperture, 522.0, defocus_um) * weights * frequency
    radius_um = np.linspace(0, 3, 40)
    spread = (
        j0(2 * np.pi * np.outer(radius_um, frequency)) @ transfer * np.pi * cutoff_per_um(aperture, 522.0)
    )
    ours = point_spread(radius_um, aperture, 522.0, defocus_um)
    np.testing.assert_allclose(ours, spread, atol=1e-3 * ours.max())


@pytest.mark.parametrize(("aperture", "magnification", "expected_um"), [(0.4, 10, 5.1), (0.75, 20, 1.4)])
def test_depth_of_field_is_the_paper_s(aperture, magnification, expected_um):
    assert depth_of_field_um(aperture, magnification) == pytest.approx(expected_um, abs=0.05)


@pytest.mark.parametrize("defocus_um", [0.0, 2.0])
@pytest.mark.parametrize("aperture", APERTURES.values(), ids=APERTURES)
def test_point_spread_agrees_with_psfmodels(aperture, defocus_um):
    psfmodels = pytest.importorskip("psfmodels")
    pixel_um, size = 0.05, 161
    # ni = ni0 = ns = 1: a dry objective looking at a specimen in air.
    oracle = psfmodels.make_psf(
        z=[defocus_um], nx=size, dxy=pixel_um, NA=aperture, wvl=0.522, ns=1, ni=1, ni0=1, tg=0, tg0=0, pz=0,
        model="scalar",
    )[0]  # fmt: skip
    offset = (np.arange(size) - size // 2) * pixel_um
    ours = point_spread(np.hypot(offset[:, np.newaxis], offset).ravel(), aperture, 522.0, defocus_um)
    assert np.corrcoef(ours, oracle.ravel())[0, 1] > 0.99
    if defocus_um == 0:
        across = ours.reshape(size, size)[size // 2], oracle[size // 2]
        widths_px = [
            np.interp(-0.5, -profile[size // 2 :] / profile.max(), np.arange(81)) for profile in across
        ]
        assert widths_px[0] == pytest.approx(widths_px[1], rel=0.03)
