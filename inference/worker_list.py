"""Which workers a client is given, one or several, and the client that suits them.

Owns the check that addresses and keys fit together: whoever is about to move a microscope or to make a folder
asks here first. Knows no sockets.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

from configs.document import WrongInputError
from inference.address import host_of, worker_address
from inference.client import WorkerClient
from inference.connection import ClientSettings, ClientState
from inference.fleet import WorkerFleet
from inference.frame_intake import FrameIntake
from inference.keys import ClientKeys
from inference.outcomes import Outcome

__all__ = ["checked_workers", "open_workers"]


def checked_workers(
    worker: str | Sequence[str], keys: Path | None = None
) -> tuple[tuple[str, ...], ClientKeys | None]:
    """Return the addresses of one or several workers, and the keys of a key folder.

    Raises
    ------
    WrongInputError
        When an address cannot be used or stands there twice, a key is missing, or no worker is named.
    """
    own_keys = None if keys is None else ClientKeys.read(keys)
    given = (worker,) if isinstance(worker, str) else tuple(worker)
    addresses = tuple(worker_address(address, with_keys=own_keys is not None) for address in given)
    if not addresses:
        msg = "no worker is named; give the address of one, for example tcp://127.0.0.1:5555"
        raise WrongInputError(msg)
    for address in addresses:
        if addresses.count(address) > 1:
            msg = f"{address} is named twice; name each worker once"
            raise WrongInputError(msg)
        if own_keys is not None:
            own_keys.worker_key(host_of(address))
    return addresses, own_keys


def open_workers(
    addresses: str | Sequence[str],
    on_outcome: Callable[[Outcome], None] = lambda _outcome: None,
    *,
    session: str | None = None,
    settings: ClientSettings | None = None,
    on_state: Callable[[ClientState, str], None] = lambda _state, _reason: None,
    keys: ClientKeys | None = None,
) -> FrameIntake:
    """Return a client of one worker or a fleet of several, as addresses are given."""
    several = (addresses,) if isinstance(addresses, str) else tuple(addresses)
    if len(several) == 1:
        return WorkerClient(
            several[0], on_outcome, session=session, settings=settings, on_state=on_state, keys=keys
        )
    return WorkerFleet(several, on_outcome, session=session, settings=settings, on_state=on_state, keys=keys)
