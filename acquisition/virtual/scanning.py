"""How a laser-scanning microscope blurs: confocal and STED, as a transfer function.

Owns the physics of a scanned focus: excitation, depletion by a doughnut, detection through a pinhole. Knows
no specimen and no camera. Scalar fields of a circular pupil (`acquisition.virtual.optics`), so polarisation
is left out; at 1.4 NA a vectorial focus is some per cent wider.
"""

from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
from scipy.special import j0, j1

from acquisition.virtual import optics

__all__ = ["Scanner"]

FloatArray = np.ndarray[Any, np.dtype[np.float64]]
ComplexArray = np.ndarray[Any, np.dtype[np.complex128]]

_PUPIL_NODES = 200
_RADIUS_NODES = 700
_REACH_UM = 2.5
"""In focus; beyond, a product of two diffraction patterns holds less than 1e-4 of its light."""


@dataclass(frozen=True)
class Scanner:
    """A scanned focus in one channel.

    The effective point spread function is excitation(r) * survival(r) * [detection convolved with the
    pinhole](r). A molecule survives depletion with exp(-ln 2 * saturation * doughnut(r)), the doughnut's
    crest being 1 (Hell & Wichmann 1994; Westphal & Hell 2005).
    """

    numerical_aperture: float
    refractive_index: float
    excitation_nm: float
    emission_nm: float
    pinhole_airy_units: float = 1.0
    """Diameter over that of the Airy disc, 1.22 emission wavelength / NA."""
    depletion_nm: float = 775.0
    saturation: float = 0.0
    """Intensity of the doughnut's crest over that which halves the fluorescence; 0 is a confocal
    microscope."""
    underfill: float = 0.0
    """Radius of the pupil over that at which the excitation beam falls to 1 / e^2; 0 fills the pupil evenly,
    which gives the narrowest focus."""
    spherical_waves: float = 0.0
    """Spherical aberration of excitation and detection (Zernike 11), root mean square in wavelengths."""

    @property
    def cutoff_per_um(self) -> float:
        """Highest spatial frequency that is rendered.

        Saturation has no sharp one; at this one the transfer function has fallen below 1e-3.
        """
        confocal = optics.cutoff_per_um(self.numerical_aperture, self.excitation_nm) + optics.cutoff_per_um(
            self.numerical_aperture, self.emission_nm
        )
        return confocal * max(1.0, 0.6 * float(np.sqrt(1 + self.saturation)))

    def reach_um(self, defocus_um: float) -> float:
        """Return how far from a point its light is seen."""
        blur = optics.defocus_blur_radius_um(self.numerical_aperture, defocus_um, self.refractive_index)
        return 1.0 + min(blur, _REACH_UM)

    def spread(self, radius_um: FloatArray, defocus_um: float = 0.0) -> FloatArray:
        """Return the effective point spread function; its integral in focus without depletion is 1.

        Parameters
        ----------
        radius_um
            (R,) from the axis.
        """
        return self._raw(radius_um, defocus_um, self.saturation) / self._light

    def transfer(self, frequency_per_um: FloatArray, defocus_um: float) -> FloatArray:
        """Return the transform of `spread` at radial frequencies (F,).

        At frequency zero it is the share of the light that is detected: a confocal microscope loses what is
        out of focus, a depleted focus what lies off its axis.
        """
        nodes, weights = _radii(_REACH_UM + min(self.reach_um(defocus_um), _REACH_UM))
        spread = self.spread(nodes, defocus_um) * nodes * weights * 2 * np.pi
        inside = (frequency_per_um < self.cutoff_per_um).astype(np.float64)
        return np.asarray(j0(2 * np.pi * np.outer(frequency_per_um, nodes)) @ spread * inside)

    def _raw(self, radius_um: FloatArray, defocus_um: float, saturation: float) -> FloatArray:
        excitation = np.abs(self._field(radius_um, defocus_um, self.excitation_nm, self.underfill)) ** 2
        survival = np.exp(-np.log(2) * saturation * self._doughnut(radius_um))
        return np.asarray(excitation * survival * self._detection(radius_um, defocus_um))

    @cached_property
    def _light(self) -> float:
        nodes, weights = _radii(2 * _REACH_UM)
        return float(2 * np.pi * (self._raw(nodes, 0.0, 0.0) * nodes) @ weights)

    def _field(
        self, radius_um: FloatArray, defocus_um: float, wavelength_nm: float, underfill: float
    ) -> ComplexArray:
        """Return the focal field of a wave of this wavelength, unnormalised."""
        rho, weights = optics.legendre_unit(_PUPIL_NODES)
        pupil = np.exp(-((rho * underfill) ** 2)) * np.exp(1j * self._phase(rho, defocus_um, wavelength_nm))
        return np.asarray(
            j0(np.outer(radius_um, rho) * self._wave_number(wavelength_nm)) @ (pupil * rho * weights)
        )

    def _phase(self, rho: FloatArray, defocus_um: float, wavelength_nm: float) -> FloatArray:
        cosine = np.sqrt(1 - (rho * self.numerical_aperture / self.refractive_index) ** 2)
        turns = self.refractive_index * defocus_um / (wavelength_nm * 1e-3) * cosine
        spherical = self.spherical_waves * np.sqrt(5) * (6 * rho**4 - 6 * rho**2 + 1)
        return np.asarray(2 * np.pi * (turns + spherical))

    def _wave_number(self, wavelength_nm: float) -> float:
        """Return the largest lateral one that the pupil passes, in radians per um."""
        return 2 * np.pi * self.numerical_aperture / (wavelength_nm * 1e-3)

    def _doughnut(self, radius_um: FloatArray) -> FloatArray:
        """Return the depletion intensity of a vortex phase plate, its crest 1; the same at every depth."""
        rho, weights = optics.legendre_unit(_PUPIL_NODES)
        wave_number = self._wave_number(self.depletion_nm)

        def amplitude(r_um: FloatArray) -> FloatArray:
            return np.asarray(j1(np.outer(r_um, rho) * wave_number) @ (rho * weights))

        crest = amplitude(np.linspace(0.2, 0.8, 400) * 2 * np.pi / wave_number).max()
        return np.asarray((amplitude(radius_um) / crest) ** 2)

    def _detection(self, radius_um: FloatArray, defocus_um: float) -> FloatArray:
        """Return the detection probability: the emission's pattern, convolved with the pinhole's disc."""
        nodes, weights = optics.legendre_unit(_PUPIL_NODES)
        cutoff = optics.cutoff_per_um(self.numerical_aperture, self.emission_nm)
        frequency = nodes * cutoff
        disc = 1.22 * self.emission_nm * 1e-3 / self.numerical_aperture * self.pinhole_airy_units / 2
        argument = np.maximum(2 * np.pi * frequency * disc, 1e-9)
        transfer = self._detection_transfer(frequency, defocus_um) * 2 * j1(argument) / argument
        kernel = j0(2 * np.pi * np.outer(radius_um, frequency))
        return np.asarray(np.maximum(kernel @ (transfer * frequency * weights), 0))

    def _detection_transfer(self, frequency: FloatArray, defocus_um: float) -> FloatArray:
        """Return the transform of the emission's pattern, aberration included."""
        if not self.spherical_waves:
            return optics.transfer_function(
                frequency, self.numerical_aperture, self.emission_nm, defocus_um, self.refractive_index
            )
        nodes, weights = _radii(4 * _REACH_UM)
        pattern = np.abs(self._field(nodes, defocus_um, self.emission_nm, 0.0)) ** 2 * nodes * weights
        transfer = j0(2 * np.pi * np.outer(frequency, nodes)) @ pattern
        return np.asarray(transfer / pattern.sum())


@lru_cache(maxsize=16)
def _radii(reach_um: float) -> tuple[FloatArray, FloatArray]:
    nodes, weights = optics.legendre_unit(_RADIUS_NODES)
    return nodes * reach_um, weights * reach_um
