"""The worker's end of the pipe to its supervisor: signs of life go out, the supervisor's end is noticed.

Owns the two pipes of a supervised worker. Its standard output carries one line of JSON (`Figures`) several
times a second, written only from what the I/O thread has said: when that thread hangs, the pipe is silent.
Its standard input carries nothing; when it closes, the supervisor is gone or wants an end, and the worker
stops. A process whose GIL is held for ever cannot notice that; a timer that needs no GIL ends it, and leaves
on standard error where every thread stood. Knows no sockets and no engine.
"""

import faulthandler
import os
import threading
import time
from types import TracebackType
from typing import Self

from inference.figures import Figures, Observed

__all__ = ["Heartbeat"]

BEAT_S = 0.2
SILENT_EXIT_S = 60.0
ORPHAN_EXIT_S = 10.0
"""After the supervisor's end; the worker's own end takes five seconds at most."""


class Heartbeat:
    """An observer of the worker in this process; use it as a context from before the models are loaded.

    Takes over file descriptors 0 and 1; whatever else prints to standard output goes to standard error.

    Parameters
    ----------
    silent_exit_s
        The process ends itself when the I/O thread has not gone round for so long. A living supervisor is
        quicker.
    """

    def __init__(self, silent_exit_s: float = SILENT_EXIT_S) -> None:
        self._silent_exit_s = silent_exit_s
        self._pipe = os.dup(1)
        os.dup2(2, 1)
        self._worker: Observed | None = None
        self._orphaned = threading.Event()
        self._news = threading.Condition()
        self._latest: Figures | None = None
        self._closed = False
        self._next_beat_s = 0.0
        self._next_arming_s = 0.0

    def begin(self, worker: Observed) -> None:
        """Know whom to stop; the first beat follows at once."""
        self._worker = worker
        if self._orphaned.is_set():
            worker.stop()

    def turn(self) -> None:
        """Say that the I/O thread lives."""
        now_s = time.monotonic()
        if now_s < self._next_beat_s or self._worker is None:
            return
        self._next_beat_s = now_s + BEAT_S
        self._say(self._worker.figures())
        if now_s >= self._next_arming_s:
            self._next_arming_s = now_s + self._silent_exit_s / 10
            faulthandler.dump_traceback_later(self._silent_exit_s, exit=True)

    def _say(self, figures: Figures) -> None:
        with self._news:
            self._latest = figures
            self._news.notify()

    # ---- its own threads: a pipe that nobody reads must not hold up the worker ------------------------

    def _write(self) -> None:
        while True:
            with self._news:
                self._news.wait_for(lambda: self._latest is not None or self._closed)
                figures, self._latest = self._latest, None
            if figures is None:
                return
            try:
                _write_all(self._pipe, figures.model_dump_json().encode() + b"\n")
            except OSError:  # nobody listens any more; the other thread acts on it
                return

    def _watch(self) -> None:
        # os.read: a thread inside sys.stdin would abort the interpreter at its end.
        while os.read(0, 4096):
            pass
        self._orphaned.set()
        worker = self._worker
        if worker is None:
            os._exit(1)  # still loading; there is nothing to answer
        worker.stop()
        threading.Event().wait(ORPHAN_EXIT_S)
        os._exit(1)

    def __enter__(self) -> Self:
        for work in (self._write, self._watch):
            threading.Thread(target=work, name=f"sharpscope-heartbeat-{work.__name__}", daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        faulthandler.cancel_dump_traceback_later()
        with self._news:
            self._closed = True
            self._news.notify()


def _write_all(pipe: int, line: bytes) -> None:
    while line:
        line = line[os.write(pipe, line) :]
