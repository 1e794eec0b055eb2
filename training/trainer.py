"""Trains generator and discriminator on a pair set, and keeps the generator that validates best.

Owns the loop: whose turn it is, when it is validated, saved, rolled back or ended. The arithmetic of an
iteration is `networks`'s, the patches are `patches`'s. Knows nothing of packages, reports or microscopes.
Leaves in the run folder: `history.jsonl` (all terms), `events.jsonl` (roll-backs), `best.safetensors` (the
generator), two checkpoints to resume from, and `training.json` (the plan).
"""

import logging
import math
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from configs.document import WrongInputError, read_json
from inference.generator import build_generator
from inference.journal import Journal, atomic_path, write_atomic
from training.checkpoint import Checkpoint, newest_checkpoint, write_checkpoint, write_tensors
from training.interruption import Interruption, heard
from training.losses import Weights, weights_for_shares
from training.monitor import Monitor, trim_history
from training.networks import Networks
from training.pairing.pairs import PairSet
from training.patches import Patches, Supply, load_planes, prefetched
from training.peers import ALONE, Peers
from training.run_state import State, Tally
from training.settings import TrainingPlan
from training.validation import Validation

__all__ = ["DivergenceError", "Trainer", "TrainingResult"]

FloatImage = np.ndarray[Any, np.dtype[np.float32]]
Progress = Callable[[int, int], None]
FINAL_RATE = 0.01
LOOK_EVERY = 20
"""Iterations between looks at the terms: whether they are finite, and what weights keep the shares."""
STEERING_MEMORY = 0.5
"""Of the running means by which the shares are kept, from look to look."""
PICTURE_EVERY_S = 30.0
DIVERGED = 10.0
"""Times the best validation loss at which a run is off the rails."""
MOST_ROLL_BACKS = 3
BUDGET = {"minutes", "iterations"}
"""What a run that is resumed may be given more of."""
RESUME_REMEDY = "give the folder of a run to --resume, or leave it out to start one"
INTERRUPTED = 2.0
"""What the leader says instead of the spent budget when somebody wants the run to end."""
log = logging.getLogger(__name__)


class DivergenceError(RuntimeError):
    """The loss became NaN, infinite or hopeless, again and again."""

    def __init__(self, iteration: int) -> None:
        self.iteration = iteration
        super().__init__(
            f"training diverged at iteration {iteration}, after {MOST_ROLL_BACKS} roll-backs with halved "
            "learning rates. Lower the learning rate, give gradient_limit, or train in float32; the best "
            "generator before it is kept, and 'sharpscope export' makes a model of it"
        )


@dataclass(frozen=True, slots=True)
class TrainingResult:
    """How a run ended."""

    iterations: int
    seconds: float
    best_iteration: int
    best_validation_loss: float
    parameters: int
    precision: str
    roll_backs: int
    waited_s: float
    """How long the networks waited for patches."""


