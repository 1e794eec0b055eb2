"""The pixel size from one image of a stage micrometer: absolute, where the stage's own scale may be wrong.

Owns how the period of ruled lines is found. Pure; knows no devices.
"""

from typing import Any

import numpy as np
from scipy import fft, optimize

from acquisition.affine_fit import CalibrationFailedError

__all__ = ["pixel_size_of_micrometer"]

Image = np.ndarray[Any, np.dtype[Any]]
FloatArray = np.ndarray[Any, np.dtype[np.float64]]

_LEAST_PERIODS = 4
"""Across the image; slower changes are uneven light."""
_LEAST_PROMINENCE = 100.0
"""Power of the lines' peak over the mean power; noise alone reaches about 15."""
_OVERTONE = 0.25
"""Of narrow lines the overtones are nearly as strong as the fundamental, which has at least this part of the
strongest one's power."""
_HIGHEST_OVERTONE = 6


def pixel_size_of_micrometer(image: Image, pitch_um: float) -> tuple[float, float]:
    """Return the pixel size and the rotation of a scale of evenly spaced lines.

    The highest peak of the windowed Fourier transform tells the period to a bin; a least-squares fit of one
    cosine under the same window then tells it to a small fraction of a bin.

    Parameters
    ----------
    image
        (Y, X), filled by the lines.
    pitch_um
        From line to line.

    Returns
    -------
    tuple
        Pixel size in um, and in degrees, -90 to 90, by which the direction across the lines is turned from
        the image's x axis towards its y axis.

    Raises
    ------
    CalibrationFailedError
        No period stands out.
    ValueError
        The image is not (Y, X), or the pitch is no length.
    """
    if np.ndim(image) != 2 or not pitch_um > 0:
        raise ValueError(f"need an image (Y, X) and a pitch in um; got {np.shape(image)} and {pitch_um}")
    window = np.outer(*[np.hanning(length) for length in image.shape])
    values = np.asarray(image, dtype=np.float64)
    values = values - np.average(values, weights=window)
    coarse_xy = _strongest(values * window)
    fx, fy = _refined(values, window, coarse_xy)
    if fx < 0:
        fx, fy = -fx, -fy
    return pitch_um * float(np.hypot(fx, fy)), float(np.rad2deg(np.arctan2(fy, fx)))


def _strongest(values: FloatArray) -> tuple[float, float]:
    """Return the lines' fundamental frequency, (x, y) per px, to a bin of a doubled transform."""
    shape = [2 * length for length in values.shape]
    power = np.abs(fft.rfft2(values, shape)) ** 2
    fy, fx = fft.fftfreq(shape[0])[:, np.newaxis], fft.rfftfreq(shape[1])
    power[np.hypot(fx * values.shape[1], fy * values.shape[0]) < _LEAST_PERIODS] = 0
    row, column = (int(index) for index in np.unravel_index(np.argmax(power), power.shape))
    highest = power[row, column]
    if not highest > _LEAST_PROMINENCE * power.mean():  # nor where all is the same
        msg = (
            "no evenly spaced lines stand out in the image; focus on the stage micrometer, and let its lines "
            "fill the field"
        )
        raise CalibrationFailedError(msg)
    row = row if row < shape[0] // 2 else row - shape[0]
    for part in range(_HIGHEST_OVERTONE, 1, -1):
        rows = round(row / part) + np.arange(-1, 2)
        columns = np.maximum(round(column / part) + np.arange(-1, 2), 0)
        lower = power[np.ix_(rows, columns)]
        if lower.max() >= _OVERTONE * highest:
            y, x = np.unravel_index(np.argmax(lower), lower.shape)
            row, column = int(rows[y]), int(columns[x])
            break
    return column / shape[1], row / shape[0]


def _refined(values: FloatArray, window: FloatArray, coarse_xy: tuple[float, float]) -> tuple[float, float]:
    """Return the frequency of the cosine that fits best under the window, (x, y) per px."""
    y, x = (np.arange(length) - (length - 1) / 2 for length in values.shape)

    def turning(frequency: FloatArray) -> np.ndarray[Any, np.dtype[np.complex128]]:
        fx, fy = frequency
        return np.asarray(np.exp(-2j * np.pi * (fx * x + fy * y[:, np.newaxis])))

    def misfit(p: FloatArray) -> FloatArray:
        model = np.real(complex(p[2], p[3]) * np.conj(turning(p[:2] / np.array(values.shape[::-1]))))
        return np.asarray((model - values) * window).ravel()

    cycles = (
        np.array(coarse_xy) * values.shape[::-1]
    )  # over the image, so that all parameters are of order one
    amplitude = 2 * np.sum(values * window * turning(np.array(coarse_xy))) / window.sum()
    scale = max(abs(amplitude), 1e-12)
    fit = optimize.least_squares(
        misfit,
        [*cycles, amplitude.real, amplitude.imag],
        method="lm",
        x_scale=[1.0, 1.0, scale, scale],
    )
    fx, fy = fit.x[:2] / np.array(values.shape[::-1])
    return float(fx), float(fy)
