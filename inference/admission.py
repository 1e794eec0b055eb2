"""The door of a worker with keys: every connection proves which key it has, and those on the list come in.

Owns the socket at which ZeroMQ asks whether a key may come (RFC 27, ZAP) and the answer. CURVE has proved
by then that the client holds the key's secret; nothing that a client says is read before. The thread that
has the worker's socket answers here too. Knows no frames and no files.
"""

import logging
from contextlib import suppress

import zmq
from zmq.utils import z85

from inference.keys import WorkerKeys

__all__ = ["Admission"]

logger = logging.getLogger(__name__)

ZAP_ADDRESS = "inproc://zeromq.zap.01"
ZAP_VERSION = b"1.0"
KEY_BYTES = 32


class Admission:
    """Lets in whose key is on the list.

    Parameters
    ----------
    context
        Of the sockets that are guarded.
    keys
        The worker's own, and the list.
    """

    def __init__(self, context: "zmq.Context[zmq.Socket[bytes]]", keys: WorkerKeys) -> None:
        self._keys = keys
        self.receiver = context.socket(zmq.REP)
        """To be polled; when something is there, call `answer`."""
        self.receiver.linger = 0
        self.receiver.bind(ZAP_ADDRESS)

    def guard(self, socket: "zmq.Socket[bytes]") -> None:
        """Let a socket take nobody without a key of the list; before it is bound."""
        socket.curve_server = True
        socket.curve_secretkey = self._keys.secret
        socket.zap_domain = b"sharpscope"

    def answer(self) -> None:
        """Answer everybody who asks."""
        with suppress(zmq.Again):
            while True:
                request = self.receiver.recv_multipart(zmq.NOBLOCK)
                self.receiver.send_multipart(self._decide(request))

    def _decide(self, request: list[bytes]) -> list[bytes]:
        # version, request id, domain, address, identity, mechanism, credentials (32 bytes of public key)
        name = None
        if len(request) == 7 and request[5] == b"CURVE" and len(request[6]) == KEY_BYTES:
            name = self._name_of(request[6], request[3].decode("ascii", "replace"))
        number = request[1] if len(request) > 1 else b""
        status = (b"400", b"not on the list") if name is None else (b"200", b"OK")
        return [ZAP_VERSION, number, *status, (name or "").encode(errors="replace")[:255], b""]

    def _name_of(self, public: bytes, host: str) -> str | None:
        key = z85.encode(public)
        name = self._keys.name_of(key)
        if name is None:
            logger.info("a client at %s with the key %s is not on the list", host, key.decode())
        return name
