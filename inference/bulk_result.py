"""What enhancing a file or a volume leaves: the result's figures, and what must stand in it."""

from dataclasses import dataclass
from pathlib import Path

__all__ = ["FORMAT", "BulkResult", "in_short", "provenance"]

FORMAT = "sharpscope-enhanced"
MOST_WARNINGS = 20
"""That are written into a file; of a long time-lapse the rest are counted."""


@dataclass(frozen=True, slots=True)
class BulkResult:
    """What was written."""

    output: Path
    planes: int
    shape: tuple[int, ...]
    pixel_size_um: float | None
    out_of_domain: tuple[str, ...]
    warnings: tuple[str, ...] = ()
    """Of all planes; each names its plane."""


def provenance(
    model_name: str,
    model_sha256: str,
    source: Path,
    source_sha256: str,
    out_of_domain: tuple[str, ...],
    warnings: tuple[str, ...] = (),
) -> dict[str, str]:
    """Return what must go with every enhanced image, whatever its format."""
    return {
        "format": FORMAT,
        "enhanced": "by a neural network; finer structure than the input resolves is its guess",
        "model": model_name,
        "model_sha256": model_sha256,
        "source": source.name,
        "source_sha256": source_sha256,
        "out_of_domain": "; ".join(out_of_domain) if out_of_domain else "no",
        "warnings": in_short(warnings),
        "units": "counts of the input",
    }


def in_short(warnings: tuple[str, ...]) -> str:
    """Return the first warnings and how many more there are, for a file."""
    more = len(warnings) - MOST_WARNINGS
    listed = "; ".join(warnings[:MOST_WARNINGS])
    return f"{listed}; and {more} more" if more > 0 else listed or "none"
