"""A folder of striped exposures as fields of view: low is the mean of nine, high their reconstruction.

Owns what a file of nine striped exposures is checked for and which image of it is low and which high. Knows
nothing of how the high one is reconstructed. One file is one field of view and one region.

Low is the plain mean of the nine, on the camera's own pixels, and the set's factor is 2: serving is given
such a mean and upsamples it itself, so the low plane of a pair is to the last bit what the network will be
fed.
"""

from functools import partial
from pathlib import Path

import numpy as np

from configs.document import WrongInputError
from inference.content_hash import file_sha256
from inference.saturation import saturated_fraction
from training.pairing.background import estimate_background
from training.pairing.folder_source import squeezed
from training.pairing.gate import GateLimits
from training.pairing.image_folder import folder_images
from training.pairing.orientation import ALIGNED
from training.pairing.pairs import Optics
from training.pairing.sources import Acquisition, FieldOfView, Frames, UnusableFieldError, read_image
from training.pairing.structured_illumination import FINER, ORIENTATIONS, PHASES, SimOptics, reconstruct

__all__ = ["read_sim_folder"]

EXPOSURES = ORIENTATIONS * PHASES
MODALITY = "tirf_sim"
"""Where the optics do not say another than the default."""
LARGEST_PIXEL_ERROR = 0.02
"""Of a stated high pixel size, against half the low one."""


def read_sim_folder(raw: Path, channel: str, optics: Optics) -> Acquisition:
    """Describe a folder of raw exposures as fields of view; reads no pixel.

    Parameters
    ----------
    raw
        One (9, Y, X) stack per file: three phases of each of three orientations in turn.
    optics
        Must state `low_pixel_size_um` (of the exposures), `low_numerical_aperture` and the channel's
        `emission_nm`.

    Returns
    -------
    Acquisition
        Of factor 2. Low is (1, Y, X) float32, the mean of the nine in counts; high is (1, 2Y, 2X) float32 on
        the same background, and may dip below it.

    Raises
    ------
    WrongInputError
        The folder is missing or empty, or the optics leave open or contradict what the reconstruction needs.
    """
    known = _sim_optics(channel, optics)
    fields = [
        FieldOfView(
            region=region,
            name=f"region{region:04d}_{stem}",
            sources={f"raw/{path.name}": file_sha256(path)},
            fault=None,
            read=partial(_read, path, known),
        )
        for region, (stem, path) in enumerate(sorted(folder_images(raw).items()))
    ]
    optics_of_pairs = _pair_optics(optics, known)
    return Acquisition(str(raw), None, FINER, (channel,), optics_of_pairs, fields, ALIGNED)


def _sim_optics(channel: str, optics: Optics) -> SimOptics:
    """Return what the reconstruction must know; everything that is missing is named at once."""
    given = {
        "the pixel size of the exposures in um": optics.low_pixel_size_um,
        "the numerical aperture": optics.low_numerical_aperture,
        f"the emission wavelength of {channel} in nm": optics.emission_nm.get(channel),
    }
    wrong = [name for name, value in given.items() if value is None or not value > 0]
    if wrong:
        msg = f"structured illumination needs {' and '.join(wrong)}; give them, as numbers above 0"
        raise WrongInputError(msg)
    pixel_size_um, numerical_aperture, emission_nm = (float(value or 0) for value in given.values())
    stated_um = optics.high_pixel_size_um
    if stated_um is not None and abs(FINER * stated_um / pixel_size_um - 1) > LARGEST_PIXEL_ERROR:
        msg = (
            f"the high pixel size is {stated_um} um, but the reconstruction of {pixel_size_um} um pixels has "
            f"{pixel_size_um / FINER} um; give one of the two alone, that of the exposures"
        )
        raise WrongInputError(msg)
    return SimOptics(pixel_size_um, numerical_aperture, emission_nm)


def _pair_optics(optics: Optics, known: SimOptics) -> Optics:
    """Return the optics of the pair set: one objective, two grids."""
    stated = optics.modality != Optics.model_fields["modality"].default
    return optics.model_copy(
        update={
            "high_pixel_size_um": known.pixel_size_um / FINER,
            "high_numerical_aperture": optics.high_numerical_aperture or known.numerical_aperture,
            "modality": optics.modality if stated else MODALITY,
        }
    )


def _read(path: Path, optics: SimOptics) -> Frames:
    exposures = squeezed(read_image(path))
    if exposures.ndim != 3 or len(exposures) != EXPOSURES:
        msg = (
            f"{path.name} has shape {exposures.shape}, expected {EXPOSURES} striped exposures, "
            f"({EXPOSURES}, Y, X): {PHASES} phases of each of {ORIENTATIONS} orientations in turn"
        )
        raise UnusableFieldError(msg)
    for number, exposure in enumerate(exposures, start=1):
        if exposure.min() == exposure.max():
            msg = f"{path.name}: exposure {number} is black or constant: every pixel is {exposure.flat[0]}"
            raise UnusableFieldError(msg)
    saturated = saturated_fraction(exposures)
    if saturated > GateLimits().largest_saturated_fraction:  # the mean, a float, no longer tells
        msg = f"{path.name} is saturated: {100 * saturated:.2f} % of the pixels are at the camera's limit"
        raise UnusableFieldError(msg)
    low = exposures.mean(axis=0, dtype=np.float64).astype(np.float32)  # (Y, X)
    background = estimate_background([low])
    try:
        # Linear in the exposures: the background may be taken away before and given back after.
        high = reconstruct(exposures - background, optics) + np.float32(background)  # (2Y, 2X)
    except WrongInputError as error:
        msg = f"{path.name} cannot be reconstructed: {error}"
        raise UnusableFieldError(msg) from error
    return Frames(low[np.newaxis], [high[np.newaxis]], np.zeros((1, 2)))
