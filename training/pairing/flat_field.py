"""The relative illumination of one channel and imaging state, from the tiles of the set themselves.

Owns the estimate, fed tile by tile so that memory does not grow with the tiles, and the smooth field that it
gives. Knows no files, no stage positions and no alignment.

A tile shows offset + F (B + S): the offset of the camera, which no lamp shades, and under one illumination F
the haze B, the same in every tile, and a specimen S, another in every tile. Over many tiles S has no
preferred place in the frame, so the mean of the tiles has the shape of F. How well, the tiles say themselves:
each is one draw, and their scatter gives every term of F a standard error, which on the virtual stand
holds to a fifth for 30 tiles.

Two things choose how the mean is taken, both by that error:

- Few bright objects on an even haze are outliers and better clipped; a specimen that fills the frame is
  not. (Cells cover a frame more evenly than chance, so a plain mean beats median and logarithm.)
- The haze may be uneven by itself (scattered light), or what the caller takes for the offset may be the
  darkest haze. So the floor of the tiles, the smooth surface below which hardly any lies, is taken off, which
  is right either way. Only where the tiles with their floor do not contradict those without and say it more
  exactly, as in a dark channel with sparse objects, the floor serves as a witness of F too (the test of
  Hausman, Econometrica 46, 1251-1271, 1978).

What it cannot tell: haze that is uneven by itself around objects that are too few to contradict it, and
tiles whose places repeat the phase of a regular specimen (of which `_coherence` sees a part).

Terms that do not stand out of their error are taken back towards a flat field (the garrote of Breiman,
Technometrics 37, 373-384, 1995), the expected ones least: every lens darkens from the middle to the corners,
few have ripples.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from training.pairing.sampling import FloatArray, Image
from training.pairing.thinning import Thinned

__all__ = ["FlatField", "FlatFieldEstimator"]

SIDE_BINS = 32
"""A tile is kept as 32 x 32 means: far finer than any illumination, and 4 kB."""
KEPT_TILES = 384
LEAST_TILES = 8
"""Below, the scatter of the tiles is itself too uncertain."""
LARGEST_ERROR = 0.05
"""Of all terms up to the second degree, before any is taken back. Corners that are 5 to 30 % dark make a root
mean square of 1 to 7 %."""
DEGREE = 4
DOUBT = {"round": 1.0, "low": 1.7, "high": 2.5}
"""How many standard errors of a term are not believed: the darkening towards the corners, what else there is
up to the second degree, and beyond."""
CLIPS = (1.5, 8.0, np.inf)
"""Where outliers begin, in standard deviations of a normal distribution with the same median deviation. With
most of the frame empty, only the plain mean hears of the specimen at all."""
FLOOR_SHARE = 0.02
"""Of the bins, that lie below the floor."""
FLOOR_ROUNDS = 60
LEAST_SPECIMEN = 0.03
"""Of all light, that a clipped mean must still show; less may be the camera's noise."""
CONTRADICTION = 11.0
"""Chi squared of the five terms up to the second degree; five sets in a hundred that agree exceed it."""
LEAST_GAIN_OF_CHECK = 0.3
"""Of the larger error: the difference of two estimates is not believed to be more exact than that."""
ROUNDS = 30
TOLERANCE = 1e-5


@dataclass(frozen=True, slots=True)
class FlatField:
    """A smooth relative illumination, mean 1."""

    coefficients: tuple[float, ...]
    """Of the logarithm of the illumination, by the terms of `_terms`."""
    tiles: int
    """How many it was estimated from."""
    standard_error: float
    """Expected root mean square error of the gain. A correction helps where it lies below `deviation`."""

    def gain(self, shape_yx: tuple[int, int]) -> FloatArray:
        """Return the relative illumination on the grid of a whole tile, (Y, X) float32 of mean 1.

        Tiles less the camera's offset are divided by it.
        """
        gain = np.exp(np.tensordot(self.coefficients, _terms(shape_yx), axes=1))
        return np.asarray(gain / gain.mean(), dtype=np.float32)

    @property
    def deviation(self) -> float:
        """Root mean square of the gain less 1; 0 where the field is flat."""
        return float(np.std(self.gain((SIDE_BINS, SIDE_BINS))))

    @property
    def largest_deviation(self) -> float:
        """By what share the darkest pixel lies below the brightest: 0.2 where the corners lack a fifth."""
        gain = self.gain((256, 256))
        return float(1 - gain.min() / gain.max())


@dataclass(frozen=True, slots=True)
class _Fit:
    """One way to take the mean of the tiles."""

    coefficients: FloatArray
    """(K,)."""
    errors: FloatArray
    """(K,) standard errors."""

    @property
    def low_error(self) -> float:
        """Root mean square, over the frame, of what the terms up to the second degree are uncertain by."""
        return float(np.sqrt(np.sum(self.errors[_is_low()] ** 2)))


