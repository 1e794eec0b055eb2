"""The paired scan: an experiment and a core come in, a scan folder (contract 1) comes out.

Owns the course of a scan: manifest, one run of the engine for each sequence, fields put together from
frames and committed whole, the account at the end. Knows neither a device nor an autofocus from within.
"""

import platform
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from acquisition.engine import ScanEngine
from acquisition.manifest import (
    ChannelRecord,
    FocusRecord,
    HoleRecord,
    ImagingState,
    Manifest,
    ObjectiveRecord,
    ScanFolder,
)
from acquisition.microscope import Microscope
from acquisition.plan import Experiment
from acquisition.sequences import FieldName, fields_of, paired_scan_sequences, state_of, without_fields
from configs.document import WrongInputError

if TYPE_CHECKING:
    from pymmcore_plus import CMMCorePlus
    from useq import MDASequence

    from acquisition.autofocus import FocusFailedError, FocusResult

__all__ = ["ScanIncompleteError", "ScanSummary", "run_scan"]

CountImage = np.ndarray[Any, np.dtype[np.uint16]]
Progress = Callable[[int, int], None]

_SOFTWARE = ("sharpscope", "pymmcore-plus", "pymmcore", "useq-schema", "numpy")
_INTERRUPT_POLL_S = 0.5


class ScanIncompleteError(RuntimeError):
    """A run of the acquisition ended before its plan did; what was committed is on the disk."""


@dataclass(frozen=True, slots=True)
class ScanSummary:
    """What a scan gave."""

    folder: ScanFolder
    planned_fields: int
    committed_fields: int
    holes: tuple[HoleRecord, ...]

    @property
    def complete(self) -> bool:
        """Whether every planned field is committed."""
        return not self.holes and self.committed_fields == self.planned_fields


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
    microscope = Microscope(core, experiment.states, experiment.focus.withdraw_um)
    microscope.check_presets([(channel.group, channel.config) for channel in experiment.channels])
    sequences = paired_scan_sequences(experiment, microscope.frame_shape_yx())
    manifest = _manifest(experiment, microscope)
    folder = _continued(path, manifest) if resume else ScanFolder.create(path, manifest)
    planned = sum(len(fields_of(sequence)) for sequence in sequences)
    assembler = _FieldAssembler(folder, experiment, planned, progress)
    todo = [remaining for sequence in sequences if (remaining := assembler.without_committed(sequence))]
    engine = ScanEngine(core, experiment, assembler)
    before = core.mda.set_engine(engine)
    try:
        for sequence in todo:
            assembler.begin(sequence)
            _run(core, sequence)
            assembler.account()
    finally:
        if before is not None:
            core.mda.set_engine(before)
    return ScanSummary(folder, planned, len(folder.fields()), tuple(folder.holes()))


def _run(core: "CMMCorePlus", sequence: "MDASequence") -> None:
    """Run a sequence to its end; an interrupt from the keyboard stops it between two events."""
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="scan") as pool:
        running = pool.submit(core.mda.run, sequence)
        try:
            while not wait([running], timeout=_INTERRUPT_POLL_S).done:
                pass  # a wait without a limit cannot be interrupted on Windows
        except KeyboardInterrupt:
            core.mda.cancel()
            raise
    running.result()  # what the engine raised (a full disk, a drive that does not withdraw)
    reason = core.mda.status.finish_reason
    if reason is None or reason.value != "completed":
        msg = f"the scan was {reason} before its end; what is committed is safe: continue with --resume"
        raise ScanIncompleteError(msg)


def _continued(path: Path, manifest: Manifest) -> ScanFolder:
    folder = ScanFolder.open(path)
    if folder.manifest.plan != manifest.plan:
        msg = f"{path} was scanned with another experiment; resume with the same file, or give another folder"
        raise WrongInputError(msg)
    return folder


