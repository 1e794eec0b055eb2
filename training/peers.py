"""The processes that train together, one for each GPU or machine, as `torchrun` starts them.

Owns the process group: who is there, the mean of their gradients, and agreement on what only one of them can
know (the clock). Knows no network. Gradients are averaged in one message after the backward pass, not while
it runs as torch's DistributedDataParallel does: that cannot differentiate twice (the gradient penalty), and
15 million parameters are one message of 60 MB.
"""

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor, nn

__all__ = ["ALONE", "Peers", "together"]


@dataclass(frozen=True, slots=True)
class Peers:
    """Where a process stands among those that train together."""

    rank: int = 0
    count: int = 1

    @property
    def leads(self) -> bool:
        """Whether this process validates, writes and speaks."""
        return self.rank == 0

    def average_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Replace every gradient by its mean over the processes."""
        if self.count == 1:
            return
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        flat = torch.cat([gradient.flatten() for gradient in gradients])
        dist.all_reduce(flat)
        flat /= self.count
        means = torch.split(flat, [gradient.numel() for gradient in gradients])
        for gradient, mean in zip(gradients, means, strict=True):
            gradient.copy_(mean.view_as(gradient))

    def mean(self, values: dict[str, float]) -> dict[str, float]:
        """Return the mean of each value over the processes."""
        if self.count == 1:
            return values
        all_values = torch.tensor(list(values.values()), dtype=torch.float64)
        summed = self._on_device(all_values)
        dist.all_reduce(summed)
        return dict(zip(values, (summed.cpu() / self.count).tolist(), strict=True))

    def agreed(self, value: float) -> float:
        """Return the leader's value."""
        if self.count == 1:
            return value
        shared = self._on_device(torch.tensor([value], dtype=torch.float64))
        dist.broadcast(shared, 0)
        return float(shared.cpu())

    @staticmethod
    def _on_device(values: Tensor) -> Tensor:
        return values.cuda() if dist.get_backend() == "nccl" else values


ALONE = Peers()


@contextmanager
def together(device: str) -> Iterator[tuple[Peers, str]]:
    """Join the processes that `torchrun` started; alone where it did not.

    Parameters
    ----------
    device
        A torch device name.

    Yields
    ------
    tuple
        The peers, and the device of this process: of several GPUs, its own.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield ALONE, device
        return
    on_gpu = device.startswith("cuda")
    dist.init_process_group("nccl" if on_gpu else "gloo")
    try:
        own = f"cuda:{os.environ['LOCAL_RANK']}" if on_gpu else device
        if on_gpu:
            torch.cuda.set_device(own)
        yield Peers(dist.get_rank(), dist.get_world_size()), own
    finally:
        dist.destroy_process_group()