class FlatFieldEstimator:
    """Collects binned tiles and gives the illumination that they have in common.

    At most `KEPT_TILES` are kept, evenly spaced: all parts of a scan have their say.
    """

    def __init__(self) -> None:
        self._thinned: Thinned[FloatArray] = Thinned(KEPT_TILES)

    def add(self, frame: Image) -> None:
        """Take one frame, (Y, X) counts as the camera delivered them, into account.

        Raises
        ------
        ValueError
            When the frame is smaller than the bins.
        """
        if min(frame.shape) < SIDE_BINS:
            msg = f"a tile must have at least {SIDE_BINS} x {SIDE_BINS} px; got {frame.shape}"
            raise ValueError(msg)
        self._thinned.offer(lambda: _binned(frame))

    def estimate(self, background: float) -> FlatField | str:
        """Return the illumination, or the reason why the tiles cannot tell it.

        Parameters
        ----------
        background
            Counts that no illumination shades: best the offset of the camera, as a dark frame shows it. The
            haze of a place without specimen will do, but is of less use in a channel with sparse objects.
        """
        kept = self._thinned.kept
        if len(kept) < LEAST_TILES:
            return f"{len(kept)} tiles are too few to tell specimen from illumination; {LEAST_TILES} do"
        tiles = np.stack(kept).reshape(len(kept), -1) - background  # (N, bins)
        least = LEAST_SPECIMEN * max(float(tiles.mean()), 0.0)
        floorless, whole = _best_fit(tiles - _floor(tiles), least), _best_fit(tiles, least)
        fit = _trusted(floorless, whole)
        if fit is None:
            return "the tiles show nothing above the background"
        if fit.low_error > LARGEST_ERROR:
            return (
                f"the specimen in {len(tiles)} tiles is too sparse or too uneven: the illumination would be "
                f"uncertain by {100 * fit.low_error:.0f} %, more than {100 * LARGEST_ERROR:.0f} %"
            )
        return _field(fit, len(tiles))


def _binned(frame: Image) -> FloatArray:
    """Return the means of `SIDE_BINS` x `SIDE_BINS` nearly equal blocks."""
    sums: FloatArray = frame.astype(np.float64)
    for axis, size in enumerate(frame.shape):
        edges = np.arange(SIDE_BINS + 1) * size // SIDE_BINS
        sums = np.add.reduceat(sums, edges[:-1], axis=axis) / np.expand_dims(np.diff(edges), 1 - axis)
    return sums.astype(np.float32)


def _names() -> list[tuple[int, int]]:
    """Return the degrees in y and x of the terms; (2, 0) stands for the round one, (0, 2) for the other."""
    return [(i, j) for i in range(DEGREE + 1) for j in range(DEGREE + 1 - i) if i + j]


def _is_low() -> np.ndarray:
    return np.array([i + j <= 2 for i, j in _names()])


def _doubt() -> FloatArray:
    """Return how many standard errors of each term are not believed, (K,)."""
    kinds = ["round" if name == (2, 0) else "low" if sum(name) <= 2 else "high" for name in _names()]
    return np.array([DOUBT[kind] for kind in kinds])


@lru_cache(maxsize=4)
def _terms(shape_yx: tuple[int, int]) -> FloatArray:
    """Return the terms of the field, (K, Y, X): products of Legendre polynomials, of root mean square 1."""
    y, x = (
        [
            np.sqrt(2 * d + 1) * np.polynomial.Legendre.basis(d)((2 * np.arange(n) + 1) / n - 1)
            for d in range(DEGREE + 1)
        ]
        for n in shape_yx
    )
    terms = {(i, j): np.outer(y[i], x[j]) for i, j in _names()}
    along_y, along_x = terms[2, 0], terms[0, 2]
    terms[2, 0], terms[0, 2] = (along_y + along_x) / np.sqrt(2), (along_y - along_x) / np.sqrt(2)
    return np.stack(list(terms.values()))


def _design(low: bool) -> FloatArray:
    """Return the constant and the terms at the bins, (bins, 1 + K); only those of low degree if wanted."""
    terms = _terms((SIDE_BINS, SIDE_BINS)).reshape(-1, SIDE_BINS**2)
    return np.vstack([np.ones(SIDE_BINS**2), terms[_is_low()] if low else terms]).T


