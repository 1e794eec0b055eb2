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

_NODE_UM = 5.0


class Bleaching:
    """The doses of one specimen.

    Parameters
    ----------
    per_s
        Fraction of the fluorescence that one second of exposure takes.
    """

    def __init__(self, per_s: float) -> None:
        self._per_s = min(per_s, 1 - 1e-9)
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
            range(round(float(place.min()) / _NODE_UM), round(float(place.max()) / _NODE_UM) + 1)
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
            first.append(int(place.min() // _NODE_UM))
            nodes.append(int(place.max() // _NODE_UM) + 2 - first[-1])
        dose_s = np.array(
            [
                [self._dose_s.get((stain, first[0] + i, first[1] + j), 0.0) for j in range(nodes[1])]
                for i in range(nodes[0])
            ]
        )  # (rows, columns) of nodes
        places = np.broadcast_arrays(y_um / _NODE_UM - first[0], x_um / _NODE_UM - first[1])
        left = (1 - self._per_s) ** dose_s
        return np.asarray(map_coordinates(left, places, order=1, output=np.float32))
