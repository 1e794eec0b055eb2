"""The worker's front desk: who is a client, what is let in, and what each message is answered with.

Owns the clients and the refusals. A message is checked by `inference.protocol` and either let into the
waiting room or answered by a typed error; nothing that a client sends can raise further than here. Pure
but for the waiting room and the memory that clients share: parts come in, answers go out as a list, and one
thread uses it. Knows no sockets and no engine.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from inference.messages import (
    Bye,
    Dropped,
    ErrorCode,
    ErrorReply,
    Frame,
    Hello,
    Info,
    ModelInfo,
    Ping,
    Progress,
    Share,
    Shared,
    Watch,
)
from inference.protocol import Buffer, MessageError, WireLimits, decode_request
from inference.shared_file import SharedFile, SharedFileError
from inference.waiting import Job, OverCreditError, WaitingRoom

__all__ = ["Answer", "Reception"]

MOST_CLIENTS = 64
CLIENT_SILENCE_S = 60.0
"""A client that says nothing for so long, not even Ping, is gone."""

MOST_SHARED_FILES = 2
"""Of one client: the one in use, and the one before it, which its last frames still name."""

Answer = tuple[bytes, Info | Progress | Shared | Dropped | ErrorReply]
"""To whom, and what."""


@dataclass(slots=True)
class _Client:
    session: str
    last_heard_s: float
    since_ns: int
    """When it said Hello last."""
    shared: dict[str, SharedFile] = field(default_factory=dict)
    watches: bool = False
    """It has asked to be shown a frame."""

    def memory(self, name: str, offset: int, size: int) -> memoryview | None:
        """Return a part of a file that it shares."""
        file = self.shared.get(name)
        return None if file is None else file.part(offset, size)


class Reception:
    """The clients of one worker.

    Parameters
    ----------
    info
        What every client is told at the beginning; the engine's `busy_s` is put in.
    limits
        The largest message that is read.
    room
        Where frames are let in.
    """

    def __init__(self, info: Info, limits: WireLimits, room: WaitingRoom) -> None:
        self._info = info
        self._limits = limits
        self._room = room
        self._clients: dict[bytes, _Client] = {}
        self.received = 0
        self.dropped = 0
        self.refused = 0

    def __contains__(self, client: object) -> bool:
        return client in self._clients

    def __len__(self) -> int:
        return len(self._clients)

    def expects(self, job: Job) -> bool:
        """Say whether a frame's client is there, and has not begun anew since it sent the frame."""
        known = self._clients.get(job.client)
        return known is not None and job.received_ns >= known.since_ns

    def handle(self, client: bytes, parts: Sequence[Buffer], progress: Progress) -> list[Answer]:
        """Take one message and return what is to be answered, and to whom."""
        try:
            return self._handle(client, parts, progress)
        except MessageError as error:
            self.refused += 1
            return [(client, error.reply())]

    def _handle(self, client: bytes, parts: Sequence[Buffer], progress: Progress) -> list[Answer]:
        known = self._clients.get(client)
        request, image = (
            decode_request(parts, self._limits)
            if known is None
            else decode_request(parts, self._limits, known.memory)
        )
        if isinstance(request, Hello):
            self._welcome(client, request)
            return [(client, self._info.model_copy(update={"busy_s": progress.busy_s}))]
        if known is None:
            named = (request.session, request.sequence) if isinstance(request, Frame) else (None, None)
            raise MessageError(ErrorCode.UNKNOWN_CLIENT, "say Hello first", *named)
        known.last_heard_s = time.monotonic()
        match request:
            case Ping():
                return [(client, progress)]
            case Bye():
                self.forget(client)
            case Watch():
                known.watches = True
            case Share():
                return [(client, _shared(known, request))]
            case Frame():
                assert image is not None
                place = request.shared
                answer = place and known.memory(place.file, place.answer_offset, place.answer_bytes)
                return self._admit(Job(client, request, image, time.monotonic_ns(), answer or None))
        return []

    def _welcome(self, client: bytes, hello: Hello) -> None:
        former = [other for other, known in self._clients.items() if known.session == hello.session]
        for other in {*former, client}:
            self.forget(other)
        if len(self._clients) >= MOST_CLIENTS:
            msg = f"{MOST_CLIENTS} clients are served already; start another worker"
            raise MessageError(ErrorCode.TOO_MANY_CLIENTS, msg, hello.session)
        self._clients[client] = _Client(hello.session, time.monotonic(), time.monotonic_ns())

    def _admit(self, job: Job) -> list[Answer]:
        frame = job.frame
        try:
            superseded = self._room.add(job)
        except OverCreditError as error:
            raise MessageError(ErrorCode.OVER_CREDIT, str(error), frame.session, frame.sequence) from error
        self.received += 1
        if superseded is None:
            return []
        self.dropped += 1
        old = superseded.frame
        dropped = Dropped(session=old.session, sequence=old.sequence, superseded_by=frame.sequence)
        return [(superseded.client, dropped)]

    def take_watchers(self) -> list[bytes]:
        """Return who has asked to be shown a frame since the last call."""
        watchers = [client for client, known in self._clients.items() if known.watches]
        for client in watchers:
            self._clients[client].watches = False
        return watchers

    def announce(self, models: tuple[ModelInfo, ...]) -> list[Answer]:
        """Return what every client is to be told when models have changed; new ones hear it at Hello."""
        self._info = self._info.model_copy(update={"models": models})
        return [(client, self._info) for client in self._clients]

    def forget_silent(self) -> None:
        """Forget the clients that have said nothing for long."""
        limit_s = time.monotonic() - CLIENT_SILENCE_S
        for client in [key for key, known in self._clients.items() if known.last_heard_s < limit_s]:
            self.forget(client)

    def forget(self, client: bytes) -> None:
        """Forget a client that is gone, with what it has waiting."""
        self._clients.pop(client, None)
        self._room.forget(client)


def _shared(client: _Client, offer: Share) -> Shared:
    """Open the memory that a client offers, in place of the oldest."""
    try:
        client.shared[offer.file] = SharedFile.open(offer.file, offer.bytes)
    except SharedFileError as error:
        return Shared(file=offer.file, accepted=False, reason=str(error))
    if len(client.shared) > MOST_SHARED_FILES:
        del client.shared[next(iter(client.shared))]
    return Shared(file=offer.file, accepted=True, reason="")
