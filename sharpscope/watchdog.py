"""A second process that makes the microscope safe when the first one dies.

Owns the pact between the two: the scan holds one end of a pipe, the watchdog listens at the other. An orderly
end is said; a pipe that closes without a word means that the scan was killed. Nobody else can close a shutter
then. A virtual stand dies with its process and needs none.
"""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TextIO

from acquisition.microscope import Microscope
from acquisition.patience import DeviceHangsError, NotLeftSafeError
from acquisition.plan import Experiment
from inference.journal import write_atomic
from sharpscope.microscope_choice import open_microscope

__all__ = ["REPORT", "guard", "make_safe", "watch"]

REPORT = "watchdog.json"
_READY, _WELL = "ready", "well"
_PATIENCE_S = 20.0


@contextmanager
def guard(experiment: Experiment, file: str, folder: Path) -> Iterator[None]:
    """Have a watchdog while the block runs.

    Parameters
    ----------
    file
        The experiment file, for the watchdog to read again.
    folder
        The scan folder, where it reports what it had to do.
    """
    if experiment.microscope.virtual:
        yield
        return
    command = [sys.executable, "-m", "sharpscope", "safe", file, "--when-orphaned", str(folder / REPORT)]
    # Apart from the terminal: neither Ctrl-C nor its closing may reach it.
    process = subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
        creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
    )
    if not process.stdout or process.stdout.readline().strip() != _READY:
        raise RuntimeError(f"the watchdog did not start; try 'sharpscope safe {file}' to see why")
    try:
        yield
    except (DeviceHangsError, NotLeftSafeError):
        raise  # the watchdog loads the microscope anew, once this process is gone
    except BaseException:
        _dismiss(process)
        raise
    _dismiss(process)


def _dismiss(process: "subprocess.Popen[str]") -> None:
    try:
        process.communicate(_WELL, timeout=_PATIENCE_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()


def watch(experiment: Experiment, words: TextIO, report: Path) -> list[str]:
    """Wait for the scan's end, and make the microscope safe if it was no orderly one.

    Returns
    -------
    list of str
        What could not be done, a line each.
    """
    sys.stdout.write(f"{_READY}\n")
    sys.stdout.flush()
    if words.read().strip() == _WELL:
        return []
    try:
        problems = make_safe(experiment)
    except Exception as error:
        _write(report, [f"{type(error).__name__}: {error}"])
        raise
    _write(report, problems)
    return problems


def make_safe(experiment: Experiment) -> list[str]:
    """Load an experiment's microscope, go dark and withdraw; returns what could not be done, a line each.

    Raises
    ------
    WrongInputError
        The microscope cannot be loaded, or another program drives it.
    """
    core = open_microscope(experiment.microscope)
    return Microscope.for_experiment(core, experiment).make_safe()


def _write(report: Path, problems: list[str]) -> None:
    report.parent.mkdir(parents=True, exist_ok=True)
    said = {"time": datetime.now(UTC).isoformat(), "safe": not problems, "problems": problems}
    write_atomic(report, json.dumps(said, indent=2) + "\n")
