"""The model card: the README of a package, in plain words, with the figures that were measured.

Owns its wording. Knows no files: text comes out.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from inference.model_package import ModelPackage
from training.evaluation.evaluate import Evaluation, Row
from training.evaluation.figures import COLUMNS, NotMeasured, text_of
from training.evaluation.restorations import LABELS
from training.pairing.pairs import Optics

__all__ = ["CardFacts", "card_of", "model_card"]

SHOWN = (
    "psnr_db", "ssim", "slope", "rsp", "frc_um", "fwhm_um",
    "spots_invented", "spots_missed", "filaments_invented", "filaments_missed",
)  # fmt: skip
"""Columns of the card: the report has all of them."""
ROWS: tuple[Row, ...] = ("bilinear", "richardson_lucy_best", "enhanced", "acquired", "second")


@dataclass(frozen=True, slots=True)
class CardFacts:
    """What a card says besides figures."""

    name: str
    channel: str
    optics: Optics
    factor: int
    trained_on: int
    """Files."""
    validation: dict[str, float]
    """Figures on the validation split, by name."""


def card_of(package: ModelPackage, evaluation: Evaluation) -> str:
    """Return the card of a package that is there already, with the figures of an evaluation."""
    card = package.card
    optics = Optics(
        low_pixel_size_um=card.low_pixel_size_um,
        high_pixel_size_um=card.high_pixel_size_um,
        low_numerical_aperture=card.low_numerical_aperture,
        high_numerical_aperture=card.high_numerical_aperture,
        modality=card.modality,
    )
    facts = CardFacts(package.name, card.channel, optics, card.factor, len(package.trained_on), card.figures)
    return model_card(facts, evaluation)


def model_card(facts: CardFacts, evaluation: Evaluation | str) -> str:
    """Return the card as Markdown.

    Parameters
    ----------
    evaluation
        On fields that the model was not trained on, or why there is none.
    """
    return (
        "\n\n".join(
            [
                f"# {facts.name}",
                _what(facts),
                "# What it may be used for",
                _use(facts),
                "# How well it does",
                _figures(evaluation),
                "# Validation while it trained",
                "\n".join(f"- {name}: {value:.4g}" for name, value in facts.validation.items())
                + f"\n- files that it was trained and validated on: {facts.trained_on}",
            ]
        )
        + "\n"
    )


def _what(facts: CardFacts) -> str:
    optics = facts.optics
    low = _state(optics.low_numerical_aperture, optics.low_pixel_size_um)
    high = _state(optics.high_numerical_aperture, optics.high_pixel_size_um)
    return (
        "A generator after Wang et al., Nature Methods 16, 103-110 (2019). It turns the low image of channel "
        f"{facts.channel} ({low}) into the high one ({high}).\n\n"
        f"The input is the low image, background subtracted, upsampled {facts.factor} times linearly onto "
        "the high pixel grid and scaled to 0-255 by one factor for the whole set; `config.sharpscope` in "
        "rdf.yaml holds the numbers."
    )


def _state(numerical_aperture: float | None, pixel_size_um: float | None) -> str:
    aperture = "NA not stated" if numerical_aperture is None else f"NA {numerical_aperture:g}"
    pixel = "pixel size not stated" if pixel_size_um is None else f"{pixel_size_um:g} um a pixel"
    return f"{aperture}, {pixel}"


def _use(facts: CardFacts) -> str:
    return (
        f"- For: {facts.channel} images of the same specimen, stain, objective and exposure as its training "
        "pairs, to see more in a quick image, to find what to look at next, and to measure where the figures "
        "below say that it measures right.\n"
        "- Not for: other specimens, stains, objectives or noise without an evaluation of its own on them. "
        "sharpscope refuses what it can tell apart, and flags it where it is told to go on.\n"
        "- Structure finer than the input's resolution is the network's guess from its training pairs. It "
        "is no evidence by itself: what a conclusion rests on is acquired with the better microscope."
    )


def _figures(evaluation: Evaluation | str) -> str:
    if isinstance(evaluation, str):
        return f"Not evaluated: {evaluation}. `sharpscope evaluate` measures it."
    truth = (
        f"On {len(evaluation.fields)} test field(s) that it was not trained on; truth: the "
        f"{evaluation.truth} high image. PSNR and SSIM after a linear fit to the truth, slope without."
    )
    return f"{truth}\n\n{_table(evaluation)}\n\n{_notes(evaluation)}"


def _table(evaluation: Evaluation) -> str:
    columns = [column for column in COLUMNS if column.name in SHOWN]
    lines = ["| | " + " | ".join(c.label for c in columns) + " |", "|---" * (len(columns) + 1) + "|"]
    for row in ROWS:
        if row not in evaluation.methods:
            continue
        cells = [text_of(evaluation.mean(row, column.name), column) for column in columns]
        lines.append(f"| {LABELS[row]} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _notes(evaluation: Evaluation) -> str:
    """Say what is not measured and why, and how much is invented."""
    notes = list(_reasons(evaluation))
    invented = evaluation.mean("enhanced", "spots_invented")
    if not isinstance(invented, NotMeasured):
        notes.append(f"Of the spots that it shows, {100 * invented:.1f} % are not in the truth.")
    return "\n".join(f"- {note}" for note in notes)


def _reasons(evaluation: Evaluation) -> Sequence[str]:
    found: dict[str, list[str]] = {}
    for column in COLUMNS:
        figure = evaluation.mean("enhanced", column.name)
        if column.name in SHOWN and isinstance(figure, NotMeasured):
            found.setdefault(figure.reason, []).append(column.label)
    return [f"{', '.join(labels)}: not measurable, {reason}." for reason, labels in found.items()]
