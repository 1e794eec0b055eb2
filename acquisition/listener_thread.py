"""The thread in which everything is told that listeners may be slow at, in the order in which it was posted.

Posting never waits. What is posted as the newest of its kind replaces what of that kind has not been told
yet, and of many kinds the one that waits for longest is let go, so that pictures for the eye need bounded
memory however slow a listener is and however many positions there are. Knows nothing of what is
told.
"""

import itertools
import logging
import queue
import threading
from collections.abc import Callable, Hashable
from functools import partial

__all__ = ["ListenerThread"]

News = Callable[[], None]

MOST_KINDS = 16
"""Pictures that wait to be told."""

logger = logging.getLogger(__name__)


class ListenerThread(threading.Thread):
    """Tells news until it is finished."""

    def __init__(self) -> None:
        super().__init__(name="sharpscope-listeners", daemon=True)
        self._news: queue.SimpleQueue[News | None] = queue.SimpleQueue()
        self._lock = threading.Lock()  # guards the two below
        self._newest: dict[Hashable, tuple[int, News]] = {}
        self._turns = itertools.count()
        self.start()

    def post(self, news: News) -> None:
        """Have something told in its turn."""
        self._news.put(news)

    def post_newest(self, kind: Hashable, news: News) -> None:
        """Have something told in its turn, unless something newer of its kind, or much else, comes first."""
        with self._lock:
            turn = next(self._turns)
            self._newest.pop(kind, None)
            if len(self._newest) >= MOST_KINDS:
                del self._newest[next(iter(self._newest))]
            self._newest[kind] = turn, news  # the queue holds no picture, or it would hold all of them
        self._news.put(partial(self._tell_newest, kind, turn))

    def finish(self) -> None:
        """Tell what was posted, then end."""
        self._news.put(None)
        self.join()

    def run(self) -> None:
        """Tell one thing after the other."""
        while (news := self._news.get()) is not None:
            try:
                news()
            except Exception:
                logger.exception("live enhancement goes on after an error")

    def _tell_newest(self, kind: Hashable, turn: int) -> None:
        with self._lock:
            newest, news = self._newest.get(kind, (None, None))
            if newest != turn or news is None:
                return
            del self._newest[kind]
        news()
