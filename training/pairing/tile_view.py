"""One tile of the high image and the part of the low image that shows the same place.

Owns the two grids of that meeting: the tile seen on the low camera's pixels, for the elastic registration,
and the low grid's pixels in the tile, for the warp. Knows no blocks and no other tile.
"""

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from inference.preprocess import upsample
from training.pairing.elastic import LowGrid
from training.pairing.mosaic import Mosaic, edge_distance, grid
from training.pairing.sampling import FloatArray, Image, high_pass, sample, spline_coefficients

__all__ = ["HIGH_PASS_LOW_PX", "TileSampling", "TileView"]

HIGH_PASS_LOW_PX = 33
"""Box of the high-pass, in low pixels (odd, so that it has a middle)."""
WARP_ORDER = 5
"""Of the spline. A 20x/0.75 image on 0.325 um pixels holds structure up to its Nyquist frequency; order 5
keeps half a percent more of a filament's contrast than order 3, for a few milliseconds."""
MARGIN_LOW_PX = 8
"""How far the low window reaches beyond the tile, for what the elastic field brings in."""


@dataclass(frozen=True, slots=True)
class TileSampling:
    """Where in a tile the pixels of the upsampled low grid are looked up: shift and displacement together."""

    number: int
    """Of the tile in its mosaic."""
    window: tuple[slice, slice]
    """Rows and columns of the upsampled low grid."""
    positions_yx_px: FloatArray
    """(2, Y, X) pixel indices in the tile, for the pixels of the window."""
    edge_px: FloatArray
    """(Y, X) distance of each position to the tile's border, not positive where the tile does not reach."""


class TileView:
    """A tile on the upsampled low grid.

    Parameters
    ----------
    number
        Of the tile in its mosaic.
    low
        (Y, X) counts, the whole low frame.
    mosaic
        Of the channel.
    shift_yx_px
        Of the mosaic, by the global match.
    """

    def __init__(
        self, number: int, low: Image, mosaic: Mosaic, shift_yx_px: tuple[float, float], factor: int
    ) -> None:
        self._number = number
        self._tile = mosaic.tiles[number].astype(np.float32)
        self._factor = factor
        self._mosaic = mosaic
        self._shift = shift_yx_px
        turned_px = mosaic.reach_px((0, 0), (factor * low.shape[0], factor * low.shape[1]))
        corner = mosaic.corners_yx_px[number] - np.array(shift_yx_px)
        spans = [
            _span(start - turned_px, start + size + turned_px, count, factor)
            for start, size, count in zip(corner, self._tile.shape, low.shape, strict=True)
        ]
        self.low_rows, self.low_columns = spans
        self._low = low[self.low_rows, self.low_columns].astype(np.float32)
        everywhere = np.ones(self._tile.shape, dtype=np.float32)
        self._fine_high = high_pass(self._tile, everywhere, HIGH_PASS_LOW_PX * factor // 2 * 2 + 1)

    @property
    def shape_low_yx(self) -> tuple[int, int]:
        """Shape of the low window; (0, ...) where tile and low image do not meet."""
        return self._low.shape[0], self._low.shape[1]

    def low_grid(self, sigma_low_px: float) -> LowGrid:
        """Return both images on the low pixels, the high one blurred by a Gaussian of that sigma."""
        # The centre of low pixel k lies at f k + (f - 1) / 2 of the upsampled grid.
        pixels = grid(self._low.shape, (self.low_rows.start, self.low_columns.start))
        centres = self._in_tile(pixels * np.float32(self._factor) + np.float32(0.5 * (self._factor - 1)))
        high = ndimage.gaussian_filter(self._fine_high, sigma_low_px * self._factor)
        covered = (edge_distance(centres, self._tile.shape) >= 0).astype(np.float32)
        low = high_pass(self._low, covered, HIGH_PASS_LOW_PX)
        slope = np.stack(np.gradient(high))  # (2, V, U)
        return LowGrid(low, high, spline_coefficients(high, 3), slope, centres, self._factor)

    def sampling(self, displacement_yx_px: FloatArray) -> TileSampling:
        """Return where in the tile the upsampled low grid is looked up.

        Parameters
        ----------
        displacement_yx_px
            (2, Y, X) high pixels, on the low window.
        """
        f = self._factor
        rows = slice(f * self.low_rows.start, f * self.low_rows.stop)
        columns = slice(f * self.low_columns.start, f * self.low_columns.stop)
        shape = (rows.stop - rows.start, columns.stop - columns.start)
        places = grid(shape, (rows.start, columns.start))
        positions = self._in_tile(places) + upsample(displacement_yx_px, f)
        edge_px = edge_distance(positions, self._tile.shape)
        return TileSampling(self._number, (rows, columns), positions, edge_px)

    def warp(self, sampling: TileSampling) -> FloatArray:
        """Interpolate the tile once, by a spline, through global shift and displacement together, (Y, X)."""
        coefficients = spline_coefficients(self._tile, WARP_ORDER)
        return sample(coefficients, sampling.positions_yx_px, WARP_ORDER)

    def _in_tile(self, places_yx_px: FloatArray) -> FloatArray:
        return self._mosaic.in_tile(places_yx_px, self._mosaic.corners_yx_px[self._number], self._shift)


def _span(start_px: float, stop_px: float, count: int, factor: int) -> slice:
    """Return the low pixels along one axis that a tile from `start_px` to `stop_px` may show."""
    start = int(np.floor(start_px / factor)) - MARGIN_LOW_PX
    stop = int(np.ceil(stop_px / factor)) + MARGIN_LOW_PX
    return slice(min(max(start, 0), count), max(min(stop, count), 0))
