"""A worker as a process: serves until it is told to end, and ends.

Owns the end of the process. `serve` stops on SIGINT and SIGTERM. The engine thread is given five seconds; if
one inference outlasts them, every waiting frame is answered all the same and the process ends by `os._exit`,
since a thread left inside a network library would abort the interpreter. It ends by `os._exit` too, with
`DEVICE_BROKEN_EXIT`, when the device is broken for good: `inference.supervisor` then starts another.
"""

import logging
import os
from collections.abc import Callable, Sequence
from typing import Any

from inference.address import DEFAULT_ADDRESS
from inference.engine_like import EngineLike
from inference.figures import Observer
from inference.keys import WorkerKeys
from inference.model_watch import ModelWatch
from inference.protocol import WireLimits
from inference.signals import stopped_by_signals
from inference.worker import ENGINE_STOP_S, Worker, WorkerStatus

__all__ = ["DEVICE_BROKEN_EXIT", "serve"]

logger = logging.getLogger(__name__)

DEVICE_BROKEN_EXIT = 75
"""How a process ends whose device is broken: only a new process can use it again (EX_TEMPFAIL)."""


def serve(
    engines: Sequence[EngineLike],
    bind: str = DEFAULT_ADDRESS,
    *,
    limits: WireLimits | None = None,
    record_credit: int = 8,
    on_ready: Callable[[str], None] | None = None,
    watch: ModelWatch[Any] | None = None,
    keys: WorkerKeys | None = None,
    observers: Sequence[Observer] = (),
) -> WorkerStatus:
    """Serve until SIGINT (Ctrl-C) or SIGTERM; returns the last counters.

    Parameters
    ----------
    on_ready
        Called with the bound address once clients can connect.
    watch
        Looks after the packages of the engines, and swaps those that are replaced.
    keys
        Needed beyond loopback: only clients on their list are served.
    observers
        Who looks on.

    Raises
    ------
    WrongInputError
        When the address cannot be used.
    """
    with Worker(
        engines, bind, limits=limits, record_credit=record_credit, keys=keys, observers=observers
    ) as worker:
        with stopped_by_signals(worker.stop):
            if on_ready is not None:
                on_ready(worker.address)
            if watch is not None:
                watch.start(worker.swap)
            ended = worker.run()
            if watch is not None:
                watch.close()
        status = worker.status()
    if not ended and worker.device_broken is None:
        logger.error("the engine is still at a frame after %s s; the process ends", ENGINE_STOP_S)
        os._exit(1)
    if worker.device_broken is not None:
        logger.error("the device is broken and the process ends: %s", worker.device_broken)
        os._exit(DEVICE_BROKEN_EXIT)  # what holds a broken device may not survive an orderly end
    return status
