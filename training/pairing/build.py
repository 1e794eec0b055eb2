"""Builds a pair set (contract 2) from a scan folder or from two plain folders.

Owns the two passes over the fields (background of the whole set, then alignment field by field), what is
kept between them. Knows nothing of how a field is aligned.
Memory does not grow with the number of fields: aligned images wait on disk until the set's factors are
known.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path

import numpy as np

from configs.document import WrongInputError
from inference.preprocess import normalise, prepare
from training.pairing.background import BackgroundEstimator
from training.pairing.field_pairing import AlignedPair, Crop, pair_field
from training.pairing.folder_source import read_folders
from training.pairing.gate import GateLimits, acquisition_fault, refusal
from training.pairing.normalisation import FluxSample, choose_normalisation, sample_flux
from training.pairing.output_folder import check_free, replacing
from training.pairing.pairs import ChannelNormalisation, Optics, PairRecord, PairSet, PairSetIndex, Split
from training.pairing.sampling import FloatArray
from training.pairing.scan_source import read_scan
from training.pairing.sources import Acquisition, FieldOfView, Frames, UnusableFieldError
from training.pairing.split import SplitRule

__all__ = ["pair_folders", "pair_scan"]

Progress = Callable[[int, int], None]
Backgrounds = dict[tuple[str, str], BackgroundEstimator]
"""By channel and state."""


def pair_scan(
    scan: Path,
    out: Path,
    *,
    split: SplitRule | None = None,
    limits: GateLimits | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> PairSet:
    """Turn a scan folder into a pair set.

    Parameters
    ----------
    split
        Which regions train, validate and test; None takes an eighth each for validation and test.
    limits
        Of the gate; None takes its defaults.
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
    return _build(read_scan(scan), out, split or SplitRule(), limits or GateLimits(), progress)


