"""Who looks on at a worker, and what each of them has not seen yet: the newest frame of every channel.

Owns the rule that looking on costs the worker little: a frame is copied for those who wait for one, and
for the others not more than a hundred times a second, but for short bursts. Pure bookkeeping, used by one
thread; knows no sockets.
"""

import time
from collections.abc import Callable, Container, Hashable, Iterator
from dataclasses import dataclass, field

__all__ = ["Onlookers"]

MOST_CHANNELS = 16
MOST_COPIES_PER_S, BURST = 100.0, 20.0
"""For nobody who waits: of what comes faster for long, some is not shown."""

Parts = list[bytes | bytearray | memoryview]


@dataclass(slots=True)
class _Onlooker:
    waits: bool = False
    unseen: dict[Hashable, Parts] = field(default_factory=dict)
    """By channel, what came first first."""


class Onlookers:
    """Clients that have asked to be shown a frame, at least once."""

    def __init__(self) -> None:
        self._onlookers: dict[bytes, _Onlooker] = {}
        self._allowance = BURST
        self._counted_s = time.monotonic()

    def ask(self, client: bytes) -> Parts | None:
        """Take out a frame that a client has not seen; None lets it wait for the next."""
        onlooker = self._onlookers.setdefault(client, _Onlooker())
        if onlooker.unseen:
            return onlooker.unseen.pop(next(iter(onlooker.unseen)))
        onlooker.waits = True
        return None

    def offer(
        self, channel: Hashable, present: Container[bytes], make: Callable[[], Parts]
    ) -> Iterator[tuple[bytes, Parts]]:
        """Take a frame that was answered; gives those to whom it is to be sent now.

        Parameters
        ----------
        present
            The clients that are still there.
        make
            Makes the message, with a copy of the frame; called once at most.
        """
        self._onlookers = {client: each for client, each in self._onlookers.items() if client in present}
        waits = any(each.waits for each in self._onlookers.values())
        if not self._onlookers or not (self._may_copy() or waits):
            return
        parts = make()
        for client, each in self._onlookers.items():
            each.unseen.pop(channel, None)
            if each.waits:
                each.waits = False
                yield client, parts
            elif len(each.unseen) < MOST_CHANNELS:
                each.unseen[channel] = parts

    def _may_copy(self) -> bool:
        """Take one copy off the allowance, if there is one."""
        now_s = time.monotonic()
        grown = self._allowance + (now_s - self._counted_s) * MOST_COPIES_PER_S
        self._allowance, self._counted_s = min(grown, BURST), now_s
        if self._allowance < 1:
            return False
        self._allowance -= 1
        return True
