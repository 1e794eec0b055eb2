"""How much the system keeps for a TCP connection while the other end is not looking: frames are large.

Linux lets these buffers grow while it watches a connection; with room for a whole frame from the start a
round trip takes a seventh less. But a size that is asked for stops the growing, and is cut to a limit of the
system that is often small: then the system knows better. Knows no ZeroMQ sockets but by their two options.
"""

from pathlib import Path
from typing import Any

__all__ = ["set_buffers"]

WANTED_BYTES = 4 * 1024**2
LIMITS = (Path("/proc/sys/net/core/rmem_max"), Path("/proc/sys/net/core/wmem_max"))


def set_buffers(socket: Any) -> None:  # noqa: ANN401 - zmq is not known here
    """Ask for large buffers where the system grants them; before the socket binds or connects."""
    if all(_limit(path) >= WANTED_BYTES for path in LIMITS):
        socket.sndbuf = socket.rcvbuf = WANTED_BYTES


def _limit(path: Path) -> int:
    """Return a limit of the system, bytes; 0 where it has none of that name."""
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return 0