def _floor(tiles: FloatArray) -> FloatArray:
    """Return the quadratic surface below which `FLOOR_SHARE` of the bins lie, (bins,).

    By iteratively reweighted least squares (Koenker & Bassett, Econometrica 46, 33-50, 1978, for the loss).
    """
    design = _design(low=True)
    surface = np.full(tiles.shape[1], np.quantile(tiles, FLOOR_SHARE))
    near = max(1e-3 * float(np.quantile(tiles, 0.25) - tiles.min()), 1e-9)
    for _ in range(FLOOR_ROUNDS):
        above = tiles - surface
        weights = np.where(above > 0, FLOOR_SHARE, 1 - FLOOR_SHARE) / np.maximum(np.abs(above), near)
        of_bin = weights.sum(axis=0)  # (bins,)
        wanted = design.T @ (weights * tiles).sum(axis=0)
        surface = design @ np.linalg.solve((design.T * of_bin) @ design, wanted)
    return surface


def _best_fit(tiles: FloatArray, least: float) -> _Fit | None:
    """Return the most exact of the fits whose mean exceeds `least` counts; None where there is none."""
    fits = [fit for clip in CLIPS if (fit := _fit(tiles, clip, least)) is not None]
    return min(fits, key=lambda fit: fit.low_error, default=None)


def _fit(tiles: FloatArray, clip: float, least: float) -> _Fit | None:
    """Fit the illumination so that tiles divided by it, clipped, have an even mean.

    A fixed point: what is uneven in the mean is multiplied onto the field. Tiles are clipped after the
    division, so that nothing depends on where in the frame an object lies.
    """
    design = _design(low=False)
    to_terms = np.linalg.pinv(design)  # (1 + K, bins)
    log_gain = np.zeros(tiles.shape[1])
    for _ in range(ROUNDS):
        even = tiles * np.exp(-log_gain)
        clipped, inside = _clipped(even, clip)
        of_tile = clipped @ to_terms.T  # (N, 1 + K)
        level = float(of_tile[:, 0].mean())
        if level <= least:
            return None
        step = design[:, 1:] @ of_tile[:, 1:].mean(axis=0) / level
        log_gain = np.clip(log_gain + step, -2, 2)
        if float(np.abs(step).max()) < TOLERANCE:
            break
    # A change of the field moves only what is not clipped.
    response = max(float(np.mean(even * inside)) / level, 1e-3)
    scatter = np.std(of_tile[:, 1:], axis=0, ddof=1) / np.sqrt(len(tiles))
    errors = scatter * _coherence(clipped, design, to_terms) / level / response
    return _Fit((to_terms @ log_gain)[1:], np.maximum(errors, 1e-9))


def _coherence(tiles: FloatArray, design: FloatArray, to_terms: FloatArray) -> float:
    """Return by how much the mean of the tiles varies more than their scatter allows; at least 1.

    Beyond what the terms describe, the mean tile should be even but for chance. It is not where the tiles
    show the same places, or a regular specimen at few phases; then the terms are as little to be believed.
    """
    mean = tiles.mean(axis=0)
    left = mean - design @ (to_terms @ mean)
    by_chance = np.mean(np.var(tiles, axis=0, ddof=1)) / len(tiles)
    return float(np.sqrt(max(np.mean(left**2) / max(by_chance, 1e-30), 1.0)))


def _clipped(values: FloatArray, clip: float) -> tuple[FloatArray, np.ndarray]:
    """Return values with outliers moved to the edge of what is believed (Huber), and which are none."""
    middle = float(np.median(values))
    reach = clip * 1.4826 * float(np.median(np.abs(values - middle)))
    if reach <= 0 or not np.isfinite(reach):
        return values, np.ones(values.shape, dtype=bool)
    for _ in range(8):
        middle += float(np.mean(np.clip(values - middle, -reach, reach)))
    return np.clip(values, middle - reach, middle + reach), np.abs(values - middle) < reach


def _trusted(floorless: _Fit | None, whole: _Fit | None) -> _Fit | None:
    """Return the fit with the floor where it is more exact and the one without does not contradict."""
    if floorless is None or whole is None:
        return floorless or whole
    if floorless.low_error <= whole.low_error:
        return floorless
    low = _is_low()
    least = LEAST_GAIN_OF_CHECK * floorless.errors
    error = np.sqrt(np.maximum(floorless.errors**2 - whole.errors**2, least**2))
    chi_squared = np.sum(((whole.coefficients - floorless.coefficients) / error)[low] ** 2)
    return floorless if chi_squared > CONTRADICTION else whole


def _field(fit: _Fit, tiles: int) -> FlatField:
    """Take back what does not stand out of its error."""
    found, error = fit.coefficients, fit.errors
    believed = 1 - (_doubt() * error / np.maximum(np.abs(found), 1e-12)) ** 2
    kept = believed > 0
    # A term left out errs by what it truly is: at most about what was seen, and hardly more than its error.
    left_out = np.where(_is_low(), np.minimum(np.abs(found), error), 0)
    expected = float(np.sqrt(np.sum(np.where(kept, error, left_out) ** 2)))
    coefficients = np.where(kept, believed * found, 0.0)
    return FlatField(tuple(float(c) for c in coefficients), tiles, expected)
