"""Enhances an image of any size into an OME-Zarr, chunk by chunk, here or on a cluster.

Owns the order of the work: survey, light, chunks, pyramid, seal; what is journalled is not done again. The
result appears when it is whole. Memory holds one chunk with its halo, however large the image is. The same
bytes come out whether the work was interrupted, shared or done in one go.
"""

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from inference.bulk_result import BulkResult, provenance
from inference.chunk_plan import CHUNK_PX, ChunkPlan, Piece
from inference.chunk_work import Executor, Job, Task
from inference.domain import OutOfDomainError
from inference.enhanced_image import EnhancedImage, ImageLabel
from inference.model_package import ModelPackage
from inference.preprocess import Photometry
from inference.survey import survey
from inference.unfinished import ChannelLight, Decision, Ledger, Undertaking, Unfinished
from inference.volume import Volume, VolumeFacts, open_volume, stamp_of

__all__ = ["OUTPUT_SUFFIX", "enhance_volume"]

OUTPUT_SUFFIX = ".ome.zarr"
FLUX_PIECES = 64
"""Chunks of a foreign first plane that tell its flux; of larger planes so many, evenly spread."""
COUNTED: tuple[Task, ...] = ("flux", "enhance")
"""In the progress; averaging a chunk costs next to nothing."""

Progress = Callable[[int, int], None]


def enhance_volume(
    package: ModelPackage,
    source: Path,
    output: Path,
    executor: Executor,
    *,
    pixel_size_um: float | None = None,
    allow_out_of_domain: bool = False,
    overwrite: bool = False,
    progress: Progress | None = None,
    chunk_px: int = CHUNK_PX,
) -> BulkResult:
    """Enhance an OME-Zarr image or a TIFF of any size; the same call again goes on where one was ended.

    Parameters
    ----------
    output
        The OME-Zarr folder; beside it lies ``NAME.unfinished`` until it is whole.
    pixel_size_um
        Of the source; None takes what it says.
    progress
        Called with chunks enhanced and chunks in all; the pyramid follows.

    Raises
    ------
    WrongInputError, OutOfDomainError
        Before anything is written.
    OSError
        The disk refuses (full); what is finished is kept.
    """
    unfinished = Unfinished(output)
    with unfinished.alone():
        unfinished.check_free(overwrite=overwrite)
        volume = open_volume(source)
        size_um = volume.facts.pixel_size_um if pixel_size_um is None else pixel_size_um
        plan = ChunkPlan.of(volume.facts, package.card, chunk_px)
        undertaking = Undertaking(
            model_sha256=package.model_hash, source_sha256=volume.sha256(), pixel_size_um=size_um,
            device=executor.description, allow_out_of_domain=allow_out_of_domain, chunk_px=plan.chunk_px,
        )  # fmt: skip
        decision = unfinished.decision(undertaking, overwrite=overwrite)
        if decision is None:
            decision = _begin(unfinished, undertaking, package, source, volume, plan)
        job = _job(unfinished, undertaking, source, plan, decision)
        with Ledger(unfinished.folder) as ledger:
            _Work(executor, ledger, volume.facts, progress or _silent).do_all(job, decision.channels)
        unfinished.seal()
    output_size_um = None if size_um is None else size_um / package.card.factor
    shape = (*plan.leading, *plan.shape_yx)
    return BulkResult(output, plan.planes(), shape, output_size_um, decision.out_of_domain, decision.warnings)


def _begin(
    unfinished: Unfinished,
    undertaking: Undertaking,
    package: ModelPackage,
    source: Path,
    volume: Volume,
    plan: ChunkPlan,
) -> Decision:
    """Look at the whole source, decide, and create the empty image."""
    decision = survey(volume, package.card, undertaking.pixel_size_um)
    if decision.out_of_domain and not undertaking.allow_out_of_domain:
        raise OutOfDomainError(package.name, decision.out_of_domain)
    with unfinished.begun():
        label = _label(package, source, undertaking, decision)
        EnhancedImage.create(unfinished.image, plan, volume.facts, label)
        unfinished.commit(undertaking, decision)
    return decision


