"""Keeps a worker alive: runs it as a process, hears how it is, and starts another when it hangs or dies.

Owns the child process, its deadlines, and the restarts with their back-off and limit. A child is given up
when its engine has been at one frame for too long (it says so itself), when it says nothing at all (a GIL
that is never released, a stopped process), or when it ends. A worker that never came up is not started
again: what is wrong with it, a second try would meet too.

A plain `subprocess`, not `multiprocessing`: the child is the same command line that a person would type, it
inherits nothing that a broken device may have left behind, and two pipes are all that both need, on every
platform. The child's standard output brings `Figures` (`inference.heartbeat`); its standard input only
closes, which tells it to end, also when this process was killed. Knows no sockets, no models and no torch.
"""

import logging
import queue
import signal
import subprocess
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from pydantic import ValidationError

from inference.figures import Figures
from inference.signals import stopped_by_signals

__all__ = ["Patience", "SupervisedState", "Supervisor"]

logger = logging.getLogger(__name__)

FAILED_EXIT = 1
INTERRUPTED_EXIT = 130
OVERSLEPT_S = 2.0
TICK_S = 0.5
"""Windows hears Ctrl-C only between two waits."""


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a child is waited for, and how often it is replaced."""

    start_s: float = 600.0
    """For models to load and, on a GPU, to compile."""
    silence_s: float = 15.0
    engine_s: float = 120.0
    """For one frame in the engine, as clients have it; the first one may compile the network."""
    stop_s: float = 8.0
    """For an orderly end: five seconds for the engine, and a margin."""
    first_pause_s: float = 0.1
    """Before a restart; doubled each time, until a child has lived for a minute."""
    longest_pause_s: float = 10.0
    most_restarts_per_min: int = 6


class SupervisedState(StrEnum):
    """What the supervisor is at."""

    STARTING = "starting"
    SERVING = "serving"
    PAUSING = "pausing"
    """Before a restart."""
    ENDED = "ended"


@dataclass(frozen=True, slots=True)
class _Lost:
    """How a child's life ended."""

    reason: str
    exit_code: int
    lived: bool
    """Whether it ever served."""


class Supervisor:
    """Runs one worker after another, each on the address of the first.

    Parameters
    ----------
    command
        Gives the command line of a worker; called with the address that it must bind, None for the first.
    patience
        Deadlines and limits.
    on_ready
        Called with the figures of each worker once clients can connect.
    """

    def __init__(
        self,
        command: Callable[[str | None], Sequence[str]],
        patience: Patience | None = None,
        on_ready: Callable[[Figures], None] = lambda _figures: None,
    ) -> None:
        self._command = command
        self._patience = patience or Patience()
        self._on_ready = on_ready
        self._address: str | None = None
        self._stop_asked = threading.Event()
        self._news: queue.SimpleQueue[tuple[_Child, Figures | None] | None] = queue.SimpleQueue()
        self._starts_s: deque[float] = deque(maxlen=self._patience.most_restarts_per_min)
        self._pause_s = self._patience.first_pause_s
        self.state = SupervisedState.STARTING
        self.restarts = 0
        self.last_loss = ""
        """Why the last worker was given up."""
        self.latest: Figures | None = None
        """What the present worker said last; None while there is none that serves."""

    def stop(self) -> None:
        """Ask `run` to end; from any thread or signal handler."""
        self._stop_asked.set()
        self._news.put(None)

    def run(self) -> int:
        """Keep a worker alive until `stop`, SIGINT or SIGTERM.

        Returns
        -------
        int
            Exit code: 0 after an orderly end, 130 if that came before anything was served, the worker's own
            if it never came up by itself, else 1.
        """
        with stopped_by_signals(self.stop):
            try:
                return self._keep_alive()
            finally:
                self.state = SupervisedState.ENDED

    def _keep_alive(self) -> int:
        while True:
            lost = self._one_life()
            if self._stop_asked.is_set() and not lost.lived:
                return INTERRUPTED_EXIT if self._address is None else 0
            if lost.exit_code == 0:
                return 0  # asked for here, or by somebody who told the worker itself
            if self._stop_asked.is_set():
                return FAILED_EXIT
            if not lost.lived and self._address is None:
                return lost.exit_code if lost.exit_code > 0 else FAILED_EXIT
            self.last_loss = lost.reason
            if self._too_many_restarts():
                logger.error("the worker was lost (%s), too often to go on", lost.reason)
                return FAILED_EXIT
            logger.error("the worker was lost (%s); the next starts in %.1f s", lost.reason, self._pause_s)
            self.state = SupervisedState.PAUSING
            until_s = time.monotonic() + self._pause_s
            while time.monotonic() < until_s:
                if self._stop_asked.wait(min(TICK_S, self._pause_s)):
                    return 0
            self._pause_s = min(2 * self._pause_s, self._patience.longest_pause_s)
            self.restarts += 1

    def _too_many_restarts(self) -> bool:
        """Enter a restart; whether there were more than the limit in the last minute."""
        now_s = time.monotonic()
        full = len(self._starts_s) == self._patience.most_restarts_per_min
        if full and now_s - self._starts_s[0] < 60.0:
            return True
        self._starts_s.append(now_s)
        return False

    def _one_life(self) -> _Lost:
        """Start a worker and listen to it until it is gone."""
        self.state = SupervisedState.STARTING
        child = _Child(self._command(self._address), self._news)
        reason = "the supervisor failed"
        try:
            reason = self._listen(child)
        finally:
            self.latest = None
            exit_code = child.kill() if reason else child.end(self._patience.stop_s)
        if child.lived_s() > 60.0:
            self._pause_s = self._patience.first_pause_s
        return _Lost(reason or _ending(exit_code), exit_code, child.figures is not None)

    def _listen(self, child: "_Child") -> str:
        """Return why the child must go, or nothing when it ended by itself or the end was asked for."""
        while not self._stop_asked.is_set():
            deadline_s, reason = child.deadline(self._patience)
            try:
                news = self._news.get(timeout=min(TICK_S, max(0.0, deadline_s - time.monotonic())))
            except queue.Empty:
                overdue_s = time.monotonic() - deadline_s
                if overdue_s < 0:
                    continue
                if overdue_s < OVERSLEPT_S:
                    return reason
                child.excuse()  # it is this process that was stopped, or the whole machine
                continue
            if news is None or news[0] is not child:
                continue
            figures = news[1]
            if figures is None:
                return ""
            self._hear(child, figures)
            if figures.busy_s > self._patience.engine_s:
                return f"its engine has been at one frame for {figures.busy_s:.0f} s"
        return ""

    def _hear(self, child: "_Child", figures: Figures) -> None:
        first = child.figures is None
        child.hear(figures)
        self.latest = figures
        if first:
            self._address = figures.address
            self.state = SupervisedState.SERVING
            logger.info("worker %s serves on %s", figures.worker[:8], figures.address)
            self._on_ready(figures)


