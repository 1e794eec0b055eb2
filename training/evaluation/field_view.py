"""One test field: what an image of it is held against, and every figure of such an image.

Owns which measurement gives which column of `training.evaluation.figures`, and with which units. The
measurements themselves are in the modules beside this one. Images are on the network's scale and on the high
pixel grid.
"""

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, Self, TypeVar

import numpy as np

from training.evaluation.agreement import check_compared, nrmse, pearson
from training.evaluation.artifacts import ArtifactMap, artifact_map
from training.evaluation.decorrelation import decorrelation
from training.evaluation.figures import Figure, NotMeasured, figure_of
from training.evaluation.hallucination import KnownStructures
from training.evaluation.metrics import Score, fit_to_truth, score
from training.evaluation.noise import signal_to_noise
from training.evaluation.not_measurable import NotMeasurableError
from training.evaluation.ring_correlation import RingCorrelation, resolution_px, ring_correlation
from training.evaluation.spectrum import Spectrum, high_frequency_error_db, power_spectrum
from training.evaluation.spot_widths import bright_spots, spot_widths, window_px_of
from training.pairing.pairs import Optics

__all__ = ["FieldView", "Measured", "measure_image"]

T = TypeVar("T")
FloatImage = np.ndarray[Any, np.dtype[np.float32]]
FloatArray = np.ndarray[Any, np.dtype[np.float64]]
Places = np.ndarray[Any, np.dtype[Any]]
FINE_HALF_PER_PX = (0.25, 0.5)
"""Cycles per high pixel: of a scale factor of 2, what the low camera cannot sample."""
STRUCTURES = ("spots", "filaments")
AIRY_FWHM = 0.51
"""Of a point in focus, in wavelengths over the numerical aperture."""
NO_PIXEL_SIZE = NotMeasured("the pair set does not state the pixel size")
NO_OPTICS = NotMeasured("the pair set does not state pixel size, numerical aperture and emission wavelength")


@dataclass(frozen=True, slots=True)
class FieldView:
    """The input and the truth of one field, and where the truth has points."""

    low: FloatImage
    """(Y, X), the network's input."""
    truth: FloatImage
    """(Y, X), the best that is known."""
    pixel_size_um: float | None
    """Of the high grid."""
    spots_yx: Places | NotMeasured
    """(N, 2) px, points that stand alone in the truth."""
    window_px: int
    """In which they do."""
    known: Mapping[str, KnownStructures | NotMeasured]
    """Its "spots" and "filaments"."""

    @classmethod
    def of(
        cls,
        low: FloatImage,
        truth: FloatImage,
        optics: Optics,
        channel: str,
        acquired: FloatImage | None = None,
    ) -> Self:
        """Return a field with its points and structures found.

        Parameters
        ----------
        acquired
            (Y, X), the acquired high image where the truth is another one: its noise says what counts as
            seen.
        """
        pixel_size_um, emission_nm = optics.high_pixel_size_um, optics.emission_nm.get(channel)
        aperture = optics.low_numerical_aperture
        if pixel_size_um is None or emission_nm is None or aperture is None:
            return cls(low, truth, pixel_size_um, NO_OPTICS, 0, _structures_of(truth, NO_OPTICS, acquired))
        window_px = window_px_of(AIRY_FWHM * 1e-3 * emission_nm / aperture, pixel_size_um)
        spots_yx = _spots(truth, window_px)
        width_px = _point_width_px(truth, spots_yx, window_px, optics, emission_nm)
        known = _structures_of(truth, width_px, acquired)
        return cls(low, truth, pixel_size_um, spots_yx, window_px, known)

    def within(self, window: tuple[slice, slice]) -> "FieldView":
        """Return a part of the field."""
        spots_yx = self.spots_yx
        if not isinstance(spots_yx, NotMeasured):
            corner = np.array([side.start for side in window])
            last = np.array([side.stop for side in window])
            margin = self.window_px // 2  # a spot needs its whole window
            inside = ((spots_yx >= corner + margin) & (spots_yx < last - margin)).all(axis=1)
            spots_yx = spots_yx[inside] - corner
        low, truth = self.low[window], self.truth[window]
        known = {name: _part(found, window) for name, found in self.known.items()}
        return replace(self, low=low, truth=truth, spots_yx=spots_yx, known=known)


def _structures_of(
    truth: FloatImage, width_px: float | NotMeasured, acquired: FloatImage | None
) -> dict[str, KnownStructures | NotMeasured]:
    if isinstance(width_px, NotMeasured):
        return dict.fromkeys(STRUCTURES, width_px)
    found: dict[str, KnownStructures | NotMeasured] = {}
    for name in STRUCTURES:
        try:
            found[name] = KnownStructures.of(
                truth, width_px, acquired=acquired, filaments=name == "filaments"
            )
        except NotMeasurableError as error:
            found[name] = NotMeasured(str(error))
    return found


def _part(known: KnownStructures | NotMeasured, window: tuple[slice, slice]) -> KnownStructures | NotMeasured:
    if isinstance(known, NotMeasured):
        return known
    try:
        return KnownStructures.of(
            known.truth[window],
            known.relief.fwhm_px,
            filaments=known.filaments,
            least_threshold=known.threshold,
        )
    except NotMeasurableError as error:
        return NotMeasured(str(error))


def _spots(truth: FloatImage, window_px: int) -> Places | NotMeasured:
    try:
        return bright_spots(truth, window_px)
    except NotMeasurableError as error:
        return NotMeasured(str(error))


