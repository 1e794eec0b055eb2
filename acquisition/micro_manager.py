"""Loads a Micro-Manager configuration, and lets go of it quietly.

Owns the core's birth and death. What is done with it in between is `acquisition.microscope`'s.
"""

import atexit
import logging
import os
import threading
import weakref
from pathlib import Path

from pymmcore_plus import CMMCorePlus, find_micromanager

import configs
from acquisition.locks import lock_microscope
from configs.document import WrongInputError

__all__ = ["adapter_folder", "load_cfg", "release_at_exit"]

_EXIT_PATIENCE_S = 5.0


def adapter_folder() -> str | None:
    """Return where Micro-Manager's device adapters were found, or None."""
    return find_micromanager()


def load_cfg(name: str | Path) -> CMMCorePlus:
    """Return a core with a Micro-Manager configuration loaded, and locked against other programs.

    Parameters
    ----------
    name
        A path, or the bare name of a ready-made `.cfg`, ours or one that lies beside the device adapters.

    Raises
    ------
    WrongInputError
        There is no such file, a device in it cannot be loaded, or another program drives the microscope.
    """
    path = _find_cfg(name)
    lock = lock_microscope(path)
    core = CMMCorePlus()
    weakref.finalize(core, lock.release)
    try:
        core.loadSystemConfiguration(path)
    except (RuntimeError, OSError) as error:  # OSError: an adapter that is not there
        reason = " ".join(str(error).split())
        msg = f"{path}: Micro-Manager cannot load it ({reason}); check devices and adapters"
        raise WrongInputError(msg) from error
    release_at_exit(core)
    return core


def _find_cfg(name: str | Path) -> Path:
    adapters = adapter_folder()
    if adapters is None:
        msg = "no Micro-Manager device adapters found; install Micro-Manager, or the package mm-test-adapters"
        raise WrongInputError(msg)
    try:
        return configs.find(name)
    except FileNotFoundError as error:
        beside_adapters = Path(adapters) / name
        if beside_adapters.is_file():
            return beside_adapters
        raise WrongInputError(str(error)) from error


def release_at_exit(core: CMMCorePlus) -> None:
    """See to it that leaving the interpreter is quiet, whatever the core is doing then.

    MMCore calls back into Python from threads of its own. One that does so while the interpreter is being
    torn down aborts the process, so the hook ends what runs and cuts the callbacks first.
    """
    reference, process = weakref.ref(core), os.getpid()
    # `atexit` comes too late for an MDA: the interpreter first waits for its thread, which by then can
    # start no workers. This is the hook that concurrent.futures uses; it has no public name.
    register = getattr(threading, "_register_atexit", atexit.register)
    # A forked child has the hook too, but not the threads: it must not touch the core.
    register(lambda: _release(reference()) if os.getpid() == process else None)


def _release(core: CMMCorePlus | None) -> None:
    if core is None:
        return
    if core.mda.is_running():
        logging.getLogger("pymmcore-plus").setLevel(logging.ERROR)  # it would warn that the MDA was cancelled
        ended = threading.Event()
        core.mda.events.sequenceFinished.connect(lambda *_: ended.set())
        core.mda.cancel()
        ended.wait(_EXIT_PATIENCE_S)
    if core.isSequenceRunning():
        core.stopSequenceAcquisition()
    super(CMMCorePlus, core).registerCallback(None)  # CMMCorePlus forbids it; MMCore needs it
