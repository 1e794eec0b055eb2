"""One training from pairs to package, and packages of a run's generators at any later time.

Owns the order, and what a run folder knows of its pair set (`lineage.json`). The trainer, the export and the
pictures each know their own part.
"""

import hashlib
import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from pydantic import BaseModel
from safetensors.torch import load
from torch import Tensor, nn

from configs.document import WrongInputError, read_json
from inference.generator import build_generator
from inference.journal import write_atomic
from inference.model_package import read_package
from training.card_figures import card_figures
from training.checkpoint import Checkpoint, DamagedCheckpointError, read_checkpoint
from training.export import ModelSource, export_package
from training.monitor import read_history
from training.pairing.pairs import INDEX, PairSet
from training.peers import together
from training.progress_picture import curves_png
from training.run_history import History
from training.settings import TrainingPlan
from training.trainer import Trainer, TrainingResult

__all__ = ["FinishedRun", "Lineage", "export_run", "loss_curves_png", "train_and_export", "write_lineage"]

LINEAGE = "lineage.json"
RUN_REMEDY = "give the folder that 'sharpscope train -o' wrote"


@dataclass(frozen=True, slots=True)
class FinishedRun:
    """A run and the package that it left."""

    result: TrainingResult
    model: Path
    leads: bool = True
    """Whether this process wrote it; of several that train together one does."""


class Lineage(BaseModel, frozen=True, extra="forbid"):
    """The content of lineage.json: what a run was trained on."""

    pairs: Path
    """Absolute."""
    pairs_sha256: str
    """Of its pairs.json."""
    run_id: str = ""
    """Of the scan."""
    begun_with: str | None = None
    """Hash of the model whose generator the training began with."""
    inherited: list[str] = []
    """SHA-256 of every file that that model was trained on."""

    @classmethod
    def of(cls, pair_set: PairSet, init: Path | None = None) -> Self:
        """Describe a run that begins now, with the generator of a package where one is given."""
        start = None if init is None else read_package(init)
        return cls(
            pairs=pair_set.path.resolve(),
            pairs_sha256=_hash(pair_set),
            run_id=pair_set.index.run_id or "",
            begun_with=None if start is None else start.model_hash,
            inherited=[] if start is None else sorted(start.trained_on),
        )


@dataclass(frozen=True, slots=True)
class _Chosen:
    """One generator of a run, and what is known of it."""

    generator: nn.Module
    figures: dict[str, float]


