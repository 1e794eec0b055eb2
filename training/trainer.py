"""Trains generator and discriminator on a pair set, and keeps the generator that validates best.

One update of each per iteration, Adam, selection by the validation loss of the fidelity terms alone (the
discriminator moves, so its term cannot be compared between iterations). Knows nothing of packages, reports
or microscopes. Leaves in the run folder: `history.jsonl` (all terms), `best.safetensors` (the generator),
`checkpoint.safetensors` (everything, to resume from) and `training.json` (the plan).
"""

import math
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from configs.document import WrongInputError
from inference.generator import Generator
from inference.journal import Journal, atomic_path, write_atomic
from training.checkpoint import (
    Checkpoint,
    optimizer_tensors,
    read_checkpoint,
    restore_optimizer,
    write_checkpoint,
)
from training.discriminator import Discriminator
from training.losses import GeneratorTerms, discriminator_loss, generator_terms
from training.pairing.pairs import PairSet
from training.patches import Patches, Planes, load_planes
from training.settings import TrainingPlan

__all__ = ["DivergenceError", "Trainer", "TrainingResult"]

Progress = Callable[[int, int], None]
Network = TypeVar("Network", bound=nn.Module)
FINAL_RATE = 0.01
VALIDATION_CROP_PX = 512
LOG_EVERY = 20


