"""The gate: which pairs a network may learn from, and why the others may not.

Owns the limits and the words of a refusal. What the camera did wrong (saturation, a constant frame)
concerns every pair; how well the alignment went concerns training and validation alone: a test pair that
was hard to align is kept, so that no figure is flattered, unless low and high share no place at all.
"""

from dataclasses import dataclass

from inference.saturation import LARGEST_SATURATED_FRACTION, saturated_fraction
from training.pairing.pairs import SignalToNoise, Split
from training.pairing.registration import Registration
from training.pairing.sampling import Image

__all__ = ["GateLimits", "acquisition_fault", "refusal", "soft_focus"]


@dataclass(frozen=True, slots=True)
class GateLimits:
    """What a pair must satisfy; lengths in pixels of the high image."""

    largest_saturated_fraction: float = LARGEST_SATURATED_FRACTION
    largest_residual_px: float = 0.5
    """RMS. The scan, or the elastic registration, did something else above it."""
    least_ncc: float = 0.3
    largest_ncc_loss: float = 0.02
    """By how much the correlation may fall through registration; noise is all that should lower it."""
    least_jacobian: float = 0.2
    """A field near folding has followed noise."""
    least_specimen_fraction: float = 0.02
    """Share of blocks with texture; less teaches nothing and cannot be aligned."""
    least_signal_to_noise: float = 3.0
    """Of either frame: what hardly stands out of the noise teaches the network the noise."""
    least_sharpness: float = 0.5
    """How much sharper than the low image the high one must be, in parts of what the set's median pair is;
    less, and the high image was out of focus."""
    least_side_px: int = 128


def acquisition_fault(low: Image, tiles: list[Image], limits: GateLimits) -> str | None:
    """Return what is wrong with the frames of one channel as the camera delivered them, None if nothing.

    Parameters
    ----------
    low
        (Y, X) counts.
    tiles
        (V, U) counts each.
    """
    for name, frame in [("low frame", low), *((f"high tile {k}", tile) for k, tile in enumerate(tiles))]:
        if frame.min() == frame.max():
            return f"{name} is black or constant: every pixel is {frame.flat[0]}"
        saturated = saturated_fraction(frame)
        if saturated > limits.largest_saturated_fraction:
            return f"{name} is saturated: {100 * saturated:.2f} % of the pixels are at the camera's limit"
    return None


def refusal(
    registration: Registration, signal_to_noise: SignalToNoise, split: Split, limits: GateLimits
) -> str | None:
    """Return why an aligned pair is left out, None where it is accepted."""
    if split == "test":
        return None
    for state, ratio in (("low", signal_to_noise.low), ("high", signal_to_noise.high)):
        if ratio is not None and ratio < limits.least_signal_to_noise:
            return f"{state} frame is too dark: the specimen stands out {ratio:.1f} times the noise"
    r = registration
    if not r.matched:
        return (
            "low and high have nothing in common: another field, a mirrored or turned camera, "
            "a wrong factor, or no specimen"
        )
    if r.specimen_fraction < limits.least_specimen_fraction or r.residual_px is None:
        return f"no specimen: texture in {100 * r.specimen_fraction:.1f} % of the blocks"
    if r.smallest_jacobian < limits.least_jacobian:
        return f"the deformation folds over: smallest Jacobian determinant {r.smallest_jacobian:.2f}"
    if r.ncc_after < limits.least_ncc:
        return f"low and high differ: correlation {r.ncc_after:.2f} after registration"
    if r.ncc_after < r.ncc_before - limits.largest_ncc_loss:
        return f"registration made it worse: correlation {r.ncc_before:.2f} before, {r.ncc_after:.2f} after"
    if r.residual_px > limits.largest_residual_px:
        return f"misaligned: {r.residual_px:.2f} px are left, more than {limits.largest_residual_px} px"
    return None


def soft_focus(sharpness_px: float, median_px: float, split: Split, limits: GateLimits) -> str | None:
    """Return why a high image that is hardly sharper than the low one is left out, None where it is not.

    Parameters
    ----------
    sharpness_px
        Sigma of the blur that makes the high image like the low one, in high pixels.
    median_px
        The same of the set's median pair of that channel.
    """
    if split == "test" or sharpness_px >= limits.least_sharpness * median_px:
        return None
    return (
        f"high image is out of focus: a blur of {sharpness_px:.2f} px makes it like the low one, "
        f"in the set's median pair {median_px:.2f} px"
    )
