"""How far the specimen of a frame stands out of the camera's noise: one definition for training and serving.

Owns two figures, taken from the frame as delivered, and their ratio. Pure functions of arrays.
"""

from typing import Any

import numpy as np

__all__ = ["BRIGHT_PERCENTILE", "signal_and_noise", "signal_to_noise"]

BRIGHT_PERCENTILE = 99.0
LAPLACIAN_GAIN = 6.0
"""Standard deviation of white noise after the kernel (1 -2 1) in y and in x."""
QUANTISATION = 1 / np.sqrt(12)
"""Noise of a whole number of counts; nothing counted in integers has less."""
ENOUGH_PIXELS = 2_000_000

Image = np.ndarray[Any, np.dtype[Any]]


def signal_to_noise(frame: Image, background: float) -> float | None:
    """Return the 99th percentile above the background over the noise of the darker half.

    Parameters
    ----------
    frame
        (Y, X) counts.
    background
        Counts of a region without objects.

    Returns
    -------
    float or None
        None where a float image has no noise to measure.
    """
    signal, noise = signal_and_noise(frame, background)
    return signal / noise if noise > 0 else None


def signal_and_noise(
    frame: Image, background: float, enough_pixels: int = ENOUGH_PIXELS
) -> tuple[float, float]:
    """Return the 99th percentile above the background, and the noise of the darker half, in counts.

    The noise is what a smooth image has not (Immerkaer, Computer Vision and Image Understanding 64, 300
    (1996)), by its median, so that the edges of a specimen do not count as noise.

    Parameters
    ----------
    frame
        (Y, X) counts.
    background
        Counts of a region without objects.
    enough_pixels
        Of larger frames, rows evenly spread are taken.
    """
    step = min(1 + frame.size // enough_pixels, max(1, frame.shape[0] // 3))
    rows = frame[: frame.shape[0] // step * step].astype(np.float32)
    bent = np.diff(np.diff(rows, n=2, axis=0), n=2, axis=1)[::step]  # (Y - 2, X - 2)
    middle = rows[1:-1, 1:-1][::step]
    dark = middle <= np.median(middle)
    noise = float(np.median(np.abs(bent[dark]))) / (0.6745 * LAPLACIAN_GAIN)
    noise = max(noise, QUANTISATION) if frame.dtype.kind in "ui" else noise
    signal = float(np.percentile(rows[::step], BRIGHT_PERCENTILE)) - background
    return max(signal, 0.0), noise
