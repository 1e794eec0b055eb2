"""What the lines of a run's `history.jsonl` say, and in plain words how the run ended.

Owns the names of the quantities in a line, the reading of one curve, and the judgement whether validation
was still falling. Pure functions of the lines; the file is `training.monitor`'s.
"""

from collections.abc import Sequence
from enum import Enum
from statistics import median
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from training.trainer import TrainingResult

__all__ = ["GENERATOR_TERMS", "History", "Trend", "duration", "series", "shares", "summary_lines", "trend"]

History = Sequence[dict[str, float]]
"""Lines by iteration; a line holds what was measured then, so that a name may be missing in some."""

GENERATOR_TERMS = {"adversarial": "adversarial", "mse": "MSE", "ssim": "SSIM", "fourier": "Fourier"}
"""The weighted terms of the generator's loss in a line, and what a person calls them."""
LATEST_LINES = 10
"""A term of one batch is noisy: shares are those of the sums over so many lines."""
FEWEST_VALIDATIONS = 6
LEAST_CHANGE = 0.01
"""Of the validation loss from one fifth of the run to the next; less is level."""


class Trend(Enum):
    """Where the validation loss was going when a run ended; the value says what to do."""

    UNKNOWN = "too few validations to say whether more time would help"
    FALLING = "validation was still falling: more time would help"
    LEVEL = "validation was level: more time would help little"
    TURNED = "validation had turned and was rising: more pairs would help, more time would not"


def series(history: History, name: str) -> tuple[list[float], list[float]]:
    """Return the iterations at which a quantity was recorded, and its values."""
    lines = [line for line in history if name in line]
    return [line["iteration"] for line in lines], [line[name] for line in lines]


def shares(history: History) -> dict[str, float]:
    """Return the share of each term in the generator's loss, by size, over the latest lines."""
    latest = [line for line in history if any(name in line for name in GENERATOR_TERMS)][-LATEST_LINES:]
    sums = {name: abs(sum(line.get(name, 0.0) for line in latest)) for name in GENERATOR_TERMS}
    whole = sum(sums.values())
    return {name: value / whole for name, value in sums.items() if value} if whole else {}


def trend(losses: Sequence[float]) -> Trend:
    """Say where a validation loss was going at its end.

    The median of the last fifth is held against that of the fifth before it and against the lowest that any
    stretch of the run had; a change counts where it is larger than a hundredth and than three times the noise
    of such a median.
    """
    if len(losses) < FEWEST_VALIDATIONS:
        return Trend.UNKNOWN
    length = max(3, len(losses) // 5)
    medians = [median(losses[start : start + length]) for start in range(len(losses) - length + 1)]
    latest, before = medians[-1], medians[-1 - length]
    steps = [abs(b - a) for a, b in zip(losses[-length:], losses[1 - length :], strict=False)]
    least = max(LEAST_CHANGE * abs(before), 3 * median(steps) / length**0.5)
    if before - latest > least:
        return Trend.FALLING
    return Trend.TURNED if latest - min(medians) > least else Trend.LEVEL


def duration(seconds: float) -> str:
    """Return a time as a person says it: 42 s, 12 min, 3 h 05 min."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60:02d} min"


def summary_lines(result: "TrainingResult", history: History) -> list[str]:
    """Say in plain words how a run ended, a line for each thing that a person wants to know."""
    lines = [
        f"{result.iterations:,} iterations in {duration(result.seconds)}, computed in {result.precision}",
        f"best validation loss {result.best_validation_loss:.4g} at iteration {result.best_iteration:,}; "
        "the model is the generator of that moment",
    ]
    parts = shares(history)
    if len(parts) > 1:
        told = ", ".join(f"{GENERATOR_TERMS[name]} {100 * part:.1f} %" for name, part in parts.items())
        lines.append(f"the generator's loss at the end: {told}")
    return [*lines, trend(series(history, "validation")[1]).value]