def _point_width_px(
    truth: FloatImage, spots_yx: Places | NotMeasured, window_px: int, optics: Optics, emission_nm: float
) -> float | NotMeasured:
    """Return the width of a point in the truth: measured where it has points, else what its optics say."""
    if not isinstance(spots_yx, NotMeasured):
        with suppress(NotMeasurableError):
            return spot_widths(truth, spots_yx, 1.0, window_px).median_um
    aperture, pixel_size_um = optics.high_numerical_aperture, optics.high_pixel_size_um
    if optics.modality != "widefield" or aperture is None or pixel_size_um is None:
        return NotMeasured("the truth shows no points, and its optics do not say how wide one is")
    return float(np.hypot(AIRY_FWHM * 1e-3 * emission_nm / aperture / pixel_size_um, 1.0))


@dataclass(frozen=True, slots=True)
class Measured:
    """What was measured of one image of a field."""

    figures: dict[str, Figure]
    """By the name of the column."""
    spectrum: Spectrum | None
    """None where it cannot be had."""
    correlation: RingCorrelation | None
    """With the truth; None of the truth itself."""
    widths_um: FloatArray
    """(N,) of the points, NaN where one could not be fitted; empty where there is none."""


def measure_image(image: FloatImage, field: FieldView, *, is_truth: bool = False) -> Measured:
    """Measure an image of a field.

    Parameters
    ----------
    image
        (Y, X), as `field.truth`.
    is_truth
        Whether it is the truth itself: what compares it with the truth is left out.
    """
    figures = _artifacts(image, field)
    correlation = None
    if not is_truth:
        figures |= _agreement(image, field)
        figures["frc_um"], correlation = _correlation(image, field)
        figures |= _structures(image, field)
    figures["decorrelation_um"] = _in_um(field, lambda: decorrelation(image).resolution_px)
    figures["snr"] = figure_of(lambda: signal_to_noise(image))
    figures["fwhm_um"], widths_um = _widths(image, field)
    return Measured(figures, _or_none(lambda: power_spectrum(image)), correlation, widths_um)


def _correlation(image: FloatImage, field: FieldView) -> tuple[Figure, RingCorrelation | None]:
    try:
        curve = ring_correlation(image, field.truth)
    except NotMeasurableError as error:
        return NotMeasured(str(error)), None
    return _in_um(field, lambda: resolution_px(curve)), curve


def _structures(image: FloatImage, field: FieldView) -> dict[str, Figure]:
    """Return how much of the structure was invented, and how much missed."""
    figures: dict[str, Figure] = {}
    for name, known in field.known.items():
        names = (f"{name}_invented", f"{name}_missed")
        if isinstance(known, NotMeasured):
            figures |= dict.fromkeys(names, known)
            continue
        try:
            found = known.compared(image)
        except NotMeasurableError as error:
            figures |= dict.fromkeys(names, NotMeasured(str(error)))
            continue
        figures[names[0]] = found.hallucinated_rate if found.in_output else NotMeasured(f"it shows no {name}")
        figures[names[1]] = found.missed_rate if found.in_truth else NotMeasured(f"the truth shows no {name}")
    return figures


def _widths(image: FloatImage, field: FieldView) -> tuple[Figure, FloatArray]:
    if isinstance(field.spots_yx, NotMeasured):
        return field.spots_yx, np.empty(0)
    try:
        found = spot_widths(image, field.spots_yx, field.pixel_size_um or 1.0, field.window_px)
    except NotMeasurableError as error:
        return NotMeasured(str(error)), np.empty(0)
    return found.median_um, found.widths_um


def _in_um(field: FieldView, measure_px: Callable[[], float]) -> Figure:
    pixel_size_um = field.pixel_size_um
    return NO_PIXEL_SIZE if pixel_size_um is None else figure_of(lambda: pixel_size_um * measure_px())


def _or_none(measure: Callable[[], T]) -> T | None:
    try:
        return measure()
    except NotMeasurableError:
        return None


def _agreement(image: FloatImage, field: FieldView) -> dict[str, Figure]:
    truth = field.truth
    try:
        found = _score(image, truth)
        scored: dict[str, Figure] = {
            "psnr_db": found.psnr_db, "ssim": found.ssim, "slope": found.slope, "offset": found.offset
        }  # fmt: skip
    except NotMeasurableError as error:
        scored = dict.fromkeys(("psnr_db", "ssim", "slope", "offset"), NotMeasured(str(error)))
    return scored | {
        "nrmse": figure_of(lambda: nrmse(image, truth)),
        "pearson": figure_of(lambda: pearson(image, truth)),
        "spectrum_error_db": figure_of(
            lambda: high_frequency_error_db(fit_to_truth(image, truth), truth, *FINE_HALF_PER_PX)
        ),
    }


def _score(image: FloatImage, truth: FloatImage) -> Score:
    check_compared(image, truth)
    found = score(image, truth)
    if not np.isfinite(found.psnr_db):
        raise NotMeasurableError("the image is the truth itself, to the last bit")
    return found


def _artifacts(image: FloatImage, field: FieldView) -> dict[str, Figure]:
    try:
        found: ArtifactMap = artifact_map(image, field.low)
    except NotMeasurableError as error:
        return dict.fromkeys(("rsp", "rse"), NotMeasured(str(error)))
    return {"rsp": found.rsp, "rse": found.rse}