def train_and_export(
    plan: TrainingPlan,
    pairs: Path,
    folder: Path,
    *,
    device: str = "cpu",
    resume: bool = False,
    init: Path | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> FinishedRun:
    """Train on a pair set and leave `folder/model.zip`.

    Under `torchrun` every process calls this, and the leading one writes.

    Parameters
    ----------
    init
        A model package whose generator the training begins with (transfer).

    Raises
    ------
    WrongInputError
        The pairs do not fit the plan, or the folder is taken.
    DivergenceError
        Training diverged; the best generator before it is kept.
    """
    pair_set = PairSet.open(pairs)
    if resume:
        if init is not None:
            msg = "--init is for the beginning of a run; leave it out to go on with one"
            raise WrongInputError(msg)
        lineage = _same_pairs(pair_set, folder)
    else:
        lineage = Lineage.of(pair_set, init)
    start = None if init is None else load(read_package(init).safetensors)
    with together(device) as (peers, own_device):
        trainer = Trainer(
            plan, pair_set, folder,
            device=own_device, resume=resume, start=start, peers=peers, tensorboard=True,
        )  # fmt: skip
        if peers.leads:
            write_lineage(lineage, folder)
        result = trainer.run(progress if peers.leads else None)
        leads = peers.leads
    model = folder / "model.zip"
    return FinishedRun(result, export_run(folder, model) if leads else model, leads)


def _same_pairs(pair_set: PairSet, folder: Path) -> Lineage:
    """Return the lineage of a run that goes on; raises WrongInputError where its pairs are others now."""
    if not (folder / LINEAGE).exists():
        return Lineage.of(pair_set)
    known = read_json(folder / LINEAGE, Lineage, what="a training run", remedy=RUN_REMEDY)
    if known.pairs_sha256 != _hash(pair_set):
        msg = (
            f"{folder} was begun with other pairs than {pair_set.path} holds now (another pairs.json); "
            "resume it with the pairs that it was begun with, or start a new run"
        )
        raise WrongInputError(msg)
    return known


def write_lineage(lineage: Lineage, folder: Path) -> None:
    """Note in a run folder what it is trained on."""
    write_atomic(folder / LINEAGE, lineage.model_dump_json(indent=2))


def export_run(folder: Path, out: Path, pairs: Path | None = None, checkpoint: Path | None = None) -> Path:
    """Make a package of a run's best generator, or of the one in a checkpoint, without training.

    Parameters
    ----------
    folder
        The run folder; the run may be going on.
    out
        The zip to write; an existing one is replaced.
    pairs
        The pair set, where it is no longer where the run found it, or the run does not say.
    checkpoint
        A checkpoint of this run.

    Raises
    ------
    WrongInputError
        The folder, the checkpoint or the pair set is missing, or is not what the run was trained on.
    """
    plan = read_json(folder / "training.json", TrainingPlan, what="a training run", remedy=RUN_REMEDY)
    pair_set, lineage = _pair_set_of(folder, pairs)
    if plan.channel not in pair_set.index.normalisation:
        msg = f"{pair_set.path} has no channel '{plan.channel}', but the run has; name its set with --pairs"
        raise WrongInputError(msg)
    history = read_history(folder)
    chosen = _best(folder, history) if checkpoint is None else _of_checkpoint(plan, checkpoint, history)
    lineage["plan_sha256"] = hashlib.sha256(json.dumps(plan.model_dump()).encode()).hexdigest()
    known = _lineage_of(folder, needed=False)
    inherited = frozenset(known.inherited if known else ())
    evaluation = (
        "it was trained on other pairs than those of its package"
        if "trained_on_pairs_sha256" in lineage
        else card_figures(chosen.generator, plan, pair_set, inherited)
    )
    return export_package(
        ModelSource(chosen.generator, plan, pair_set, chosen.figures, lineage, inherited, evaluation), out
    )


def _pair_set_of(folder: Path, pairs: Path | None) -> tuple[PairSet, dict[str, str]]:
    """Return the pair set of a run and the hashes that its packages carry.

    A set that a person names is taken even where it is not the one of the training: then both hashes stand
    in the package.
    """
    known = _lineage_of(folder, needed=pairs is None)
    place = pairs or (known.pairs if known else folder)
    if not pairs and not (place / INDEX).exists():
        msg = f"{place}, which {folder} was trained on, is no longer there; give its new place as --pairs"
        raise WrongInputError(msg)
    pair_set = PairSet.open(place)
    found = _hash(pair_set)
    lineage = {"pairs_sha256": found, "run_id": pair_set.index.run_id or ""}
    if known is not None and known.begun_with is not None:
        lineage["begun_with"] = known.begun_with
    if known is None or known.pairs_sha256 == found:
        return pair_set, lineage
    if pairs is None:
        msg = (
            f"{pair_set.path} was changed since {folder} was trained on it (another pairs.json); "
            "name it with --pairs to take it all the same"
        )
        raise WrongInputError(msg)
    return pair_set, lineage | {"trained_on_pairs_sha256": known.pairs_sha256}


def _lineage_of(folder: Path, *, needed: bool) -> Lineage | None:
    if not needed and not (folder / LINEAGE).exists():
        return None
    remedy = "name the pair set that it was trained on with --pairs"
    return read_json(folder / LINEAGE, Lineage, what="a run that knows its pair set", remedy=remedy)


def _best(folder: Path, history: History) -> _Chosen:
    if not (folder / "best.safetensors").exists():
        msg = f"{folder} has kept no generator yet; wait for its first validation, or name a --checkpoint"
        raise WrongInputError(msg)
    validated = [line for line in history if "validation" in line]
    best = min(validated, key=lambda line: line["validation"], default=None)
    figures = {"validation_loss": best["validation"], "best_iteration": best["iteration"]} if best else {}
    return _Chosen(Trainer.best_of(folder), figures)


def _of_checkpoint(plan: TrainingPlan, path: Path, history: History) -> _Chosen:
    try:
        checkpoint = read_checkpoint(path)
        generator = build_generator(plan.generator)
        generator.load_state_dict(_kept(checkpoint))
    except DamagedCheckpointError as error:
        raise WrongInputError(f"{path}: {error}; give a checkpoint.safetensors of a run") from error
    except (KeyError, RuntimeError) as error:  # another architecture
        msg = f"{path} does not hold the generator of this run's training.json; give one of the same run"
        raise WrongInputError(msg) from error
    iteration = float(checkpoint.scalars.get("iteration", math.nan))
    measured = [
        line["validation"] for line in history if line["iteration"] == iteration and "validation" in line
    ]
    figures = {"validation_loss": measured[-1]} if measured else {}
    return _Chosen(generator.eval(), figures | {"iteration": iteration})


def _kept(checkpoint: Checkpoint) -> dict[str, Tensor]:
    """Return the weights that are exported: the moving average, where the run had one."""
    parts = checkpoint.parts()
    return parts.get("average") or parts["generator"]


def _hash(pair_set: PairSet) -> str:
    return hashlib.sha256((pair_set.path / INDEX).read_bytes()).hexdigest()


def loss_curves_png(folder: Path) -> bytes:
    """Draw every curve of a run."""
    return curves_png(read_history(folder))
