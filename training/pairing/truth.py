"""Noise-free truth beside a pair, where a simulator knows it.

Owns the crop that brings such an image onto the pair's grid, and its entry in pairs.json. Knows no
simulator: the image comes in on the upsampled low grid.
"""

import numpy as np
import tifffile

from configs.document import WrongInputError
from inference.journal import atomic_path
from training.pairing.pairs import PairRecord, PairSet
from training.pairing.sampling import FloatArray

__all__ = ["attach_truth"]


def attach_truth(
    pair_set: PairSet,
    pair: PairRecord,
    image_on_upsampled_low_grid: FloatArray,
    *,
    background: float = 0.0,
) -> PairRecord:
    """Crop a noise-free high image to a pair, write it beside the pair and enter it in pairs.json.

    Parameters
    ----------
    pair_set
        Its index is replaced by one that names the truth, in memory and on disk.
    image_on_upsampled_low_grid
        (factor * Y, factor * X) counts, for the whole low frame, not deformed.
    background
        What of these counts is background, and is subtracted: for a truth like a raw frame, the pair set's
        own `normalisation[channel].high.background`. Nothing is clipped.

    Returns
    -------
    PairRecord
        The pair's new record.

    Raises
    ------
    WrongInputError
        The pair is not of this set, or the image does not reach over it.
    """
    if pair not in pair_set.index.pairs:
        msg = f"{pair.file} is not in {pair_set.path}; take the record from its pairs.json"
        raise WrongInputError(msg)
    with tifffile.TiffFile(pair_set.path / pair.file) as tiff:
        height, width = tiff.series[0].shape[-2:]
    top, left = pair.origin_yx_px
    cropped = image_on_upsampled_low_grid[top : top + height, left : left + width] - background
    if cropped.shape != (height, width):
        msg = (
            f"the truth of {pair.file} is {image_on_upsampled_low_grid.shape}, too small for "
            f"{height} x {width} px at ({top}, {left}); give it for the whole upsampled low frame"
        )
        raise WrongInputError(msg)
    name = pair.file.removesuffix(".ome.tif") + "_truth.tif"
    with atomic_path(pair_set.path / name) as temporary:
        tifffile.imwrite(temporary, np.ascontiguousarray(cropped, dtype=np.float32))
    record = pair.model_copy(update={"truth": name})
    pairs = [record if other == pair else other for other in pair_set.index.pairs]
    pair_set.index = pair_set.index.model_copy(update={"pairs": pairs})
    pair_set.save_index()
    return record
