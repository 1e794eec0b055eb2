"""A model on what it was not made for: another channel, specimen, objective, noise or focus.

Owns how such a use is named and scored. A model is applied with the other set's own normalisation, which is
more than serving would grant it: the guards would refuse most of these images.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from configs.document import WrongInputError
from inference.engine import Engine
from training.evaluation.evaluate import Evaluation, evaluate_network, test_records
from training.evaluation.restorations import Restorations
from training.pairing.pairs import PairSet

__all__ = ["OtherUse", "cross_use"]


@dataclass(frozen=True, slots=True)
class OtherUse:
    """One pair set of another kind."""

    label: str
    """For the table, such as "DAPI" or "a quarter of the light"."""
    pairs: Path
    channel: str | None = None
    """Of the set; None takes the model's, or the only one."""

    @classmethod
    def parsed(cls, text: str) -> "OtherUse":
        """Read `LABEL=PAIRS` or `LABEL=PAIRS:CHANNEL`; raises WrongInputError."""
        label, _, rest = text.partition("=")
        if not label or not rest:
            msg = f"--also {text}: give LABEL=PAIRS or LABEL=PAIRS:CHANNEL, for example DAPI=my-pairs:DAPI"
            raise WrongInputError(msg)
        if not Path(rest).exists() and ":" in rest:
            folder, _, channel = rest.rpartition(":")
            return cls(label, Path(folder), channel)
        return cls(label, Path(rest))


def cross_use(engine: Engine, uses: Sequence[OtherUse]) -> dict[str, Evaluation]:
    """Score a model on the test fields of other pair sets, by label.

    Raises
    ------
    WrongInputError
        A set is missing, has no test field of the channel, or has another factor.
    """
    found = {}
    for use in uses:
        pairs = PairSet.open(use.pairs)
        channel = use.channel or _channel(engine, pairs)
        records = test_records(pairs, channel, engine.factor)
        found[use.label] = evaluate_network(engine, pairs, records, Restorations.of(pairs.index, channel))
    return found


def _channel(engine: Engine, pairs: PairSet) -> str:
    known = list(pairs.index.normalisation)
    return known[0] if len(known) == 1 else engine.channel
