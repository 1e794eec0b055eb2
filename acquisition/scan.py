"""The paired scan: an experiment and a core come in, a scan folder (contract 1) comes out.

Owns the course of a scan: manifest, one run of the engine for each sequence, fields put together from
frames and committed whole, the account at the end. Knows neither a device nor an autofocus from within.
"""

import platform
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from pydantic import ValidationError

from acquisition.engine import ScanEngine
from acquisition.estimate import ScanEstimate, estimate_scan
from acquisition.field_assembly import FieldAssembly, Progress
from acquisition.locks import lock_folder
from acquisition.manifest import (
    ChannelRecord,
    FieldRecord,
    FocusRecord,
    HoleRecord,
    Manifest,
    ObjectiveRecord,
    ScanFolder,
)
from acquisition.microscope import Microscope
from acquisition.plan import Experiment
from acquisition.preparation import SettledExperiment, check_unattended, settle
from acquisition.quality import HighInLow
from acquisition.resumption import check_stage, journal_interrupted
from acquisition.safety import go_dark, left_safe
from acquisition.sequences import fields_of, paired_scan_sequences, with_fields
from configs.document import WrongInputError

if TYPE_CHECKING:
    from pymmcore_plus import CMMCorePlus
    from useq import MDASequence

__all__ = ["ScanIncompleteError", "ScanSummary", "plan_scan", "run_scan"]

_SOFTWARE = ("sharpscope", "pymmcore-plus", "pymmcore", "useq-schema", "numpy")
_INTERRUPT_POLL_S = 0.1


class ScanIncompleteError(RuntimeError):
    """A run of the acquisition ended before its plan did; what was committed is on the disk."""


@dataclass(frozen=True, slots=True)
class ScanSummary:
    """What a scan gave."""

    folder: ScanFolder
    planned_fields: int
    committed_fields: int
    holes: tuple[HoleRecord, ...]
    flagged: tuple[FieldRecord, ...] = ()
    """Fields that the limits of quality hold something against."""

    @property
    def complete(self) -> bool:
        """Whether every planned field is committed and good."""
        return not self.holes and not self.flagged and self.committed_fields == self.planned_fields


def run_scan(
    experiment: Experiment,
    core: "CMMCorePlus",
    path: Path,
    *,
    resume: bool = False,
    progress: Progress | None = None,
) -> ScanSummary:
    """Run a paired scan.

    Parameters
    ----------
    experiment
        What to scan.
    core
        The microscope, loaded.
    path
        The scan folder to make, or with `resume` to continue.
    resume
        Leave out what the folder's journal says is committed.
    progress
        Called with (fields done, fields planned), holes counting as done.

    Returns
    -------
    ScanSummary
        With the holes, if any; a scan with holes is a scan.

    Raises
    ------
    WrongInputError
        The experiment does not fit the microscope, or the folder is taken. Nothing was written.
    ScanIncompleteError
        The run was cancelled from outside.
    MicroscopeError
        The objective could not be changed safely.
    OSError
        The disk refused; what was committed before is safe.
    KeyboardInterrupt
        After the run was stopped; the folder can be resumed.
    """
    microscope = Microscope.for_experiment(core, experiment)
    go_dark(microscope)
    settled = settle(experiment, microscope)
    sequences = _sequences(settled, microscope)
    manifest = _manifest(experiment, settled)
    opened = _continued(path, manifest) if resume else _created(path, manifest)
    with opened as folder, folder.writing(), left_safe(microscope):
        return _acquire(core, microscope, settled, sequences, folder, progress)


def plan_scan(experiment: Experiment, core: "CMMCorePlus") -> "tuple[ScanEstimate, list[MDASequence]]":
    """Return what a scan would cost, and its sequences; moves nothing.

    Raises
    ------
    WrongInputError
        The experiment does not fit the microscope, leaves the stage's window, or may not run unattended.
    """
    microscope = Microscope.for_experiment(core, experiment)
    settled = settle(experiment, microscope)
    sequences = _sequences(settled, microscope)
    return estimate_scan(settled.experiment, sequences, microscope.frame_shape_yx()), sequences


def _sequences(settled: SettledExperiment, microscope: Microscope) -> "list[MDASequence]":
    check_unattended(settled.experiment)
    return paired_scan_sequences(settled.experiment, microscope.frame_shape_yx(), settled.parcentric_um)


