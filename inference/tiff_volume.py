"""A TIFF that is read window by window: only the strips or tiles under a window are decoded.

Owns the way from a window to a file's segments. What a TIFF says of itself is `inference.image_file`'s.
"""

from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import tifffile

from configs.document import WrongInputError
from inference.content_hash import file_sha256
from inference.image_file import tiff_facts
from inference.volume import VolumeFacts

__all__ = ["TiffVolume"]

Image = np.ndarray[Any, np.dtype[Any]]

CACHE_BYTES = 256 * 1024**2
"""Of decoded strips and tiles; the strips of a wide plane lie under many windows."""


class TiffVolume:
    """The first series of a TIFF, open as long as this lives.

    Raises
    ------
    WrongInputError
        It is not an image, or not a stack of 2D images.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            self._tiff = tifffile.TiffFile(path)
            facts = tiff_facts(path, self._tiff)
            self._series = self._tiff.series[0]
            self._offset = self._series.dataoffset
        except WrongInputError:
            raise
        except Exception as error:  # readers raise whatever their format makes them raise
            msg = f"{path} cannot be read as an image ({' '.join(str(error).split())}); convert it to TIFF"
            raise WrongInputError(msg) from error
        dtype = np.dtype(self._series.dtype).newbyteorder("=")
        self._facts = VolumeFacts(facts.axes, facts.shape, dtype, facts.pixel_size_um, facts.channels, {})
        self._cache: OrderedDict[tuple[int, int], Image] = OrderedDict()
        self._cached_bytes = 0

    @property
    def facts(self) -> VolumeFacts:
        """What it says of itself."""
        return self._facts

    def sha256(self) -> str:
        """Return the hash of the file."""
        return file_sha256(self._path)

    def read(self, index: tuple[int, ...], rows: slice, columns: slice) -> Image:
        """Return a window of a plane, (Y, X)."""
        if self._offset is not None:
            return self._read_contiguous(index, rows, columns)
        plane = int(np.ravel_multi_index(index, self._facts.shape[:-2])) if index else 0
        window = np.zeros((rows.stop - rows.start, columns.stop - columns.start), self._facts.dtype)
        page = self._series.pages[plane]
        if page is None:  # OME-TIFF may leave planes out
            return window
        try:
            self._fill(window, plane, page, rows, columns)
        except Exception as error:  # decoders raise whatever their format makes them raise
            msg = f"plane {index} of {self._path} cannot be read ({' '.join(str(error).split())[:300]})"
            raise WrongInputError(msg) from error
        return window

    def _read_contiguous(self, index: tuple[int, ...], rows: slice, columns: slice) -> Image:
        dtype = self._facts.dtype.newbyteorder(self._tiff.byteorder)
        # Mapped anew for each window: the pages that were touched stop counting as ours.
        whole: Image = np.memmap(self._path, dtype, "r", self._offset, self._facts.shape)
        plane = whole[index] if index else whole
        return np.array(plane[rows, columns], dtype=self._facts.dtype)

    def _fill(self, window: Image, plane: int, page: Any, rows: slice, columns: slice) -> None:  # noqa: ANN401  tifffile has no types
        height, width = page.chunks[-2:]
        across = -(-self._facts.shape[-1] // width)
        for down in range(rows.start // height, -(-rows.stop // height)):
            for right in range(columns.start // width, -(-columns.stop // width)):
                segment = self._segment(plane, page, down * across + right)
                top, left = down * height, right * width
                y0, y1 = max(rows.start, top), min(rows.stop, top + segment.shape[0])
                x0, x1 = max(columns.start, left), min(columns.stop, left + segment.shape[1])
                target = window[y0 - rows.start : y1 - rows.start, x0 - columns.start : x1 - columns.start]
                target[...] = segment[y0 - top : y1 - top, x0 - left : x1 - left]

    def _segment(self, plane: int, page: Any, number: int) -> Image:  # noqa: ANN401  tifffile has no types
        """Return a decoded strip or tile, (Y, X), from the cache where it is there."""
        key = plane, number
        if key in self._cache:
            self._cache.move_to_end(key)
            return self._cache[key]
        segment = self._decoded(page, number)
        self._cache[key] = segment
        self._cached_bytes += segment.nbytes
        while self._cached_bytes > CACHE_BYTES and len(self._cache) > 1:
            self._cached_bytes -= self._cache.popitem(last=False)[1].nbytes
        return segment

    def _decoded(self, page: Any, number: int) -> Image:  # noqa: ANN401  tifffile has no types
        file = page.parent.filehandle
        place = [page.dataoffsets[number]], [page.databytecounts[number]]
        ((raw, _),) = file.read_segments(*place, indices=[number])
        tables = {} if page.jpegtables is None else {"jpegtables": page.jpegtables}
        decoded, _, shape = page.keyframe.decode(raw, number, **tables)
        if decoded is None:  # an empty tile
            return np.zeros(shape[1:3], self._facts.dtype)
        return np.asarray(decoded)[0, :, :, 0]  # (depth, Y, X, samples)
