"""The group that all commands belong to, and the options that several of them have.

Owns how an error of a room becomes a line and an exit code. Knows no command and no room.
"""

import errno
import logging
import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
import typer.core

from configs.document import WrongInputError
from sharpscope.console import ExitCode, say

__all__ = ["Device", "Json", "Keys", "OutOfDomain", "Overwrite", "app"]

NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


class _Commands(typer.core.TyperGroup):
    """The group of commands; turns what a room raises into a line and an exit code."""

    def invoke(self, ctx: Any) -> Any:  # noqa: ANN401 # typer keeps the type of a context to itself
        from inference.domain import OutOfDomainError

        # It prints whole sequences when a run is cancelled, which the commands say in a line.
        logging.getLogger("pymmcore-plus").setLevel(logging.ERROR)

        try:
            return super().invoke(ctx)
        except (WrongInputError, OutOfDomainError) as error:
            say(f"sharpscope: {error}", error=True)
            raise typer.Exit(ExitCode.WRONG_USE) from error
        except KeyboardInterrupt as error:
            say("sharpscope: interrupted; what was finished is kept")
            raise typer.Exit(ExitCode.INTERRUPTED) from error
        except (OSError, RuntimeError) as error:
            from acquisition.patience import DeviceHangsError, NotLeftSafeError

            if isinstance(error, (DeviceHangsError, NotLeftSafeError)):
                say(f"sharpscope: {error}", error=True)
                sys.stdout.flush()
                os._exit(ExitCode.FAILED)  # an orderly exit would wait for the device for ever
            if isinstance(error, (typer.Exit, typer.Abort)):  # both are RuntimeErrors
                raise
            say(f"sharpscope: {type(error).__name__}: {error}", error=True)
            if isinstance(error, OSError) and error.errno in NO_ROOM:
                say("free some room there and go on; what was finished is kept")
            raise typer.Exit(ExitCode.FAILED) from error


app = typer.Typer(
    name="sharpscope",
    cls=_Commands,
    help="Live super-resolution at the microscope. Try 'sharpscope demo' first.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

Json = Annotated[bool, typer.Option("--json", help="Print the figures as one JSON line, last on stdout.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace a result that is there already.")]
Device = Annotated[str, typer.Option(help="auto, cpu, cpu-float32, cuda, mps or torch-cpu.")]
Keys = Annotated[
    Path | None, typer.Option(help="Key folder of 'sharpscope keys'; needed beyond this machine.")
]
OutOfDomain = Annotated[
    bool, typer.Option("--allow-out-of-domain", help="Apply a model where it does not fit, and flag it.")
]
