"""A pair set as it grows: one record for every pair, and on disk what its files will be made of.

Owns the way from an aligned pair to its record and its files, and the gate that only the whole set can close.
Aligned images wait on disk until the set's factors are known, so that memory does not grow with the fields.
Knows nothing of how a field is aligned.
"""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from inference.preprocess import normalise, prepare
from training.pairing.field_pairing import AlignedPair, Crop
from training.pairing.gate import GateLimits, refusal, soft_focus
from training.pairing.light import ChannelLight
from training.pairing.normalisation import KEPT_VALUES, FluxSample, choose_normalisation, sample_flux
from training.pairing.pairs import (
    ChannelNormalisation,
    Deformation,
    PairRecord,
    PairSet,
    SignalToNoise,
    Split,
)
from training.pairing.registration import Registration
from training.pairing.sampling import FloatArray
from training.pairing.sources import FieldOfView

__all__ = ["Draft"]

DEFORMATION_SPACING_LOW_PX = 8
"""Of the stored lattice; the field is smooth over several times that."""
VALUES_OF_ALL = 10_000_000
"""That together choose a channel's factors, however many pairs there are."""
SAMPLE_PARTS = ("high_values", "low_means", "high_means")


@dataclass(frozen=True, slots=True)
class _Staged:
    """An aligned pair that waits on disk for the set's factors."""

    planes: Path
    """npz of the whole low frame (counts as delivered), the cropped high image (float32 counts) and the
    pair's `FluxSample`."""
    crop: Crop


@dataclass(slots=True)
class Draft:
    """Records in the order of the fields, and what their files will be made of."""

    folder: Path
    """Of the pair set that is being made."""
    factor: int
    limits: GateLimits
    pairs: list[PairRecord] = field(default_factory=list)
    _staged: dict[str, _Staged] = field(default_factory=dict)

    def leave_out(self, view: FieldOfView, channel: str, split: Split, reason: str) -> None:
        """Enter a pair that could not be made."""
        self.pairs.append(
            PairRecord(
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
        )

    def add(
        self, view: FieldOfView, channel: str, split: Split, pair: AlignedPair, ratio: SignalToNoise
    ) -> None:
        """Enter an aligned pair, and stage its pixels."""
        registration, crop = pair.registration, pair.crop
        reason = refusal(registration, ratio, split, self.limits)
        name = _file_name(view, channel)
        bends = registration.displacement_yx_px
        deformation = f"{name.removesuffix('.ome.tif')}_deformation.tif"
        PairSet.write_deformation(self.folder / deformation, _deformation(registration, self.factor))
        self.pairs.append(
            PairRecord(
                file=name,
                channel=channel,
                region=view.region,
                split=split,
                accepted=reason is None,
                reason=reason,
                sources=view.sources,
                origin_yx_px=(crop.top, crop.left),
                shift_yx_px=registration.shift_yx_px,
                deformation_rms_px=float(np.sqrt((bends**2).sum(axis=0).mean())),
                residual_px=registration.residual_px,
                ncc_before=registration.ncc_before,
                ncc_after=registration.ncc_after,
                specimen_fraction=registration.specimen_fraction,
                signal_to_noise=ratio,
                blur_px=registration.blur_px if registration.residual_px is not None else None,
                smallest_jacobian=registration.smallest_jacobian,
                notes=pair.notes,
                deformation=deformation,
            )
        )
        self._stage(name, pair)

    def _stage(self, name: str, pair: AlignedPair) -> None:
        low, high = _counts(pair, self.factor)
        path = self.folder / "staged" / f"{name}.npz"
        path.parent.mkdir(exist_ok=True)
        sample = sample_flux(low, high, self.factor, pair.registration.blur_px)
        np.savez(path, low=pair.low, high=high, **{part: getattr(sample, part) for part in SAMPLE_PARTS})
        self._staged[name] = _Staged(path, pair.crop)

    def _sample(self, record: PairRecord, stride: int) -> FluxSample:
        with np.load(self._staged[record.file].planes) as staged:
            values, low_means, high_means = (staged[part] for part in SAMPLE_PARTS)
        return FluxSample(values[::stride].copy(), low_means, high_means)

    def gate_by_the_set(self) -> None:
        """Leave out what only shows beside the other pairs: a high image that is not as sharp as theirs."""
        blurs: dict[str, list[float]] = {}
        for record in self.pairs:
            if record.accepted and record.blur_px is not None:
                blurs.setdefault(record.channel, []).append(record.blur_px)
        for k, record in enumerate(self.pairs):
            if not record.accepted or record.blur_px is None:
                continue
            median = float(np.median(blurs[record.channel]))
            reason = soft_focus(record.blur_px, median, record.split, self.limits)
            if reason is not None:
                self.pairs[k] = record.model_copy(update={"accepted": False, "reason": reason})

    def normalisation(self, lights: dict[str, ChannelLight]) -> dict[str, ChannelNormalisation]:
        """Choose each channel's factors from its accepted training pairs, or from what else it has."""
        chosen = {}
        for channel, light in lights.items():
            accepted = [record for record in self.pairs if record.accepted and record.channel == channel]
            training = [record for record in accepted if record.split == "train"]
            voting = training or accepted
            stride = 1 + len(voting) * KEPT_VALUES // VALUES_OF_ALL
            votes = [self._sample(record, stride) for record in voting]
            if votes:
                chosen[channel] = choose_normalisation(votes, light.low.background, light.high.background)
        return chosen

    def write_pairs(
        self, normalisation: dict[str, ChannelNormalisation], high_pixel_size_um: float | None
    ) -> None:
        """Write every aligned pair, those that were left out too, so that a person can look at them."""
        for record in self.pairs:
            staged, factors = self._staged.get(record.file), normalisation.get(record.channel)
            if staged is None or factors is None:
                continue
            with np.load(staged.planes) as planes:
                low = prepare(planes["low"], factors.low.photometry(), self.factor)
                high = normalise(planes["high"], factors.high.photometry())
            PairSet.write_pair(self.folder / record.file, staged.crop.of(low), high, high_pixel_size_um)
            staged.planes.unlink()


def _file_name(view: FieldOfView, channel: str) -> str:
    safe = "".join(letter if letter.isalnum() or letter in "-+" else "_" for letter in channel)
    return f"{view.name}_{safe}.ome.tif"


def _counts(pair: AlignedPair, factor: int) -> tuple[FloatArray, FloatArray]:
    """Return the pair in counts: the low frame's own pixels under the crop, and the high image."""
    c = pair.crop
    rows = slice(c.top // factor, (c.top + c.height) // factor)
    columns = slice(c.left // factor, (c.left + c.width) // factor)
    return pair.low[rows, columns].astype(np.float32), c.of(pair.registration.high)


def _deformation(registration: Registration, factor: int) -> Deformation:
    """Return the field on the lattice that is stored."""
    step = DEFORMATION_SPACING_LOW_PX
    certainty = registration.certainty[::step, ::step]
    with np.errstate(divide="ignore"):
        uncertainty = np.where(certainty > 0, 1 / np.sqrt(certainty), np.inf)
    first = (factor - 1) / 2  # where the centre of low pixel 0 lies on the upsampled grid
    return Deformation(
        registration.displacement_yx_px[:, ::step, ::step],
        uncertainty.astype(np.float32),
        (first, first),
        float(step * factor),
    )
