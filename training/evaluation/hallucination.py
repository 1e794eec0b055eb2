"""Structure that the network made up, and structure that it lost: spots by number, filaments by length.

Structure is detected in output and truth alike and matched. Owns the threshold and the matching; the filters
are those of `structures`. Pure functions of arrays on one pixel grid.

What counts is the height of a spot or filament above its surroundings, in the truth's intensities after a
linear fit of the output to the truth. Structure of one image is made up only where it stands above the
threshold and the other image shows nothing there above half of it: else a faint spot that noise carries
across a single threshold in one of two acquisitions would count. The threshold is the same for both images
and is told from the truth alone, so that texture all over the output does not raise it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

import numpy as np
from scipy import sparse
from scipy.sparse.csgraph import min_weight_full_bipartite_matching
from scipy.spatial import cKDTree

from training.evaluation.metrics import BORDER_PX, FULL_PERCENTILE
from training.evaluation.not_measurable import NotMeasurableError, check_image, check_pair, check_side
from training.evaluation.structures import (
    BoolArray,
    FloatArray,
    Image,
    Places,
    Relief,
    Structures,
    relief_of,
    ridges,
    spots,
)

__all__ = ["Hallucination", "KnownStructures", "hallucinated_filaments", "hallucinated_spots"]

TILE_PX = 16
DARKEST = 0.1
"""The share of the squares of 16 px that is taken for background, as in `noise`."""
OF_NOISE = 8.0
"""The threshold over the noise of the filtered background: half of it is seldom passed by noise, and few
spots that stand above the whole in one acquisition stand below half in another."""
OF_FULL = 0.05
"""The threshold over the height of bright structure: all there is where the truth has no noise."""
OF_RANGE = 1e-4
"""The threshold over the range of the truth: what is less may be rounding."""
LEAST_SPOTS = 5
"""In either image, for a rate."""
LEAST_SIGNAL = 0.1
"""Of what the output shows at the truth's structure, that must be more than its noise for a linear fit."""
LEAST_SIDE_PX = 2 * (BORDER_PX + TILE_PX)


@dataclass(frozen=True, slots=True)
class Hallucination:
    """What one image shows and the other does not: numbers of spots, or lengths of filaments in px."""

    hallucinated: float
    """In the output, not in the truth."""
    missed: float
    """In the truth, not in the output."""
    in_output: float
    """Detected there in all."""
    in_truth: float
    hallucinated_yx: Places
    """(N, 2) where: spots, or pixels of filaments."""
    missed_yx: Places

    @property
    def hallucinated_rate(self) -> float:
        """Of what the output shows, the share that was made up, 0 to 1; 0 where it shows nothing."""
        return self.hallucinated / self.in_output if self.in_output else 0.0

    @property
    def missed_rate(self) -> float:
        """Of what the truth shows, the share that was lost, 0 to 1; 0 where it shows nothing."""
        return self.missed / self.in_truth if self.in_truth else 0.0


def hallucinated_spots(
    output: Image,
    truth: Image,
    fwhm_px: float,
    *,
    acquired: Image | None = None,
    radius_px: float | None = None,
) -> Hallucination:
    """Count the spots that only the output shows, and those that only the truth shows.

    Spots are matched one to one: as many as can be, and of the ways to do so the one with the least distance
    in all. Two spots of the output that the truth shows as one count for one made up.

    Parameters
    ----------
    output, truth
        (Y, X) both, 64 px or more to a side, on one grid. 16 px at every side do not count, as in `metrics`.
    fwhm_px
        Of a point in the truth.
    acquired
        (Y, X) the truth as it was acquired, in its intensities, where `truth` itself is free of noise: what
        does not stand above this noise does not count.
    radius_px
        Up to which two spots are the same; by default half of `fwhm_px`, and 1 px for their places are whole.

    Raises
    ------
    NotMeasurableError
        Of images that are too small, constant, hold NaN or differ in shape, and of fewer than five spots in
        both.
    """
    return KnownStructures.of(truth, fwhm_px, acquired=acquired).compared(output, radius_px)


