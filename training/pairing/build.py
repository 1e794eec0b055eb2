"""Builds a pair set (contract 2) from a scan folder or from plain folders.

Owns the order of the passes over the fields: what the whole set says of light, camera and orientation, then
the alignment field by field. Knows nothing of how a field is aligned.
"""

import logging
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path

import numpy as np

from configs.document import WrongInputError
from inference.signal_to_noise import signal_to_noise
from training.pairing.contact_sheet import write_contact_sheet
from training.pairing.draft import Draft
from training.pairing.field_pairing import AlignedPair, Findings, pair_field
from training.pairing.folder_source import read_folders
from training.pairing.gate import acquisition_fault
from training.pairing.light import NO_LIGHT, ChannelLight, StateLight, survey
from training.pairing.mosaic import Mosaic
from training.pairing.orientation_estimate import OrientationEstimate, estimate_orientation
from training.pairing.output_folder import check_free, replacing
from training.pairing.pairs import (
    ChannelLightRecord,
    LightRecord,
    Optics,
    OrientationRecord,
    PairSet,
    PairSetIndex,
    SignalToNoise,
    Split,
)
from training.pairing.sampling import Image
from training.pairing.scan_source import read_scan
from training.pairing.settings import PairingSettings
from training.pairing.sim_source import read_sim_folder
from training.pairing.sources import Acquisition, FieldOfView, Frames

__all__ = ["pair_folders", "pair_scan", "pair_sim_folder"]

Progress = Callable[[int, int], None]
MOST_ASKED = 12
"""Fields, at the most, that are asked for scale and rotation; three that tell are enough."""
MOST_REASONS = 5
log = logging.getLogger(__name__)


