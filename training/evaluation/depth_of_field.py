"""Depth of field: over which range of focus an image stays sharp, measured on a through-focus stack.

METHOD: the output keeps the depth of field of the low objective (about 5.1 um) with the resolution of the
high one (1.4 um). Owns two measures of a plane, the curve through them and its width, and the depth that
theory gives. Pure functions of arrays; the same stack, enhanced plane by plane, is measured in the same way.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import interpolate, ndimage

from training.evaluation.noise import background_noise
from training.evaluation.not_measurable import NotMeasurableError, check_image

__all__ = [
    "QUARTER_WAVE",
    "DepthOfField",
    "depth_of_field",
    "peak_intensities",
    "sharpnesses",
    "theoretical_depth_um",
]

Image = np.ndarray[Any, np.dtype[Any]]
FloatArray = np.ndarray[Any, np.dtype[np.float64]]
Places = np.ndarray[Any, np.dtype[Any]]
"""(N, 2) places (y, x) in px; a whole number is the centre of a pixel."""

LEAST_PLANES = 5
LEAST_SIDE_PX = 3
QUARTER_WAVE = float(8 / np.pi**2)
"""Of the intensity in focus: what is left on the axis where the edge of the pupil is a quarter wave late. The
peak intensity of a point stays above it over wavelength n / NA**2, and above a half over 1.77 times that."""
LEAST_CONTRAST = 1e-6
"""Of the highest value, below which a curve is flat."""


@dataclass(frozen=True, slots=True)
class DepthOfField:
    """A measure of sharpness over focus, and its width."""

    z_um: FloatArray
    """(Z,) ascending."""
    relative: FloatArray
    """(Z,) the measure over its highest value between planes."""
    focus_um: float
    """Where that highest value is."""
    nearest_um: float
    """Where the curve first falls to the level below the focus, and in `farthest_um` above it."""
    farthest_um: float
    level: float
    """Of the highest value: 0.5 for the full width at half of the maximum."""

    @property
    def depth_um(self) -> float:
        """Width of the curve at the level."""
        return self.farthest_um - self.nearest_um


def theoretical_depth_um(
    numerical_aperture: float,
    magnification: float,
    emission_um: float = 0.55,
    camera_pixel_um: float = 6.5,
    refractive_index: float = 1.0,
) -> float:
    """Return wavelength n / NA**2 + n e / (M NA), the depth of field of METHOD's last section.

    The first term is the range over which the peak of a point loses a fifth (`QUARTER_WAVE`), the second what
    a camera pixel hides. By default 10x/0.4 has the paper's 5.1 um, 20x/0.75 its 1.4 um.
    """
    diffraction_um = emission_um * refractive_index / numerical_aperture**2
    return diffraction_um + refractive_index * camera_pixel_um / (magnification * numerical_aperture)


def peak_intensities(stack: Image, places_yx: Places) -> FloatArray:
    """Return the mean intensity of points over each plane's background, for beads and other spots.

    Of a point whose width grows as sqrt(1 + (z / z_R)**2), a Gaussian beam, it falls as
    1 / (1 + (z / z_R)**2): the full width at half of the maximum is 2 z_R.

    Parameters
    ----------
    stack
        (Z, Y, X).
    places_yx
        (N, 2) of the spots in focus, to less than a pixel where they are known so well; between pixels a
        cubic spline is read.

    Returns
    -------
    FloatArray
        (Z,) above the median of the plane, in the stack's units.

    Raises
    ------
    NotMeasurableError
        Of a stack that is none or holds NaN, of no spots, and of places outside the image.
    """
    _check_stack(stack)
    places = np.asarray(places_yx, dtype=np.float64).reshape(-1, 2)
    if not len(places):
        msg = "there are no spots whose intensity could be followed"
        raise NotMeasurableError(msg)
    if (places < 0).any() or (places > np.array(stack.shape[1:]) - 1).any():
        msg = f"spots lie outside the image of {stack.shape[1]} x {stack.shape[2]} px"
        raise NotMeasurableError(msg)
    found = []
    for plane in stack.astype(np.float64):
        at_places = ndimage.map_coordinates(plane, places.T, order=3, mode="mirror")
        found.append(float(at_places.mean() - np.median(plane)))
    return np.array(found)


def sharpnesses(stack: Image) -> FloatArray:
    """Return the variance of each plane less that of its noise, for specimens of any kind.

    Defocus spreads light and does not change its sum, so the variance says how far it is gathered: of points
    whose width grows as sqrt(1 + (z / z_R)**2) it falls as 1 / (1 + (z / z_R)**2), as their peak does. Wide
    structure keeps its variance longer than fine one: depths compare between images of one field.

    Parameters
    ----------
    stack
        (Z, Y, X).

    Returns
    -------
    FloatArray
        (Z,) in the square of the stack's units.

    Raises
    ------
    NotMeasurableError
        Of a stack that is none or holds NaN.
    """
    _check_stack(stack)
    return np.array([float(np.var(plane, dtype=np.float64)) - _noise_variance(plane) for plane in stack])


def depth_of_field(measure: FloatArray, z_um: FloatArray, level: float = 0.5) -> DepthOfField:
    """Return the width of a curve of sharpness over focus.

    A cubic spline leads through the planes; the focus is where it is highest, the depth of field the distance
    between the first places on either side at which it falls to the level. The full width at half of the
    maximum is the default; `QUARTER_WAVE` on peak intensities is the level that theory's first term means.
    Planes no farther apart than a third of the depth place both to about a hundredth of it.

    Parameters
    ----------
    measure
        (Z,) of `peak_intensities` or `sharpnesses`; zero means nothing seen.
    z_um
        (Z,) of the planes, in any order.
    level
        Of the highest value.

    Raises
    ------
    NotMeasurableError
        Of fewer than five planes, two at one place, numbers that are none, a flat curve, a focus at the
        stack's end, and a curve that does not fall to the level within the stack.
    """
    z, values = _curve(measure, z_um)
    spline = interpolate.CubicSpline(z, values)
    turning = spline.derivative().roots(extrapolate=False)
    candidates = np.concatenate([z, turning[np.isfinite(turning)]])
    focus_um = float(candidates[np.argmax(spline(candidates))])
    highest = float(spline(focus_um))
    if not z[0] < focus_um < z[-1]:
        msg = f"the stack is sharpest at its end, {focus_um:g} um; it does not reach through focus"
        raise NotMeasurableError(msg)
    crossings = spline.solve(level * highest, extrapolate=False)
    below, above = crossings[crossings < focus_um], crossings[crossings > focus_um]
    if not below.size or not above.size:
        side = "below" if not below.size else "above"
        msg = f"the stack does not fall to {level:.2g} of its sharpness {side} the focus at {focus_um:.3g} um"
        raise NotMeasurableError(msg)
    return DepthOfField(z, values / highest, focus_um, float(below.max()), float(above.min()), level)


def _curve(measure: FloatArray, z_um: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return focus and measure, (Z,) each, in ascending order."""
    z, values = (np.asarray(each, dtype=np.float64) for each in (z_um, measure))
    if z.ndim != 1 or z.shape != values.shape or z.size < LEAST_PLANES:
        msg = f"{values.size} planes at {z.size} places; a depth of field wants {LEAST_PLANES} or more"
        raise NotMeasurableError(msg)
    if not (np.isfinite(z).all() and np.isfinite(values).all()):
        msg = "the curve over focus holds values that are no number"
        raise NotMeasurableError(msg)
    order = np.argsort(z)
    z, values = z[order], values[order]
    if (np.diff(z) <= 0).any():
        msg = "two planes of the stack have the same focus"
        raise NotMeasurableError(msg)
    if values.max() <= 0 or np.ptp(values) <= LEAST_CONTRAST * values.max():
        msg = "the stack shows nothing, or the same at every focus"
        raise NotMeasurableError(msg)
    return z, values


def _check_stack(stack: Image) -> None:
    check_image(stack, "the stack")
    if stack.ndim != 3 or min(stack.shape[1:]) < LEAST_SIDE_PX:
        msg = f"the stack is {stack.shape}; expected planes (Z, Y, X) of {LEAST_SIDE_PX} px or more to a side"
        raise NotMeasurableError(msg)


def _noise_variance(plane: Image) -> float:
    try:
        return background_noise(plane).std ** 2
    except NotMeasurableError:  # Noise-free, or too small to tell.
        return 0.0
