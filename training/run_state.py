"""Where a training run is: what a checkpoint holds beside the networks.

Plain numbers, written as JSON by `dataclasses.asdict`.
"""

from dataclasses import dataclass, field

__all__ = ["State", "Tally"]


@dataclass(slots=True)
class Tally:
    """Sums of the terms over some iterations."""

    sums: dict[str, float] = field(default_factory=dict)
    count: int = 0

    def add(self, terms: dict[str, float]) -> None:
        """Count one iteration."""
        for name, value in terms.items():
            self.sums[name] = self.sums.get(name, 0.0) + value
        self.count += 1

    def means(self) -> dict[str, float]:
        """Return the mean of every term; of no iteration, none."""
        return {name: value / max(self.count, 1) for name, value in self.sums.items()}


@dataclass(slots=True)
class State:
    """Where a run is: what a checkpoint holds beside the networks."""

    iteration: int = 0
    elapsed_s: float = 0.0
    best_loss: float | None = None
    best_iteration: int = 0
    attempt: int = 0
    """Roll-backs so far; each halves the learning rates and draws other patches."""
    waited_s: float = 0.0
    steering: dict[str, float] = field(default_factory=dict)
    """Running means of the raw terms."""
    since_look: Tally = field(default_factory=Tally)
    since_validation: Tally = field(default_factory=Tally)
