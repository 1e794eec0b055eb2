"""The fields that a report shows: best, median and worst, as every method restores them.

Owns which fields and which images are shown, with their labels and error maps, and the composites of fields
that several models enhance. Knows no HTML.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from inference.preprocess import undo_doubling
from training.evaluation.artifacts import artifact_map
from training.evaluation.evaluate import Evaluation, FieldEvaluation, FieldImages
from training.evaluation.figures import NotMeasured
from training.evaluation.metrics import fit_to_truth
from training.evaluation.not_measurable import NotMeasurableError
from training.evaluation.report.composite import composite, windows_of
from training.evaluation.report.intensity_window import Image
from training.evaluation.report.viewer import ShownField
from training.evaluation.restorations import LABELS, Method

__all__ = ["chosen", "composite_field", "detail_panels", "shown_field"]

PANELS: tuple[Method, ...] = (
    "bilinear", "bicubic", "richardson_lucy_best", "nonnegative_least_squares", "enhanced", "acquired",
)  # fmt: skip
COMPOSED: tuple[Method, ...] = ("bilinear", "richardson_lucy_best", "enhanced")
DETAIL_PX = 256


def chosen(evaluation: Evaluation) -> dict[str, FieldEvaluation]:
    """Return the best, the median and the worst field, by the model's SSIM; fewer where there are fewer."""
    ranked = evaluation.ranked()
    names = {0: "best", len(ranked) // 2: "median", len(ranked) - 1: "worst"}
    if len(ranked) == 1:
        names = {0: "the only"}
    return {name: ranked[place] for place, name in names.items()}


def shown_field(evaluation: Evaluation, field: FieldEvaluation, images: FieldImages, name: str) -> ShownField:
    """Return one field with its images and error maps."""
    figure = field.figure("enhanced", "ssim")
    ssim = "SSIM not measurable" if isinstance(figure, NotMeasured) else f"SSIM {figure:.4f}"
    truth = images.view.truth
    labels = {method: panel_label(evaluation, method) for method in PANELS if method in images.images}
    shown: dict[str, Image] = {labels[method]: images.images[method] for method in labels}
    enhanced = images.images["enhanced"]
    maps: dict[str, Image] = {
        "difference, ENHANCED - truth": fit_to_truth(enhanced, truth) - truth,
        "difference, input - truth": fit_to_truth(images.view.low, truth) - truth,
    }
    maps |= _squirrel("SQUIRREL error, ENHANCED", enhanced, images.view.low)
    maps |= _squirrel("SQUIRREL error, truth", truth, images.view.low)
    return ShownField(
        title=f"{evaluation.channel}, region {field.record.region}, {name} field ({ssim})",
        images=shown | {"truth": truth},
        error_maps=maps,
        pixel_size_um=evaluation.pixel_size_um,
    )


def panel_label(evaluation: Evaluation, method: Method) -> str:
    """Return what stands on a panel; the enhanced one carries the model's hash."""
    if method == "enhanced":
        return f"{LABELS[method]}, model {evaluation.model_hash[:8]}"
    return LABELS[method]


def _squirrel(label: str, image: Image, low: Image) -> dict[str, Image]:
    try:
        return {label: artifact_map(image, low).error}
    except NotMeasurableError:
        return {}


def composite_field(
    evaluations: Mapping[str, Evaluation], images: Mapping[str, FieldImages], region: int
) -> ShownField:
    """Return one region with its channels in their colours, windowed by each channel's truth.

    Parameters
    ----------
    evaluations, images
        By channel; the fields of a region are on one grid.
    """
    truths = {channel: found.view.truth for channel, found in images.items()}
    windows = windows_of(truths)
    hashes = " ".join(evaluation.model_hash[:8] for evaluation in evaluations.values())
    shown = {}
    for method in COMPOSED:
        if all(method in found.images for found in images.values()):
            label = f"{LABELS[method]}, models {hashes}" if method == "enhanced" else LABELS[method]
            shown[label] = composite({c: found.images[method] for c, found in images.items()}, windows)
    first = next(iter(evaluations.values()))
    return ShownField(
        title=f"{' + '.join(evaluations)}, region {region}",
        images=shown | {"truth": composite(truths, windows)},
        error_maps={},
        pixel_size_um=first.pixel_size_um,
        composite=True,
    )


def detail_panels(evaluation: Evaluation, images: FieldImages) -> dict[str, Image]:
    """Return the middle of a field for a picture without a page, label to image."""
    truth = images.view.truth
    height, width = truth.shape
    side = min(DETAIL_PX, height, width)
    y, x = ((length - side) // 4 * 2 for length in (height, width))  # even: whole low pixels
    window = (slice(y, y + side), slice(x, x + side))
    low = images.images["bilinear"]
    half = tuple(slice(side.start // 2, side.stop // 2) for side in window)
    raw = undo_doubling(low)[half] if evaluation.restorations.factor == 2 else low[window]
    methods: Sequence[Method] = ("bicubic", "richardson_lucy_best", "enhanced")
    panels = {panel_label(evaluation, m): images.images[m][window] for m in methods if m in images.images}
    acquired = images.images.get("acquired", truth)
    return {"raw, low": raw, **panels, "acquired, high": np.asarray(acquired[window])}