class Trainer:
    """One training run in one folder.

    Parameters
    ----------
    plan
        The settings.
    pair_set
        Pairs of the plan's channel in the splits train and validation.
    folder
        The run folder; made when missing.
    device
        A torch device name.
    resume
        Go on from the folder's newest checkpoint that can be read.
    start
        Weights of another generator to begin with (transfer).
    peers
        The processes that train together, one of which writes.
    tensorboard
        Write event files too.
    """

    def __init__(
        self,
        plan: TrainingPlan,
        pair_set: PairSet,
        folder: Path,
        *,
        device: str = "cpu",
        resume: bool = False,
        start: dict[str, Tensor] | None = None,
        peers: Peers = ALONE,
        tensorboard: bool = False,
    ) -> None:
        self.plan, self.folder, self._peers, self._tensorboard = plan, folder, peers, tensorboard
        self.device = torch.device(device)
        step = plan.generator.step
        if plan.patch_px % step:
            msg = f"patch_px {plan.patch_px} is not a multiple of the generator's step {step}; use {step} * n"
            raise WrongInputError(msg)
        if plan.batch % plan.accumulate:
            msg = f"batch {plan.batch} cannot be cut into accumulate {plan.accumulate} equal parts"
            raise WrongInputError(msg)
        self._validation = Validation(load_planes(pair_set, "validation", plan.channel), plan, self.device)
        train = load_planes(pair_set, "train", plan.channel)
        first = peers.rank * plan.batch
        self._patches = Patches(
            train, plan.patch_px, plan.seed, first=first, count=plan.batch,
            noise=plan.input_noise, factor=pair_set.index.factor,
        )  # fmt: skip
        self.networks = Networks(plan, self.device, peers)
        self._state = State()
        self._unsettled: list[dict[str, Tensor]] = []
        self._pictured_s = -math.inf
        taken = bool(peers.agreed((folder / "training.json").exists()))  # before one of them writes it
        if resume:
            _check_same(plan, folder)
            self._restore()
        elif taken:
            msg = f"{folder} already holds a training run; give another folder, or --resume"
            raise WrongInputError(msg)
        if start is not None and not resume:
            self._start_from(start)
        if peers.leads:
            folder.mkdir(parents=True, exist_ok=True)
            write_atomic(folder / "training.json", plan.model_dump_json(indent=2))

    def _start_from(self, weights: dict[str, Tensor]) -> None:
        try:
            self.networks.start_from(weights)
        except RuntimeError as error:
            msg = (
                f"the model to begin with is another network than '{self.plan.name}' describes "
                f"({str(error).splitlines()[-1].strip()}); give the same `generator` in both training files"
            )
            raise WrongInputError(msg) from error

    def run(self, progress: Progress | None = None) -> TrainingResult:
        """Train until the budget is spent.

        Parameters
        ----------
        progress
            Called with (thousandths done, 1000).

        Raises
        ------
        DivergenceError
            When rolling back does not help.
        KeyboardInterrupt
            After SIGINT or SIGTERM, once the state is sealed.
        """
        with heard() as interruption, self._monitor() as monitor:
            if self._state.iteration == 0:
                self._save()  # what a roll-back before the first validation goes back to
            spent = 0.0
            while spent < 1:
                with prefetched(self._patches, self._state.iteration, self._state.attempt) as supply:
                    spent = self._train(supply, monitor, interruption, progress)
                    self._state.waited_s += supply.waited_s
            if spent < INTERRUPTED and self._state.since_validation.count and not self._validate(monitor):
                raise DivergenceError(self._state.iteration)  # a run that was cut in its last stretch
            if spent >= INTERRUPTED:
                self._save()  # before anything that might fail
            elif progress is not None:
                progress(1000, 1000)
            if monitor is not None:
                monitor.picture(self._state.iteration, self._validation.output(self.networks))
            if spent >= INTERRUPTED:
                raise KeyboardInterrupt
        state = self._state
        return TrainingResult(
            iterations=state.iteration,
            seconds=state.elapsed_s,
            best_iteration=state.best_iteration,
            best_validation_loss=math.inf if state.best_loss is None else state.best_loss,
            parameters=self.networks.parameters,
            precision=self.networks.precision,
            roll_backs=state.attempt,
            waited_s=state.waited_s,
        )

    def _monitor(self) -> AbstractContextManager[Monitor | None]:
        if not self._peers.leads:
            return nullcontext()
        return Monitor(self.folder, self._validation.fixed, self._tensorboard)

    @staticmethod
    def best_of(folder: Path) -> nn.Module:
        """Return the best generator of a run folder, in evaluation mode on the CPU."""
        text = (folder / "training.json").read_text(encoding="utf-8")
        generator = build_generator(TrainingPlan.model_validate_json(text).generator)
        generator.load_state_dict(load_file(folder / "best.safetensors"))
        return generator.eval()

    def _train(
        self, supply: Supply, monitor: Monitor | None, interruption: Interruption, progress: Progress | None
    ) -> float:
        """Train until the budget is spent, somebody interrupts, or a roll-back; return the part spent."""
        state, started = self._state, time.monotonic() - self._state.elapsed_s
        spent = self._peers.agreed(INTERRUPTED if interruption else self._fraction())
        while spent < 1:
            self.networks.set_rates(self._decay(spent))
            low, high = (self._on_device(planes) for planes in supply.take())
            self._unsettled.append(self.networks.update(low, high, self._weights(), state.iteration))
            state.iteration += 1
            state.elapsed_s = time.monotonic() - started
            spent = self._peers.agreed(INTERRUPTED if interruption else self._fraction())
            sound = state.iteration % LOOK_EVERY or self._look(progress)
            if sound and (state.iteration % self.plan.validate_every == 0 or 1 <= spent < INTERRUPTED):
                sound = self._validate(monitor)
            if not sound:
                self._roll_back()
                return 0.0
        self._settle()
        return spent

    def _on_device(self, planes: FloatImage) -> Tensor:
        """Send patches (B, 1, P, P); a GPU fetches them while it computes."""
        on_host = torch.from_numpy(planes)
        if self.device.type == "cuda":
            return on_host.pin_memory().to(self.device, non_blocking=True)
        return on_host.to(self.device)

    def _settle(self) -> None:
        """Count the terms of the iterations since the last time; here the host waits for a GPU."""
        for terms in self._unsettled:
            numbers = {name: float(value) for name, value in terms.items()}
            self._state.since_look.add(numbers)
            self._state.since_validation.add(numbers)
        self._unsettled.clear()

    def _fraction(self) -> float:
        """Return how much of the budget is spent, by iterations or by time; 1 at most."""
        by_iterations = self._state.iteration / self.plan.iterations
        by_time = self._state.elapsed_s / (60 * self.plan.minutes) if self.plan.minutes else 0.0
        return min(1.0, max(by_iterations, by_time))

    def _decay(self, spent: float) -> float:
        """Return by what the learning rates are multiplied."""
        halved = float(0.5**self._state.attempt)
        if self.plan.decay == "constant":
            return halved
        cosine = 0.5 * (1 + math.cos(math.pi * min(1.0, spent)))
        return halved * (FINAL_RATE + (1 - FINAL_RATE) * cosine)

    def _weights(self) -> Weights:
        return weights_for_shares(self.plan.loss, self._state.steering)

    def _look(self, progress: Progress | None) -> bool:
        """Take the terms of the last iterations into account; return whether they are finite."""
        self._settle()
        means = self._peers.mean(self._state.since_look.means())
        self._state.since_look = Tally()
        if not all(math.isfinite(value) for value in means.values()):
            return False
        before = self._state.steering or means
        self._state.steering = {
            name: STEERING_MEMORY * before.get(name, value) + (1 - STEERING_MEMORY) * value
            for name, value in means.items()
        }
        if progress is not None:
            progress(int(1000 * self._fraction()), 1000)
        return True

    def _validate(self, monitor: Monitor | None) -> bool:
        """Validate, keep the best, save; return whether the run is still on its rails."""
        self._settle()
        state = self._state
        raw = self._peers.mean(state.since_validation.means())
        loss = self._peers.agreed(self._validation.loss(self.networks) if self._peers.leads else 0.0)
        numbers = [*raw.values(), loss]
        if not all(math.isfinite(number) for number in numbers):
            return False
        if state.best_loss is not None and loss > DIVERGED * state.best_loss:
            return False
        if state.best_loss is None or loss < state.best_loss:
            state.best_loss, state.best_iteration = loss, state.iteration
            self._keep()
        if monitor is not None:
            monitor.record({**self._line(raw), "validation": loss})
            if state.elapsed_s - self._pictured_s > PICTURE_EVERY_S:
                monitor.picture(state.iteration, self._validation.output(self.networks))
                self._pictured_s = state.elapsed_s
        state.since_validation = Tally()
        self._save()
        return True

    def _line(self, raw: dict[str, float]) -> dict[str, float]:
        """Return a line of the history: the weighted terms, and the weights themselves."""
        weights = asdict(self._weights())
        terms = {name: value * weights.get(name, 1.0) for name, value in raw.items()}
        steered = {f"{name}_weight": value for name, value in weights.items() if value}
        return {
            "iteration": self._state.iteration,
            "seconds": round(self._state.elapsed_s, 3),
            **terms,
            **steered,
        }

    def _keep(self) -> None:
        """Write the generator that is best so far."""
        if not self._peers.leads:
            return
        with atomic_path(self.folder / "best.safetensors") as temporary:
            write_tensors(temporary, self.networks.kept.state_dict())

    def _save(self) -> None:
        if self._peers.leads:
            scalars = asdict(self._state)
            write_checkpoint(self.folder, Checkpoint(self.networks.tensors(), scalars))

    def _restore(self) -> None:
        checkpoint, damage = newest_checkpoint(self.folder)
        if damage and self._peers.leads:
            log.warning("%s", damage)
        self.networks.restore(checkpoint.parts())
        scalars = dict(checkpoint.scalars)
        for name in ("since_look", "since_validation"):
            scalars[name] = Tally(**scalars[name])
        self._state = State(**scalars)
        if self._peers.leads:
            trim_history(self.folder, self._state.iteration)

    def _roll_back(self) -> None:
        """Go back to the newest checkpoint, with halved learning rates and other patches."""
        self._unsettled.clear()
        diverged, attempt = self._state.iteration, self._state.attempt + 1
        if attempt > MOST_ROLL_BACKS:
            raise DivergenceError(diverged)
        self._restore()
        self._state.attempt = attempt
        if self._peers.leads:
            log.warning(
                "training diverged at iteration %d; back to %d with learning rates halved (%d of %d)",
                diverged, self._state.iteration, attempt, MOST_ROLL_BACKS,
            )  # fmt: skip
            with Journal(self.folder / "events.jsonl") as events:
                events.append({"diverged": diverged, "back_to": self._state.iteration, "attempt": attempt})
        self._save()


def _check_same(plan: TrainingPlan, folder: Path) -> None:
    """Raise WrongInputError where a run would go on as another than it began."""
    began = read_json(folder / "training.json", TrainingPlan, what="a training run", remedy=RESUME_REMEDY)
    now, before = plan.model_dump(exclude=BUDGET), began.model_dump(exclude=BUDGET)
    other = [name for name in now if now[name] != before[name]]
    if other:
        msg = (
            f"{folder} was begun with another {' and '.join(other)}; resume it with the training file "
            "that it was begun with, or start a new run"
        )
        raise WrongInputError(msg)
