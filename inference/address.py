"""Addresses of workers: what is allowed, in one place for both ends.

Without keys only loopback is served and only loopback is asked: whoever can reach the socket can use the
worker and read the frames. With keys (`inference.keys`) any TCP address may be used. Knows no sockets.
"""

import ipaddress
import re

from configs.document import WrongInputError

__all__ = ["DEFAULT_ADDRESS", "host_of", "is_loopback", "loopback_address", "worker_address"]

DEFAULT_ADDRESS = "tcp://127.0.0.1:5555"

_FORM = re.compile(r"tcp://(?P<host>\*|[0-9A-Za-z_.\-]+):(?P<port>\*|[0-9]{1,5})")


def worker_address(address: str, *, with_keys: bool) -> str:
    """Return the address in ZeroMQ's terms.

    Parameters
    ----------
    with_keys
        Both ends prove who they are and the frames are encrypted: then any host is allowed, and 0.0.0.0 or *
        to be reached at all of this machine's addresses.

    Raises
    ------
    WrongInputError
        When it is no TCP address, or beyond this machine and there are no keys.
    """
    parts = _FORM.fullmatch(address)
    if parts is None:
        msg = f"'{address}' is not an address of the form tcp://127.0.0.1:5555 (port * takes a free one)"
        raise WrongInputError(msg)
    host = "127.0.0.1" if parts["host"] == "localhost" else parts["host"]
    if not with_keys and not is_loopback(f"tcp://{host}:0"):
        msg = f"'{address}' is not a loopback address and needs CURVE keys: make them with 'sharpscope keys' "
        msg += "and give --keys, or use tcp://127.0.0.1:PORT, with an SSH tunnel from another machine"
        raise WrongInputError(msg)
    return f"tcp://{host}:{parts['port']}"


def loopback_address(address: str) -> str:
    """Return the address in ZeroMQ's terms, or raise WrongInputError unless it is TCP on loopback."""
    return worker_address(address, with_keys=False)


def host_of(address: str) -> str:
    """Return the host of an address that has been checked."""
    return address.removeprefix("tcp://").rpartition(":")[0]


def is_loopback(address: str) -> bool:
    """Say whether a worker's address is this machine's own."""
    try:
        return ipaddress.ip_address(host_of(address)).is_loopback
    except ValueError:
        return False
