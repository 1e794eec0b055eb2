"""Which workers enhance which channel.

Owns what a person may say of it (an address, several, or a choice for each channel) and the check of it, made
before a microscope moves or a folder is made. Knows no frames and no sockets.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

from configs.document import WrongInputError
from inference.keys import ClientKeys
from inference.worker_list import checked_workers

__all__ = ["Routes", "WorkerChoice", "checked_routes"]

WorkerChoice = str | Sequence[str] | Mapping[str, str | Sequence[str]]
"""The address of a worker, of several that share the frames, or one of these for each channel."""

Routes = dict[str | None, tuple[str, ...]]
"""Addresses by channel; the one key None stands for all channels."""


def checked_routes(worker: WorkerChoice, keys: Path | None = None) -> tuple[Routes, ClientKeys | None]:
    """Return the workers of each channel, and the keys of a key folder.

    Raises
    ------
    WrongInputError
        When an address cannot be used or stands twice for a channel, a key is missing, or no worker is named.
    """
    if not isinstance(worker, Mapping):
        addresses, own_keys = checked_workers(worker, keys)
        return {None: addresses}, own_keys
    if not worker:
        raise WrongInputError("no channel has a worker; name one, for example FITC=tcp://127.0.0.1:5555")
    checked = {channel: checked_workers(addresses, keys) for channel, addresses in worker.items()}
    own_keys = next(iter(checked.values()))[1]
    return {channel: addresses for channel, (addresses, _) in checked.items()}, own_keys
