"""What light has done to the dye: a map of doses over the specimen.

Owns the doses. Each exposure adds its time to the nodes of a coarse raster under the frame; what is left of
the fluorescence there is (1 - rate) to the power of the dose in seconds. Every stain bleaches by its own
light alone.
"""

from collections import defaultdict
from typing import Any

import numpy as np
from scipy.ndimage import map_coordinates

__all__ = ["Bleaching"]

FloatArray = np.ndarray[Any, np.dtype[np.floating[Any]]]
FloatImage = np.ndarray[Any, np.dtype[np.float32]]

_NODES_ACROSS = 64
"""Of the raster, over one frame."""


class Bleaching:
    """The doses of one specimen.

    Parameters
    ----------
    per_s
        Fraction of the fluorescence that one second of exposure takes, below 1.
    frame_um
        Width of the stand's smallest frame: the raster is fine against it.
    """

    def __init__(self, per_s: float, frame_um: float) -> None:
        self._per_s = per_s
        self._node_um = frame_um / _NODES_ACROSS
        self._dose_s: defaultdict[tuple[str, int, int], float] = defaultdict(float)

    def expose(self, stain: str, y_um: FloatArray, x_um: FloatArray, exposure_s: float) -> None:
        """Add the dose of one exposure.

        Parameters
        ----------
        y_um, x_um
            Where the frame's pixels look; its bounding rectangle is lit.
        """
        if not self._per_s:
            return
        rows, columns = (
            range(round(float(place.min()) / self._node_um), round(float(place.max()) / self._node_um) + 1)
            for place in (y_um, x_um)
        )
        for row in rows:
            for column in columns:
                self._dose_s[stain, row, column] += exposure_s

    def remaining(self, stain: str, y_um: FloatArray, x_um: FloatArray) -> FloatImage | None:
        """Return which fraction of the fluorescence is left at pixels, (Y, X); None where all of it is."""
        if not self._per_s or not self._dose_s:
            return None
        first, nodes = [], []
        for place in (y_um, x_um):
            first.append(int(place.min() // self._node_um))
            nodes.append(int(place.max() // self._node_um) + 2 - first[-1])
        dose_s = np.array(
            [
                [self._dose_s.get((stain, first[0] + i, first[1] + j), 0.0) for j in range(nodes[1])]
                for i in range(nodes[0])
            ]
        )  # (rows, columns) of nodes
        places = np.broadcast_arrays(y_um / self._node_um - first[0], x_um / self._node_um - first[1])
        left = (1 - self._per_s) ** dose_s
        return np.asarray(map_coordinates(left, places, order=1, output=np.float32))