def hallucinated_filaments(
    output: Image,
    truth: Image,
    fwhm_px: float,
    *,
    acquired: Image | None = None,
    tolerance_px: float | None = None,
) -> Hallucination:
    """Return the length of filament that only the output shows, and that only the truth shows.

    Parameters
    ----------
    output, truth
        (Y, X) both, 64 px or more to a side, on one grid. 16 px at every side do not count, as in `metrics`.
    fwhm_px
        Of a point in the truth; a thin filament is as wide.
    acquired
        (Y, X) as `hallucinated_spots`.
    tolerance_px
        Up to which two ridges are the same; half of `fwhm_px` and 1 px by default.

    Returns
    -------
    Hallucination
        Lengths in px. Where a filament ends, about the width of a point is added to it.

    Raises
    ------
    NotMeasurableError
        Of images that are too small, constant, hold NaN or differ in shape, and of filaments shorter in all
        than the image's side, in both.
    """
    known = KnownStructures.of(truth, fwhm_px, acquired=acquired, filaments=True)
    return known.compared(output, tolerance_px)


@dataclass(frozen=True, slots=True)
class KnownStructures:
    """The spots or the filaments of a truth: found once, for every image that is compared with it."""

    truth: Image
    relief: Relief
    found: Structures
    threshold: float
    dark: BoolArray
    """(N,) which squares of 16 px are background."""
    filaments: bool

    @classmethod
    def of(
        cls,
        truth: Image,
        fwhm_px: float,
        *,
        acquired: Image | None = None,
        filaments: bool = False,
        least_threshold: float = 0.0,
    ) -> Self:
        """Find the structures of a truth; parameters and errors are those of `hallucinated_spots`.

        A part of a field takes the whole field's threshold as the least.
        """
        check_image(truth, "the truth")
        check_side(truth, LEAST_SIDE_PX, "the truth")
        relief = relief_of(truth, fwhm_px, filaments=filaments)
        means = _tiles(relief.smooth).mean(axis=1)
        dark = means <= np.quantile(means, DARKEST)
        noise = _noise(relief.height, dark)
        if acquired is not None:
            check_pair(acquired, truth)
            noise = max(noise, _noise(relief_of(acquired, fwhm_px, filaments=filaments).height, dark))
        least = max(OF_FULL * _full_height(relief), OF_RANGE * float(np.ptp(relief.smooth)))
        threshold = max(OF_NOISE * noise, least, least_threshold)
        found = _firm(relief, threshold, dark, filaments)
        return cls(truth, relief, found, threshold, dark, filaments)

    def compared(self, output: Image, reach_px: float | None = None) -> Hallucination:
        """Compare an image with the truth; see `hallucinated_spots` and `hallucinated_filaments`."""
        check_pair(output, self.truth)
        fwhm_px = self.relief.fwhm_px
        ours = relief_of(output, fwhm_px, filaments=self.filaments)
        gain = _gain(ours.height, self.relief.height, self.threshold, _noise(ours.height, self.dark))
        firm = _firm(ours, self.threshold / gain, self.dark, self.filaments)
        self._check_enough(firm)
        reach_px = fwhm_px / 2 + 1 if reach_px is None else reach_px
        return _compared(firm, self.found, _far_off if self.filaments else _unmatched, reach_px)

    def _check_enough(self, ours: Structures) -> None:
        found = max(float(each.sizes[each.firm].sum()) for each in (ours, self.found))
        if self.filaments and found < (least := min(self.truth.shape)):
            msg = f"output and truth show {found:.0f} px of filaments at most; a rate wants {least} px"
            raise NotMeasurableError(msg)
        if not self.filaments and found < LEAST_SPOTS:
            number = {0: "no spots", 1: "one spot"}.get(int(found), f"{found:.0f} spots")
            msg = f"output and truth show {number} at most; a rate wants {LEAST_SPOTS}"
            raise NotMeasurableError(msg)


def _compared(
    ours: Structures,
    theirs: Structures,
    alone: Callable[[Structures, Structures, float], BoolArray],
    reach_px: float,
) -> Hallucination:
    only_ours, only_theirs = alone(ours, theirs, reach_px), alone(theirs, ours, reach_px)
    return Hallucination(
        hallucinated=float(ours.sizes[only_ours].sum()),
        missed=float(theirs.sizes[only_theirs].sum()),
        in_output=float(ours.sizes[ours.firm].sum()),
        in_truth=float(theirs.sizes[theirs.firm].sum()),
        hallucinated_yx=ours.places_yx[only_ours],
        missed_yx=theirs.places_yx[only_theirs],
    )