def _acquire(
    core: "CMMCorePlus",
    microscope: Microscope,
    settled: SettledExperiment,
    sequences: "list[MDASequence]",
    folder: ScanFolder,
    progress: Progress | None,
) -> ScanSummary:
    """Run what is not committed yet."""
    experiment, geometry = settled.experiment, _geometry(settled)
    planned = sum(len(fields_of(sequence)) for sequence in sequences)
    count = microscope.camera.largest_count()
    assembly = FieldAssembly(folder, experiment, planned, count, geometry, progress)
    takes = experiment.quality.takes
    todo = [sequence for sequence in sequences if assembly.to_take(sequence, takes)]
    if todo and folder.lines():
        journal_interrupted(folder, experiment)
        check_stage(folder, experiment, microscope, geometry)
    engine = ScanEngine(core, experiment, assembly, settled.channel_focus_um)
    engine.remember(line for line in folder.lines() if isinstance(line, FocusRecord))
    with _engine_of(core, engine):
        for sequence in todo:
            _take(core, assembly, sequence, takes)
    fields = folder.fields()
    flagged = tuple(field for field in fields if field.flags)
    return ScanSummary(folder, planned, len(fields), tuple(folder.holes()), flagged)


def _take(core: "CMMCorePlus", assembly: FieldAssembly, sequence: "MDASequence", takes: int) -> None:
    """Take the fields of a stretch, and those that are not good once more, before the objective turns."""
    for take in range(1, takes + 1):
        left = with_fields(sequence, assembly.to_take(sequence, take), take)
        if left is not None:
            assembly.begin(left)
            _run(core, left)
            assembly.account()


@contextmanager
def _engine_of(core: "CMMCorePlus", engine: ScanEngine) -> Iterator[None]:
    before = core.mda.set_engine(engine)
    try:
        yield
    finally:
        if before is not None:
            core.mda.set_engine(before)


def _geometry(settled: SettledExperiment) -> HighInLow:
    low, high = (
        np.array([[xx, xy], [yx, yy]])
        for xx, xy, _, yx, yy, _ in (settled.affines["low"], settled.affines["high"])
    )
    return HighInLow(low, high, settled.parcentric_um)


def _run(core: "CMMCorePlus", sequence: "MDASequence") -> None:
    """Run a sequence to its end; an interrupt from the keyboard stops it at the next move or exposure."""
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="scan") as pool:
        running = pool.submit(core.mda.run, sequence)
        interrupt: KeyboardInterrupt | None = None
        while not running.done():
            try:
                wait([running], timeout=_INTERRUPT_POLL_S)  # without a limit it hears no Ctrl-C on Windows
            except KeyboardInterrupt as heard:
                # Whoever presses again must wait too: what comes next withdraws, and the run still moves.
                interrupt = heard
                core.mda.cancel()
    if interrupt is not None:
        raise interrupt
    running.result()  # what the engine raised (a full disk, a drive that does not withdraw)
    reason = core.mda.status.finish_reason
    if reason is None or reason.value != "completed":
        msg = f"the scan was {reason} before its end; what is committed is safe: continue with --resume"
        raise ScanIncompleteError(msg)


def _changed_key(before: Manifest, now: Manifest) -> str | None:
    """Return the first key of the experiment file that is not what it was, whatever defaults were added."""
    try:
        plan = Experiment.model_validate(before.plan).model_dump(mode="json")
    except ValidationError as error:
        return ".".join(str(part) for part in error.errors()[0]["loc"])
    return next((key for key, value in now.plan.items() if plan.get(key) != value), None)


@contextmanager
def _created(path: Path, manifest: Manifest) -> Iterator[ScanFolder]:
    try:
        path.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        raise WrongInputError(f"{path} is not a folder; give another with -o") from error
    with lock_folder(path):
        yield ScanFolder.create(path, manifest)


@contextmanager
def _continued(path: Path, manifest: Manifest) -> Iterator[ScanFolder]:
    folder = ScanFolder.open(path)
    if (key := _changed_key(folder.manifest, manifest)) is not None:
        msg = f"{path} was scanned with another experiment ('{key}' differs); resume with the same file, or "
        raise WrongInputError(msg + "give another folder")
    with lock_folder(path):
        yield folder


def _manifest(experiment: Experiment, settled: SettledExperiment) -> Manifest:
    return Manifest(
        run_id=uuid.uuid4().hex,
        microscope=experiment.microscope.name,
        camera_pixel_um=experiment.microscope.camera_pixel_um,
        objectives={
            state: ObjectiveRecord(
                name=settings.objective,
                magnification=settings.magnification,
                numerical_aperture=settings.numerical_aperture,
                immersion=settings.immersion,
                pixel_size_um=settings.pixel_um,
                pixel_size_affine=settled.affines[state],
            )
            for state, settings in settled.experiment.states.items()
        },
        channels=[
            ChannelRecord(name=channel.name, emission_nm=channel.emission_nm, exposure_ms=channel.exposure_ms)
            for channel in experiment.channels
        ],
        plan=experiment.model_dump(mode="json"),
        software={name: version(name) for name in _SOFTWARE} | {"python": platform.python_version()},
    )