class DivergenceError(RuntimeError):
    """The loss became NaN or infinite. The best generator up to then is kept in the run folder."""

    def __init__(self, iteration: int) -> None:
        self.iteration = iteration
        super().__init__(
            f"the loss is not finite at iteration {iteration}; the best generator before it is kept. "
            "Lower the learning rate, or train in float32"
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
        Go on from the folder's checkpoint.
    """

    def __init__(
        self,
        plan: TrainingPlan,
        pair_set: PairSet,
        folder: Path,
        *,
        device: str = "cpu",
        resume: bool = False,
    ) -> None:
        self.plan = plan
        self.folder = folder
        self.device = torch.device(device)
        step = plan.generator.step
        if plan.patch_px % step:
            msg = f"patch_px {plan.patch_px} is not a multiple of the generator's step {step}; use {step} * n"
            raise WrongInputError(msg)
        self._validation = _validation_crops(load_planes(pair_set, "validation", plan.channel), step)
        train = load_planes(pair_set, "train", plan.channel)
        self._patches = Patches(train, plan.patch_px, plan.batch, plan.seed)
        torch.manual_seed(plan.seed)
        self.generator = _channels_last(Generator(plan.generator).to(self.device))
        discriminator = Discriminator(plan.discriminator.base_width, plan.discriminator.shuffle)
        self._discriminator = _channels_last(discriminator.to(self.device))
        self._adam_g = torch.optim.Adam(self.generator.parameters(), plan.learning_rate, fused=True)
        self._adam_d = torch.optim.Adam(self._discriminator.parameters(), plan.discriminator.learning_rate)
        self.precision = _precision(plan, self.device)
        self._iteration = 0
        self._elapsed_s = 0.0
        self._best_loss, self._best_iteration = math.inf, 0
        folder.mkdir(parents=True, exist_ok=True)
        if resume:
            self._restore(read_checkpoint(folder / "checkpoint.safetensors"))
        elif (folder / "training.json").exists():
            msg = f"{folder} already holds a training run; give another folder, or --resume"
            raise WrongInputError(msg)
        write_atomic(folder / "training.json", plan.model_dump_json(indent=2))

    def run(self, progress: Progress | None = None) -> TrainingResult:
        """Train until the budget is spent.

        Parameters
        ----------
        progress
            Called with (thousandths done, 1000).

        Raises
        ------
        DivergenceError
            When the loss is no longer finite.
        """
        started = time.monotonic() - self._elapsed_s
        with Journal(self.folder / "history.jsonl") as history:
            try:
                while self._fraction() < 1:
                    self._set_rates()
                    terms = self._step()
                    self._iteration += 1
                    self._elapsed_s = time.monotonic() - started
                    if self._iteration % LOG_EVERY == 0 and progress:
                        progress(int(1000 * self._fraction()), 1000)
                    if self._iteration % self.plan.validate_every == 0 or self._fraction() >= 1:
                        self._validate(history, terms)
            except KeyboardInterrupt:
                self._save()
                raise
        return TrainingResult(
            iterations=self._iteration,
            seconds=self._elapsed_s,
            best_iteration=self._best_iteration,
            best_validation_loss=self._best_loss,
            parameters=sum(parameter.numel() for parameter in self.generator.parameters()),
            precision=self.precision,
        )

    @staticmethod
    def best_of(folder: Path) -> Generator:
        """Return the best generator of a run folder, in evaluation mode on the CPU."""
        text = (folder / "training.json").read_text(encoding="utf-8")
        generator = Generator(TrainingPlan.model_validate_json(text).generator)
        generator.load_state_dict(load_file(folder / "best.safetensors"))
        return generator.eval()

    def _fraction(self) -> float:
        """Return how much of the budget is spent, by iterations or by time."""
        by_iterations = self._iteration / self.plan.iterations
        by_time = self._elapsed_s / (60 * self.plan.minutes) if self.plan.minutes else 0.0
        return max(by_iterations, by_time)

    def _set_rates(self) -> None:
        decay = 1.0
        if self.plan.decay == "cosine":
            cosine = 0.5 * (1 + math.cos(math.pi * min(1.0, self._fraction())))
            decay = FINAL_RATE + (1 - FINAL_RATE) * cosine
        for optimizer, rate in (
            (self._adam_g, self.plan.learning_rate),
            (self._adam_d, self.plan.discriminator.learning_rate),
        ):
            optimizer.param_groups[0]["lr"] = rate * decay

    def _narrow(self) -> AbstractContextManager[None]:
        if self.precision == "bfloat16":
            return torch.autocast(self.device.type, torch.bfloat16)
        return nullcontext()

    def _step(self) -> dict[str, float]:
        """Update generator and discriminator once; return the terms."""
        low, high = (torch.from_numpy(planes).to(self.device) for planes in self._patches.draw())
        with self._narrow():
            generated = self.generator(low)
            logits = self._discriminator(generated).float() if self.plan.loss.adversarial else None
        terms = generator_terms(generated.float(), high, logits, self.plan.loss)
        self._adam_g.zero_grad(set_to_none=True)
        terms.total.backward()  # type: ignore[no-untyped-call] # torch's stub lacks the annotation
        if self.plan.gradient_limit:
            nn.utils.clip_grad_norm_(self.generator.parameters(), self.plan.gradient_limit)
        self._adam_g.step()
        logged = _floats(terms)
        if self.plan.loss.adversarial:
            logged["discriminator"] = self._step_discriminator(generated.detach(), high)
        if not all(math.isfinite(value) for value in logged.values()):
            raise DivergenceError(self._iteration)
        return logged

    def _step_discriminator(self, generated: Tensor, high: Tensor) -> float:
        with self._narrow():
            both = self._discriminator(torch.cat([high, generated.to(high.dtype)])).float()
        loss = discriminator_loss(*both.chunk(2))
        self._adam_d.zero_grad(set_to_none=True)  # also drops what the generator's step left there
        loss.backward()  # type: ignore[no-untyped-call] # torch's stub lacks the annotation
        self._adam_d.step()
        return float(loss.detach())

    @torch.no_grad()
    def _validate(self, history: Journal, terms: dict[str, float]) -> None:
        losses: list[float] = []
        self.generator.eval()
        for low, high in self._validation:
            with self._narrow():
                generated = self.generator(low.to(self.device))
            losses.append(
                float(generator_terms(generated.float(), high.to(self.device), None, self.plan.loss).fidelity)
            )
        self.generator.train()
        loss = float(np.mean(losses))
        if not math.isfinite(loss):
            raise DivergenceError(self._iteration)
        if loss < self._best_loss:
            self._best_loss, self._best_iteration = loss, self._iteration
            state = {name: value.cpu().contiguous() for name, value in self.generator.state_dict().items()}
            with atomic_path(self.folder / "best.safetensors") as temporary:
                save_file(state, temporary)
        line = {"iteration": self._iteration, "seconds": round(self._elapsed_s, 3), **terms}
        history.append({**line, "validation": loss})
        self._save()

    def _save(self) -> None:
        tensors = {f"generator/{name}": value for name, value in self.generator.state_dict().items()}
        tensors |= {f"discriminator/{n}": v for n, v in self._discriminator.state_dict().items()}
        tensors |= optimizer_tensors("adam_g", self._adam_g) | optimizer_tensors("adam_d", self._adam_d)
        scalars = {
            "iteration": self._iteration,
            "elapsed_s": self._elapsed_s,
            "best_loss": self._best_loss if math.isfinite(self._best_loss) else None,
            "best_iteration": self._best_iteration,
            "patches": self._patches.random.bit_generator.state,
        }
        write_checkpoint(self.folder / "checkpoint.safetensors", Checkpoint(tensors, scalars))

    def _restore(self, checkpoint: Checkpoint) -> None:
        scalars = checkpoint.scalars
        self.generator.load_state_dict(checkpoint.part("generator"))
        self._discriminator.load_state_dict(checkpoint.part("discriminator"))
        restore_optimizer(self._adam_g, checkpoint.part("adam_g"))
        restore_optimizer(self._adam_d, checkpoint.part("adam_d"))
        self._iteration, self._elapsed_s = scalars["iteration"], scalars["elapsed_s"]
        self._best_loss = math.inf if scalars["best_loss"] is None else scalars["best_loss"]
        self._best_iteration = scalars["best_iteration"]
        self._patches.random.bit_generator.state = scalars["patches"]


def _channels_last(network: Network) -> Network:
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload] # torch's stub lacks it
    return network


def _precision(plan: TrainingPlan, device: torch.device) -> str:
    """Return bfloat16 where the device has arithmetic for it; emulated, it would be slower."""
    if plan.precision != "auto":
        return plan.precision
    if device.type == "cuda":
        return "bfloat16"
    supported = device.type == "cpu" and torch.cpu._is_avx512_bf16_supported()  # noqa: SLF001 # no public name
    return "bfloat16" if supported else "float32"


def _floats(terms: GeneratorTerms) -> dict[str, float]:
    return {
        "adversarial": float(terms.adversarial.detach()),
        "mse": float(terms.mse.detach()),
        "ssim": float(terms.ssim.detach()),
    }


def _validation_crops(planes: list[Planes], step: int) -> list[tuple[Tensor, Tensor]]:
    """Cut the middle of each validation pair, (1, 1, H, W), sides multiples of the step."""
    crops: list[tuple[Tensor, Tensor]] = []
    for pair in planes:
        height, width = (min(side, VALIDATION_CROP_PX) // step * step for side in pair.low.shape)
        y, x = (pair.low.shape[0] - height) // 2, (pair.low.shape[1] - width) // 2
        window = (slice(y, y + height), slice(x, x + width))
        low, high = (torch.from_numpy(np.ascontiguousarray(p[window])) for p in (pair.low, pair.high))
        crops.append((low[None, None], high[None, None]))
    return crops
