"""One training from pairs to package: trains, exports the best generator, draws its progress.

Owns the order and the run folder's results (`model.zip`, `progress.png`); the trainer, the export and the
pictures each know their own part.
"""

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from inference.journal import read_journal, write_atomic
from training.evaluation.pictures import curves_png
from training.export import ModelSource, export_package
from training.pairing.pairs import INDEX, PairSet
from training.settings import TrainingPlan
from training.trainer import Trainer, TrainingResult

__all__ = ["FinishedRun", "loss_curves_png", "train_and_export"]


@dataclass(frozen=True, slots=True)
class FinishedRun:
    """A run and the package that it left."""

    result: TrainingResult
    model: Path


def train_and_export(
    plan: TrainingPlan,
    pairs: Path,
    folder: Path,
    *,
    device: str = "cpu",
    resume: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> FinishedRun:
    """Train on a pair set and leave `folder/model.zip`.

    Raises
    ------
    WrongInputError
        The pairs do not fit the plan, or the folder is taken.
    DivergenceError
        The loss became NaN; the best generator before it is kept.
    """
    pair_set = PairSet.open(pairs)
    result = Trainer(plan, pair_set, folder, device=device, resume=resume).run(progress)
    write_atomic(folder / "progress.png", loss_curves_png(folder))
    source = ModelSource(
        generator=Trainer.best_of(folder),
        plan=plan,
        pair_set=pair_set,
        figures={"validation_loss": result.best_validation_loss, "best_iteration": result.best_iteration},
        lineage={
            "pairs_sha256": hashlib.sha256((pairs / INDEX).read_bytes()).hexdigest(),
            "plan_sha256": hashlib.sha256(json.dumps(plan.model_dump()).encode()).hexdigest(),
            "run_id": pair_set.index.run_id or "",
        },
    )
    return FinishedRun(result, export_package(source, folder / "model.zip"))


def loss_curves_png(folder: Path) -> bytes:
    """Draw every logged term of a run against the iteration."""
    lines = read_journal(folder / "history.jsonl")
    names = [name for name in lines[0] if name not in ("iteration", "seconds")]
    curves = {name: [line[name] for line in lines] for name in names}
    return curves_png([line["iteration"] for line in lines], curves, "iteration", "loss term (weighted)")
