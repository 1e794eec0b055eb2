"""The command that makes key folders, without which no worker is reached from another machine: keys.

Imports its room when it runs, so that `sharpscope --help` answers at once.
"""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from configs.document import WrongInputError
from sharpscope.command_group import Json, app
from sharpscope.console import emit, say


class Role(StrEnum):
    """For whom keys are made."""

    WORKER = "worker"
    CLIENT = "client"


@app.command()
def keys(
    role: Annotated[Role, typer.Argument(help="Who gets the keys: a worker, or a client (the microscope).")],
    output: Annotated[Path, typer.Option("-o", "--output", help="The key folder to make.")],
    worker: Annotated[
        Path | None, typer.Option(help="For a client: the worker.public of its worker; a copy is laid in.")
    ] = None,
    json: Json = False,
) -> None:
    """Make the key folder of a worker or a client, for --keys of serve and live.

    Example: sharpscope keys worker -o worker-keys; sharpscope keys client -o client-keys
    """
    from inference.keys import make_client_keys, make_worker_keys

    if role is Role.WORKER:
        if worker is not None:
            raise WrongInputError("--worker is for a client's keys; leave it out, or make keys for a client")
        make_worker_keys(output)
        say(f"{output / 'worker.secret'} stays on this machine and with you")
        say(f"give {output / 'worker.public'} to every client")
        say(f"put the client.public of each client that may come into {output / 'clients'}")
    else:
        make_client_keys(output, worker)
        say(f"{output / 'client.secret'} stays on this machine and with you")
        say(f"put {output / 'client.public'} into the clients folder of each worker, named for this machine")
        if worker is None:
            say(f"put the worker.public of your worker into {output}")
    emit({"folder": str(output), "role": role.value}, json)
