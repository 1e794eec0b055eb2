"""How nearly an image agrees with its truth, pixel by pixel: the figures that other papers quote.

They stand beside PSNR and SSIM of `metrics` and follow the same rule (METHOD, last section): a linear
intensity fit to the truth, and 16 px cropped from every side. Pure functions of arrays.
"""

from typing import Any

import numpy as np

from training.evaluation.metrics import BORDER_PX, fit_to_truth
from training.evaluation.not_measurable import check_image, check_pair, check_side

__all__ = ["check_compared", "nrmse", "pearson"]

Image = np.ndarray[Any, np.dtype[Any]]

LEAST_SIDE_PX = 2 * BORDER_PX + 1


def nrmse(image: Image, truth: Image) -> float:
    """Return the root mean square error after the fit, over the truth's range.

    The range is the highest less the lowest value within the crop: "min-max" of scikit-image, and the usual
    one of super-resolution papers (Qiao et al., Nature Methods 18, 194-202 (2021)).

    Parameters
    ----------
    image, truth
        (Y, X) both, each larger than 32 px.

    Raises
    ------
    NotMeasurableError
        Of images that are too small, constant within the crop, hold NaN or differ in shape.
    """
    fitted, reference = _compared(image, truth)
    return float(np.sqrt(np.mean((fitted - reference) ** 2)) / np.ptp(reference))


def pearson(image: Image, truth: Image) -> float:
    """Return Pearson's correlation of the pixels, -1 to 1.

    No linear fit changes it, so there is none.

    Parameters
    ----------
    image, truth
        (Y, X) both, each larger than 32 px.

    Raises
    ------
    NotMeasurableError
        Of images that are too small, constant within the crop, hold NaN or differ in shape.
    """
    check_compared(image, truth)
    one, two = (_inside(each).astype(np.float64) for each in (image, truth))
    one, two = one - one.mean(), two - two.mean()
    return float(np.vdot(one, two) / np.sqrt(np.vdot(one, one) * np.vdot(two, two)))


def _compared(image: Image, truth: Image) -> tuple[Image, Image]:
    check_compared(image, truth)
    fitted = fit_to_truth(image.astype(np.float64), truth)
    return _inside(fitted), _inside(truth).astype(np.float64)


def check_compared(image: Image, truth: Image) -> None:
    """Raise NotMeasurableError for images of which nothing can be said within the crop."""
    check_pair(image, truth)
    check_side(image, LEAST_SIDE_PX)
    check_image(_inside(image), "the image within its border")
    check_image(_inside(truth), "the truth within its border")


def _inside(image: Image) -> Image:
    return image[BORDER_PX:-BORDER_PX, BORDER_PX:-BORDER_PX]
