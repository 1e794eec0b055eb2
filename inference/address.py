"""Addresses of workers: what is allowed, in one place for both ends.

Without keys only loopback is served and only loopback is asked: whoever can reach the socket can use the
worker and read the frames. Knows no sockets.
"""

import ipaddress

from configs.document import WrongInputError

__all__ = ["DEFAULT_ADDRESS", "loopback_address"]

DEFAULT_ADDRESS = "tcp://127.0.0.1:5555"


def loopback_address(address: str) -> str:
    """Return the address in ZeroMQ's terms, or raise WrongInputError unless it is TCP on loopback."""
    host, colon, port = address.removeprefix("tcp://").rpartition(":")
    if not address.startswith("tcp://") or not colon or not (port == "*" or port.isdecimal()):
        msg = f"'{address}' is not an address of the form tcp://127.0.0.1:5555 (port * takes a free one)"
        raise WrongInputError(msg)
    host = "127.0.0.1" if host == "localhost" else host
    try:
        loopback = ipaddress.ip_address(host.strip("[]")).is_loopback and ":" not in host
    except ValueError:
        loopback = False
    if not loopback:
        msg = f"'{address}' is not a loopback address and would need CURVE keys, which this version lacks; "
        raise WrongInputError(msg + "use tcp://127.0.0.1:PORT, and an SSH tunnel from another machine")
    return f"tcp://{host}:{port}"
