"""Generator and discriminator with their optimisers: one update of each at a time.

Owns the arithmetic of an iteration (precision, memory layout, accumulation, gradients shared with the peers,
the moving average of the generator) and the state that a checkpoint holds of it. Knows no files, no clock and
no validation.
"""

import copy
from contextlib import AbstractContextManager, nullcontext
from typing import TypeVar

import torch
from torch import Tensor, nn

from inference.generator import build_generator, image_of
from training.checkpoint import optimizer_tensors, restore_optimizer
from training.discriminator import Discriminator
from training.losses import Weights, discriminator_loss, generator_terms, r1_penalty
from training.peers import ALONE, Peers
from training.settings import TrainingPlan

__all__ = ["Networks", "precision_of"]

Network = TypeVar("Network", bound=nn.Module)


class Networks:
    """The two networks of a run on one device.

    Parameters
    ----------
    plan
        The settings; its seed fixes the first weights.
    device
        Of this process.
    peers
        With whom gradients are averaged.
    """

    def __init__(self, plan: TrainingPlan, device: torch.device, peers: Peers = ALONE) -> None:
        self._plan, self._device, self._peers = plan, device, peers
        torch.manual_seed(plan.seed)
        self.generator = _channels_last(build_generator(plan.generator).to(device))
        self.discriminator = _channels_last(Discriminator(plan.discriminator).to(device))
        self._average = copy.deepcopy(self.generator).requires_grad_(False) if plan.average else None
        self._adam_g = torch.optim.Adam(self.generator.parameters(), plan.learning_rate, fused=True)
        self._adam_d = torch.optim.Adam(
            self.discriminator.parameters(), plan.discriminator.learning_rate, fused=True
        )
        self.precision = precision_of(plan, device)
        self._generate = torch.compile(self.generator) if plan.compile else self.generator
        self._judge = torch.compile(self.discriminator) if plan.compile else self.discriminator

    @property
    def kept(self) -> nn.Module:
        """The generator that is validated and exported: the moving average, where there is one."""
        return self.generator if self._average is None else self._average

    @property
    def parameters(self) -> int:
        """Numbers in the generator."""
        return sum(parameter.numel() for parameter in self.generator.parameters())

    def set_rates(self, decay: float) -> None:
        """Set both learning rates to this part of the plan's."""
        self._adam_g.param_groups[0]["lr"] = self._plan.learning_rate * decay
        self._adam_d.param_groups[0]["lr"] = self._plan.discriminator.learning_rate * decay

    def narrow(self) -> AbstractContextManager[None]:
        """Compute in the run's precision."""
        if self.precision == "bfloat16":
            return torch.autocast(self._device.type, torch.bfloat16)
        return nullcontext()

    def update(self, low: Tensor, high: Tensor, weights: Weights, iteration: int) -> dict[str, Tensor]:
        """Update generator and discriminator once; return the unweighted terms, each a scalar.

        Parameters
        ----------
        low, high
            (B, 1, P, P) on the 0 to 255 scale.
        """
        lows, highs = low.chunk(self._plan.accumulate), high.chunk(self._plan.accumulate)
        terms, generated = self._update_generator(lows, highs, weights)
        if self._plan.loss.adversarial:
            terms |= self._update_discriminator(generated, highs, iteration)
        return terms

    def _update_generator(
        self, lows: tuple[Tensor, ...], highs: tuple[Tensor, ...], weights: Weights
    ) -> tuple[dict[str, Tensor], list[Tensor]]:
        self.discriminator.requires_grad_(False)
        self._adam_g.zero_grad(set_to_none=True)
        sums: dict[str, Tensor] = {}
        outputs: list[Tensor] = []
        for low, high in zip(lows, highs, strict=True):
            with self.narrow():
                generated = self._generate(low)
                logits, logits_true = self._logits(image_of(generated), high)
            terms = generator_terms(generated.float(), high, logits, self._plan.loss, logits_true)
            (terms.total(weights) / len(lows)).backward()  # type: ignore[no-untyped-call] # torch's stub
            outputs.append(image_of(generated).detach())
            for name, value in terms.raw().items():
                sums[name] = sums.get(name, 0) + value.detach() / len(lows)
        self._peers.average_gradients(self.generator.parameters())
        if self._plan.gradient_limit:
            nn.utils.clip_grad_norm_(self.generator.parameters(), self._plan.gradient_limit)
        self._adam_g.step()
        self._follow()
        self.discriminator.requires_grad_(True)
        return sums, outputs

    def _logits(self, generated: Tensor, high: Tensor) -> tuple[Tensor | None, Tensor | None]:
        """Return the discriminator's word on generated and, where the loss asks for it, on true patches."""
        loss = self._plan.loss
        if not loss.adversarial:
            return None, None
        logits = self._judge(generated).float()
        if loss.gan != "relativistic":
            return logits, None
        with torch.no_grad():
            return logits, self._judge(high).float()

    @torch.no_grad()
    def _follow(self) -> None:
        """Move the average a little towards the generator."""
        if self._average is None or self._plan.average is None:
            return
        averages, current = list(self._average.parameters()), list(self.generator.parameters())
        torch._foreach_lerp_(averages, current, 1 - self._plan.average)  # type: ignore[arg-type] # torch's stub

    def _update_discriminator(
        self, generated: list[Tensor], highs: tuple[Tensor, ...], iteration: int
    ) -> dict[str, Tensor]:
        plan = self._plan.discriminator
        self._adam_d.zero_grad(set_to_none=True)
        total = torch.zeros((), device=self._device)
        for fake, high in zip(generated, highs, strict=True):
            with self.narrow():
                both = self._judge(torch.cat([high, fake.to(high.dtype)])).float()
            says_true, says_fake = both.chunk(2)
            loss = discriminator_loss(says_true, says_fake, self._plan.loss.gan)
            (loss / len(highs)).backward()  # type: ignore[no-untyped-call] # torch's stub
            total += loss.detach() / len(highs)
        if plan.r1_weight and iteration % plan.r1_every == 0:
            for high in highs:
                penalty = plan.r1_weight * plan.r1_every * r1_penalty(self.discriminator, high)
                (penalty / len(highs)).backward()  # type: ignore[no-untyped-call] # torch's stub
        self._peers.average_gradients(self.discriminator.parameters())
        self._adam_d.step()
        return {"discriminator": total}

    def tensors(self) -> dict[str, Tensor]:
        """Return everything that a checkpoint must hold."""
        found = {f"generator/{name}": value for name, value in self.generator.state_dict().items()}
        found |= {f"discriminator/{name}": v for name, v in self.discriminator.state_dict().items()}
        if self._average is not None:
            found |= {f"average/{name}": value for name, value in self._average.state_dict().items()}
        return found | optimizer_tensors("adam_g", self._adam_g) | optimizer_tensors("adam_d", self._adam_d)

    def restore(self, parts: dict[str, dict[str, Tensor]]) -> None:
        """Put back what `tensors` gave, by part."""
        self.generator.load_state_dict(parts["generator"])
        self.discriminator.load_state_dict(parts["discriminator"])
        if self._average is not None:
            self._average.load_state_dict(parts.get("average") or parts["generator"])
        restore_optimizer(self._adam_g, parts.get("adam_g", {}))
        restore_optimizer(self._adam_d, parts.get("adam_d", {}))

    def start_from(self, weights: dict[str, Tensor]) -> None:
        """Begin with another generator's weights; raises RuntimeError where the architectures differ."""
        self.generator.load_state_dict(weights)
        if self._average is not None:
            self._average.load_state_dict(weights)


def precision_of(plan: TrainingPlan, device: torch.device) -> str:
    """Return bfloat16 where it is faster: on a CPU that has arithmetic for it.

    A GPU multiplies float32 in its matrix units, too, and at the presets' sizes waits for the host: bfloat16
    brings more kernels to launch, and a quarter fewer iterations a second (`bench/gpu_training.py`).
    """
    if plan.precision != "auto":
        return plan.precision
    supported = device.type == "cpu" and torch.cpu._is_avx512_bf16_supported()  # noqa: SLF001 # no public name
    return "bfloat16" if supported else "float32"


def _channels_last(network: Network) -> Network:
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload] # torch's stub lacks it
    return network