def _manifest(experiment: Experiment, microscope: Microscope) -> Manifest:
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
                pixel_size_um=settings.pixel_size_um,
                pixel_size_affine=microscope.pixel_size_affine(state),
            )
            for state, settings in experiment.states.items()
        },
        channels=[
            ChannelRecord(name=channel.name, emission_nm=channel.emission_nm, exposure_ms=channel.exposure_ms)
            for channel in experiment.channels
        ],
        plan=experiment.model_dump(mode="json"),
        software={name: version(name) for name in _SOFTWARE} | {"python": platform.python_version()},
    )


class _FieldAssembler:
    """Puts the frames of a field together and commits it when the last channel is there.

    The engine's receiver. It writes in the engine's thread: acquisition waits for the disk, and a disk that
    refuses ends the run.
    """

    def __init__(
        self, folder: ScanFolder, experiment: Experiment, planned: int, progress: Progress | None
    ) -> None:
        self._folder = folder
        self._channels = len(experiment.channels)
        self._planned = planned
        self._progress = progress
        self._committed = {(field.state, (field.region, field.tile)) for field in folder.fields()}
        self._done = len(self._committed)
        self._state: ImagingState = "low"
        self._names: list[FieldName] = []
        self._frames: dict[int, dict[int, CountImage]] = {}
        self._settled: set[int] = set()

    def without_committed(self, sequence: "MDASequence") -> "MDASequence | None":
        """Return a sequence without the fields that are committed; None when none is left."""
        return without_fields(
            sequence, {name for state, name in self._committed if state == state_of(sequence)}
        )

    def begin(self, sequence: "MDASequence") -> None:
        """Expect the fields of this sequence."""
        self._state = state_of(sequence)
        self._names = fields_of(sequence)
        self._frames.clear()
        self._settled.clear()

    def account(self) -> None:
        """Make a hole of every field that was neither committed nor given up."""
        for position in range(len(self._names)):
            if position not in self._settled:
                received = len(self._frames.get(position, {}))
                self.hole(position, f"only {received} of {self._channels} channels arrived")

    def focused(self, position: int, result: "FocusResult") -> None:
        """Enter a focus curve in the journal."""
        self._log_focus(position, result.focus_um, None, result.curve)

    def focus_failed(self, position: int, failure: "FocusFailedError") -> None:
        """Enter a failed focus in the journal, with its curve."""
        self._log_focus(position, None, failure.reason, failure.curve)

    def frame(
        self,
        position: int,
        channel: int,
        image: CountImage,
        stage_xy_um: tuple[float, float],
        focus_um: float,
    ) -> None:
        """Keep a frame in its channel's place; commit the field with its last."""
        frames = self._frames.setdefault(position, {})
        frames[channel] = image
        if len(frames) < self._channels:
            return
        region, tile = self._names[position]
        field = np.stack([frames[index] for index in range(self._channels)])  # (C, Y, X)
        self._folder.commit_field(
            field, region=region, state=self._state, tile=tile, stage_xy_um=stage_xy_um, focus_um=focus_um
        )
        del self._frames[position]
        self._settle(position)

    def hole(self, position: int, reason: str) -> None:
        """Enter a hole in the journal."""
        region, tile = self._names[position]
        self._folder.log_hole(HoleRecord(region=region, state=self._state, tile=tile, reason=reason))
        self._frames.pop(position, None)
        self._settle(position)

    def _log_focus(
        self,
        position: int,
        focus_um: float | None,
        reason: str | None,
        curve: tuple[tuple[float, float], ...],
    ) -> None:
        region, tile = self._names[position]
        self._folder.log_focus(
            FocusRecord(
                region=region,
                state=self._state,
                tile=tile,
                succeeded=focus_um is not None,
                focus_um=focus_um,
                reason=reason,
                curve=list(curve),
            )
        )

    def _settle(self, position: int) -> None:
        self._settled.add(position)
        self._done += 1
        if self._progress is not None:
            self._progress(self._done, self._planned)