def _firm(relief: Relief, threshold: float, dark: BoolArray, filaments: bool) -> Structures:
    """Return structures of which those near the border do not count."""
    background = float(np.median(_tiles(relief.smooth)[dark]))
    found = (ridges if filaments else spots)(relief, threshold, background)
    beyond = np.array(relief.height.shape) - BORDER_PX
    inside = ((found.places_yx >= BORDER_PX) & (found.places_yx < beyond)).all(axis=1)
    return Structures(found.places_yx, found.sizes, found.firm & inside)


def _tiles(image: FloatArray) -> FloatArray:
    """Return the pixels of whole squares of 16 px, (N, P)."""
    rows, columns = (side // TILE_PX for side in image.shape)
    cut = image[: rows * TILE_PX, : columns * TILE_PX].reshape(rows, TILE_PX, columns, TILE_PX)
    return cut.swapaxes(1, 2).reshape(rows * columns, TILE_PX**2)


def _noise(height: FloatArray, dark: BoolArray) -> float:
    """Return the root mean square of heights in the background; those of filaments are not centred."""
    return float(np.sqrt(np.median((_tiles(height)[dark] ** 2).mean(axis=1))))


def _full_height(relief: Relief) -> float:
    """Return the height of bright structure, be it dense or a few spots in a thousandth of the pixels."""
    above = np.maximum(relief.height, 0)
    of_most = float(np.vdot(above, above)) / max(float(above.sum(dtype=np.float64)), 1e-30)
    return max(float(np.percentile(relief.height, FULL_PERCENTILE)), of_most)


def _gain(output: FloatArray, truth: FloatArray, threshold: float, noise: float) -> float:
    """Return the slope of the linear fit truth = gain * output to heights, where the truth shows structure.

    Heights have no offset. Noise of the output flattens a least-squares line, and is taken out of its square
    (errors in variables; Fuller, Measurement Error Models (1987), section 1.2). What the output makes up
    elsewhere does not count. An output that shows nothing there stays as it is.
    """
    shown = truth >= threshold
    product = float(np.vdot(truth[shown], output[shown]))
    square = float(np.vdot(output[shown], output[shown]))
    left = square - noise**2 * float(shown.sum())
    return product / left if product > 0 and left > LEAST_SIGNAL * square else 1.0


def _unmatched(ours: Structures, theirs: Structures, reach_px: float) -> BoolArray:
    """Return which firm spots have no partner, (N,), each of the others being the partner of one at most."""
    firm = np.flatnonzero(ours.firm)
    alone = ours.firm.copy()
    if not firm.size or not len(theirs.places_yx):
        return alone
    near = cKDTree(ours.places_yx[firm]).sparse_distance_matrix(
        cKDTree(theirs.places_yx), reach_px, output_type="coo_matrix"
    )
    # Every spot may also stay alone, at a price above that of any number of changed partners.
    dear = sparse.identity(firm.size) * (firm.size + 1) * (reach_px + 1)
    near.data += 1.0  # A distance of zero would count as no edge.
    rows, columns = min_weight_full_bipartite_matching(sparse.hstack([near, dear]).tocsr())
    alone[firm[rows[columns < len(theirs.places_yx)]]] = False
    return alone


def _far_off(ours: Structures, theirs: Structures, reach_px: float) -> BoolArray:
    """Return which firm pixels of filaments have no ridge of the other image near, (N,)."""
    alone = ours.firm.copy()
    if alone.any() and len(theirs.places_yx):
        margin = int(reach_px)
        shape = np.maximum(ours.places_yx.max(axis=0), theirs.places_yx.max(axis=0)) + 1
        ridge = np.zeros(shape + 2 * margin, dtype=bool)
        ridge[tuple(theirs.places_yx.T + margin)] = True
        near = np.zeros(shape, dtype=bool)
        for y, x in np.ndindex(2 * margin + 1, 2 * margin + 1):  # places are whole pixels: no tree is needed
            if np.hypot(y - margin, x - margin) <= reach_px:
                near |= ridge[y : y + shape[0], x : x + shape[1]]
        alone &= ~near[tuple(ours.places_yx.T)]
    return alone
