"""A model on what it was not made for: another channel, specimen, objective, noise or focus.

Owns how such a use is named and scored. A model is applied with the other set's own normalisation, which is
more than serving would grant it: the guards would refuse most of these images.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from configs.document import WrongInputError
from inference.engine import Engine
from training.evaluation.evaluate import Evaluation, evaluate_network, refuse_known, test_records
from training.evaluation.restorations import Restorations
from training.pairing.pairs import PairRecord, PairSet

__all__ = ["OtherUse", "cross_use", "opened"]


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
        A set is missing, has no test field of the channel, has another factor, holds a field that the model
        was trained on, or two uses have one label.
    """
    return {
        label: evaluate_network(engine, pairs, records, Restorations.of(pairs.index, records[0].channel))
        for label, (pairs, records) in opened(engine, uses).items()
    }


def opened(engine: Engine, uses: Sequence[OtherUse]) -> dict[str, tuple[PairSet, list[PairRecord]]]:
    """Return the test fields of every use by label; raises as `cross_use`, before anything is computed."""
    found: dict[str, tuple[PairSet, list[PairRecord]]] = {}
    for use in uses:
        if use.label in found:
            msg = f"--also names '{use.label}' twice; give every use a label of its own"
            raise WrongInputError(msg)
        pairs = PairSet.open(use.pairs)
        records = test_records(pairs, use.channel or _channel(engine, pairs), engine.factor)
        refuse_known(engine, pairs, records)
        found[use.label] = (pairs, records)
    return found


def _channel(engine: Engine, pairs: PairSet) -> str:
    known = list(pairs.index.normalisation)
    return known[0] if len(known) == 1 else engine.channel