def pair_folders(
    low: Path,
    high: Path,
    factor: int,
    out: Path,
    *,
    channel: str = "channel",
    optics: Optics | None = None,
    split: SplitRule | None = None,
    limits: GateLimits | None = None,
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
    split, limits, overwrite, progress
        As `pair_scan`.

    Raises
    ------
    WrongInputError
        A folder is missing or empty, names do not match, no pair can be used, or `out` is taken. Nothing is
        written then.
    """
    check_free(out, overwrite)
    acquisition = read_folders(low, high, factor, channel, optics or Optics())
    return _build(acquisition, out, split or SplitRule(), limits or GateLimits(), progress)


@dataclass(frozen=True, slots=True)
class _Staged:
    """An aligned pair that waits on disk for the set's factors."""

    planes: Path
    """npz of the whole low frame (counts as delivered) and the cropped high image (float32 counts)."""
    crop: Crop


@dataclass(slots=True)
class _Draft:
    """The set as it grows: records in the order of the fields, and what their files will be made of."""

    pairs: list[PairRecord] = field(default_factory=list)
    staged: dict[str, _Staged] = field(default_factory=dict)
    samples: dict[str, list[tuple[PairRecord, FluxSample]]] = field(default_factory=dict)


def _build(
    acquisition: Acquisition, out: Path, rule: SplitRule, limits: GateLimits, progress: Progress | None
) -> PairSet:
    splits = rule.divide({view.region for view in acquisition.fields})
    backgrounds = _backgrounds(acquisition, limits)
    with replacing(out) as folder:
        draft = _Draft()
        for done, view in enumerate(acquisition.fields):
            _add_field(draft, acquisition, view, splits[view.region], limits, folder / "staged")
            if progress is not None:
                progress(done + 1, len(acquisition.fields))
        normalisation = _normalisation(draft, backgrounds)
        if not normalisation:
            first = draft.pairs[0]
            msg = f"{acquisition.origin}: no pair can be used; the first, {first.file}: {first.reason}"
            raise WrongInputError(msg)
        _write_pairs(draft, normalisation, acquisition, folder)
        PairSet(folder, _index(draft, normalisation, acquisition)).save_index()
    return PairSet.open(out)


def _backgrounds(acquisition: Acquisition, limits: GateLimits) -> Backgrounds:
    """Estimate the background of every channel and state over all fields that can be read."""
    found: Backgrounds = {}
    for view in acquisition.fields:
        frames = _frames(view)
        if isinstance(frames, str):
            continue
        for k, channel in enumerate(acquisition.channels):
            tiles = [tile[k] for tile in frames.tiles]
            if acquisition_fault(frames.low[k], tiles, limits) is not None:
                continue
            found.setdefault((channel, "low"), BackgroundEstimator()).add(frames.low[k])
            for tile in tiles:
                found.setdefault((channel, "high"), BackgroundEstimator()).add(tile)
    return found


def _frames(view: FieldOfView) -> Frames | str:
    """Return the frames of a field, or why there are none."""
    if view.fault is not None:
        return view.fault
    try:
        return view.read()
    except UnusableFieldError as error:
        return str(error)


def _add_field(
    draft: _Draft, acquisition: Acquisition, view: FieldOfView, split: Split, limits: GateLimits, folder: Path
) -> None:
    """Align one field and enter its pairs; one that cannot be aligned is entered with its reason."""
    frames = _frames(view)
    outcome: dict[int, AlignedPair | str]
    if isinstance(frames, str):
        outcome = dict.fromkeys(range(len(acquisition.channels)), frames)
    else:
        outcome = _paired(frames, acquisition, limits)
    for k, channel in enumerate(acquisition.channels):
        pair = outcome[k]
        if isinstance(pair, str):
            draft.pairs.append(_left_out(view, channel, split, pair))
            continue
        record = _record(view, channel, split, pair, refusal(pair.registration, split, limits))
        draft.pairs.append(record)
        draft.staged[record.file] = _stage(folder, record.file, pair)
        sample = sample_flux(
            *_counts(pair, acquisition.factor), acquisition.factor, pair.registration.blur_px
        )
        draft.samples.setdefault(channel, []).append((record, sample))


def _paired(frames: Frames, acquisition: Acquisition, limits: GateLimits) -> dict[int, AlignedPair | str]:
    """Align one field; frames that the arithmetic cannot digest are a reason, not the end of the set."""
    try:
        return pair_field(frames, acquisition.factor, limits)
    except (ValueError, ArithmeticError, RuntimeError, np.linalg.LinAlgError) as error:
        reason = f"could not be aligned ({type(error).__name__}: {' '.join(str(error).split())[:120]})"
        return dict.fromkeys(range(len(acquisition.channels)), reason)


def _file_name(view: FieldOfView, channel: str) -> str:
    safe = "".join(letter if letter.isalnum() or letter in "-+" else "_" for letter in channel)
    return f"{view.name}_{safe}.ome.tif"


def _left_out(view: FieldOfView, channel: str, split: Split, reason: str) -> PairRecord:
    return PairRecord(
        file=_file_name(view, channel),
        channel=channel,
        region=view.region,
        split=split,
        accepted=False,
        reason=reason,
        sources=view.sources,
        origin_yx_px=(0, 0),
        shift_yx_px=(0.0, 0.0),
        deformation_rms_px=0.0,
        ncc_before=0.0,
        ncc_after=0.0,
    )


def _record(
    view: FieldOfView, channel: str, split: Split, pair: AlignedPair, reason: str | None
) -> PairRecord:
    registration = pair.registration
    bends = registration.displacement_yx_px
    return PairRecord(
        file=_file_name(view, channel),
        channel=channel,
        region=view.region,
        split=split,
        accepted=reason is None,
        reason=reason,
        sources=view.sources,
        origin_yx_px=(pair.crop.top, pair.crop.left),
        shift_yx_px=registration.shift_yx_px,
        deformation_rms_px=float(np.sqrt((bends**2).sum(axis=0).mean())),
        residual_px=registration.residual_px,
        ncc_before=registration.ncc_before,
        ncc_after=registration.ncc_after,
        specimen_fraction=registration.specimen_fraction,
        smallest_jacobian=registration.smallest_jacobian,
        notes=pair.notes,
    )


def _counts(pair: AlignedPair, factor: int) -> tuple[FloatArray, FloatArray]:
    """Return the pair in counts: the low frame's own pixels under the crop, and the high image."""
    c = pair.crop
    rows = slice(c.top // factor, (c.top + c.height) // factor)
    columns = slice(c.left // factor, (c.left + c.width) // factor)
    return pair.low[rows, columns].astype(np.float32), c.of(pair.registration.high)


def _stage(folder: Path, name: str, pair: AlignedPair) -> _Staged:
    path = folder / f"{name}.npz"
    np.savez(path, low=pair.low, high=pair.crop.of(pair.registration.high))
    return _Staged(path, pair.crop)


def _normalisation(draft: _Draft, backgrounds: Backgrounds) -> dict[str, ChannelNormalisation]:
    """Choose each channel's factors from its accepted training pairs, or from what else it has."""
    chosen = {}
    for channel, samples in draft.samples.items():
        training = [sample for record, sample in samples if record.accepted and record.split == "train"]
        accepted = [sample for record, sample in samples if record.accepted]
        low, high = (backgrounds[channel, state].estimate() for state in ("low", "high"))
        votes = training or accepted
        if votes:
            chosen[channel] = choose_normalisation(votes, low, high)
    return chosen


def _write_pairs(
    draft: _Draft, normalisation: dict[str, ChannelNormalisation], acquisition: Acquisition, folder: Path
) -> None:
    """Write every aligned pair, those that were left out too, so that a person can look at them."""
    for record in draft.pairs:
        staged, factors = draft.staged.get(record.file), normalisation.get(record.channel)
        if staged is None or factors is None:
            continue
        with np.load(staged.planes) as planes:
            low = prepare(planes["low"], factors.low.photometry(), acquisition.factor)
            high = normalise(planes["high"], factors.high.photometry())
        PairSet.write_pair(
            folder / record.file, staged.crop.of(low), high, acquisition.optics.high_pixel_size_um
        )
        staged.planes.unlink()


def _index(
    draft: _Draft, normalisation: dict[str, ChannelNormalisation], acquisition: Acquisition
) -> PairSetIndex:
    return PairSetIndex.model_validate(
        {
            "run_id": acquisition.run_id,
            "factor": acquisition.factor,
            "optics": acquisition.optics,
            "normalisation": normalisation,
            "pairs": draft.pairs,
            "software": {name: version(name) for name in ("sharpscope", "numpy", "scipy")},
        }
    )