def pair_scan(
    scan: Path,
    out: Path,
    settings: PairingSettings | None = None,
    *,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> PairSet:
    """Turn a scan folder into a pair set.

    Parameters
    ----------
    settings
        None takes the defaults: elastic alignment, an eighth of the regions each for validation and test.
    overwrite
        Replace a pair set that is already at `out`.
    progress
        Told (done, total) fields of view.

    Returns
    -------
    PairSet
        With every pair of every field listed, those that were left out with their reason.

    Raises
    ------
    WrongInputError
        The scan cannot be read, no field of it can be used, or `out` is taken. Nothing is written then.
    """
    check_free(out, overwrite)
    return _build(read_scan(scan), out, settings or PairingSettings(), progress)


def pair_folders(
    low: Path,
    high: Path,
    factor: int,
    out: Path,
    settings: PairingSettings | None = None,
    *,
    channel: str = "channel",
    optics: Optics | None = None,
    extend_depth: bool = False,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> PairSet:
    """Turn two folders of TIFF or PNG images with matching names into a pair set.

    Parameters
    ----------
    low, high
        Each image is one region; sizes may differ by a margin, bit depths freely.
    factor
        1, 2 or 4: high pixels along one low pixel.
    channel
        What the images show; models are trained by channel.
    optics
        What is known of the microscope; None for nothing.
    extend_depth
        Make each high image of a (Z, Y, X) stack, sharp over all its depth.
    settings, overwrite, progress
        As `pair_scan`.

    Raises
    ------
    WrongInputError
        A folder is missing or empty, names do not match, no pair can be used, or `out` is taken. Nothing is
        written then.
    """
    check_free(out, overwrite)
    acquisition = read_folders(low, high, factor, channel, optics or Optics(), extend_depth=extend_depth)
    return _build(acquisition, out, settings or PairingSettings(), progress)


def pair_sim_folder(
    raw: Path,
    out: Path,
    settings: PairingSettings | None = None,
    *,
    optics: Optics,
    channel: str = "channel",
    overwrite: bool = False,
    progress: Progress | None = None,
) -> PairSet:
    """Turn a folder of structured-illumination exposures into a pair set.

    The low image is the plain average of the nine exposures, the high one their reconstruction.

    Parameters
    ----------
    raw
        Stacks (9, Y, X), three phases of each of three orientations; each is one region.
    settings
        None aligns by drift: both images come from the same exposures, and an elastic field would only follow
        the stripes that the reconstruction leaves.
    optics
        Pixel size, numerical aperture and emission wavelength are needed.
    channel, overwrite, progress
        As `pair_folders`.

    Raises
    ------
    WrongInputError
        The folder is missing or empty, the optics lack something, no pair can be used, or `out` is taken.
    """
    check_free(out, overwrite)
    return _build(read_sim_folder(raw, channel, optics), out, settings or PairingSettings("drift"), progress)


def _build(
    acquisition: Acquisition, out: Path, settings: PairingSettings, progress: Progress | None
) -> PairSet:
    splits = settings.split.divide({view.region for view in acquisition.fields})
    lights = survey(acquisition, settings)
    orientation = _orientation(acquisition, settings)
    findings = Findings(
        tuple(lights.get(channel, NO_LIGHT) for channel in acquisition.channels), orientation.orientation
    )
    with replacing(out) as folder:
        draft = Draft(folder, acquisition.factor, settings.limits)
        for done, view in enumerate(acquisition.fields):
            _add_field(draft, acquisition, view, splits[view.region], settings, findings)
            if progress is not None:
                progress(done + 1, len(acquisition.fields))
        draft.gate_by_the_set()
        normalisation = draft.normalisation(lights)
        if not normalisation:
            raise WrongInputError(f"{acquisition.origin}: no pair can be used; {_reasons(draft)}")
        draft.write_pairs(normalisation, acquisition.optics.high_pixel_size_um)
        index = PairSetIndex(
            run_id=acquisition.run_id,
            factor=acquisition.factor,
            optics=acquisition.optics,
            normalisation=normalisation,
            alignment=settings.alignment,
            orientation=OrientationRecord(
                matrix_yx=orientation.orientation.matrix_yx, origin=orientation.note
            ),
            light={channel: _light_record(light) for channel, light in lights.items()},
            pairs=draft.pairs,
            software={name: version(name) for name in ("sharpscope", "numpy", "scipy")},
        )
        pair_set = PairSet(folder, index)
        pair_set.save_index()
        write_contact_sheet(pair_set, folder / "contact_sheet.html")
    return PairSet.open(out)


def _reasons(draft: Draft) -> str:
    """Return why pairs were left out, each reason with the first pair that it concerns, in one line."""
    first = {record.reason: record.file for record in reversed(draft.pairs)}
    told = [f"{file}: {reason}" for reason, file in reversed(first.items())]
    more = f" ... and {len(told) - MOST_REASONS} other reasons" if len(told) > MOST_REASONS else ""
    return "; ".join(told[:MOST_REASONS]) + more


def _orientation(acquisition: Acquisition, settings: PairingSettings) -> OrientationEstimate:
    """Return scale and rotation by the calibration, or as the first usable fields show them."""
    if acquisition.orientation is not None:
        told = (
            f"scale {acquisition.orientation.scale:.4f}, rotation {acquisition.orientation.rotation_deg:.3f}"
        )
        return OrientationEstimate(acquisition.orientation, f"{told} degrees, by the calibration")
    return estimate_orientation(_usable(acquisition, settings), acquisition.factor)


def _faulty(frames: Frames, settings: PairingSettings) -> bool:
    return any(
        acquisition_fault(low, [tile[k] for tile in frames.tiles], settings.limits) is not None
        for k, low in enumerate(frames.low)
    )


def _usable(acquisition: Acquisition, settings: PairingSettings) -> Iterator[tuple[Image, list[Mosaic]]]:
    """Return low frames and high mosaics of fields without a fault, spread over the set."""
    fields = acquisition.fields
    step = max(1, len(fields) // MOST_ASKED)
    for view in fields[::step][:MOST_ASKED]:
        frames = view.frames()
        if isinstance(frames, str) or _faulty(frames, settings):
            continue
        mosaics = [
            Mosaic(tuple(tile[k] for tile in frames.tiles), frames.corners_yx_px)
            for k in range(len(frames.low))
        ]
        yield frames.low, mosaics


def _add_field(
    draft: Draft,
    acquisition: Acquisition,
    view: FieldOfView,
    split: Split,
    settings: PairingSettings,
    findings: Findings,
) -> None:
    """Align one field and enter its pairs; one that cannot be aligned is entered with its reason."""
    frames = view.frames()
    if isinstance(frames, str):
        for channel in acquisition.channels:
            draft.leave_out(view, channel, split, frames)
        return
    outcome = _paired(frames, acquisition, settings, findings)
    for k, channel in enumerate(acquisition.channels):
        pair = outcome[k]
        if isinstance(pair, str):
            draft.leave_out(view, channel, split, pair)
        else:
            light = findings.lights[k]
            ratio = SignalToNoise(
                low=signal_to_noise(pair.low, light.low.background),
                high=_middle([signal_to_noise(tile[k], light.high.background) for tile in frames.tiles]),
            )
            draft.add(view, channel, split, pair, ratio)


def _middle(ratios: list[float | None]) -> float | None:
    known = [ratio for ratio in ratios if ratio is not None]
    return float(np.median(known)) if known else None


def _paired(
    frames: Frames, acquisition: Acquisition, settings: PairingSettings, findings: Findings
) -> dict[int, AlignedPair | str]:
    """Align one field; frames that the arithmetic cannot digest are a reason, not the end of the set."""
    try:
        return pair_field(frames, acquisition.factor, settings, findings)
    except (ValueError, ArithmeticError, RuntimeError, np.linalg.LinAlgError) as error:
        log.debug("a field could not be aligned", exc_info=True)
        reason = f"could not be aligned ({type(error).__name__}: {' '.join(str(error).split())[:120]})"
        return dict.fromkeys(range(len(acquisition.channels)), reason)


def _light_record(light: ChannelLight) -> ChannelLightRecord:
    return ChannelLightRecord(low=_state_record(light.low), high=_state_record(light.high))


def _state_record(light: StateLight) -> LightRecord:
    flat = light.flat_field
    return LightRecord(
        background=light.background,
        unevenness=None if flat is None else flat.largest_deviation,
        even_because=light.even_because,
        hot_pixels=0 if light.hot is None else int(light.hot.sum()),
    )
