"""A client's connection in words: its settings, its states, and a snapshot of it.

What becomes of it is `inference.conversation`'s business. Knows no sockets.
"""

from dataclasses import dataclass
from enum import Enum, StrEnum, auto
from typing import Self

from inference.messages import ModelInfo

__all__ = ["ClientSettings", "ClientState", "ClientStatus", "Step", "WorkerBusyError"]


class ClientState(StrEnum):
    """What the client knows of its worker."""

    CONNECTING = "connecting"
    """Said Hello, no answer yet."""
    READY = "ready"
    LOST = "lost"
    """Silent, stuck or shut down; the client goes on trying."""
    CLOSED = "closed"


class Step(Enum):
    """What the thread with the socket is to do next."""

    NOTHING = auto()
    SAY_HELLO = auto()
    """Before anything else, so that the order of the frames is kept."""
    RECONNECT = auto()


class WorkerBusyError(TimeoutError):
    """No room for a record frame within the time given: the worker is slower than the frames, or gone."""


@dataclass(frozen=True, slots=True)
class ClientSettings:
    """Bounds and deadlines of a client."""

    stored_frames: int = 16
    """Record frames that are kept until they are answered; then submitting waits."""
    preview_credit: int = 1
    """Preview frames that may be on their way. One: what is sent next is the newest when the answer arrives,
    and has not waited for a whole inference."""
    ping_interval_s: float = 0.5
    silence_limit_s: float = 5.0
    progress_limit_s: float = 120.0
    """For one frame in the engine; the first one may compile the network."""
    share_memory: bool = True
    """Whether frames may travel through memory that both ends see, where both are on one machine."""

    @classmethod
    def for_workers(cls, count: int) -> Self:
        """Return the usual settings with room enough to keep so many workers busy."""
        return cls(stored_frames=cls().stored_frames * max(1, count))


@dataclass(frozen=True, slots=True)
class ClientStatus:
    """A snapshot of the client."""

    state: ClientState
    reason: str
    """Why the state is what it is."""
    models: tuple[ModelInfo, ...]
    unanswered: tuple[int, ...]
    """Sequence numbers of the frames without an answer."""
    record_credit: int = 0
    """Record frames that the worker takes at once; 0 where it has not answered."""
    worker: str | None = None
    """The worker's id, drawn anew at each of its starts."""
