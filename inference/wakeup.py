"""Wakes a thread that waits in a poll: a pair of connected sockets, on every platform.

ZeroMQ sockets belong to one thread each. Another thread that has something for it calls `wake`; the
thread polls `receiver` beside its ZeroMQ sockets. Knows nothing of what there is to do.
"""

import socket
from contextlib import suppress
from types import TracebackType
from typing import Self

__all__ = ["Wakeup"]


class Wakeup:
    """A bell between threads; many rings before the poll count as one."""

    def __init__(self) -> None:
        self.receiver, self._sender = socket.socketpair()
        self.receiver.setblocking(False)
        self._sender.setblocking(False)

    def wake(self) -> None:
        """Ring; from any thread, also from a signal handler, also after `close`."""
        with suppress(OSError):  # full: the bell rings already; closed: nobody sleeps any more
            self._sender.send(b"\0")

    def clear(self) -> None:
        """Silence the bell; the woken thread calls it before it looks for work."""
        with suppress(BlockingIOError):
            while self.receiver.recv(4096):
                pass

    def close(self) -> None:
        """Close both ends."""
        self._sender.close()
        self.receiver.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
