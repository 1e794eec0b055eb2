"""How the command line speaks: progress on standard error, one JSON line on standard output, exit codes.

Owns the exit codes of DESIGN section 6 and their wording. Knows no command and imports no room.
"""

import json
import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import IntEnum
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from sharpscope.json_logs import logs_are_json

__all__ = ["ExitCode", "emit", "print_table", "progress_bar", "say"]

_STDERR = Console(stderr=True, highlight=False, soft_wrap=True)


class ExitCode(IntEnum):
    """What a command ends with."""

    DONE = 0
    FAILED = 1
    WRONG_USE = 2
    HOLES = 3
    INTERRUPTED = 130


def say(text: str, *, error: bool = False) -> None:
    """Tell the person one line, on standard error; where logs are JSON, as one of them."""
    if logs_are_json():
        logging.getLogger("sharpscope").log(logging.ERROR if error else logging.INFO, text)
    else:
        _STDERR.print(text, markup=False)


def emit(figures: dict[str, Any], as_json: bool) -> None:
    """Print the command's figures as the last line of standard output, where `--json` asks for them."""
    if as_json:
        sys.stdout.write(json.dumps(figures, allow_nan=False) + "\n")
        sys.stdout.flush()


@contextmanager
def progress_bar(label: str) -> Iterator[Callable[[int, int], None]]:
    """Show a progress bar with the time left while the block runs; gives what rooms call as `progress`."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    # A step may take half a minute, and the time left is told from several.
    with Progress(*columns, console=_STDERR, speed_estimate_period=180) as bar:
        task = bar.add_task(label, total=None)

        def show(done: int, total: int) -> None:
            bar.update(task, completed=done, total=total)

        yield show


def print_table(title: str, header: list[str], rows: list[list[str]]) -> None:
    """Print a table on standard error."""
    table = Table(title=title, title_justify="left")
    for index, name in enumerate(header):
        table.add_column(name, justify="left" if index == 0 else "right")
    for row in rows:
        table.add_row(*row)
    _STDERR.print(table)
