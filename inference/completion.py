"""Enhances afterwards what a recording's worker did not get to: lost workers, drops, the tail of a burst.

Reads raw frames from the recording, sends them through a worker, writes the enhanced images at the raw
frames' indices. The photometry of each stream is the one its first enhanced frames were made with, so the
series has no step where the gap was. Knows no microscope.
"""

import queue
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from inference.client import (
    ClientSettings,
    ClientState,
    EnhancedFrame,
    FailedFrame,
    Outcome,
    WorkerBusyError,
)
from inference.frame_intake import FrameIntake
from inference.keys import ClientKeys
from inference.messages import StreamPhotometry
from inference.recording import Recorder, Recording, UnenhancedLine
from inference.worker_list import open_workers

__all__ = ["CompletionReport", "complete"]


@dataclass(frozen=True, slots=True)
class CompletionReport:
    """What was added to a recording, and what is still not enhanced."""

    enhanced: int
    unenhanced: dict[int, str]
    """Reasons by frame number."""
    worker: str = ""
    """Why the worker was given up, where it was."""


def complete(
    path: Path,
    worker: str | Sequence[str],
    *,
    channel: str | None = None,
    allow_out_of_domain: bool = False,
    settings: ClientSettings | None = None,
    patience_s: float = 10.0,
    progress: Callable[[int, int], None] | None = None,
    keys: ClientKeys | None = None,
) -> CompletionReport:
    """Enhance the unenhanced frames of a recording that nobody writes any more.

    Parameters
    ----------
    path
        The recording's folder; after a kill it is recovered first.
    worker
        Address of a worker, or of several that share the frames.
    channel
        Only the frames of this channel; None is all.
    patience_s
        How long to wait for a worker that is not there; then the rest stays unenhanced.
    progress
        Called with the frames answered and the frames to do.
    keys
        This client's; needed for a worker beyond this machine.

    Raises
    ------
    WrongInputError
        When the folder is not a recording, somebody writes it, or the address cannot be used.
    """
    outcomes: queue.SimpleQueue[Outcome] = queue.SimpleQueue()
    with (
        Recorder.resume(path) as recorder,
        open_workers(worker, outcomes.put, session=recorder.session, settings=settings, keys=keys) as client,
    ):
        recording = Recording.open(path)
        catch_up = _CatchUp(recording, recorder, client, outcomes, patience_s, progress, channel)
        catch_up.run(allow_out_of_domain=allow_out_of_domain)
    after = Recording.open(path)
    added = len(after.enhanced) - len(recording.enhanced)
    return CompletionReport(added, after.unenhanced, catch_up.given_up)


class _CatchUp:
    """One pass over the unenhanced frames, as fast as the worker answers."""

    def __init__(
        self,
        recording: Recording,
        recorder: Recorder,
        client: FrameIntake,
        outcomes: "queue.SimpleQueue[Outcome]",
        patience_s: float,
        progress: Callable[[int, int], None] | None,
        channel: str | None,
    ) -> None:
        self._recording = recording
        self._recorder = recorder
        self._client = client
        self._outcomes = outcomes
        self._patience_s = patience_s
        self._progress = progress
        self._todo = tuple(
            frame
            for frame in recording.unenhanced
            if channel in (None, recording.frames[frame].facts.channel)
        )
        self._answered = 0
        self.given_up = ""
        """Why the worker was not waited for any longer."""
        self._patient_until_s = time.monotonic() + patience_s

    def run(self, *, allow_out_of_domain: bool) -> None:
        photometry = _photometry(self._recording)
        submitted = 0
        while self._answered < len(self._todo) and self._patient():
            if submitted < len(self._todo):
                frame = self._todo[submitted]
                known = photometry.get(self._recording.frames[frame].stream)
                submitted += self._submit(frame, known, allow_out_of_domain=allow_out_of_domain)
            self._take_answers(wait=submitted == len(self._todo))
        if self._answered < len(self._todo):
            status = self._client.status()
            self.given_up = f"{status.state}: {status.reason}"

    def _submit(self, frame: int, known: StreamPhotometry | None, *, allow_out_of_domain: bool) -> bool:
        facts = self._recording.frames[frame].facts
        try:
            self._client.submit(
                self._recorder.read(frame),
                sequence=frame,
                pixel_size_um=facts.pixel_size_um,
                numerical_aperture=facts.numerical_aperture,
                channel=facts.channel,
                allow_out_of_domain=allow_out_of_domain,
                photometry=known,
                timeout_s=0.1,
                owned=True,
            )
        except WorkerBusyError:
            return False
        return True

    def _take_answers(self, *, wait: bool) -> None:
        while True:
            try:
                outcome = self._outcomes.get(block=wait, timeout=0.1)
            except queue.Empty:
                return
            self._keep(outcome)
            self._answered += 1
            wait = False
            if self._progress is not None:
                self._progress(self._answered, len(self._todo))

    def _keep(self, outcome: Outcome) -> None:
        if isinstance(outcome, EnhancedFrame):
            self._recorder.put_enhanced(outcome)
        elif isinstance(outcome, FailedFrame):
            line = UnenhancedLine(frame=outcome.source.sequence, outcome="failed", reason=outcome.reason)
            self._recorder.put_unenhanced(line)

    def _patient(self) -> bool:
        if self._client.status().state is ClientState.READY:
            self._patient_until_s = time.monotonic() + self._patience_s
        return time.monotonic() < self._patient_until_s


def _photometry(recording: Recording) -> dict[str, StreamPhotometry]:
    """Return the photometry of each raw stream that has an enhanced frame: that of its first one."""
    known: dict[str, StreamPhotometry] = {}
    for line in recording.enhanced.values():
        known.setdefault(recording.frames[line.frame].stream, line.photometry)
    return known
