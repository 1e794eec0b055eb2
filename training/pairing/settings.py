"""What a person may choose about pairing. Knows no images."""

from dataclasses import dataclass, field
from typing import Literal

from training.pairing.elastic import ElasticSettings
from training.pairing.gate import GateLimits
from training.pairing.split import SplitRule

__all__ = ["Alignment", "PairingSettings"]

Alignment = Literal["elastic", "drift"]
"""Elastic: a smooth field by block-wise shifts (wide-field, METHOD step 5). Drift: one shift for the whole
field, from a Gaussian fit of the correlation peak (confocal to STED, which share scanner and lens)."""


@dataclass(frozen=True, slots=True)
class PairingSettings:
    """How a pair set is made."""

    alignment: Alignment = "elastic"
    split: SplitRule = field(default_factory=SplitRule)
    limits: GateLimits = field(default_factory=GateLimits)
    low_background: float | None = None
    """Counts of a region without objects, for all channels; None has it found."""
    high_background: float | None = None
    flat_field: bool = True
    """Whether uneven light is estimated from the tiles and taken out of the high images."""

    @property
    def elastic(self) -> ElasticSettings:
        """The figures of METHOD, or none of its rounds."""
        return ElasticSettings() if self.alignment == "elastic" else ElasticSettings(iterations=0)