class _Child:
    """One worker process."""

    def __init__(
        self, command: Sequence[str], news: "queue.SimpleQueue[tuple[_Child, Figures | None] | None]"
    ) -> None:
        # Apart from the terminal: Ctrl-C is for the supervisor, which then ends the worker.
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
            creationflags=getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0),
        )
        self._news = news
        self._started_s = self._heard_s = time.monotonic()
        self.figures: Figures | None = None
        self._reader = threading.Thread(target=self._read, name="sharpscope-supervisor", daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            try:
                self._news.put((self, Figures.model_validate_json(line)))
            except ValidationError:  # printed before the heartbeat took the pipe over
                logger.warning("the worker printed: %s", line[:200].decode(errors="replace").rstrip())
        self._news.put((self, None))

    def hear(self, figures: Figures) -> None:
        self.figures = figures
        self._heard_s = time.monotonic()

    def lived_s(self) -> float:
        return self._heard_s - self._started_s

    def deadline(self, patience: Patience) -> tuple[float, str]:
        """Return until when it must have said something, and what it means if it has not."""
        if self.figures is None:
            return self._started_s + patience.start_s, f"it did not serve within {patience.start_s:g} s"
        return self._heard_s + patience.silence_s, f"no sign of life for {patience.silence_s:g} s"

    def excuse(self) -> None:
        """Count its silence anew."""
        self._started_s = self._heard_s = time.monotonic()

    def kill(self) -> int:
        """End it now; returns its exit code, on POSIX minus a signal's number."""
        self._process.kill()
        return self._buried()

    def end(self, patience_s: float) -> int:
        """Let it end in an orderly way, if it does so in time; returns its exit code."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(patience_s)
        except subprocess.TimeoutExpired:
            self._process.kill()
        return self._buried()

    def _buried(self) -> int:
        exit_code = self._process.wait()
        self._reader.join(1.0)  # longer, a grandchild may hold the pipe open
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None and not self._reader.is_alive():
                pipe.close()
        return exit_code


def _ending(exit_code: int) -> str:
    if exit_code >= 0:
        return f"it ended with exit code {exit_code}"
    try:
        return f"it was ended by {signal.Signals(-exit_code).name}"
    except ValueError:
        return f"it was ended by signal {-exit_code}"