def _job(
    unfinished: Unfinished, undertaking: Undertaking, source: Path, plan: ChunkPlan, decision: Decision
) -> Job:
    """Return what every piece of the work needs to know."""
    photometry = tuple(Photometry(light.background, light.scale) for light in decision.channels)
    image = str(unfinished.image.resolve())
    return Job(str(source.resolve()), undertaking.source_sha256, stamp_of(source), image, plan, photometry)


def _silent(_done: int, _total: int) -> None:
    """Nobody asked."""


def _label(package: ModelPackage, source: Path, undertaking: Undertaking, decision: Decision) -> ImageLabel:
    factor, size_um = package.card.factor, undertaking.pixel_size_um
    facts = provenance(
        package.name, package.model_hash, source, undertaking.source_sha256, decision.out_of_domain,
        decision.warnings,
    )  # fmt: skip
    facts["warnings_are_of"] = "the middle of each plane, before it was enhanced"
    return ImageLabel(
        title=f"{source.name}, ENHANCED by {package.name} ({package.model_hash[:12]})",
        factor=factor,
        pixel_size_um=size_um,
        display_counts=tuple((light.background, light.bright_counts) for light in decision.channels),
        attributes={**facts, "pixel_size_um": None if size_um is None else size_um / factor},
    )


@dataclass(frozen=True, slots=True)
class _Work:
    """The pieces of one image: those that are done, and those that are not."""

    executor: Executor
    ledger: Ledger
    facts: VolumeFacts
    progress: Progress

    def do_all(self, job: Job, channels: tuple[ChannelLight, ...]) -> None:
        """Do what is not done: the light of foreign channels, the chunks, the levels from fine to coarse."""
        plan, planes = job.plan, list(self.facts.planes())
        foreign = [channel for channel, light in enumerate(channels) if light.foreign]
        flux = [piece for channel in foreign for piece in self._flux_pieces(plan, channel)]
        stages: list[tuple[Task, list[Piece]]] = [("flux", flux)]
        for level in range(len(plan.levels)):
            pieces = [piece for index in planes for piece in plan.pieces(level, index)]
            stages.append(("average" if level else "enhance", pieces))
        counted = [(task, piece) for task, pieces in stages if task in COUNTED for piece in pieces]
        done = sum(self.ledger.found(task, piece) is not None for task, piece in counted)
        self.progress(done, len(counted))
        for task, pieces in stages:
            left = [piece for piece in pieces if self.ledger.found(task, piece) is None]
            lit = dataclasses.replace(job, photometry=self._lit(job, channels, flux))
            for piece, found in self.executor.results(task, lit, left):
                self.ledger.note(task, piece, found)
                done += task in COUNTED
                self.progress(done, len(counted))

    def _flux_pieces(self, plan: ChunkPlan, channel: int) -> list[Piece]:
        """Return the pieces of a channel's first plane that tell its flux: all, or so many, evenly spread."""
        first = next(index for index in self.facts.planes() if self.facts.channel_of(index) == channel)
        pieces = list(plan.pieces(0, first))
        count = min(FLUX_PIECES, len(pieces))
        return [pieces[k * len(pieces) // count] for k in range(count)]

    def _lit(self, job: Job, channels: tuple[ChannelLight, ...], flux: list[Piece]) -> tuple[Photometry, ...]:
        """Return each channel's photometry, in foreign ones with the gain that keeps the flux (0003)."""
        lit = []
        for channel, light in enumerate(channels):
            own = [piece for piece in flux if self.facts.channel_of(piece.index) == channel]
            found = [self.ledger.found("flux", piece) or (0.0, 0.0) for piece in own]
            flux_in, flux_out = (math.fsum(sums[k] for sums in found) for k in (0, 1))  # in any order
            gain = flux_in / flux_out if light.foreign and flux_in > 0 and flux_out > 0 else 1.0
            lit.append(dataclasses.replace(job.photometry[channel], flux_gain=gain))
        return tuple(lit)
